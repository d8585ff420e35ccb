//! What a caller decides about a pull: how patient and how strict it is, and who asks.
use std::path::PathBuf;
use std::time::Duration;

use vessl_core::secret::Secret;
use vessl_data::fetch::RetryPolicy;

use crate::unpack::Limits;

/// How patient and how strict a pull is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Registries (host and port) that are spoken to in plain http, besides those on loopback addresses.
    pub insecure: Vec<String>,
    /// How patient a download is.
    pub fetch: RetryPolicy,
    /// A download that would take longer than this to repeat is kept on disk, so that a pull after a killed one goes on
    /// with it. Zero keeps all.
    pub again: Duration,
    /// Bounds of one layer.
    pub limits: Limits,
    /// Directories of the machine below which layouts and archives must lie, with everything that their links lead to; `None`
    /// is anywhere.
    pub roots: Option<Vec<PathBuf>>,
}

impl Options {
    /// Environment variable with a comma-separated list for [`Options::insecure`].
    pub const INSECURE: &str = "VESSL_INSECURE_REGISTRIES";
}

impl Default for Options {
    fn default() -> Self {
        let insecure = std::env::var(Self::INSECURE).unwrap_or_default();
        Self {
            insecure: insecure.split(',').map(|r| r.trim().to_owned()).filter(|r| !r.is_empty()).collect(),
            fetch: RetryPolicy::default(),
            again: Duration::from_secs(10),
            limits: Limits::default(),
            roots: None,
        }
    }
}

/// How to log in to a registry.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// No credential.
    #[default]
    Anonymous,
    /// User name and password or token.
    Basic {
        /// User.
        username: String,
        /// Password; never printed.
        password: Secret,
    },
}
