//! Why blobs and trees could not be moved, in words for people.
use std::io;
use std::path::{Path, PathBuf};

use crate::blob::Digest;

/// Why an operation on blobs or trees failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No space (or quota) left; what was there before is intact.
    #[error("the disk is full: cannot write `{}`", path.display())]
    DiskFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// The store does not have it.
    #[error("`{digest}` is not in the store")]
    Missing {
        /// What was asked for.
        digest: Digest,
    },
    /// The bytes are elsewhere, and were not brought home.
    #[error("`{digest}` is in the bucket of the server's blobs and not on this machine: {why}")]
    Away {
        /// What was asked for.
        digest: Digest,
        /// Why it was not brought home.
        why: String,
    },
    /// The bytes in the store are not those that were put in.
    #[error("`{digest}` is damaged: the file `{}` has other content; remove it and write it again", path.display())]
    Damaged {
        /// What was asked for.
        digest: Digest,
        /// The file.
        path: PathBuf,
    },
    /// A blob is named as the recipe of a file, and is not that.
    #[error("`{digest}` is not the recipe of a file of {size} bytes")]
    Recipe {
        /// What was asked for.
        digest: Digest,
        /// The file.
        size: u64,
    },
    /// A file was written to while it was read.
    #[error("`{}` changed while it was read; nothing was stored", path.display())]
    Changed {
        /// Path inside the tree.
        path: PathBuf,
    },
    /// A tree is larger than the product handles.
    #[error("`{}`: {limit}", path.display())]
    Limit {
        /// Path inside the tree.
        path: PathBuf,
        /// Which limit, in words.
        limit: String,
    },
    /// A manifest is not one.
    #[error("the manifest is not valid: line {line}: {why}")]
    Manifest {
        /// From 1.
        line: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// Something else stands where a file or directory should be written.
    #[error("cannot write `{}`: {there} is already there", path.display())]
    Conflict {
        /// Path inside the target.
        path: PathBuf,
        /// `a symbolic link`, `a file`, `a directory`.
        there: &'static str,
    },
    /// The caller wanted no more.
    #[error("stopped")]
    Stopped,
    /// Anything else of the operating system.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Os {
        /// The step.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl DataError {
    /// A blob that nobody has brought home yet.
    pub(crate) fn away(digest: Digest) -> Self {
        Self::Away { digest, why: "only a server brings it home".to_owned() }
    }

    /// Maps a system error of step `what` on `path`.
    pub fn os<E: Into<io::Error>>(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> Self {
        move |source| {
            let (source, path) = (source.into(), path.as_ref().to_owned());
            if is_full(&source) { Self::DiskFull { path } } else { Self::Os { what, path, source } }
        }
    }
}

/// Whether the system says that there is no room for more bytes.
pub fn is_full(e: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(e.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
