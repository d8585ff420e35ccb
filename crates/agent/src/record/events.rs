//! The `events` file: what happened, one line each, on disk before anybody can see its consequences. A full disk delays
//! lines and loses none while the agent lives.
use std::collections::VecDeque;
use std::io;

use jiff::Timestamp;
use vessl_core::record::{Event, EventKind, RECORD_VERSION};
use vessl_data::durable::Appender;

use crate::record::run_dir::{DirError, RunDir};

/// The one writer of an `events` file.
#[derive(Debug)]
pub(crate) struct Events {
    appender: Appender,
    seq: u64,
    waiting: VecDeque<Vec<u8>>,
}

impl Events {
    /// Opens the events of an attempt. `None` if it was started before.
    pub(crate) fn begin(dir: &RunDir) -> io::Result<Option<Self>> {
        let appender = Appender::open(&dir.file("events"), 0o600)?;
        let fresh = appender.is_empty();
        Ok(fresh.then(|| Self { appender, seq: 0, waiting: VecDeque::new() }))
    }

    /// Opens the events of an attempt that was started before.
    pub(crate) fn go_on(dir: &RunDir) -> Result<Self, DirError> {
        let path = dir.file("events");
        let appender = Appender::open(&path, 0o600).map_err(DirError::os("open", &path))?;
        let seq = dir.events()?.last().map_or(0, |event| event.seq);
        Ok(Self { appender, seq, waiting: VecDeque::new() })
    }

    /// Adds an event and returns its time. It is on disk when this returns, unless the disk refuses: then it is written
    /// before the next one.
    pub(crate) fn add(&mut self, what: EventKind) -> Timestamp {
        let at = Timestamp::now();
        self.seq += 1;
        let event = Event { v: RECORD_VERSION, seq: self.seq, at, what };
        match serde_json::to_vec(&event) {
            Ok(line) => self.waiting.push_back(line),
            Err(error) => eprint_line(&format!("event {} cannot be written: {error}", self.seq)),
        }
        if let Err(error) = self.flush() {
            eprint_line(&format!("events wait for the disk: {error}"));
        }
        at
    }

    /// Writes what waits.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(line) = self.waiting.front() {
            self.appender.append(line)?;
            self.waiting.pop_front();
        }
        Ok(())
    }
}

/// One line for `agent.log`, which is this process's standard error.
pub(crate) fn eprint_line(text: &str) {
    use std::io::Write;
    // There is no further place to report to.
    let _ = writeln!(io::stderr(), "{} {text}", Timestamp::now());
}
