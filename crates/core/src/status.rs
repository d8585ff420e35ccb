//! The status of a run, in one word, and the code of why it ended. Which one a run has, and what may follow, is `run`'s to say.
use serde::{Deserialize, Serialize};

/// The status words of the hosted product.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for capacity.
    Queued,
    /// Placed, being started.
    Pending,
    /// Image and imports.
    Initializing,
    /// Commands run, or the session is up.
    Running,
    /// Commands ended, kept by termination protection.
    Idle,
    /// Exports are written.
    Stopping,
    /// Ended well.
    Completed,
    /// Ended badly; the reason says how.
    Failed,
    /// Ended by a person.
    Terminated,
}

impl Status {
    /// The word people see, as in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Initializing => "initializing",
            Self::Running => "running",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Terminated => "terminated",
        }
    }

    /// Whether a run in this status never changes again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Terminated)
    }
}

/// Why a run ended, for programs; the reason says it for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The commands ended with exit code 0, and the exports were written.
    Completed,
    /// A command ended with another exit code, or could not be run.
    CommandFailed,
    /// The kernel killed a process at the limit of memory.
    OutOfMemory,
    /// The run wrote more into its own file system than it may.
    ScratchLimit,
    /// The container was killed from outside.
    Killed,
    /// The image could not be fetched or used.
    ImageFailed,
    /// An import failed.
    ImportFailed,
    /// The container could not be made.
    SetupFailed,
    /// An export failed.
    ExportFailed,
    /// A person ended it.
    Terminated,
    /// The time of the session was over.
    TimeLimit,
    /// It is proven that nobody works for it any more, and there is no record of its end.
    Lost,
    /// No node can ever hold it.
    NeverFits,
    /// The machine refused to start its agent.
    StartRefused,
    /// Stored before there were codes.
    #[default]
    Unknown,
}

impl EndReason {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::CommandFailed => "command_failed",
            Self::OutOfMemory => "out_of_memory",
            Self::ScratchLimit => "scratch_limit",
            Self::Killed => "killed",
            Self::ImageFailed => "image_failed",
            Self::ImportFailed => "import_failed",
            Self::SetupFailed => "setup_failed",
            Self::ExportFailed => "export_failed",
            Self::Terminated => "terminated",
            Self::TimeLimit => "time_limit",
            Self::Lost => "lost",
            Self::NeverFits => "never_fits",
            Self::StartRefused => "start_refused",
            Self::Unknown => "unknown",
        }
    }

    /// Every code that an end can have.
    pub const ALL: [Self; 14] = [
        Self::Completed,
        Self::CommandFailed,
        Self::OutOfMemory,
        Self::ScratchLimit,
        Self::Killed,
        Self::ImageFailed,
        Self::ImportFailed,
        Self::SetupFailed,
        Self::ExportFailed,
        Self::Terminated,
        Self::TimeLimit,
        Self::Lost,
        Self::NeverFits,
        Self::StartRefused,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_json_has() {
        for code in EndReason::ALL {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.word()));
        }
    }
}
