//! Prints the log of a run: the commands' bytes as they are on standard output, the product's own lines on standard error.
use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use vessl_core::logwire::Stream;

use super::{Format, Out};
use crate::error::Result;
use crate::log::Record;

/// Longest line that is kept in memory for JSON; a longer one is cut.
const LINE: usize = 1 << 20;

/// What is shown of a log and how.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogForm {
    /// Only this stream.
    pub(crate) only: Option<Stream>,
    /// Every line begins with its time of arrival.
    pub(crate) timestamps: bool,
    /// Every line says its stream.
    pub(crate) streams: bool,
    /// Where the commands' bytes go.
    pub(crate) sink: Sink,
}

/// Where the commands' bytes go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sink {
    /// To standard output; as JSON or YAML, if that was asked for.
    #[default]
    Result,
    /// To standard error, because standard output carries another result.
    Beside,
}

/// Prints records.
#[derive(Debug)]
pub(crate) struct LogPrinter<'a> {
    out: &'a Out,
    form: LogForm,
    /// The stream whose line is not ended.
    open: Option<Stream>,
    /// Whether that line was just taken back to its begin, as progress bars do: what comes is written over its mark.
    returned: bool,
    /// The begun line of each stream.
    lines: [Begun; 3],
}

/// A line whose end has not come yet.
#[derive(Debug, Default)]
struct Begun {
    /// When its first byte came, nanoseconds since 1970.
    at_ns: u64,
    bytes: Vec<u8>,
}

/// One line as JSON.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    stream: &'a str,
    text: &'a str,
}

impl<'a> LogPrinter<'a> {
    /// A printer of one log.
    pub(crate) fn new(out: &'a Out, form: LogForm) -> Self {
        Self { out, form, open: None, returned: false, lines: Default::default() }
    }

    /// Prints a record.
    pub(crate) fn record(&mut self, record: &Record) -> Result<()> {
        if self.form.only.is_some_and(|only| only != record.stream) {
            return Ok(());
        }
        if self.out.format() != Format::Table && self.form.sink == Sink::Result {
            return self.json(record);
        }
        if self.form.timestamps || self.form.streams {
            return self.marked(record);
        }
        match (record.stream, self.form.only) {
            (Stream::System, None) => {
                self.beside(record);
                Ok(())
            }
            _ => self.plain(record),
        }
    }

    /// Prints what is left of lines that never ended, the older one first.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let mut begun = Stream::ALL.map(|stream| (stream, std::mem::take(&mut self.lines[slot(stream)])));
        begun.sort_by_key(|(_, line)| line.at_ns);
        for (stream, line) in begun.iter().filter(|(_, line)| !line.bytes.is_empty()) {
            self.line(*stream, line)?;
        }
        Ok(())
    }

    fn plain(&mut self, record: &Record) -> Result<()> {
        self.open = (!record.bytes.ends_with(b"\n")).then_some(record.stream);
        match self.form.sink {
            Sink::Result => self.out.raw(&record.bytes),
            Sink::Beside => {
                self.out.raw_beside(&record.bytes);
                Ok(())
            }
        }
    }

    /// A line of the product itself: on standard error, so that a pipe gets the commands' bytes alone.
    fn beside(&mut self, record: &Record) {
        if self.open.take().is_some() {
            self.out.end_line();
        }
        for line in String::from_utf8_lossy(&record.bytes).lines() {
            self.out.dim(&format!("vessl: {line}"));
        }
    }

    fn marked(&mut self, record: &Record) -> Result<()> {
        let text = self.with_marks(record);
        self.out.raw(&text)
    }

    /// The text of a record, with one mark at the begin of every line that can be seen.
    fn with_marks(&mut self, record: &Record) -> Vec<u8> {
        let mut text = Vec::with_capacity(record.bytes.len() + 64);
        for piece in record.bytes.split_inclusive(|&b| matches!(b, b'\n' | b'\r')) {
            let is_open = self.open == Some(record.stream);
            // Nothing is on the line that would be taken back.
            if piece == b"\r" && (!is_open || self.returned) {
                continue;
            }
            if !is_open && self.open.is_some() {
                text.push(b'\n');
            }
            if !is_open || (self.returned && piece != b"\n") {
                text.extend_from_slice(self.mark(record).as_bytes());
            }
            text.extend_from_slice(piece);
            self.returned = piece.ends_with(b"\r");
            self.open = (!piece.ends_with(b"\n")).then_some(record.stream);
        }
        text
    }

    fn mark(&self, record: &Record) -> String {
        let mut mark = String::new();
        if self.form.timestamps {
            let at = moment(record.at_ns).to_zoned(TimeZone::system());
            let _ = write!(mark, "{} ", at.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z"));
        }
        if self.form.streams {
            let _ = write!(mark, "{} | ", record.stream.word());
        }
        mark
    }

    fn json(&mut self, record: &Record) -> Result<()> {
        if record.stream == Stream::System {
            // What the commands wrote before is said before.
            self.finish()?;
        }
        for piece in record.bytes.split_inclusive(|&b| b == b'\n') {
            let line = &mut self.lines[slot(record.stream)];
            if line.bytes.is_empty() {
                line.at_ns = record.at_ns;
            }
            line.bytes.extend_from_slice(piece);
            if piece.ends_with(b"\n") || line.bytes.len() >= LINE {
                let line = std::mem::take(line);
                self.line(record.stream, &line)?;
            }
        }
        Ok(())
    }

    fn line(&self, stream: Stream, line: &Begun) -> Result<()> {
        let text = String::from_utf8_lossy(line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes));
        self.out.data_line(&Line { at: moment(line.at_ns), stream: stream.word(), text: &text })
    }
}

fn slot(stream: Stream) -> usize {
    stream as usize - Stream::Stdout as usize
}

fn moment(at_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of these records of the standard output.
    fn check(records: &[&str], expected: &str) {
        let out = Out::new(Format::Table);
        let mut printer = LogPrinter::new(&out, LogForm { streams: true, ..LogForm::default() });
        let of = |text: &&str| Record {
            next: 0,
            at_ns: 1,
            stream: Stream::Stdout,
            bytes: bytes::Bytes::copy_from_slice(text.as_bytes()),
        };
        let shown: Vec<u8> = records.iter().flat_map(|text| printer.with_marks(&of(text))).collect();
        assert_eq!(String::from_utf8(shown).unwrap(), expected.replace('|', "stdout | "), "{records:?}");
    }

    #[test]
    fn every_line_that_can_be_seen_has_one_mark() {
        check(&["a\nb\n"], "|a\n|b\n");
        check(&["a", "b\n", "c"], "|ab\n|c");
        // A progress bar writes over the mark.
        check(&["1%\r2%\r3%\n"], "|1%\r|2%\r|3%\n");
        check(&["1%\r", "2%\r", "3%\n"], "|1%\r|2%\r|3%\n");
        check(&["\r1%", "\r2%", "\n"], "|1%\r|2%\n");
        check(&["\r\r1%\r\r2%\r\n"], "|1%\r|2%\r\n");
        // Lines of another system.
        check(&["a\r\nb\r", "\nc"], "|a\r\n|b\r\n|c");
        check(&["\n\n"], "|\n|\n");
    }
}
