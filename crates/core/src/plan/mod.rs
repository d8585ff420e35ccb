//! Spec + catalogue → Plan. A plan leaves no choice open except the node; it carries no secret value.
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::credential::{CredentialKind, CredentialRef};
use crate::ids::{
    AttemptId, ClusterName, CredentialName, NodeName, Nonce, PresetName, ProjectRef, RunId, StorageName,
};
use crate::object::{ObjectName, StorageKind, VolumeRef};
use crate::problem::{Level, Problem};
use crate::secret::Secret;
use crate::spec::Shell;
use crate::spec::{Interactive, Item, PortKind, Spec};
use crate::units::{Cpu, Memory, Span};

mod data;
mod env;
mod everywhere;
mod extras;
pub mod fit;
mod place;
mod report;
mod stores;
mod transfers;

pub use data::machine_paths;
pub use env::RESERVED;
pub use everywhere::refused_everywhere;
pub use report::codes;
pub use stores::{named_objects, named_storages};
pub use transfers::{
    BucketPlan, ExportPlan, ExportTarget, GitParts, HfPlan, ImportPlan, ImportSource, MountFrom, MountPlan,
    Provider, VolumePlace, VolumePlan,
};

use report::{Code, Report};

/// Time between SIGTERM and the kill of everything: 30 s.
const GRACE: Span = Span(30_000);
/// Longest time that exports may take after a terminate: 10 min.
const EXPORT_LIMIT: Span = Span(600_000);

/// Version of the `plan.json` format.
pub const PLAN_VERSION: u32 = 1;

/// Everything an agent needs to carry out one attempt of one run, except secret values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub v: u32,
    /// The run.
    pub run: RunId,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// What makes the attempt this one.
    #[serde(default)]
    pub nonce: Nonce,
    /// Random id of the installation (8 hex digits), so that two servers on a machine never collide.
    pub instance: String,
    /// Name of the run.
    pub name: String,
    /// Organization and project the run belongs to.
    #[serde(flatten)]
    pub project: ProjectRef,
    /// Cluster chosen.
    pub cluster: ClusterName,
    /// Candidate nodes; empty means every node of the cluster.
    pub nodes: Vec<NodeName>,
    /// Preset chosen, if the cluster has presets.
    pub preset: Option<PresetName>,
    /// Exact amounts, enforced.
    pub resources: Amounts,
    /// Container image.
    pub image: ImagePlan,
    /// The digest that the image must have, where an exact re-run wants no other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// In order: parents before children.
    pub imports: Vec<ImportPlan>,
    /// In order: parents before children.
    pub mounts: Vec<MountPlan>,
    /// In order of path.
    pub exports: Vec<ExportPlan>,
    /// Commands; `None` uses the image's own entry point.
    pub items: Vec<Item>,
    /// Options that their shell begins with.
    #[serde(default)]
    pub shell: Shell,
    /// Environment in order, before the image's own is merged below it.
    pub env: Vec<EnvPlan>,
    /// Ports to expose.
    pub ports: Vec<PortPlan>,
    /// Interactive limits.
    pub interactive: Option<Interactive>,
    /// Longest time of the commands; `None` is no limit.
    #[serde(default)]
    pub max_runtime: Option<Span>,
    /// Keep the container after the commands.
    pub termination_protection: bool,
    /// Time between SIGTERM and the kill of everything, unless the terminate request says otherwise.
    pub grace: Span,
    /// Longest time that exports may take after a terminate.
    pub export_limit: Span,
    /// What the run may take of the machine beside its resources.
    #[serde(default)]
    pub bounds: Bounds,
    /// Whether no program of the run gets rights that its caller lacks (set-user-id programs, `sudo`).
    #[serde(default)]
    pub no_new_privs: bool,
    /// Where it was placed, with its GPUs. `None` when planned; the server fills it in before an agent gets the plan.
    #[serde(default, rename = "place")]
    pub placement: Option<Placement>,
    /// Directories of the machine below which git repositories and image layouts must lie; none where the run may see the
    /// whole machine anyway.
    #[serde(default)]
    pub fence: Option<Vec<String>>,
}

impl Plan {
    /// Name of everything made for this attempt on a machine (cgroup, container):
    /// `vessl-<instance>-<run>-<attempt>-<nonce>`.
    pub fn unit(&self) -> String {
        format!("vessl-{}-{}-{}", self.instance, self.run.0, self.attempt_id().name())
    }

    /// Longest time of the commands. Plans of before there was one for all runs have that of a session alone.
    pub fn time_limit(&self) -> Option<Span> {
        self.max_runtime.or_else(|| self.interactive.as_ref()?.max_runtime).filter(|limit| limit.0 > 0)
    }

    /// The attempt that it is for.
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId { run: self.run, number: self.attempt, nonce: self.nonce }
    }
}

/// What a run holds while its container may run: GPUs and its amounts on a node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Cluster; empty in what was stored before there was more than one.
    #[serde(default)]
    pub cluster: ClusterName,
    /// Node of the cluster.
    pub node: NodeName,
    /// Indices of the GPUs it holds.
    pub gpus: Vec<u32>,
}

