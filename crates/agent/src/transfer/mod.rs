//! Bytes into and out of a directory of a run: each kind of source and target is a function of its own. It works on directories
//! that are open; how they came to be there, and what is mounted in them, is its caller's.
mod bucket;
mod export;
mod git;
mod hf;
pub(crate) mod progress;
mod tree;
mod volume;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use vessl_container::rootfs::nfs::NfsError;
use vessl_core::plan::{ImportSource, Plan};
use vessl_core::record::{EventKind, Secrets};
use vessl_core::wire::Progress;
use vessl_data::DataError;
use vessl_data::bucket::BucketError;
use vessl_data::dir::Dir;
use vessl_data::git::GitError;
use vessl_data::hub::HubError;
use vessl_data::staging::{About, Staged, Unsynced};
use vessl_data::tree::Top;

use crate::record::Sink;
use crate::task::{Reporter, TaskEvent};

pub(crate) use export::{ExportError, Exported, export};

/// Everything that a transfer needs besides its directory.
#[derive(Clone, Copy)]
pub(crate) struct TransferContext<'a> {
    /// What to do.
    pub(crate) plan: &'a Plan,
    /// User and group of the run, if it is not root: they own what imports bring, and links of an export lead no further than they
    /// may read.
    pub(crate) owner: Option<(u32, u32)>,
    /// Where blobs come from and go to.
    pub(crate) sink: &'a Sink,
    /// A directory for small files that nobody else may enter.
    pub(crate) scratch: &'a Path,
    /// Logins.
    pub(crate) secrets: &'a Secrets,
    /// The way to the event loop.
    pub(crate) reporter: &'a Reporter,
    /// Becomes true when the work should end soon.
    pub(crate) cancel: &'a AtomicBool,
}

/// What a transfer moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// Commit or version.
    pub(crate) version: String,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Number of files and symbolic links.
    pub(crate) files: u64,
    /// What did not come, a sentence each.
    pub(crate) missing: Vec<String>,
    /// Permissions and time of the directory itself, where the source knows them.
    pub(crate) top: Option<Top>,
}

impl From<About> for Moved {
    fn from(about: About) -> Self {
        let About { version, bytes, files, .. } = about;
        Self { version, bytes, files, ..Self::default() }
    }
}

/// Why nothing was moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TransferError {
    /// git, or the other end.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The content-addressed store.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// Hugging Face.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// An NFS export.
    #[error(transparent)]
    Nfs(#[from] NfsError),
    /// A branch or tag came as another commit than it was a moment before.
    #[error("`{0}` changes while it is imported")]
    Moving(String),
    /// The plan asks for something that is not there.
    #[error("{0}")]
    Plan(String),
}

/// Brings what `source` names onto the machine, where runs share it; what is here already is not fetched. `None` where it is not
/// shared: it is to be copied.
pub(crate) fn stage(
    source: &ImportSource,
    cx: &TransferContext<'_>,
) -> Result<Option<(Moved, Staged)>, TransferError> {
    match source {
        ImportSource::Git { .. } => git::stage(&git::Commit::of(source)?, cx),
        ImportSource::Volume(_) => Ok(None),
        ImportSource::Tree { label, manifest } => stage_version(label, manifest, cx).map(Some),
        ImportSource::Bucket(bucket) => bucket::stage(bucket, cx).map(Some),
        ImportSource::Hf(hf) => hf::stage(hf, cx).map(Some),
    }
}

/// Copies what `source` names into a directory, which may have files; `staged` is it, if it was staged for this. Also gives what is not
/// on disk yet of what was staged here.
pub(crate) fn copy(
    source: &ImportSource,
    staged: Option<(Moved, Staged)>,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<(Moved, Option<Unsynced>), TransferError> {
    let copied = |moved| (moved, None);
    let (moved, mut staged) = match (source, staged) {
        (ImportSource::Git { .. }, _) => {
            return git::import(&git::Commit::of(source)?, into, cx).map(copied);
        }
        (ImportSource::Volume(volume), _) => return volume::import(volume, into, cx).map(copied),
        (ImportSource::Tree { label, manifest }, _) => {
            return tree::import(label, manifest, into, cx).map(copied);
        }
        (_, Some(staged)) => staged,
        (ImportSource::Bucket(bucket), None) => bucket::stage(bucket, cx)?,
        (ImportSource::Hf(hf), None) => hf::stage(hf, cx)?,
    };
    volume::copy_staged(&staged, into, cx)?;
    Ok((moved, staged.take_unsynced()))
}

/// Brings a version of the store onto the machine.
pub(crate) fn stage_version(
    label: &str,
    manifest: &str,
    cx: &TransferContext<'_>,
) -> Result<(Moved, Staged), TransferError> {
    let (moved, checkout) = tree::checkout(label, manifest, cx)?;
    Ok((moved, checkout.staged))
}

impl TransferContext<'_> {
    /// Adds a line to the run's log, as `importing …`; secret values in it are hidden.
    pub(crate) fn log(&self, line: impl Into<String>) {
        self.reporter.report(TaskEvent::Line(line.into()));
    }

    /// Tells how far something is; as often as it likes.
    pub(crate) fn progress(&self, progress: Progress) {
        self.reporter.progress(progress);
    }

    /// Records something, as [`EventKind::Imported`] or [`EventKind::Exported`]; those two are what the exit record lists.
    pub(crate) fn record(&self, what: EventKind) {
        self.reporter.report(TaskEvent::Event(what));
    }

    /// Whether the work should end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }
}
