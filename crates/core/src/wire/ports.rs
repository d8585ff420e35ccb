//! Ports of runs: how they are shown, and the link that opens one.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One exposed port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortView {
    /// Name.
    pub name: String,
    /// `http`, `tcp` or `udp`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number inside the run.
    pub port: u16,
    /// Where it is reached from outside: of an `http` port the base of its links, of a `tcp` port an address while the run runs. Absent
    /// where it is not reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whether something listens there now; only of `http` ports of a run that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<bool>,
    /// Whether everybody who reaches the server's port may use it. Others need a link of `vessl run open`.
    #[serde(default)]
    pub public: bool,
}

/// Body of `POST …/runs/{id}/ports/{port}/open`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortOpen {
    /// Lets everybody use the port who reaches the server's port (`true`), or only who has opened a link (`false`), from now on.
    #[serde(default)]
    pub public: Option<bool>,
}

/// A link that opens a port of a run.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortOpened {
    /// Number inside the run.
    pub port: u16,
    /// For browsers. With a code that opens the port once, unless the port is public.
    pub url: String,
    /// The same port below a path, for clients that do not find the host name of `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_url: Option<String>,
    /// Whether the port is public.
    pub public: bool,
    /// When the code ends, if there is one.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for PortOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PortOpened({}, …)", self.port)
    }
}
