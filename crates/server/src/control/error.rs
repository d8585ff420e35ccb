//! What can go wrong with a request. Each kind has one HTTP status and one way to go on.
use vessl_core::access::Denied;
use vessl_core::ids::RunId;
use vessl_core::wire::Problem;
use vessl_data::DataError;
use vessl_data::offsite::OffsiteError;

use crate::attempt::AttemptError;
use crate::engine::EngineError;
use crate::secrets::SecretError;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing.
    #[error("{message}")]
    NotFound {
        /// For a person.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// The run file has problems.
    #[error("the run file has {} problem(s)", .0.len())]
    Invalid(Vec<Problem>),
    /// The request itself makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// The request is well-formed and still makes no sense.
    #[error("{0}")]
    Unfit(String),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The rules say no.
    #[error("{message}")]
    Refused {
        /// For a person.
        message: String,
        /// What to do next.
        hint: Option<String>,
    },
    /// What it left is still being removed; it takes longer than a request waits.
    #[error("run {} has ended and is still being cleaned up", .0.0)]
    CleaningUp(RunId),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A stored secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The machine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The content-addressed store.
    #[error(transparent)]
    Data(#[from] DataError),
    /// What a run needs is on its way; it waits for that.
    #[error("{0}")]
    Coming(String),
    /// What a run needs is in the bucket of the blobs, and does not come.
    #[error("what it imports cannot be brought home: {0}")]
    Away(OffsiteError),
    /// A file of a run.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The keys of SSH.
    #[error(transparent)]
    Ssh(#[from] vessl_ssh::keys::KeyError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

impl ControlError {
    /// There is no `what` of this name; `known` are the ones there are.
    pub fn not_found(what: &str, name: &str, known: &[String]) -> Self {
        let hint = match known {
            [] => None,
            known => Some(format!("there are: {}", known.join(", "))),
        };
        Self::NotFound { message: format!("there is no {what} `{name}`"), hint }
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        match self {
            Self::Store(error) => error.is_disk_full(),
            Self::Data(error) => matches!(error, DataError::DiskFull { .. }),
            _ => false,
        }
    }

    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }
}
