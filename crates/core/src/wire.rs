//! Types of the HTTP API `/v1`: what the server encodes and the client decodes. Data only.
mod cache;
mod files;
mod jupyter;
mod limits;
mod ports;
mod provenance;
pub mod registry;
mod ssh;

pub use cache::{CacheEntry, CachePrune, CachePruned};
pub use files::{FileKind, FileView};
pub use jupyter::{JupyterOpened, JupyterView};
pub use limits::{EndView, RunExtend};
pub use ports::{PortOpen, PortOpened, PortView};
pub use provenance::{
    AttemptUsed, ImageUsed, Provenance, RunFrom, RunReadQuery, SourceUsed, VariableUsed, VersionKind,
};
pub use registry::{ArtifactView, VersionView};
pub use ssh::{SshKeyCreate, SshKeyView, SshView};

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::IntoDeserializer;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::credential::CredentialKind;
use crate::ids::RunId;
pub use crate::kind::{ClusterKind, ProgressKind, RunEventKind, RunKind, StoredKind};
use crate::plan::Amounts;
pub use crate::problem::{Level, Problem, in_words};
use crate::record::{Phase, Transfer, Usage};
use crate::secret::{Secret, expose};
pub use crate::status::RunSort;
use crate::status::{EndReason, Status};

/// Body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Stable word, e.g. `not_found`, `spec_invalid`, `refused`, `conflict`, `internal`.
    pub code: String,
    /// For a person, lower case.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// Problems of the run file, when `code` is `spec_invalid`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// Body of `POST …/runs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunCreate {
    /// The run file's text, which may hold secrets; none with `from`.
    #[serde(default, serialize_with = "expose")]
    #[schema(value_type = String)]
    pub yaml: Secret,
    /// A run whose file, variables and settings are submitted again; what else this body says counts before them.
    #[serde(default)]
    pub from: Option<RunFrom>,
    /// Values for `source: inject` and overrides (`-e KEY=VALUE`), in order.
    #[serde(default)]
    pub env: Vec<EnvPair>,
    /// Unknown keys are warnings.
    #[serde(default)]
    pub lenient: bool,
    /// Begin the commands with `set -euo pipefail`, or what of it the shell knows.
    #[serde(default)]
    pub strict: bool,
    /// Values that count before those of the file.
    #[serde(default)]
    pub overrides: Overrides,
    /// Longest time of the commands, like `2h`; `0` is no limit. Without one the file and the server say it.
    #[serde(default)]
    pub max_runtime: Option<String>,
    /// How often the run is tried again when it fails or is lost, at most 100; without it never, or as often as the run of `from`.
    #[serde(default, deserialize_with = "perhaps_count")]
    #[schema(maximum = 100)]
    pub retries: Option<u32>,
    /// The sweep that it belongs to.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// Absolute directory of the run file, on the server's machine: git addresses like `./code` are relative to it.
    #[serde(default)]
    #[schema(pattern = "^/")]
    pub base: Option<String>,
    /// Makes a repeated submit return the first run; 1 to 200 bytes.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 50)]
    pub idempotency_key: Option<String>,
}

/// Values of a submit that count before those of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Overrides {
    /// Name of the run.
    #[schema(pattern = "^[^\\x00]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00]*$", min_length = 1, max_length = 253)]
    pub name: Option<String>,
    /// Tags beside those of the file.
    #[schema(value_type = Vec<Tag>, max_items = 100)]
    pub tags: Vec<String>,
    /// Resource preset. The preset and the requests of the file do not count then.
    pub preset: Option<String>,
    /// Cores, like `2` or `500m`.
    pub cpu: Option<String>,
    /// Memory, like `8Gi`.
    pub memory: Option<String>,
    /// Number of GPUs.
    pub gpus: Option<u32>,
}

