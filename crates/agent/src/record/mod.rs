//! What an attempt leaves for others: events, log, exit record, blobs, and a view of how far something is. It must not know what
//! happens, only how it is written down.
pub(crate) mod commands;
pub(crate) mod events;
pub(crate) mod journal;
pub(crate) mod mask;
pub(crate) mod progress;
pub(crate) mod run_dir;

use std::io;
use std::path::{Path, PathBuf};

use vessl_data::DataError;
use vessl_data::blob::Store;
use vessl_data::log::LogError;
use vessl_data::staging::Staging;

use events::Events;
use journal::Journal;
use mask::Mask;
use progress::ProgressFile;
use run_dir::{DirError, RunDir};

/// Where the record of an attempt goes: today its run directory, and the data directory for blobs. Whatever is written has a
/// place that its writer names (an offset of the event file, a segment and an offset of the log, the digest of a blob, the
/// whole exit record), so a write that is repeated changes nothing; a sink that is elsewhere needs to know no more.
#[derive(Debug)]
pub(crate) struct Sink {
    dir: RunDir,
    data: PathBuf,
}

impl Sink {
    /// The run directory `dir` of the data directory `data`.
    pub(crate) fn new(dir: RunDir, data: PathBuf) -> Self {
        Self { dir, data }
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The events, to be written by one. `None` if the attempt was started before.
    pub(crate) fn events(&self) -> io::Result<Option<Events>> {
        Events::begin(&self.dir)
    }

    /// The events of an attempt that was started before, to be gone on with.
    pub(crate) fn more_events(&self) -> Result<Events, DirError> {
        Events::go_on(&self.dir)
    }

    /// The log of an attempt whose commands have ended, to be gone on with.
    pub(crate) fn more_log(&self, mask: Mask, limit: u64) -> Result<Journal, LogError> {
        Journal::go_on(&self.dir, mask, limit)
    }

    /// The log, to be written by one; about `limit` bytes of it are kept, 0 is no limit. `mask` applies to the agent's own lines.
    pub(crate) fn log(&self, mask: Mask, limit: u64) -> Result<Journal, LogError> {
        Journal::open(&self.dir, mask, limit)
    }

    /// How far something is.
    pub(crate) fn progress(&self) -> ProgressFile {
        ProgressFile::new(&self.dir)
    }

    /// What imports brought to the machine.
    pub(crate) fn staging(&self) -> Result<Staging, DataError> {
        Staging::open(&self.data.join("staged"))
    }

    /// The blobs.
    pub(crate) fn blobs(&self) -> Result<Store, DataError> {
        Store::open(&self.data.join("blobs"))
    }
}
