//! The log of a run: bytes of `core::logwire` to records. It opens no connection and prints nothing.
use bytes::{Buf, Bytes, BytesMut};
use vessl_core::logwire::{self, HEADER, Header, Stream};

/// A piece of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Where reading goes on after it.
    pub(crate) next: u64,
    /// Arrival, nanoseconds since 1970.
    pub(crate) at_ns: u64,
    /// Where it came from.
    pub(crate) stream: Stream,
    /// The bytes as they arrived; lines may be cut.
    pub(crate) bytes: Bytes,
}

/// What comes next in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A record.
    Record(Record),
    /// The log is finished; nothing follows.
    Finished,
    /// The server has no more to send now.
    NoMore,
}

/// Bytes received, cut into records.
#[derive(Debug, Default)]
pub(crate) struct Records {
    bytes: BytesMut,
}

impl Records {
    /// Takes bytes in.
    pub(crate) fn feed(&mut self, data: Bytes) {
        if self.bytes.is_empty() {
            // A whole chunk is taken over without copying where it is not shared.
            self.bytes = data.try_into_mut().unwrap_or_else(|data| BytesMut::from(&data[..]));
        } else {
            self.bytes.extend_from_slice(&data);
        }
    }

    /// What they complete; `Err` with words when they are no log.
    pub(crate) fn next(&mut self) -> Result<Option<Next>, String> {
        let Some(header) = Header::decode(&self.bytes) else {
            return Ok(None);
        };
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > logwire::MAX_PAYLOAD {
            return Err("the log makes no sense: a record is too large".to_owned());
        }
        if self.bytes.len() < HEADER + length {
            self.bytes.reserve(HEADER + length - self.bytes.len());
            return Ok(None);
        }
        self.bytes.advance(HEADER);
        let bytes = self.bytes.split_to(length).freeze();
        if header.stream == logwire::END {
            return Ok(Some(Next::Finished));
        }
        let stream = Stream::from_byte(header.stream)
            .ok_or_else(|| format!("the log makes no sense: there is no stream {}", header.stream))?;
        Ok(Some(Next::Record(Record { next: header.next, at_ns: header.at_ns, stream, bytes })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_arrive_whole_however_the_bytes_are_cut() {
        let mut stream = Vec::new();
        for (n, text) in [(1, "hello"), (2, "w\u{f6}rld\n"), (3, "x")] {
            let length = u32::try_from(text.len()).unwrap();
            stream.extend(Header { next: n, at_ns: n, length, stream: 1 }.encode());
            stream.extend(text.as_bytes());
        }
        stream.extend(Header { next: 3, at_ns: 3, length: 0, stream: logwire::END }.encode());
        for size in 1..stream.len() {
            let mut records = Records::default();
            let mut got = Vec::new();
            for part in stream.chunks(size) {
                records.feed(Bytes::copy_from_slice(part));
                got.extend(std::iter::from_fn(|| records.next().unwrap()));
            }
            assert_eq!(got.len(), 4, "in pieces of {size}");
            assert_eq!(got[3], Next::Finished);
            let Next::Record(second) = &got[1] else { panic!("{got:?}") };
            assert_eq!((second.next, &second.bytes[..]), (2, "w\u{f6}rld\n".as_bytes()));
        }
    }
}
