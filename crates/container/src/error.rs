//! Why an image could not be had or a container could not be started, in words for people. Never a credential.
use std::io;
use std::path::{Path, PathBuf};

use vessl_core::reference::{Digest, ReferenceError};
use vessl_data::is_full;

/// Why a container could not be started. The text is one sentence for people.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Something of the operating system refused.
    #[error("cannot {what}: {source}")]
    Os {
        /// The step.
        what: String,
        /// The system's word.
        source: io::Error,
    },
    /// The caller has other threads, which a fork would not take along.
    #[error("a container cannot be started from a process with {0} threads")]
    Threads(usize),
}

/// Turns an I/O error into a [`StartError`] of the step `what`.
pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Os { what, source }
}

/// Why a store operation failed. The text names registry, repository and reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The reference is not one, or names nothing that can be pulled.
    #[error("{0}")]
    Reference(String),
    /// The registry shows nothing without a login, and none was given.
    #[error("registry `{registry}`, repository `{repository}`: {reason}")]
    LoginNeeded {
        /// Host and port.
        registry: String,
        /// Repository.
        repository: String,
        /// What it said.
        reason: String,
    },
    /// The registry refused the login it got, limits the rate, cannot be reached or kept failing.
    #[error("registry `{registry}`, repository `{repository}`: {reason}")]
    Registry {
        /// Host and port.
        registry: String,
        /// Repository.
        repository: String,
        /// What it said, and what to do.
        reason: String,
    },
    /// No such repository, tag, digest, layout or archive entry.
    #[error("image `{image}` is unknown: {reason}")]
    Unknown {
        /// The reference.
        image: String,
        /// Who says so.
        reason: String,
    },
    /// There is no image for this machine.
    #[error("image `{image}` is not built for `{wanted}`; it has {has}")]
    Platform {
        /// The reference.
        image: String,
        /// This machine.
        wanted: String,
        /// What exists.
        has: String,
    },
    /// The image uses something that is not supported.
    #[error("image `{image}` cannot be used: {what}")]
    Unsupported {
        /// The reference.
        image: String,
        /// What.
        what: String,
    },
    /// Something is not what its digest, size or format says.
    #[error("{what} is damaged: {reason}")]
    Corrupt {
        /// Which part.
        what: String,
        /// In what way.
        reason: String,
    },
    /// A layer holds what must not be, or cannot be, unpacked.
    #[error("{layer} cannot be unpacked: {source}")]
    Layer {
        /// Which layer.
        layer: String,
        /// What it holds.
        source: crate::unpack::UnpackError,
    },
    /// The disk is full.
    #[error("no space left on the device of `{path}`, while {doing}; free some or run `vessl image prune`")]
    NoSpace {
        /// The store.
        path: PathBuf,
        /// The step.
        doing: String,
    },
    /// The operating system refused.
    #[error("cannot {doing} `{path}`: {source}")]
    Io {
        /// The step, e.g. `write`.
        doing: String,
        /// Where.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The image was pruned after it was found.
    #[error("image `{0}` was removed from the store in the meantime; pull it again")]
    Gone(String),
    /// The caller asked to stop.
    #[error("the pull was cancelled")]
    Cancelled,
}

impl StoreError {
    /// An operating-system error of `doing` at `path`; a full disk is its own kind.
    pub(crate) fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::NoSpace { path: path.to_owned(), doing: format!("trying to {doing} it") };
        }
        Self::Io { doing: doing.to_owned(), path: path.to_owned(), source }
    }

    pub(crate) fn wrong_digest(what: &str, expected: &Digest, got: &Digest) -> Self {
        Self::Corrupt {
            what: what.to_owned(),
            reason: format!("its digest should be `{expected}` and is `{got}`"),
        }
    }
}

impl From<ReferenceError> for StoreError {
    fn from(error: ReferenceError) -> Self {
        Self::Reference(error.to_string())
    }
}
