//! What crosses the pipes of `vessl agent fetch`, which fetches imports of runs that wait. Data only.
use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::record::Secrets;
use crate::wire::Progress;

/// What `vessl agent fetch` reads: a run that waits, whose imports are to be brought onto the machine. Reaches it through a pipe, and is
/// never a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchOrder {
    /// The plan of the run.
    pub plan: Plan,
    /// What its imports need.
    pub secrets: Secrets,
}

/// A line that `vessl agent fetch` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FetchStep {
    /// How far an import is.
    Progress(Progress),
    /// An import is over.
    Done(Fetched),
}

/// What came of fetching one import ahead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// How the author named the source.
    pub label: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files and symbolic links.
    pub files: u64,
    /// Whether it was not on the machine before.
    pub new: bool,
    /// Why it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
