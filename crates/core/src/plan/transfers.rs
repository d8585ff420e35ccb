//! What a run brings in, mounts and takes out, as an agent carries it out.
use serde::{Deserialize, Serialize};

use crate::credential::CredentialKind;
use crate::ids::{ArtifactName, CredentialName};
use crate::object::ObjectName;

/// One import with its resolved source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportPlan {
    /// Absolute path in the container.
    pub path: String,
    /// What to copy in.
    pub source: ImportSource,
    /// The version that must come, where an exact re-run wants no other: as [`Transfer::version`](crate::record::Transfer::version) has
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
}

impl ImportPlan {
    /// An import of whatever version there is.
    pub fn new(path: &str, source: ImportSource) -> Self {
        Self { path: path.to_owned(), source, expected: None }
    }
}

/// Sources an agent can import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ImportSource {
    /// `git fetch` of one commit.
    Git {
        /// Normalised URL.
        url: String,
        /// Branch, tag or commit; `None` is the remote's HEAD.
        reference: Option<String>,
        /// Stored git credential.
        credential: Option<CredentialName>,
        /// What comes besides the files of the commit.
        #[serde(default, skip_serializing_if = "GitParts::are_all")]
        parts: GitParts,
    },
    /// A tree of the content-addressed store; `manifest` is its version.
    Tree {
        /// How the author named it, for messages.
        label: String,
        /// BLAKE3 of the manifest, hex.
        manifest: String,
    },
    /// Objects of a bucket.
    Bucket(BucketPlan),
    /// A repository of Hugging Face.
    Hf(HfPlan),
    /// A volume whose storage is a directory of the node or an NFS export.
    Volume(VolumePlan),
}

/// A bucket, or what is below a prefix of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketPlan {
    /// How the author named it, for messages.
    pub label: String,
    /// Whose API it has.
    pub provider: Provider,
    /// Bucket.
    pub bucket: String,
    /// Key prefix without slashes at its ends; may be empty.
    pub prefix: String,
    /// Address of a store of one's own.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Stored credential.
    pub credential: Option<CredentialName>,
    /// Whether, without a credential, the machine's own cloud identity is used.
    #[serde(default)]
    pub machine_identity: bool,
}

/// Whose API a bucket has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// The S3 API.
    S3,
    /// Google Cloud Storage.
    Gs,
}

impl Provider {
    /// The kind of a credential for it.
    pub fn credential(self) -> CredentialKind {
        match self {
            Self::S3 => CredentialKind::S3,
            Self::Gs => CredentialKind::Gcs,
        }
    }
}

/// A repository of Hugging Face.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HfPlan {
    /// How the author named it, for messages.
    pub label: String,
    /// Whether it is a dataset; else it is a model.
    pub dataset: bool,
    /// `owner/name`.
    pub repository: String,
    /// Branch, tag or commit; `None` is `main`.
    pub revision: Option<String>,
    /// Address of the server.
    pub endpoint: String,
    /// Stored token.
    pub credential: Option<CredentialName>,
}

/// A volume that is a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePlan {
    /// How the author named it, for messages.
    pub label: String,
    /// Where it is.
    pub place: VolumePlace,
}

/// Where a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "on")]
pub enum VolumePlace {
    /// A directory of the node.
    Path {
        /// Directory of the storage.
        root: String,
        /// The volume's directory in it.
        volume: String,
        /// Roots from the server's configuration below which it must lie when its links are resolved; none for the directory of the
        /// built-in storage.
        roots: Option<Vec<String>>,
    },
    /// A directory of an NFS export.
    Nfs {
        /// Host name or address.
        server: String,
        /// Exported path with the storage's directory.
        path: String,
        /// The volume's directory in it.
        volume: String,
    },
}

/// What an import of a git repository brings besides the files of its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitParts {
    /// The submodules, and theirs.
    pub submodules: bool,
    /// The content that Git LFS keeps elsewhere.
    pub lfs: bool,
}

impl GitParts {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    fn are_all(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for GitParts {
    fn default() -> Self {
        Self { submodules: true, lfs: true }
    }
}

impl ImportSource {
    /// How the author named it.
    pub fn label(&self) -> &str {
        match self {
            Self::Git { url, .. } => url,
            Self::Tree { label, .. } => label,
            Self::Bucket(bucket) => &bucket.label,
            Self::Hf(hf) => &hf.label,
            Self::Volume(volume) => &volume.label,
        }
    }
}

/// One live mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPlan {
    /// Absolute path in the container.
    pub path: String,
    /// What is shown there.
    pub source: MountFrom,
    /// Whether writes are refused.
    pub readonly: bool,
}

/// Sources an agent can mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum MountFrom {
    /// A path of the node; the agent resolves links and checks `roots` again at mount time.
    Hostpath {
        /// Absolute path on the node.
        path: String,
        /// Allowed roots from the server's configuration.
        roots: Vec<String>,
    },
    /// A tree of the content-addressed store.
    Tree {
        /// How the author named it, for messages.
        label: String,
        /// BLAKE3 of the manifest, hex.
        manifest: String,
    },
    /// An NFS export.
    Nfs {
        /// Host name or address.
        server: String,
        /// Exported path.
        path: String,
    },
    /// A volume.
    Volume(VolumePlan),
}

/// One export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportPlan {
    /// Absolute path in the container.
    pub path: String,
    /// Where it goes.
    pub target: ExportTarget,
}

/// Targets an agent can export to. What the registry keeps ends as a manifest in the content-addressed store; the name is attached by
/// the server when it sees the event of the finished export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum ExportTarget {
    /// The run's own output files.
    Output,
    /// The next version of an artifact.
    Artifact(ArtifactName),
    /// The next version of a dataset or of a model repository.
    Object {
        /// Which.
        name: ObjectName,
    },
    /// Objects of a bucket.
    Bucket(BucketPlan),
    /// A volume whose storage is a directory of the node or an NFS export.
    Volume(VolumePlan),
}

impl ExportTarget {
    /// What the registry gets a version of; nothing where the bytes go elsewhere, or stay with the run.
    pub fn object(&self) -> Option<ObjectName> {
        match self {
            Self::Artifact(name) => Some(name.clone().into()),
            Self::Object { name } => Some(name.clone()),
            Self::Output | Self::Bucket(_) | Self::Volume(_) => None,
        }
    }

    /// How people name it.
    pub fn label(&self) -> String {
        match self {
            Self::Output => "vessl-artifact://".to_owned(),
            Self::Artifact(name) => format!("vessl-artifact://{name}"),
            Self::Object { name } => name.to_string(),
            Self::Bucket(bucket) => bucket.label.clone(),
            Self::Volume(volume) => volume.label.clone(),
        }
    }
}
