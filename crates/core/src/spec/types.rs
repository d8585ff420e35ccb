//! What a run file says, as types. They know nothing of YAML, places or old spellings.
use std::collections::BTreeMap;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContainerPath, schema};
use crate::ids::{ArtifactName, ProjectRef};
use crate::secret::{self, Secret};
use crate::units::{Cpu, Memory, Span};

/// One run file, after every old spelling was rewritten to the modern one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::spec)]
pub struct Spec {
    /// Name of the run, 1–253 characters of any text. Not unique.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Free text shown in lists, at most 64 KiB.
    #[schemars(length(max = 65536))]
    pub description: Option<String>,
    /// Free words to find runs by: at most 100, each like a name.
    #[schemars(default, length(max = 100), inner(length(min = 1, max = 253)))]
    pub tags: Vec<String>,
    /// Where the run may be placed and what it needs.
    #[schemars(default)]
    pub resources: Resources,
    /// The container image.
    pub image: Image,
    /// Container path → source copied in before the first command. Sorted, so parents come before children.
    #[schemars(default)]
    pub import: BTreeMap<ContainerPath, Import>,
    /// Container path → source attached live.
    #[schemars(default)]
    pub mount: BTreeMap<ContainerPath, Mount>,
    /// Container path → target written after the commands.
    #[schemars(default)]
    pub export: BTreeMap<ContainerPath, Export>,
    /// Commands, run in order in one shell.
    #[schemars(default, transform = schema::items)]
    pub run: Vec<Item>,
    /// Presence makes the run interactive.
    pub interactive: Option<Interactive>,
    /// Ports that are reachable while the run is running.
    #[schemars(default)]
    pub ports: Vec<Port>,
    /// Environment variables in file order.
    #[schemars(default)]
    pub env: IndexMap<String, EnvValue>,
    /// Kubernetes service account; `""` means none.
    pub service_account_name: Option<String>,
    /// After the commands the container stays (status `idle`) until it is terminated.
    #[schemars(default)]
    pub termination_protection: bool,
}

/// `resources`: placement and size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::resources)]
pub struct Resources {
    /// Cluster name; absent means the default cluster.
    pub cluster: Option<String>,
    /// Candidate nodes, any of them; empty means every node.
    #[schemars(default)]
    pub node_names: Vec<String>,
    /// Name of a resource preset of the cluster.
    pub preset: Option<String>,
    /// Amounts asked for.
    pub requests: Option<Requests>,
    /// May run on capacity that can be taken away.
    #[schemars(default)]
    pub spot: bool,
}

/// `resources.requests`: amounts asked for. A missing amount is not constrained by the author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Requests {
    /// Cores.
    pub cpu: Option<Cpu>,
    /// Bytes.
    pub memory: Option<Memory>,
    /// Bytes of local disk (D0 `disk`).
    pub disk: Option<Memory>,
    /// Whole GPUs.
    #[serde(rename = "nvidia.com/gpu")]
    pub gpu: Option<GpuRequest>,
    /// MIG slices.
    #[serde(rename = "nvidia.com/mig")]
    pub mig: Option<GpuRequest>,
}

/// GPUs of one product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::gpu)]
pub struct GpuRequest {
    /// Matched by token against the product name, case-insensitively; `None` (also written `""` or `any`) means any.
    pub device_type: Option<String>,
    /// How many, at least 1.
    pub quantity: u32,
    /// MIG profile such as `1g.10gb`.
    pub mig_resource_type: Option<String>,
}

/// `image`: what the container is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::image)]
pub struct Image {
    /// `registry/repo:tag@digest`, a Docker Hub short name, `oci:///path[:tag]` or `host://`.
    pub url: String,
    /// Name of a stored registry credential.
    pub credential_name: Option<String>,
}

/// What an `import` path is filled from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::import)]
pub enum Import {
    /// A git repository.
    Git(Git),
    /// A stored dataset.
    Dataset(Dataset),
    /// A stored model; the number is required.
    Model(Model),
    /// A stored artifact.
    Artifact(ArtifactRef),
    /// An S3 prefix.
    S3(S3),
    /// A Google Cloud Storage prefix.
    Gs(Gs),
    /// A Hugging Face repository.
    Hf(Hf),
    /// A named storage volume.
    Volume(Volume),
    /// Handed over by an earlier step of a pipeline (bare `vessl-artifact://`); a run of its own cannot have it.
    Injected,
}

/// What a `mount` path shows, and whether it may be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::mount)]
pub struct Mount {
    /// The thing mounted.
    pub source: MountSource,
    /// Default true.
    #[schemars(default = "yes")]
    pub readonly: bool,
}

/// Sources that can be mounted live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum MountSource {
    /// A stored dataset, always read-only.
    Dataset(Dataset),
    /// A file or directory of the node.
    Hostpath(Hostpath),
    /// An NFS export.
    Nfs(Nfs),
    /// A named storage volume.
    Volume(Volume),
}

/// Where an `export` path goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = schema::export)]
pub enum Export {
    /// The run's own output files (bare `vessl-artifact://`).
    Output,
    /// A named artifact.
    Artifact(ArtifactRef),
    /// A dataset; files are added or overwritten.
    Dataset(Dataset),
    /// The next number of a model repository (`number` is `None`).
    Model(Model),
    /// An S3 prefix.
    S3(S3),
    /// A Google Cloud Storage prefix.
    Gs(Gs),
    /// A named storage volume; without a volume name a new one is made.
    Volume(Volume),
}

