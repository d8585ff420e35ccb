//! Reading a run directory: events, exit record, lock. It only reads; every call may block on the disk.
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use vessl_core::door;
use vessl_core::ids::Nonce;
use vessl_core::record::{self, Event, EventKind, ExitRecord, Phase, RECORD_VERSION};
use vessl_core::run::Left;
use vessl_data::durable;

/// Largest exit record that is read, in bytes.
const LARGEST_RECORD: u64 = 16 << 20;

/// The directory of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Of the attempt: what carries another is not believed.
    nonce: Nonce,
}

/// What the events say so far.
#[derive(Debug, Default)]
pub(crate) struct AttemptLog {
    /// All events.
    pub(crate) events: Vec<Event>,
    /// The last phase.
    pub(crate) phase: Option<Phase>,
    /// When the commands started.
    pub(crate) started_at: Option<Timestamp>,
    /// Exit status of the commands, if they ended and the agent went on.
    pub(crate) exit_code: Option<i32>,
    /// Whether it noted what another agent needs to write its exports.
    pub(crate) can_export: bool,
}

/// What an attempt has recorded.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Whether it has a directory.
    pub(crate) begun: bool,
    /// How it ended, by its agent.
    pub(crate) exit: Option<ExitRecord>,
    /// What its agent said on the way.
    pub(crate) log: AttemptLog,
}

impl RunDir {
    /// The directory at `path` of the attempt with this nonce.
    pub(crate) fn new(path: PathBuf, nonce: Nonce) -> Self {
        Self { path, nonce }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Exit record and events; words if they cannot be read.
    pub(crate) fn recorded(&self) -> Result<Recorded, String> {
        if !self.path.exists() {
            return Ok(Recorded::default());
        }
        let exit = self.exit()?;
        // Read after the exit record, so that a finished run shows all of its events.
        let log = self.log();
        // The record is the last word: events that cannot be read take nothing from it.
        let log = if exit.is_some() { log.unwrap_or_default() } else { log? };
        Ok(Recorded { begun: true, exit, log })
    }

    /// Every complete event; words if they cannot be read.
    pub(crate) fn log(&self) -> Result<AttemptLog, String> {
        let text = durable::read_lines(&self.path.join("events"), 0)
            .map_err(|error| format!("its `events` cannot be read: {error}"))?;
        let mut told = AttemptLog::default();
        let events =
            record::events(&text).map_err(|error| format!("its `events` hold something unknown: {error}"))?;
        for event in events {
            match event.what {
                EventKind::Started { nonce, .. } if nonce != self.nonce => {
                    return Err(format!("its `events` are of another attempt ({nonce})"));
                }
                EventKind::Phase { phase } => {
                    told.phase = Some(phase);
                    if phase == Phase::Running && told.started_at.is_none() {
                        told.started_at = Some(event.at);
                    }
                }
                EventKind::CommandsEnded { exit_code, .. } => told.exit_code = Some(exit_code),
                _ => {}
            }
            told.events.push(event);
        }
        told.can_export = self.said("commands.json");
        Ok(told)
    }

    /// The exit record, if it was written; words if it cannot be read.
    pub(crate) fn exit(&self) -> Result<Option<ExitRecord>, String> {
        let file = match durable::open_file(&self.path.join("exit.json")) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("its exit record cannot be read: {error}")),
        };
        let mut text = Vec::new();
        file.take(LARGEST_RECORD)
            .read_to_end(&mut text)
            .map_err(|error| format!("its exit record cannot be read: {error}"))?;
        // Records are written whole: what is not even JSON was damaged later, and is no record. The machine proves the end of
        // an attempt that says who worked for it.
        if !record::is_json(&text) && self.said("events") {
            return Ok(None);
        }
        let record: ExitRecord = serde_json::from_slice(&text)
            .map_err(|error| format!("its exit record is not one that this program knows: {error}"))?;
        if record.v > RECORD_VERSION {
            return Err(format!(
                "its exit record has version {}, this program knows {RECORD_VERSION}",
                record.v
            ));
        }
        if record.nonce != self.nonce {
            return Err(format!("its exit record is of another attempt ({})", record.nonce));
        }
        Ok(Some(record))
    }

    /// Whether an agent holds the lock. Not to be asked while an agent may just be taking it.
    pub(crate) fn is_locked(&self) -> Result<bool, String> {
        let file = match durable::open_file(&self.path.join("lock")) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(format!("its lock cannot be opened: {error}")),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(std::fs::TryLockError::WouldBlock) => Ok(true),
            Err(std::fs::TryLockError::Error(error)) => Err(format!("its lock cannot be tried: {error}")),
        }
    }

    /// What the attempt still has here when no agent holds the lock: scratch, or what only a living agent needs.
    pub(crate) fn left(&self) -> Left {
        let stays = |name| std::fs::symlink_metadata(self.path.join(name)).is_ok();
        let any = ["box", "control.sock", door::SOCKET, "spare", "progress"].into_iter().any(stays);
        if any { Left::Scratch } else { Left::Nothing }
    }

    /// Whether an agent ever took the run.
    pub(crate) fn was_taken(&self) -> bool {
        self.said("events") || self.said("exit.json")
    }

    fn said(&self, name: &str) -> bool {
        std::fs::metadata(self.path.join(name)).is_ok_and(|about| about.len() > 0)
    }
}
