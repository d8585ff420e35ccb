//! Why the commands of a run never start.
use std::error::Error;

use vessl_core::run::EndReason;
use vessl_core::text::chain;

use crate::task::TaskError;

/// What stands between the start of an agent and the start of the commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SetupError {
    /// Something failed: what, and in words.
    Failed(EndReason, String),
    /// Somebody asked to stop.
    Stopped,
}

impl SetupError {
    /// A failure with the chain of its causes.
    pub(crate) fn because(error: impl Error) -> Self {
        Self::Failed(EndReason::SetupFailed, chain(&error))
    }

    /// A failure of `what`, with the chain of its causes.
    pub(crate) fn of(what: &str, error: impl Error) -> Self {
        Self::Failed(EndReason::SetupFailed, format!("{what}: {}", chain(&error)))
    }

    /// The same, as a failure of this kind, unless it has one that no other attempt changes.
    pub(crate) fn kind(self, code: EndReason) -> Self {
        match self {
            Self::Failed(EndReason::VersionChanged, why) => Self::Failed(EndReason::VersionChanged, why),
            Self::Failed(_, why) => Self::Failed(code, why),
            Self::Stopped => Self::Stopped,
        }
    }
}

impl From<TaskError> for SetupError {
    fn from(error: TaskError) -> Self {
        Self::because(error)
    }
}
