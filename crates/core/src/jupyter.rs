//! JupyterLab of an interactive run: what the process that looks after it tells in files of the run directory, and what it is told.
use serde::{Deserialize, Serialize};

/// Version of [`JupyterRecord`].
pub const JUPYTER_VERSION: u32 = 1;
/// File of a run directory with one [`JupyterRecord`], replaced as a whole.
pub const STATE_FILE: &str = "jupyter.json";
/// File of a run directory with the token, mode 0600.
pub const TOKEN_FILE: &str = "jupyter.token";
/// File of a run directory with what JupyterLab itself has to say.
pub const LOG_FILE: &str = "jupyter.log";

/// Directory below the data directory with the kits of all runs.
pub const KITS: &str = "jupyter";
/// Where that directory is seen in the container of an interactive run.
pub const KITS_INSIDE: &str = "/.vessl/jupyter";

/// Variable that tells an agent from which package index kits come.
pub const INDEX_VARIABLE: &str = "VESSL_JUPYTER_INDEX";
/// Variable that tells an agent in which directory the wheels are instead.
pub const WHEELS_VARIABLE: &str = "VESSL_JUPYTER_WHEELS";
/// The public index.
pub const DEFAULT_INDEX: &str = "https://pypi.org/simple";

/// How far JupyterLab is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JupyterState {
    /// It will be there.
    #[default]
    Preparing,
    /// It answers.
    Ready,
    /// It is not there, and something has to change first.
    Unavailable,
}

/// What is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JupyterRecord {
    /// [`JUPYTER_VERSION`].
    pub v: u32,
    /// How far it is.
    pub state: JupyterState,
    /// In words: what is being done, or what is wrong and what to do. Empty where there is nothing to say.
    pub why: String,
}
