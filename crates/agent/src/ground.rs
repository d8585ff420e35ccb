//! What imports and exports work on. They run as jobs: one at a time, beside the desk, cancelled by a flag.
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use vessl_container::rootfs::Merged;
use vessl_core::plan::Plan;
use vessl_core::record::{EventKind, Secrets};
use vessl_core::wire::Progress;

use crate::job::{Note, Teller};

/// Everything that [`crate::stage::run`] and [`crate::export::run`] need.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'a> {
    /// What to do.
    pub(crate) plan: &'a Plan,
    /// The run's root file system, mounted in this process' mount namespace.
    pub(crate) merged: &'a Merged,
    /// User and group that own what imports bring, if it is not root.
    pub(crate) owner: Option<(u32, u32)>,
    /// The data directory: `blobs/`, `trees/`.
    pub(crate) data: &'a Path,
    /// Logins.
    pub(crate) secrets: &'a Secrets,
    /// The way to the desk.
    pub(crate) teller: &'a Teller,
    /// Becomes true when the work should end soon.
    pub(crate) cancel: &'a AtomicBool,
}

impl Ground<'_> {
    /// Adds a line to the run's log, as `importing …`; secret values in it are hidden.
    pub(crate) fn say(&self, line: impl Into<String>) {
        self.teller.tell(Note::Line(line.into()));
    }

    /// Tells how far something is; as often as it likes.
    pub(crate) fn progress(&self, progress: Progress) {
        self.teller.progress(progress);
    }

    /// Records something, as [`EventKind::Imported`] or [`EventKind::Exported`]; those two are what the exit record lists.
    pub(crate) fn record(&self, what: EventKind) {
        self.teller.tell(Note::Event(what));
    }

    /// Whether the work should end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::SeqCst)
    }
}