/// What one run may take of the machine beside its resources, by the settings of the server. 0 is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes of its log: begin and end are kept.
    pub log: u64,
    /// Bytes that it may write into its own file system; a run that takes more is ended.
    pub scratch: Scratch,
    /// Bytes of one export, holes included.
    pub export_bytes: u64,
    /// Files, links and directories of one export.
    pub export_files: u64,
    /// Events of items that are recorded.
    pub events: u64,
    /// Bytes of what imports brought and that is kept on the machine for the next ones.
    #[serde(default)]
    pub cache: u64,
}

/// How much a run may write into its own file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scratch {
    /// As much as there is.
    #[default]
    All,
    /// Nine tenths of what is free when the run starts.
    Share,
    /// Bytes.
    Bytes(u64),
}

/// Exact amounts of a placement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Number of GPUs.
    pub gpus: u32,
    /// Product the GPUs must match by token; `None` is any.
    pub gpu_type: Option<String>,
}

impl Amounts {
    /// Cores asked for.
    pub fn cpu(&self) -> Cpu {
        Cpu(self.cpu_milli)
    }
    /// Bytes asked for.
    pub fn memory(&self) -> Memory {
        Memory(self.memory)
    }
}

/// The container image, resolved to one of three ways of getting it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ImagePlan {
    /// Pulled from a registry. `reference` as written.
    Registry {
        /// Reference as the author wrote it.
        reference: String,
        /// Stored registry credential.
        credential: Option<CredentialName>,
    },
    /// An OCI layout directory or a docker-save archive on the node.
    Layout {
        /// Absolute path on the node.
        path: String,
        /// Tag inside it.
        tag: Option<String>,
    },
    /// The node's own root file system.
    Host,
}

impl ImagePlan {
    /// As people write it.
    pub fn label(&self) -> String {
        match self {
            Self::Registry { reference, .. } => reference.clone(),
            Self::Layout { path, tag } => {
                let tag = tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
                format!("oci://{path}{tag}")
            }
            Self::Host => "host://".to_owned(),
        }
    }
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvPlan {
    /// Variable name.
    pub key: String,
    /// Its value or where the value is.
    pub value: EnvFrom,
}

/// A value, or the name of a secret whose value reaches the agent through its pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EnvFrom {
    /// Plain text.
    Text(String),
    /// Key into the secrets' `env` map; the value is masked in the log.
    Secret(String),
}

/// One exposed port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortPlan {
    /// Name.
    pub name: String,
    /// Protocol.
    pub kind: PortKind,
    /// Number inside the container.
    pub port: u16,
}

/// What the server knows by name when a run is submitted. Values of secrets are not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// Organization and project submitted to.
    pub project: ProjectRef,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Cluster>,
    /// Name of the default cluster.
    pub default_cluster: ClusterName,
    /// Names of stored secrets.
    pub secrets: Vec<String>,
    /// Stored credentials and what each logs in to.
    pub credentials: BTreeMap<CredentialName, CredentialKind>,
    /// What of the registry the submitter may read → its versions, as far as a run file can mean them: the number of each with the
    /// hash of its manifest. Nothing is in the list of what has no version yet.
    pub objects: BTreeMap<ObjectName, BTreeMap<u64, String>>,
    /// Storages of the organization.
    pub storages: BTreeMap<StorageName, Storage>,
    /// Their volumes.
    pub volumes: BTreeSet<VolumeRef>,
    /// Projects beside the submitter's own that artifacts may be written to.
    pub projects: BTreeSet<ProjectRef>,
    /// Those of [`machine_paths`] that the machine of the local cluster does not have.
    pub missing: BTreeSet<String>,
}

/// A storage of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// What it is made of.
    pub kind: StorageKind,
    /// A directory, `server:/path`, `s3://bucket/prefix` or `gs://bucket/prefix`.
    pub path: String,
    /// Address of a store of one's own.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Stored credential.
    pub credential: Option<CredentialName>,
}

/// One cluster of the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Cluster {
    /// Nodes with what they have in all.
    pub nodes: Vec<Node>,
    /// Presets, in order of priority.
    pub presets: Vec<Preset>,
    /// Whether those were made from what the machine has: then requests are taken as they are.
    pub presets_are_made: bool,
    /// Name of the preset used when neither preset nor requests are given.
    pub default_preset: Option<PresetName>,
    /// Whether `host://` images are allowed. Where they are not, all paths of the node that a file names lie below
    /// `hostpath_roots`.
    pub allow_host_image: bool,
    /// Whether paths of the node mean something (local cluster): `file://` git URLs, `oci://`.
    pub local: bool,
    /// Roots that `hostpath` mounts may be below, and without `allow_host_image` git repositories and image layouts too.
    pub hostpath_roots: Vec<String>,
    /// The settings file of the server, where it has one.
    pub settings: Option<String>,
    /// What each of its runs may take beside its resources.
    pub bounds: Bounds,
    /// Longest time that exports may take after a terminate; `None` is 10 min.
    pub export_time: Option<Span>,
    /// Longest time of the commands of a run that names none; `None` is no limit.
    pub default_max_runtime: Option<Span>,
    /// Longest time that a run may ask for; `None` is no limit.
    pub max_runtime_limit: Option<Span>,
    /// Whether programs of runs get no new rights.
    pub no_new_privs: bool,
    /// Whether buckets are reached with the machine's own cloud identity where no credential is named.
    pub cloud_identity: bool,
    /// Address of Hugging Face, or of a server like it; `None` is the public one.
    pub hf_endpoint: Option<String>,
    /// Whether the settings give its runs the network of the machine.
    pub host_network: bool,
}

