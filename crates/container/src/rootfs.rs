//! The root file system: an overlay of the image's layers (or of the host's `/`) with a private upper directory, mounted
//! in the agent's own mount namespace, so that every mount goes when the agent goes.
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::runtime::StartError;

/// What a root file system is made of.
#[derive(Clone, Debug)]
pub struct Rootfs {
    /// Lower layers, lowest first; for `host://` this is `/`.
    pub layers: Vec<PathBuf>,
    /// Private directory for upper, work and merged; must be on a file system that overlayfs accepts as upper.
    pub scratch: PathBuf,
    /// Host paths that must never be visible (covered by an empty read-only tmpfs), for `host://`.
    pub hidden: Vec<PathBuf>,
    /// Whether `/` of the host is shown: file systems mounted below it are bound one by one, read-only.
    pub host: bool,
}

/// A mounted root file system.
#[derive(Debug)]
pub struct Merged {
    /// Its path as this process sees it.
    pub path: PathBuf,
}

/// One bind; source and target are resolved safely (`openat2`, no symbolic link leads out of the root file system).
#[derive(Clone, Debug)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path in the container; made if missing.
    pub target: PathBuf,
    /// Who sees writes.
    pub access: Access,
}

/// Who sees writes to a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are refused.
    ReadOnly,
    /// Writes reach the source.
    Shared,
    /// Writes go to the run's own scratch (an overlay over the source); the source never changes.
    Private,
}

impl Rootfs {
    /// Mounts the overlay at `scratch/merged`.
    pub fn mount(&self) -> Result<Merged, StartError> {
        todo!()
    }
}

impl Merged {
    /// Applies one bind.
    pub fn bind(&self, bind: &Bind) -> Result<(), StartError> {
        let _ = bind;
        todo!()
    }

    /// Opens a path of the container as the container would see it (links resolve inside the root), `O_PATH`.
    /// `Ok(None)` if it does not exist.
    pub fn open(&self, path: &Path) -> Result<Option<OwnedFd>, StartError> {
        let _ = path;
        todo!()
    }

    /// Makes a directory (and parents) in the container and opens it.
    pub fn make_dir(&self, path: &Path) -> Result<OwnedFd, StartError> {
        let _ = path;
        todo!()
    }
}
