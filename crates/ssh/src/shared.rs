//! What everything on a connection needs.
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::intake;
use crate::listening::Listening;

/// Init, as it is seen in every run.
pub(crate) const INIT: &str = "/.vessl/init";
/// Bytes that are read at once.
pub(crate) const PIECE: usize = 64 << 10;
/// Most channels of a connection.
const CHANNELS: usize = 256;

/// It.
pub(crate) struct Shared {
    dir: OnceLock<PathBuf>,
    /// Address and port at both ends, as `SSH_CONNECTION` has them.
    pub(crate) ends: String,
    /// Bytes that nobody has taken yet.
    pub(crate) memory: Arc<Semaphore>,
    pub(crate) listening: Listening,
    channels: Arc<Semaphore>,
}

impl Shared {
    /// Of a connection between these ends.
    pub(crate) fn new(ends: String) -> Self {
        Self {
            dir: OnceLock::new(),
            ends,
            memory: intake::memory(),
            listening: Listening::default(),
            channels: Arc::new(Semaphore::new(CHANNELS)),
        }
    }

    /// The client has come in: this is the directory of its run.
    pub(crate) fn is_in(&self, dir: PathBuf) {
        let _ = self.dir.set(dir);
    }

    /// Directory of the run. Nothing is opened before it is known.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.get().map_or(Path::new("/nonexistent"), PathBuf::as_path)
    }

    /// Room for one more channel.
    pub(crate) fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.channels).try_acquire_owned().ok()
    }
}