/// Runs that were made together, of which only so many may run at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Name, the same for all of them and for no other sweep of the project; like that of a secret.
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
    pub name: String,
    /// How many may run at the same time, at least 1.
    #[serde(deserialize_with = "some_count")]
    #[schema(minimum = 1)]
    pub parallel: u32,
}

/// One `KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvPair {
    /// Variable name.
    pub key: String,
    /// Text.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String)]
    pub value: Secret,
}

/// One run as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunView {
    /// Identity.
    pub id: RunId,
    /// Name.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: RunKind,
    /// Status word.
    pub status: Status,
    /// Why it is where it is, in words.
    pub reason: String,
    /// Why it ended, as a code.
    #[serde(default)]
    pub reason_code: Option<EndReason>,
    /// Exit code of the commands.
    pub exit_code: Option<i32>,
    /// Attempt number.
    pub attempt: u32,
    /// How often it is tried again by itself.
    #[serde(default)]
    pub retries: u32,
    /// The attempts before this one, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptView>,
    /// The run that it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<RunFrom>,
    /// When it was submitted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who submitted it, where that is known.
    #[serde(default)]
    pub created_by: Option<String>,
    /// When the commands started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// Since when the agent cannot be reached.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub no_contact_since: Option<Timestamp>,
    /// Organization.
    pub organization: String,
    /// Project.
    pub project: String,
    /// Cluster.
    pub cluster: String,
    /// Node, once placed.
    pub node: Option<String>,
    /// Preset.
    pub preset: Option<String>,
    /// Amounts.
    pub resources: Amounts,
    /// Image as written.
    pub image: String,
    /// Digest of the image's manifest (`sha256:…`), once it is here: what the name meant for this run.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Commit of the first import from git, once it is here.
    #[serde(default)]
    pub commit: Option<String>,
    /// Times of every change of status.
    pub history: Vec<StatusChange>,
    /// Results of the imports.
    pub imports: Vec<Transfer>,
    /// Results of the exports.
    pub exports: Vec<Transfer>,
    /// What its agent was doing since when, oldest first: each lasts until the next or the end.
    #[serde(default)]
    pub phases: Vec<PhaseChange>,
    /// What it took of the machine, once it has ended.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// When it will be ended by time, if nobody does anything; only in a read of one run that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<EndView>,
    /// Its files, where they are kept because an export failed; only in a read of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptView>,
    /// Ports it exposes; only in a read of one run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortView>,
    /// What to type to reach it by SSH, if it can be; only in a read of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// Its JupyterLab, while an interactive run runs; only in a read of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jupyter: Option<JupyterView>,
    /// The run's own variables with the values they got (`-e` counts), `null` for secret ones; in a read of one run, and in a
    /// list with `env=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<BTreeMap<String, Option<String>>>,
    /// Canonical YAML without secret values; only in a read of one run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yaml: Option<String>,
    /// What its attempts really used; only in a read of one run with `provenance=true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Warnings of the submit, only in its answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Problem>,
}

/// Files of a run that are kept, so that exports can be written again that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptView {
    /// When they are removed; absent: when the run is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// An attempt of a run that is over, and that another one followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    /// Its number, from 1.
    pub attempt: u32,
    /// Status word of its end.
    pub status: Status,
    /// Why it ended, as a code.
    pub reason_code: EndReason,
    /// Why it ended, in words.
    pub reason: String,
    /// Exit code of its commands.
    pub exit_code: Option<i32>,
    /// Node, if it was placed.
    pub node: Option<String>,
    /// When its commands started.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended_at: Timestamp,
    /// Commit of its first git import.
    #[serde(default)]
    pub commit: Option<String>,
    /// Digest of its image's manifest.
    #[serde(default)]
    pub image_digest: Option<String>,
}

