//! What imports brought to a machine.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that imports brought to a machine and that is kept there for the next ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CacheEntry {
    /// Its key.
    pub key: String,
    /// The source as its first importer named it.
    pub source: String,
    /// Commit, hash of a tree, or what was seen of a bucket.
    pub version: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// When a run got it last.
    #[schema(value_type = String, format = DateTime)]
    pub used_at: Timestamp,
    /// Whether a run has it now.
    pub in_use: bool,
}

/// Body of `POST …/cache/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CachePrune {
    /// Bytes that may stay; 0 is none.
    #[serde(deserialize_with = "bytes")]
    pub keep_bytes: u64,
}

/// What a prune of the cache freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CachePruned {
    /// How many were removed.
    pub entries: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// A number of bytes: a whole number however it is written.
fn bytes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    super::whole(from)?.ok_or_else(|| serde::de::Error::custom("a number of bytes is needed"))
}
