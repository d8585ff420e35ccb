//! What the registry keeps versions of, and where volumes are: kinds and full names.
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::Scope;
use crate::ids::{ArtifactName, OrganizationName, ProjectName, ProjectRef, StorageName, VolumeName};

/// A kind of thing that the registry keeps versions of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// What runs of a project export under a name.
    Artifact,
    /// Files of an organization that grow from version to version.
    Dataset,
    /// Models of an organization: each version is a model with its number.
    ModelRepository,
}

impl ObjectKind {
    /// As it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Dataset => "dataset",
            Self::ModelRepository => "model-repository",
        }
    }

    /// The prefix of its address in a run file.
    fn scheme(self) -> &'static str {
        match self {
            Self::Artifact => "vessl-artifact",
            Self::Dataset => "vessl-dataset",
            Self::ModelRepository => "vessl-model",
        }
    }

    /// The kind with this [word](ObjectKind::word).
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Artifact, Self::Dataset, Self::ModelRepository].into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The full name of something that the registry keeps versions of. As text it is the address that a run file uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// What it is.
    pub kind: ObjectKind,
    /// Its organization.
    pub organization: OrganizationName,
    /// Its project: of an artifact, and of nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectName>,
    /// Its own name.
    pub name: String,
}

impl ObjectName {
    /// A dataset of `organization`.
    pub fn dataset(organization: impl Into<OrganizationName>, name: impl Into<String>) -> Self {
        let (kind, organization, name) = (ObjectKind::Dataset, organization.into(), name.into());
        Self { kind, organization, project: None, name }
    }

    /// A model repository of `organization`.
    pub fn model_repository(organization: impl Into<OrganizationName>, name: impl Into<String>) -> Self {
        Self { kind: ObjectKind::ModelRepository, ..Self::dataset(organization, name) }
    }

    /// What an address names; what stands behind the name (a model's number) is not looked at.
    pub fn of_address(address: &str) -> Option<Self> {
        let (scheme, rest) = address.split_once("://")?;
        let kinds = [ObjectKind::Artifact, ObjectKind::Dataset, ObjectKind::ModelRepository];
        let kind = kinds.into_iter().find(|kind| kind.scheme() == scheme)?;
        let mut parts = rest.split('/');
        let organization = parts.next().filter(|part| !part.is_empty())?.into();
        let project = if kind == ObjectKind::Artifact { Some(parts.next()?.into()) } else { None };
        let name = parts.next().filter(|part| !part.is_empty())?.to_owned();
        Some(Self { kind, organization, project, name })
    }

    /// Where it is, for the question who may do what with it.
    pub fn scope(&self) -> Scope {
        match &self.project {
            Some(project) => Scope::Project(ProjectRef::new(self.organization.clone(), project.clone())),
            None => Scope::Organization(self.organization.clone()),
        }
    }
}

impl From<ArtifactName> for ObjectName {
    fn from(artifact: ArtifactName) -> Self {
        let ArtifactName { organization, project, name } = artifact;
        Self { kind: ObjectKind::Artifact, organization, project: Some(project), name }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/", self.kind.scheme(), self.organization)?;
        if let Some(project) = &self.project {
            write!(f, "{project}/")?;
        }
        f.write_str(&self.name)
    }
}

/// What a storage is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StorageKind {
    /// A directory of the server's data directory; the storage `vessl-storage` alone.
    BuiltIn,
    /// A directory of the machine.
    HostPath,
    /// An NFS export: `server:/path`.
    Nfs,
    /// A bucket with the S3 API: `s3://bucket/prefix`.
    S3,
    /// A bucket of Google Cloud Storage: `gs://bucket/prefix`.
    Gcs,
}

impl StorageKind {
    /// As it is stored and shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::HostPath => "host-path",
            Self::Nfs => "nfs",
            Self::S3 => "s3",
            Self::Gcs => "gcs",
        }
    }

    /// The kind with this [word](StorageKind::word).
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::BuiltIn, Self::HostPath, Self::Nfs, Self::S3, Self::Gcs]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Bucket and prefix of a volume whose storage has the path `s3://bucket/prefix` or `gs://bucket/prefix`.
pub fn bucket_of_volume(path: &str, volume: &str) -> (String, String) {
    let bare = path.split_once("://").map_or(path, |(_, rest)| rest);
    let (bucket, prefix) = bare.split_once('/').unwrap_or((bare, ""));
    let prefix = format!("{}/{volume}", prefix.trim_matches('/'));
    (bucket.to_owned(), prefix.trim_matches('/').to_owned())
}

/// The storage that is there without being made.
pub const BUILT_IN_STORAGE: &str = "vessl-storage";

/// A volume of a storage of an organization: a directory that runs read, write and mount. As text it is the address that a run
/// file uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeRef {
    /// Its organization.
    pub organization: OrganizationName,
    /// Its storage.
    pub storage: StorageName,
    /// Its own name.
    pub volume: VolumeName,
}

impl VolumeRef {
    /// The volume of an organization with this address.
    pub fn of_address(address: &str, of: &OrganizationName) -> Option<Self> {
        let (storage, volume) = address.strip_prefix("volume://")?.split_once('/')?;
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        (is_name(storage) && is_name(volume)).then(|| Self {
            organization: of.clone(),
            storage: storage.into(),
            volume: volume.into(),
        })
    }
}

impl fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "volume://{}/{}", self.storage, self.volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_addresses_of_run_files() {
        let check = |name: ObjectName, expected: &str| {
            assert_eq!(name.to_string(), expected);
            assert_eq!(ObjectName::of_address(expected), Some(name));
        };
        check(ObjectName::dataset("o", "d"), "vessl-dataset://o/d");
        check(ObjectName::model_repository("o", "r"), "vessl-model://o/r");
        check(ProjectRef::new("o", "p").artifact("a").into(), "vessl-artifact://o/p/a");
        let of_model = ObjectName::of_address("vessl-model://o/r/3");
        assert_eq!(of_model, Some(ObjectName::model_repository("o", "r")));
        for none in ["vessl-artifact://", "vessl-artifact://o/p", "vessl-dataset://o", "s3://o/d", "o/d"] {
            assert_eq!(ObjectName::of_address(none), None, "{none}");
        }
    }

    #[test]
    fn volumes_of_buckets_lie_below_their_storage() {
        let check = |path: &str, bucket: &str, prefix: &str| {
            assert_eq!(bucket_of_volume(path, "v"), (bucket.to_owned(), prefix.to_owned()), "{path}");
        };
        check("s3://b/p/q", "b", "p/q/v");
        check("gs://b/p/", "b", "p/v");
        check("s3://b", "b", "v");
        check("s3://b/", "b", "v");
    }

    #[test]
    fn words_name_kinds() {
        for kind in [ObjectKind::Artifact, ObjectKind::Dataset, ObjectKind::ModelRepository] {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
            assert_eq!(ObjectKind::of_word(kind.word()), Some(kind));
        }
        for word in ["built-in", "host-path", "nfs", "s3", "gcs"] {
            assert_eq!(serde_json::to_value(StorageKind::of_word(word).unwrap()).unwrap(), word);
        }
    }
}
