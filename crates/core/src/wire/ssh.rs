//! SSH into runs: the keys of people, and where the server is reached.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Body of `POST /ssh-keys`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SshKeyCreate {
    /// The line of a public key, as it is in `id_ed25519.pub`.
    #[schema(max_length = 16384)]
    pub key: String,
    /// Name: letters, digits, `-`, `_`, `.`; absent: made of the comment in the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: Option<String>,
}

/// A public key that lets its owner into runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshKeyView {
    /// Name, which no other key of the server has.
    pub name: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// The line, without its comment.
    pub key: String,
    /// Whose it is.
    pub user: String,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// How runs are reached by SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SshView {
    /// Host that clients connect to.
    pub host: String,
    /// Port.
    pub port: u16,
    /// The line of the server's own public key.
    pub host_key: String,
    /// Its `SHA256:…`.
    pub fingerprint: String,
    /// Whether runs that are not interactive are reached too.
    pub all_runs: bool,
}
