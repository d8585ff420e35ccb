//! The status of a run, as people see it. It has no rules.
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
