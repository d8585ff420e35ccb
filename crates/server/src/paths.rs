//! Where everything of one server lives on disk. Names only: it opens nothing and knows no format.
use std::path::{Path, PathBuf};

use vessl_core::ids::{AttemptId, OrganizationName, RunId};

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
    /// Where the server listens if nothing else is set.
    pub fn socket(&self) -> PathBuf {
        self.0.join("server.sock")
    }
    /// Backups that were taken, a path each line: no run may see them.
    pub fn backups(&self) -> PathBuf {
        self.0.join("backups")
    }
    /// There while a restore has begun and is not done.
    pub fn restoring(&self) -> PathBuf {
        self.0.join("restoring")
    }
    /// The settings file of the last server that was started with one.
    pub fn config(&self) -> PathBuf {
        self.0.join("config")
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
        self.runs().join(run.0.to_string())
    }
    /// The directories of all runs.
    pub fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }
    /// The directory of one attempt.
    pub fn attempt(&self, at: AttemptId) -> PathBuf {
        self.run(at.run).join(at.name())
    }
    /// What came of uploads and is no blob yet, a directory for each.
    pub fn uploads(&self) -> PathBuf {
        self.0.join("uploads")
    }
    /// What is on its way into volumes that lie in buckets, and copies from those.
    pub fn incoming(&self) -> PathBuf {
        self.0.join("incoming")
    }
    /// Volumes of the built-in storage of an organization.
    pub fn volumes(&self, of: &OrganizationName) -> PathBuf {
        self.0.join("volumes").join(of.as_str())
    }
    /// What stood in the way of an attempt.
    pub fn set_aside(&self) -> PathBuf {
        self.0.join("set-aside")
    }
}
