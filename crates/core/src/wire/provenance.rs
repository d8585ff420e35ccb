//! What a run really used, and which run it was made from.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::ids::RunId;

/// A run that another one is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunFrom {
    /// Its id.
    pub run: RunId,
    /// Whether image, code and data are the versions that it used; else their names are looked up anew.
    #[serde(default)]
    pub exact: bool,
}

/// Query of `GET …/runs/{id}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunReadQuery {
    /// Whether the run brings its `provenance`.
    #[serde(default)]
    pub provenance: bool,
}

/// What the attempts of a run really used. Its amounts, its cluster and its file are in the run itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provenance {
    /// Attempts, oldest first.
    pub attempts: Vec<AttemptUsed>,
    /// The run's own variables, and where their values are from.
    pub env: BTreeMap<String, VariableUsed>,
    /// Whether its commands began with `set -euo pipefail`.
    pub strict: bool,
    /// Longest time of its commands, like `2h`.
    pub max_runtime: Option<String>,
}

/// What one attempt used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptUsed {
    /// Its number, from 1.
    pub attempt: u32,
    /// Node, once placed.
    pub node: Option<String>,
    /// Indices of the GPUs that it had there.
    pub gpus: Vec<u32>,
    /// Its image.
    pub image: ImageUsed,
    /// Imports in order, then mounts.
    pub sources: Vec<SourceUsed>,
}

/// The image of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageUsed {
    /// As the file names it; pinned to its digest in an exact re-run.
    pub reference: String,
    /// Digest of its manifest, once it was here.
    pub digest: Option<String>,
    /// Whether it is the machine's own file system, which has no version.
    pub live: bool,
}

/// Something that was imported or mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SourceUsed {
    /// Path in the container.
    pub path: String,
    /// Whether it was mounted; else it was imported.
    pub mounted: bool,
    /// The source as its author named it.
    pub source: String,
    /// Branch, tag or commit that the file names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<String>,
    /// What `version` is.
    pub kind: VersionKind,
    /// The version; `null` of what is live, and of what the attempt never got.
    pub version: Option<String>,
    /// Its number in the registry, while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Why it did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the version of a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionKind {
    /// A commit, of git or of Hugging Face.
    Commit,
    /// The hash of the manifest of a dataset, a model or an artifact.
    Manifest,
    /// The digest of the keys and entity tags that a bucket had there.
    Picture,
    /// It has none: it was read as it was at that time (volumes, paths of the machine, NFS).
    Live,
}

/// Where the value of a variable is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VariableUsed {
    /// This text.
    Text(String),
    /// The stored secret of this name.
    Secret(String),
    /// A secret value that was given to this run, and that is not shown.
    Given(RunId),
}