/// A node and its total capacity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Name.
    pub name: NodeName,
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes of memory that runs may use.
    pub memory: u64,
    /// GPUs.
    pub gpus: Vec<Gpu>,
}

/// One GPU of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Index on the node.
    pub index: u32,
    /// `GPU-…`.
    pub uuid: String,
    /// Product name.
    pub product: String,
    /// Bytes of device memory.
    pub memory: u64,
}

/// A named bundle of amounts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    /// Name.
    pub name: PresetName,
    /// What it gives.
    pub amounts: Amounts,
}

/// What makes a plan this attempt's and nobody else's; made by the server.
#[derive(Clone, Copy)]
pub struct Stamp<'a> {
    /// The run.
    pub run: RunId,
    /// From 1.
    pub attempt: u32,
    /// What makes the attempt this one.
    pub nonce: Nonce,
    /// Id of the installation: 8 hex digits.
    pub instance: &'a str,
    /// `-e KEY=VALUE` of the submit, in order; the last of a key counts.
    pub inject: &'a [(String, Secret)],
    /// Longest time of the commands as the submit asks for it; 0 is no limit.
    pub max_runtime: Option<Span>,
}

/// A plan with what the server must look up for it and what the submitter should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// What [`record::Secrets`](crate::record::Secrets) must hold when the attempt starts.
    pub needs: Needs,
    /// Warnings: choices made and things that have no effect here.
    pub notes: Vec<Problem>,
}

/// The secret values of a plan: by name where they are stored, in clear where the submit brought them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Key of `Secrets::env` → name of the stored secret.
    pub stored: BTreeMap<String, String>,
    /// Key of `Secrets::env` → value to be kept with the run, encrypted.
    pub literal: BTreeMap<String, Secret>,
    /// Keys of `Secrets::credentials`.
    pub credentials: BTreeSet<CredentialRef>,
    /// Volumes that the run makes.
    pub volumes: BTreeSet<VolumeRef>,
}

/// Turns a run file into a plan, or reports every reason why it cannot be carried out on this catalogue. The problems have
/// a `path` and no place in the text (`line` and `column` are 0).
pub fn plan(spec: &Spec, catalogue: &Catalogue, stamp: &Stamp<'_>) -> Result<Planned, Vec<Problem>> {
    let mut report = Report::default();
    let chosen = place::choose(&spec.resources, catalogue, &mut report);
    let mut data = data::Reader {
        catalogue,
        cluster: chosen.cluster,
        run: stamp.run,
        report: &mut report,
        needs: Needs::default(),
    };
    let image = data.image(&spec.image);
    let (imports, mounts, exports) = (data.imports(spec), data.mounts(spec), data.exports(spec));
    let fence = data.fence();
    let mut needs = data.needs;
    let env =
        env::build(spec, &env::Given { catalogue, stamp, cluster: &chosen.name }, &mut needs, &mut report);
    extras::check(spec, chosen.cluster, &mut report);
    let max_runtime = extras::max_runtime(spec, stamp, chosen.cluster, &mut report);
    let notes = report.finish()?;
    let (Some(image), Some(resources)) = (image, chosen.amounts) else { return Err(notes) };
    let plan = Plan {
        v: PLAN_VERSION,
        run: stamp.run,
        attempt: stamp.attempt,
        nonce: stamp.nonce,
        instance: stamp.instance.to_owned(),
        name: spec.name.clone(),
        project: catalogue.project.clone(),
        cluster: chosen.name.clone(),
        nodes: chosen.nodes,
        preset: chosen.preset,
        resources,
        image,
        image_digest: None,
        imports,
        mounts,
        exports,
        items: spec.run.clone(),
        shell: Shell::Plain,
        env,
        ports: extras::ports(spec),
        interactive: spec.interactive.clone(),
        max_runtime,
        termination_protection: spec.termination_protection,
        grace: GRACE,
        export_limit: chosen.cluster.and_then(|cluster| cluster.export_time).unwrap_or(EXPORT_LIMIT),
        bounds: chosen.cluster.map(|cluster| cluster.bounds).unwrap_or_default(),
        no_new_privs: chosen.cluster.is_some_and(|cluster| cluster.no_new_privs),
        placement: None,
        fence,
    };
    Ok(Planned { plan, needs, notes })
}

/// The problem of a file whose image on the machine cannot be used; it has no place in the text.
pub fn unusable_image(why: String) -> Problem {
    let code = Code::BadImage.as_str().to_owned();
    let hint = Some("correct the image, or make it again".to_owned());
    Problem { code, level: Level::Error, path: "image".to_owned(), message: why, hint, ..Problem::default() }
}