/// One change of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PhaseChange {
    /// New phase.
    pub phase: Phase,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// One change of status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusChange {
    /// New status.
    pub status: Status,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// Query of `GET …/runs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RunQuery {
    /// Only these statuses, with commas between them.
    #[serde(default, deserialize_with = "statuses")]
    #[param(style = Form, explode = false)]
    pub status: Vec<Status>,
    /// Only runs that ended for this reason.
    pub reason: Option<EndReason>,
    /// Words that name, description or a tag contain.
    pub keyword: Option<String>,
    /// Only runs that have all of these tags, with commas between them; in a tag `,` is written `%2C` and `%` is `%25`.
    #[serde(default, deserialize_with = "tags")]
    #[param(value_type = Option<String>)]
    pub tag: Vec<String>,
    /// Only runs of this name, in which `*` stands for any text.
    pub name: Option<String>,
    /// Only runs that were submitted at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// What comes first; default: the newest.
    #[serde(default)]
    #[param(inline)]
    pub sort: RunSort,
    /// The other way round.
    #[serde(default)]
    pub reverse: bool,
    /// Whether each run brings its `env`.
    #[serde(default)]
    pub env: bool,
    /// Runs with an id below this one.
    #[serde(default, deserialize_with = "position")]
    pub before: Option<u64>,
    /// So many of the first ones are left out.
    #[serde(default, deserialize_with = "count")]
    pub offset: Option<u32>,
    /// At most this many, default 100, largest 1000.
    #[serde(default, deserialize_with = "count")]
    pub limit: Option<u32>,
}

fn statuses<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Status>, D::Error> {
    let text = String::deserialize(from)?;
    let words = text.split(',').filter(|_| !text.is_empty());
    words.map(|word| Status::deserialize(word.into_deserializer())).collect()
}

fn tags<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(text.split(',').map(|tag| tag.replace("%2C", ",").replace("%25", "%")).collect())
}

/// Header of a page of runs: ids of those that belong there but cannot be read, with commas between them. Absent without any.
pub const UNREADABLE: &str = "vessl-unreadable";

/// Tags as [`RunQuery::tag`] has them.
pub fn tags_as_text(tags: &[String]) -> Option<String> {
    let written = tags.iter().map(|tag| tag.replace('%', "%25").replace(',', "%2C"));
    (!tags.is_empty()).then(|| written.collect::<Vec<_>>().join(","))
}

/// A number of a query that names a place: 64 bits with a sign, as the document of the API says.
pub fn position<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let number = Option::<u64>::deserialize(from)?;
    within(number, number.is_none_or(|number| i64::try_from(number).is_ok()))
}

/// A number of a query that counts: 32 bits with a sign.
pub fn count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = Option::<u32>::deserialize(from)?;
    within(number, number.is_none_or(|number| i32::try_from(number).is_ok()))
}

/// A number of a body that counts, where it may be left out.
fn perhaps_count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    let number = whole(from)?.map(u32::try_from).transpose();
    number.map_err(|_| serde::de::Error::custom("the number is too large"))
}

/// A number of a body that counts.
fn some_count<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = whole(from)?.unwrap_or_default();
    u32::try_from(number).map_err(|_| serde::de::Error::custom("the number is too large"))
}

fn within<T, E: serde::de::Error>(number: Option<T>, fits: bool) -> Result<Option<T>, E> {
    if fits { Ok(number) } else { Err(E::custom("the number is too large")) }
}

/// Body of `PATCH …/runs/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunUpdate {
    /// New name, not blank.
    #[schema(pattern = "^[^\\x00]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00]*$", min_length = 1, max_length = 253)]
    pub name: Option<String>,
    /// New description, at most 64 KiB.
    #[schema(pattern = "^[^\\x00]*$")]
    pub description: Option<String>,
    /// New tags, not blank.
    #[schema(value_type = Option<Vec<Tag>>, max_items = 100)]
    pub tags: Option<Vec<String>>,
}

/// One tag of a run, as a schema.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[^\\x00]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00]*$", min_length = 1, max_length = 253)]
#[allow(dead_code, reason = "it stands for text in the API's document")]
pub struct Tag(String);

