//! Why the commands of a run never start.
use std::error::Error;

use vessl_core::text::chain;

use crate::task::JobError;

/// What stands between the start of an agent and the start of the commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Something failed; in words.
    Failed(String),
    /// Somebody asked to stop.
    Stopped,
}

impl Halt {
    /// A failure with the chain of its causes.
    pub(crate) fn because(error: impl Error) -> Self {
        Self::Failed(chain(&error))
    }

    /// A failure of `what`, with the chain of its causes.
    pub(crate) fn of(what: &str, error: impl Error) -> Self {
        Self::Failed(format!("{what}: {}", chain(&error)))
    }
}

impl From<JobError> for Halt {
    fn from(error: JobError) -> Self {
        Self::because(error)
    }
}
