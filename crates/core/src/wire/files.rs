//! Files of exports and of versions.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One file, symbolic link or directory of a run's exports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileView {
    /// Path, relative to the export's root, with `/`. Bytes that are not UTF-8 are written as `%` and two upper-case hex
    /// digits, and so is a `%` before `25` or `80` to `FF`.
    pub path: String,
    /// Which export: container path.
    pub export: String,
    /// What it is.
    #[serde(default)]
    pub kind: FileKind,
    /// Where a link points, written like a path (links only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Bytes; 0 for what is not a file.
    pub size: u64,
    /// BLAKE3, hex; empty for what is not a file. Of a file with holes it is that of its packed form.
    pub digest: String,
    /// Bytes of the packed form (files with holes only): the pieces of data one after the other, each with its place and its length
    /// in front, as 8 bytes in little-endian order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed_size: Option<u64>,
    /// BLAKE3 of its recipe, hex (only of files that are stored in chunks).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Whether it is a file that may be executed.
    pub executable: bool,
    /// Its permission bits in octal, as `644`; of a directory also set-group-id and sticky, as `2775` (not of links).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// When it was last modified; not known of what was exported before version 2 of the format of trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub modified_at: Option<Timestamp>,
}

/// What an entry of a run's exports is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileKind {
    /// A regular file.
    #[default]
    File,
    /// A symbolic link; it has no content.
    Link,
    /// A directory; without `all_directories` only one with nothing in it.
    Directory,
}