/// A git source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Git {
    /// Normalised clone URL: `https://…`, `ssh://…`, `user@host:path` or `file:///…`. No scheme and `git://` are https.
    pub url: String,
    /// Branch, tag or commit; absent means the remote's default branch.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Name of a stored git credential.
    pub credential_name: Option<String>,
    /// Whether the submodules come too.
    #[serde(skip_serializing_if = "is_yes")]
    #[schemars(default = "yes")]
    pub submodules: bool,
    /// Whether the content comes that Git LFS keeps elsewhere, where `git-lfs` is installed.
    #[serde(skip_serializing_if = "is_yes")]
    #[schemars(default = "yes")]
    pub lfs: bool,
}

impl Default for Git {
    fn default() -> Self {
        Self { url: String::new(), reference: None, credential_name: None, submodules: true, lfs: true }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

/// A dataset by organization and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::inner_readonly)]
pub struct Dataset {
    /// Organization.
    pub organization_name: String,
    /// Dataset.
    pub dataset_name: String,
}

/// A model repository, on import with its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::model)]
pub struct Model {
    /// Organization.
    pub organization_name: String,
    /// Repository.
    pub model_repository_name: String,
    /// Version; required on import, absent on export.
    pub model_number: Option<u64>,
}

/// A named artifact; absent organization and project are the run's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::artifact)]
pub struct ArtifactRef {
    /// Organization.
    pub organization_name: Option<String>,
    /// Project.
    pub project_name: Option<String>,
    /// Artifact.
    pub name: String,
}

impl ArtifactRef {
    /// The artifact, where what the file leaves out is of the project `own`.
    pub fn of(&self, own: &ProjectRef) -> ArtifactName {
        ArtifactName {
            organization: self.organization_name.as_deref().map_or(own.organization.clone(), Into::into),
            project: self.project_name.as_deref().map_or(own.project.clone(), Into::into),
            name: self.name.clone(),
        }
    }
}

/// An S3 prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::bucket)]
pub struct S3 {
    /// Bucket.
    pub bucket: String,
    /// Key prefix, may be empty.
    pub prefix: String,
    /// Endpoint of an S3-compatible store.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Name of a stored AWS credential.
    pub credential_name: Option<String>,
}

/// A Google Cloud Storage prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::bucket)]
pub struct Gs {
    /// Bucket.
    pub bucket: String,
    /// Object prefix, may be empty.
    pub prefix: String,
    /// Endpoint of a compatible store.
    pub endpoint: Option<String>,
    /// Name of a stored Google credential.
    pub credential_name: Option<String>,
}

/// A Hugging Face repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Hf {
    /// `huggingface.co/[datasets/]org/name`.
    pub url: String,
    /// Branch, tag or commit.
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    /// Name of a stored token.
    pub credential_name: Option<String>,
}

/// A file or directory of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::inner_readonly)]
pub struct Hostpath {
    /// Absolute path on the node.
    pub path: String,
}

/// An NFS export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::inner_readonly)]
pub struct Nfs {
    /// Host name or address.
    pub server: String,
    /// Absolute exported path.
    pub path: String,
}

/// A named storage and one volume on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::inner_readonly)]
pub struct Volume {
    /// Storage.
    pub storage_name: String,
    /// Volume; absent on export makes a new one.
    pub volume_name: Option<String>,
}

/// Options that the shell of the items begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shell {
    /// Its own.
    #[default]
    Plain,
    /// `set -eu`, and `set -o pipefail` where the shell has it.
    Strict,
}

/// One entry of `run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::item)]
pub struct Item {
    /// Shell text; absent for a pause between neighbours.
    pub command: Option<String>,
    /// Directory the item starts in; absent is the image's working directory.
    pub workdir: Option<String>,
    /// Pause after the command, or alone.
    pub wait: Option<Span>,
}

/// Where Jupyter of a session answers.
pub const JUPYTER_PORT: u16 = 8888;
/// What a session has open without saying so: SSH and Jupyter.
pub const SESSION_PORTS: [u16; 2] = [22, JUPYTER_PORT];

/// `interactive`: limits of a session. `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::interactive)]
pub struct Interactive {
    /// Longest time in `running`; `0` is unlimited.
    pub max_runtime: Option<Span>,
    /// Longest time without activity.
    pub idle_timeout: Option<Span>,
}

/// One exposed port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
#[schemars(transform = schema::port)]
pub struct Port {
    /// Name; default `port-N`.
    pub name: String,
    /// Protocol.
    #[serde(rename = "type")]
    pub kind: PortKind,
    /// 1–65535.
    pub port: u16,
}

/// Protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::port_kind)]
pub enum PortKind {
    /// HTTP with web sockets and streaming.
    Http,
    /// Plain TCP.
    Tcp,
    /// UDP (D2).
    Udp,
}

impl PortKind {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Where the value of an environment variable comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = schema::env)]
pub enum EnvValue {
    /// The scalar's source text.
    Text(String),
    /// A stored secret of this name must exist.
    Secret(String),
    /// A value marked `secret: true`: the stored secret called like the text if there is one, else the text itself.
    #[serde(serialize_with = "secret::hide")]
    Masked(#[schemars(with = "String")] Secret),
    /// Must be given at submit (`-e KEY=VALUE`).
    Inject,
    /// Must be given at submit and is a secret. This is what [`hide`](crate::spec::hide) leaves of a literal secret.
    InjectSecret,
}

/// The default of [`Mount::readonly`], [`Git::submodules`] and [`Git::lfs`].
fn yes() -> bool {
    true
}
