//! Where everything of one server lives on disk. Names only: it opens nothing and knows no format.
use std::path::{Path, PathBuf};

use vessl_core::plan::RunId;

/// The data directory of one server; see the table in `ARCHITECTURE.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(PathBuf);

impl DataDir {
    /// Takes `root` as it is.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }
    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }
    /// Random id of the installation, 8 hex digits.
    pub fn instance(&self) -> PathBuf {
        self.0.join("instance")
    }
    /// Held by the one server of this directory.
    pub fn lock(&self) -> PathBuf {
        self.0.join("server.lock")
    }
    /// Space that is set aside for a full disk.
    pub fn reserve(&self) -> PathBuf {
        self.0.join("reserve")
    }

    /// How clients find the server.
    pub fn server_json(&self) -> PathBuf {
        self.0.join("server.json")
    }
    /// Bearer token, mode 0600.
    pub fn token(&self) -> PathBuf {
        self.0.join("token")
    }
    /// Key of the secrets at rest, mode 0600.
    pub fn secret_key(&self) -> PathBuf {
        self.0.join("secret.key")
    }
    /// The database.
    pub fn database(&self) -> PathBuf {
        self.0.join("vessl.db")
    }
    /// All attempts of one run.
    pub fn run(&self, run: RunId) -> PathBuf {
        self.0.join("runs").join(run.0.to_string())
    }
    /// The directory of one attempt.
    pub fn attempt(&self, run: RunId, attempt: u32) -> PathBuf {
        self.run(run).join(attempt.to_string())
    }
}
