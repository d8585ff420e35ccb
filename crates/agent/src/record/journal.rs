//! The run's log as the agent writes it: the commands' output as it came, the agent's own lines between. A full disk
//! costs output, never the run, and what it cost is said in the log when there is room again.
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use vessl_data::log::{LogError, Stream, Writer};

use crate::record::events::eprint_line;
use crate::record::mask::Mask;
use crate::record::run_dir::RunDir;

/// The log of one attempt.
#[derive(Debug)]
pub(crate) struct Journal {
    writer: Writer,
    mask: Mask,
    /// Bytes of output that were lost since the log last told.
    lost: u64,
    /// The same in all.
    lost_in_all: u64,
    /// Whether the last write had to wait, so that it is told once.
    waits: bool,
}

impl Journal {
    /// Opens the log of an attempt; `mask` applies to the agent's own lines.
    /// `limit` bytes of it are kept; 0 is no limit.
    pub(crate) fn open(dir: &RunDir, mask: Mask, limit: u64) -> Result<Self, LogError> {
        let log = dir.file("log");
        let writer = if limit == 0 { Writer::open(&log)? } else { Writer::open_bounded(&log, limit)? };
        Ok(Self { writer, mask, lost: 0, lost_in_all: 0, waits: false })
    }

    /// Opens the log of an attempt whose commands have ended, also where it has its end.
    pub(crate) fn go_on(dir: &RunDir, mask: Mask, limit: u64) -> Result<Self, LogError> {
        Writer::take_end(&dir.file("log"))?;
        Self::open(dir, mask, limit)
    }

    /// Adds one line of the agent's own; secret values in it are hidden.
    pub(crate) fn report(&mut self, line: &str) {
        let text = self.mask.text(line) + "\n";
        self.output(Stream::System, text.as_bytes());
        self.flush();
    }

    /// `text` with the secret values hidden.
    pub(crate) fn masked(&self, text: &str) -> String {
        self.mask.text(text)
    }

    /// Adds bytes as they came; they are seen by readers after [`Journal::flush`].
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if let Err(error) = self.report_lost().and_then(|()| self.writer.append(now_ns(), stream, bytes)) {
            self.add_lost(bytes.len(), &error);
        }
    }

    /// Bytes of output that the log does not have.
    pub(crate) fn lost_in_all(&self) -> u64 {
        self.lost_in_all
    }

    /// Lets readers see everything so far.
    pub(crate) fn flush(&mut self) {
        // What cannot be written now stays in memory, and the next write tries again.
        let flushed = self.writer.flush();
        let waits = flushed.is_err();
        if let (Err(error), false) = (flushed, self.waits) {
            eprint_line(&format!("the log waits: {error}"));
        }
        self.waits = waits;
    }

    /// Waits until everything so far is on disk.
    pub(crate) fn sync(&mut self) {
        if let Err(error) = self.report_lost().and_then(|()| self.writer.sync()) {
            eprint_line(&format!("the log is not on disk: {error}"));
        }
    }

    /// Adds the last line to a log whose agent was killed before it, unless the log is finished.
    pub(crate) fn complete(dir: &Path, line: &str) -> Result<(), LogError> {
        let mut writer = match Writer::open(dir) {
            Err(LogError::Finished { .. }) => return Ok(()),
            writer => writer?,
        };
        writer.append(now_ns(), Stream::System, format!("{line}\n").as_bytes())?;
        writer.finish()
    }

    /// Writes the end of the log and waits for the disk. The log of a run that filled the disk may stay without its end.
    pub(crate) fn finish(&mut self) {
        let end = self.report_lost().and_then(|()| self.writer.finish());
        if let Err(error) = end {
            eprint_line(&format!("the log has no end: {error}"));
        }
    }

    /// Says what was lost, now that there may be room.
    fn report_lost(&mut self) -> Result<(), LogError> {
        if self.lost == 0 {
            return Ok(());
        }
        self.writer.flush()?;
        let line = format!("{} bytes of output are lost: the log could not be written\n", self.lost);
        self.writer.append(now_ns(), Stream::System, line.as_bytes())?;
        self.lost = 0;
        Ok(())
    }

    fn add_lost(&mut self, bytes: usize, error: &LogError) {
        if self.lost == 0 {
            eprint_line(&format!("output is being lost: {error}"));
        }
        self.lost += bytes as u64;
        self.lost_in_all += bytes as u64;
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
