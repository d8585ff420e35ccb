//! What an image says about the process to run in it.
use serde::{Deserialize, Serialize};

/// The parts of an OCI image configuration that a run uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub workdir: String,
    /// `user[:group]`, names or numbers; empty means root.
    pub user: String,
    /// Entry point.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
}