/// Body of `POST …/runs/{id}/terminate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunTerminate {
    /// Seconds between SIGTERM and the kill; default 30.
    #[serde(default, deserialize_with = "whole")]
    pub grace_s: Option<u64>,
    /// Skip exports.
    #[serde(default)]
    pub no_export: bool,
}

/// A whole number, which JSON may also write as `30.0`.
fn whole<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else { return Ok(None) };
    let of_float = || number.as_f64().filter(|float| float.fract() == 0.0).map(|float| format!("{float:.0}"));
    let whole = number.as_u64().or_else(|| of_float()?.parse().ok());
    let whole = whole.filter(|number| i64::try_from(*number).is_ok());
    whole.map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{number}` is no whole number")))
}

/// Answer of `GET …/runs/{id}/explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explain {
    /// The run.
    pub id: RunId,
    /// Status word.
    pub status: Status,
    /// The deciding fact in words.
    pub why: String,
    /// What would let it go on, one line each.
    pub next: Vec<String>,
    /// Its place in the queue of its cluster, while it waits there.
    #[serde(default)]
    pub queue: Option<QueuePlace>,
    /// How far a pull, an import or an export is, while one is under way; of a run that waits, the import that is fetched ahead.
    pub progress: Option<Progress>,
    /// What a run that waits will import and is on the machine already, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ahead: Vec<String>,
    /// Milliseconds since something of it was moved, while one is under way.
    #[serde(default)]
    pub silent_millis: Option<u64>,
    /// When it will be ended by time, if nobody does anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<EndView>,
    /// When that was decided.
    #[schema(value_type = String, format = DateTime)]
    pub decided_at: Timestamp,
}

/// A place in the queue of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QueuePlace {
    /// From 1.
    pub place: u64,
    /// Runs that wait there.
    pub of: u64,
}

/// One event of the run's stream (`text/event-stream`, `id:` is `seq`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// Resume token.
    pub seq: u64,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// What it tells.
    pub kind: RunEventKind,
    /// In words.
    pub message: String,
    /// The run with the status, reason and history that it had after the event (status events only); everything else is as it
    /// is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Box<RunView>>,
    /// How far it is (progress events only; they are not kept, and carry the number of the last kept event).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterView {
    /// Name.
    pub name: String,
    /// Whether it is used when the file names none.
    pub default: bool,
    /// What runs its containers.
    pub kind: ClusterKind,
    /// `connected` or why not.
    pub status: String,
    /// Number of nodes.
    pub nodes: u32,
}

/// One node with what is used of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Name.
    pub name: String,
    /// Total thousandths of a core.
    pub cpu_milli: u64,
    /// Used thousandths of a core.
    pub cpu_milli_used: u64,
    /// Total bytes of memory for runs.
    pub memory: u64,
    /// Used bytes of memory.
    pub memory_used: u64,
    /// GPU products.
    pub gpus: Vec<String>,
    /// GPUs in use.
    pub gpus_used: u32,
    /// Runs placed here.
    pub runs: Vec<RunId>,
}

/// One preset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PresetView {
    /// Name.
    pub name: String,
    /// Whether it is the default.
    pub default: bool,
    /// What it gives.
    pub amounts: Amounts,
}

/// One image of the local layer store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageView {
    /// Short id: the first 12 hex digits of the digest.
    pub id: String,
    /// Reference as pulled.
    pub reference: String,
    /// Manifest digest.
    pub digest: String,
    /// Unpacked bytes.
    pub size: u64,
    /// When it was pulled.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub pulled_at: Option<Timestamp>,
    /// Number of layers.
    pub layers: u32,
}

/// Body of `POST …/images/pull`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImagePull {
    /// Reference.
    pub reference: String,
    /// Stored credential.
    pub credential_name: Option<String>,
}

/// One step of a pull, as a line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// What it is moved for.
    pub kind: ProgressKind,
    /// What is moved.
    pub label: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all, if known.
    pub total: Option<u64>,
}

