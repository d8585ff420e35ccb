//! The cache verbs: what imports brought to this machine, and the removal of what no run uses.
use std::path::Path;

use jiff::Timestamp;
use vessl_core::wire::{CacheEntry, CachePruned};
use vessl_data::DataError;
use vessl_data::staging::{Entry, Staging};

/// Everything that is there, what was used last at the end.
pub(crate) fn list(data: &Path) -> Result<Vec<CacheEntry>, DataError> {
    Ok(open(data)?.list()?.into_iter().map(view).collect())
}

/// Removes what no run uses until at most `limit` bytes are left.
pub(crate) fn prune(data: &Path, limit: u64) -> Result<CachePruned, DataError> {
    let freed = open(data)?.shrink(limit)?;
    Ok(CachePruned { entries: freed.count, bytes: freed.bytes })
}

fn open(data: &Path) -> Result<Staging, DataError> {
    Staging::open(&data.join("staged"))
}

fn view(entry: Entry) -> CacheEntry {
    CacheEntry {
        key: entry.key.to_string(),
        source: entry.about.label,
        version: entry.about.version,
        bytes: entry.about.bytes,
        files: entry.about.files,
        used_at: Timestamp::try_from(entry.used_at).unwrap_or_default(),
        in_use: entry.in_use,
    }
}
