//! What is said of the time that a run has.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::TimeLimit;

/// Body of `POST …/runs/{id}/extend`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunExtend {
    /// Hours that are added to its time limit, more than 0; a part of one is fine.
    pub hours: f64,
}

/// When a run is ended by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndView {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Which limit it is: `idle` moves when somebody uses the run.
    pub limit: TimeLimit,
}