/// What prune freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pruned {
    /// Images removed.
    pub images: u32,
    /// Layers removed.
    pub layers: u32,
    /// Bytes freed.
    pub bytes: u64,
}

/// One stored secret or credential; the value is never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: StoredKind,
    /// User name, for a credential.
    pub username: Option<String>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// In the answer to a store: whether there was one of this name, which is gone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replaced: bool,
}

/// Body of `POST …/secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretCreate {
    /// Name: letters, digits, `-`, `_`, `.`.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
    /// May be left out.
    #[serde(default)]
    pub kind: SecretKind,
    /// The value; write-only, at most 256 KiB.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, min_length = 1)]
    pub value: Secret,
}

/// The one kind of a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// A value for `env`.
    #[default]
    Secret,
}

/// Body of `POST …/credentials`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialCreate {
    /// Name: letters, digits, `-`, `_`, `.`.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
    /// What it logs in to.
    pub kind: CredentialKind,
    /// User name; of the kind `s3` the id of the key.
    #[serde(default)]
    pub username: Option<String>,
    /// Password, token, secret key, or the JSON of a service account; write-only, at most 256 KiB.
    #[serde(serialize_with = "expose")]
    #[schema(value_type = String, min_length = 1)]
    pub value: Secret,
    /// Token of the session that the keys are for, of the kind `s3`; write-only.
    #[serde(default, serialize_with = "expose", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub session_token: Option<Secret>,
}

/// One organization or project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NameView {
    /// Name.
    pub name: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Who the token belongs to and what the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// User.
    pub user: String,
    /// Default organization.
    pub organization: String,
    /// Default project.
    pub project: String,
    /// Version of the server.
    pub server_version: String,
    /// Instance id.
    pub instance: String,
}

/// The proof of a server that it has the token, see `challenge` of the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerProof {
    /// 64 hex digits: keyed BLAKE3 of where the client came in (`unix` or `tcp PORT`), a blank and the nonce. The key is
    /// derived from the token by BLAKE3 with the context `vessl 2026-11 proof of a server to its clients`.
    pub proof: String,
}

/// Body of `POST /organizations` and `POST …/projects`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NameCreate {
    /// Name: letters, digits, `-`, `_`, `.`.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
}

/// The server itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerView {
    /// Version of the program.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// Instance id.
    pub instance: String,
    /// Where it listens.
    pub url: String,
    /// Data directory.
    pub data_dir: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Runs that have not ended.
    pub unfinished_runs: u64,
    /// Where the ports of runs are reached, unless that is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<String>,
    /// How runs are reached by SSH, unless that is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshView>,
    /// The bucket that blobs are kept in too, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blobs: Option<BlobsView>,
}

/// How the bucket of the blobs stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobsView {
    /// Its address.
    pub bucket: String,
    /// Files that are not there yet.
    pub waiting: u64,
    /// Their bytes.
    pub waiting_bytes: u64,
    /// Why nothing can be put there or fetched from there, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One line of the answer to `POST /images/pull` (JSON lines): steps, then the image or an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PullLine {
    /// On the way.
    Progress(Progress),
    /// It is here; the last line.
    Image(ImageView),
    /// It failed; the last line.
    Error(ErrorBody),
}

/// One server-sent event of a stream, as a schema.
#[derive(ToSchema)]
#[allow(dead_code, reason = "it stands for a text format in the API's document")]
pub struct ServerSentEvent {
    /// Where to go on after it: `after` or `from` of the same request, or the header `Last-Event-ID`.
    id: Option<String>,
    /// Which kind it is.
    event: Option<String>,
    /// JSON: a `RunEvent` of the events of a run, a `LogPiece` of its log.
    data: String,
}

/// One piece of a log as a server-sent event; the event's `id` is where to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogPiece {
    /// When it arrived.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// `stdout`, `stderr` or `system`.
    pub stream: String,
    /// The text; bytes that are not UTF-8 are replaced.
    pub text: String,
}
