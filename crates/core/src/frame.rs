//! Length-prefixed JSON documents: how the agent and init speak over their socket. It packs and unpacks bytes; it
//! reads and writes nothing itself.
//!
//! ```text
//! document := length (u32, little endian) bytes (JSON)
//! ```
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest document, in bytes: a run file of 1 MiB with room for escapes and the environment.
pub const MAX_FRAME: usize = 32 << 20;

/// Why bytes are not a document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The length is over [`MAX_FRAME`].
    #[error("a message of {0} bytes is larger than any of ours")]
    TooLarge(usize),
    /// The text is not the expected document.
    #[error("a message that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

/// One document with its length before it.
pub fn encode<T: Serialize>(document: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, document)?;
    let length = bytes.len() - 4;
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let prefix = u32::try_from(length).map_err(|_| FrameError::TooLarge(length))?;
    bytes[..4].copy_from_slice(&prefix.to_le_bytes());
    Ok(bytes)
}

/// Bytes received so far, cut into documents.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole document, if it has arrived.
    pub fn pop<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let Some((prefix, rest)) = self.bytes.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        let document = serde_json::from_slice(text)?;
        self.bytes.drain(..4 + length);
        Ok(Some(document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Ending, InitReport};

    #[test]
    fn documents_survive_any_cut() {
        let sent = [
            InitReport::Running,
            InitReport::Item { n: 2 },
            InitReport::Ended { exit_code: 7, item: Some(2), how: Ending::Item },
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(|report| encode(report).unwrap()).collect();
        for size in 1..bytes.len() {
            let mut frames = Frames::default();
            let mut got = Vec::new();
            for piece in bytes.chunks(size) {
                frames.push(piece);
                while let Some(report) = frames.pop::<InitReport>().unwrap() {
                    got.push(report);
                }
            }
            assert_eq!(got, sent, "pieces of {size} bytes");
        }
    }

    #[test]
    fn a_length_beyond_reason_is_refused() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(matches!(frames.pop::<InitReport>(), Err(FrameError::TooLarge(_))));
    }

    #[test]
    fn text_that_is_no_document_is_refused() {
        let mut frames = Frames::default();
        frames.push(&[2, 0, 0, 0, b'n', b'o']);
        assert!(matches!(frames.pop::<InitReport>(), Err(FrameError::Json(_))));
    }
}
