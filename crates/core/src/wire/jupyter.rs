//! JupyterLab of an interactive run: how it is shown, and the link that opens it.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::jupyter::JupyterState;

/// How far JupyterLab of an interactive run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JupyterView {
    /// Whether it can be opened.
    pub state: JupyterState,
    /// What is being done, or what is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// The same with the link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JupyterOpened {
    /// Whether it can be opened.
    pub state: JupyterState,
    /// What is being done, or what is wrong and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// For browsers, once it is ready. It has the token of JupyterLab, and the code that opens the port once, unless that is public.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// When the code ends, if there is one.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl std::fmt::Debug for JupyterOpened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JupyterOpened({:?}, {:?}, …)", self.state, self.why)
    }
}
