//! What the registry keeps versions of, uploads, storages and their volumes.
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{FileKind, whole};
use crate::ids::RunId;
use crate::object::{ObjectKind, StorageKind};

/// A number of a body, which may be written like `1.0`.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    whole(from)?.ok_or_else(|| serde::de::Error::custom("a number is expected"))
}

/// Body that makes a dataset, a model repository or an artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectCreate {
    /// Name; like that of a secret.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
    /// The project of an artifact; of nothing else.
    #[serde(default)]
    pub project: Option<String>,
    /// What it is, in words.
    #[serde(default)]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whatever its makers want to keep with it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What changes of a thing or of one of its versions; what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ObjectUpdate {
    /// New description.
    #[serde(default)]
    pub description: Option<String>,
    /// New tags, all of them.
    #[serde(default)]
    pub tags: Option<Vec<String>>,
    /// Keys of the metadata with their new values; an empty one is removed.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A dataset, a model repository or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectView {
    /// What it is.
    pub kind: ObjectKind,
    /// Organization.
    pub organization: String,
    /// Project, of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Name.
    pub name: String,
    /// The address that a run file uses.
    pub address: String,
    /// What it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whatever its makers keep with it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// The newest version; none of what has no files yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<VersionView>,
    /// Other names of versions, with their numbers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub aliases: BTreeMap<String, u64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Body that lets a version go by another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasSet {
    /// Number of the version.
    #[serde(deserialize_with = "number")]
    pub version: u64,
}

/// Body that makes a version: what changes against the newest one, all at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionCreate {
    /// The upload that brought the blobs; none where nothing is new.
    #[serde(default)]
    pub upload: Option<String>,
    /// What the version is made from: a number, `0` for nothing. Absent: of a dataset the newest, else nothing.
    #[serde(default, deserialize_with = "whole")]
    pub base: Option<u64>,
    /// Files that are put, copied or removed, in this order.
    #[serde(default)]
    pub changes: Vec<FileChange>,
    /// Name of the model, or of the version.
    #[serde(default)]
    pub name: Option<String>,
    /// What it is, in words.
    #[serde(default)]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whatever its makers want to keep with it.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// One change of a version's files. Paths are relative and spelled as in a list of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FileChange {
    /// A file, link or directory is there now; what was there is replaced. Directories on the way are made.
    Put(FilePut),
    /// A file or directory is copied inside the version.
    Copy {
        /// Its path.
        from: String,
        /// Its new path.
        to: String,
    },
    /// A file, or a directory with everything in it, is not there any more; an error if it was not.
    Delete {
        /// Its path.
        path: String,
    },
}

/// A file, link or directory of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePut {
    /// Where.
    pub path: String,
    /// What.
    #[serde(default)]
    pub kind: FileKind,
    /// BLAKE3 of what is stored, hex; of files only.
    #[serde(default)]
    pub digest: String,
    /// Bytes of the file, holes included.
    #[serde(default, deserialize_with = "number")]
    pub size: u64,
    /// Whether it is stored in its packed form, because it has holes.
    #[serde(default)]
    pub packed: bool,
    /// Whether it is stored in chunks, because it is large: `digest` is that of its recipe.
    #[serde(default)]
    pub chunked: bool,
    /// Permission bits in octal; not of links.
    #[serde(default)]
    pub mode: Option<String>,
    /// When it was last modified.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub modified_at: Option<Timestamp>,
    /// Where a link points.
    #[serde(default)]
    pub target: Option<String>,
}

/// What two versions have that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileDifference {
    /// Path.
    pub path: String,
    /// What became of it.
    pub change: DifferenceKind,
    /// Bytes before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Bytes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

/// What became of a file from one version to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content, kind, mode or target is another one.
    Changed,
}

/// Body that begins an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadCreate {
    /// Address of what gets the files, for people who see that it is not done: `vessl-dataset://default/iris`.
    #[serde(default)]
    #[schema(max_length = 500)]
    pub object: Option<String>,
}

/// An upload: blobs that belong to a version which is still to be made. They are kept until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// Its name.
    pub id: String,
    /// When it ends by itself, unless more comes.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who began it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// What it is for, as its client said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Bytes that came for it and are kept.
    pub bytes: u64,
}

/// Body that asks which blobs are missing, and answer with those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// BLAKE3 of each, hex.
    pub digests: Vec<String>,
}

/// How many blobs came in a pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PackReceived {
    /// Number of blobs; all of them are verified and on disk.
    pub blobs: u64,
}

/// How much of a blob has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlobState {
    /// Bytes that are here: the next `PUT` begins there.
    pub received: u64,
    /// Whether the blob is here as a whole, verified and on disk.
    pub complete: bool,
}

/// Body that makes a storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StorageCreate {
    /// Name; like that of a secret.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
    /// What it is made of.
    pub kind: StorageKind,
    /// A directory, `server:/path`, `s3://bucket/prefix` or `gs://bucket/prefix`.
    pub path: String,
    /// Address of a store with the S3 API, or of one like Google's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region of an S3 bucket.
    #[serde(default)]
    pub region: Option<String>,
    /// Stored credential for a bucket.
    #[serde(default)]
    pub credential_name: Option<String>,
}

/// A storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StorageView {
    /// Name.
    pub name: String,
    /// What it is made of.
    pub kind: StorageKind,
    /// Where it is.
    pub path: String,
    /// Address of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Stored credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_name: Option<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Body that makes a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Name; like that of a secret.
    #[schema(pattern = "^[0-9A-Za-z][0-9A-Za-z._-]{0,99}$", min_length = 1, max_length = 100)]
    pub name: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeView {
    /// Name.
    pub name: String,
    /// Its storage.
    pub storage: String,
    /// The address that a run file uses.
    pub address: String,
    /// Words to find it by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A change of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeChange {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who, where that is known.
    #[serde(default)]
    pub by: Option<String>,
    /// What was done.
    pub what: ChangeKind,
    /// Where in the volume; of an export the path in its run.
    pub path: String,
    /// Files that were written, where they were counted.
    #[serde(default)]
    pub files: Option<u64>,
    /// Bytes of those.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// The run that exported.
    #[serde(default)]
    pub run: Option<RunId>,
    /// Its attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

/// What changed a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// An export of a run.
    Export,
    /// A file came from a client.
    Put,
    /// A file or directory was copied within volumes.
    Copy,
    /// A file or directory was deleted.
    Delete,
}

impl ChangeKind {
    /// As in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Put => "put",
            Self::Copy => "copy",
            Self::Delete => "delete",
        }
    }
}

/// Body that copies a file or directory of a volume to a place of the same or of another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCopy {
    /// Path in the volume of the address; empty for everything in it.
    pub from: String,
    /// Storage to copy to; absent is the same.
    #[serde(default)]
    pub to_storage: Option<String>,
    /// Volume to copy to; absent is the same.
    #[serde(default)]
    pub to_volume: Option<String>,
    /// Path there; empty for the topmost directory.
    pub to: String,
}

/// What a copy within volumes brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeCopied {
    /// Files and links.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What was not copied, or is not as it was, a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One artifact with its history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactView {
    /// Name.
    pub name: String,
    /// Versions, newest first.
    pub versions: Vec<VersionView>,
}

/// One version of a dataset, a model repository or an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionView {
    /// From 1.
    pub version: u64,
    /// Hash of the tree.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
    /// The run that made it.
    pub run: Option<RunId>,
    /// Name of a model, or of the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whatever its makers keep with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}
