//! A log on its way from the server to a client: the body of `GET …/runs/{id}/logs` with [`MEDIA_TYPE`]. Bytes only; it
//! reads and writes nothing itself.
//!
//! ```text
//! record := next (u64) at_ns (u64) length (u32) stream (u8) zero (3 bytes) payload (length bytes)
//! ```
//!
//! Numbers are little endian. `next` is the position after the payload: what a client sends back as `from` to go on
//! after this record. Streams are 1 stdout, 2 stderr, 3 system, 255 the end of a finished log (without payload).
//! A body that stops without an end record was cut off, or the log goes on and was not followed.

use serde::Deserialize;
use utoipa::ToSchema;

/// The media type of such a body.
pub const MEDIA_TYPE: &str = "application/vnd.vessl.log";
/// Bytes before the payload.
pub const HEADER: usize = 24;
/// Largest payload of one record.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Stream byte of the end record.
pub const END: u8 = 255;

/// Where bytes of a log came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(description = "One stream.")]
pub enum Stream {
    /// Standard output of the commands.
    Stdout = 1,
    /// Standard error of the commands.
    Stderr = 2,
    /// The product itself.
    System = 3,
}

impl Stream {
    /// Every stream, in the order of their bytes.
    pub const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::System];

    /// The stream of a byte, if it has one.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| *stream as u8 == byte)
    }

    /// Its name, six letters wide.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::System => "system",
        }
    }
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Position after the payload.
    pub next: u64,
    /// Nanoseconds since 1970.
    pub at_ns: u64,
    /// Bytes of the payload.
    pub length: u32,
    /// The byte of a [`Stream`], or [`END`].
    pub stream: u8,
}

impl Header {
    /// As bytes.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&self.next.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at_ns.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.length.to_le_bytes());
        bytes[20] = self.stream;
        bytes
    }

    /// The header at the start of `bytes`; `None` while fewer than [`HEADER`] are there.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk()?;
        let (at_ns, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let [stream, _, _, _] = *rest.first_chunk::<4>()?;
        Some(Self {
            next: u64::from_le_bytes(*next),
            at_ns: u64::from_le_bytes(*at_ns),
            length: u32::from_le_bytes(*length),
            stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives() {
        let header =
            Header { next: 1 << 40, at_ns: u64::MAX - 1, length: 65_536, stream: Stream::Stderr as u8 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        assert_eq!(Header::decode(&bytes[..HEADER - 1]), None);
    }
}
