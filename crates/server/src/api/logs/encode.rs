//! Records of a log as bytes of an answer.
use std::fmt::Write as _;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use vessl_core::logwire::{self, Header};
use vessl_core::wire::LogPiece;
use vessl_data::log::{Record, Stream};

use super::CHUNK;

/// Puts records into the form that a client asked for.
pub(super) struct Encoder {
    form: Form,
    /// The only stream that is wanted.
    only: Option<Stream>,
    /// Time of the last record; what is said of the log itself happened no earlier.
    at_ns: u64,
    out: BytesMut,
}

enum Form {
    Frames,
    /// Bytes at the end of the last record of each stream that begin a character.
    Events([Vec<u8>; 3]),
}

impl Encoder {
    /// `application/vnd.vessl.log`.
    pub(super) fn frames(only: Option<Stream>) -> Self {
        Self { form: Form::Frames, only, at_ns: 0, out: BytesMut::new() }
    }

    /// `text/event-stream`.
    pub(super) fn events(only: Option<Stream>) -> Self {
        Self { form: Form::Events(Default::default()), only, at_ns: 0, out: BytesMut::new() }
    }

    /// Bytes that wait to be sent.
    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    /// The bytes that wait.
    pub(super) fn take(&mut self) -> Bytes {
        self.out.split().freeze()
    }

    /// Adds one record, if it is wanted.
    pub(super) fn record(&mut self, record: &Record<'_>) {
        self.at_ns = record.at_ns;
        if self.only.is_some_and(|only| only != record.stream) {
            return;
        }
        match &mut self.form {
            Form::Frames => {
                frame(&mut self.out, record.next, record.at_ns, record.stream as u8, record.bytes);
            }
            Form::Events(begun) => {
                let begun = &mut begun[record.stream as usize - 1];
                begun.extend_from_slice(record.bytes);
                let whole = begun.len() - begun_character(begun);
                let text = String::from_utf8_lossy(&begun[..whole]).into_owned();
                begun.drain(..whole);
                event(&mut self.out, record.next, record.at_ns, record.stream, text);
            }
        }
    }

    /// Says that bytes are lost.
    pub(super) fn lost(&mut self, from: u64, to: u64) {
        self.note(to, &format!("{} bytes of the log are damaged and left out here", to - from));
    }

    /// Says that the limit of the log cost bytes.
    pub(super) fn left_out(&mut self, from: u64, to: u64) {
        let words = format!(
            "{} bytes of the log are left out here: it reached its limit (`log_limit` of the server), which keeps begin and end",
            to - from
        );
        self.note(to, &words);
    }

    /// Says something about the log itself.
    pub(super) fn note(&mut self, position: u64, words: &str) {
        let at_ns = if self.at_ns == 0 { nanos(Timestamp::now()) } else { self.at_ns };
        let words = format!("{words}\n");
        match self.form {
            Form::Frames => {
                frame(&mut self.out, position, at_ns, Stream::System as u8, words.as_bytes());
            }
            Form::Events(_) => event(&mut self.out, position, at_ns, Stream::System, words),
        }
    }

    /// Says what happened to the run at a time, no earlier than what was said before.
    pub(super) fn note_at(&mut self, at: Timestamp, position: u64, words: &str) {
        self.at_ns = self.at_ns.max(nanos(at));
        self.note(position, words);
    }

    /// Says that the log is finished.
    pub(super) fn end(&mut self, position: u64) {
        match self.form {
            Form::Frames => frame(&mut self.out, position, 0, logwire::END, &[]),
            Form::Events(_) => {
                self.out.put_slice(format!("id: {position}\nevent: end\ndata: {{}}\n\n").as_bytes());
            }
        }
    }
}

fn frame(out: &mut BytesMut, next: u64, at_ns: u64, stream: u8, payload: &[u8]) {
    if out.capacity() - out.len() < logwire::HEADER + payload.len() {
        out.reserve(CHUNK + logwire::MAX_PAYLOAD.min(payload.len()) + logwire::HEADER);
    }
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.put_slice(&Header { next, at_ns, length, stream }.encode());
    out.put_slice(payload);
}

fn event(out: &mut BytesMut, next: u64, at_ns: u64, stream: Stream, text: String) {
    let at = Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    let piece = LogPiece { at, stream: stream.word().to_owned(), text };
    let data = serde_json::to_string(&piece).unwrap_or_default();
    // Writing to memory cannot fail.
    let _ = write!(out, "id: {next}\ndata: {data}\n\n");
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// Bytes at the end that begin a character whose rest is still to come.
fn begun_character(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Err(error) if error.error_len().is_none() => {
            let tail = bytes.len().min(3);
            tail - error.valid_up_to()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(bytes: &[u8]) -> Record<'_> {
        Record { position: 0, next: 9, at_ns: 1_000_000_000, stream: Stream::Stderr, bytes }
    }

    #[test]
    fn a_character_that_is_cut_arrives_whole() {
        let mut encoder = Encoder::events(None);
        let text = "aä€😀".as_bytes();
        for part in text.chunks(1) {
            encoder.record(&record(part));
        }
        let said = String::from_utf8(encoder.take().to_vec()).unwrap();
        for expected in ["\"a\"", "\"ä\"", "\"€\"", "\"😀\""] {
            assert!(said.contains(expected), "{said}");
        }
        assert!(!said.contains('\u{fffd}'), "{said}");
    }

    #[test]
    fn a_wrong_byte_is_replaced_at_once() {
        let mut encoder = Encoder::events(None);
        encoder.record(&record(b"x\xff"));
        let said = String::from_utf8(encoder.take().to_vec()).unwrap();
        assert_eq!(
            said,
            "id: 9\ndata: {\"at\":\"1970-01-01T00:00:01Z\",\"stream\":\"stderr\",\"text\":\"x\u{fffd}\"}\n\n"
        );
    }

    #[test]
    fn frames_carry_the_bytes_as_they_are() {
        let mut encoder = Encoder::frames(None);
        encoder.record(&record(b"x\xff\r"));
        encoder.end(9);
        let bytes = encoder.take();
        let first = Header::decode(&bytes).unwrap();
        assert_eq!((first.next, first.length, first.stream), (9, 3, Stream::Stderr as u8));
        assert_eq!(&bytes[logwire::HEADER..logwire::HEADER + 3], b"x\xff\r");
        let last = Header::decode(&bytes[logwire::HEADER + 3..]).unwrap();
        assert_eq!((last.next, last.length, last.stream), (9, 0, logwire::END));
    }
}
