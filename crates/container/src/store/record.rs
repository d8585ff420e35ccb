//! What a reference points to, as a file. A record is written when all its layers are there, and is believed only while
//! they are.
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Hold, Image, Store, StoreError};
use crate::image::ImageConfig;
use crate::manifest::digest_of;
use vessl_core::reference::{Digest, Reference};

const VERSION: u32 = 1;

/// One image of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    v: u32,
    /// Canonical text.
    pub(super) reference: String,
    pub(super) digest: String,
    /// Hex diff ids, lowest first, each once.
    pub(super) layers: Vec<String>,
    size: u64,
    config: ImageConfig,
    pulled_at: i64,
    notes: Vec<String>,
    /// State of the file that an `oci://` image was read from.
    stamp: Option<Stamp>,
}

/// Enough of a file's metadata to see that it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    seconds: i64,
    nanos: i64,
}

impl Stamp {
    /// Of a layout's index or of an archive; `None` for registries and for files that are gone.
    fn of(reference: &Reference) -> Option<Self> {
        let Reference::Layout { path, .. } = reference else { return None };
        let index = path.join("index.json");
        let meta = index.metadata().or_else(|_| path.metadata()).ok()?;
        Some(Self { inode: meta.ino(), size: meta.size(), seconds: meta.mtime(), nanos: meta.mtime_nsec() })
    }
}

/// What is known when the last layer is there.
pub(super) struct Complete {
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    pub(super) layers: Vec<String>,
    pub(super) size: u64,
    pub(super) notes: Vec<String>,
}

impl Record {
    pub(super) fn new(reference: &Reference, complete: Complete) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            v: VERSION,
            reference: reference.to_string(),
            digest: complete.digest.to_string(),
            layers: complete.layers,
            size: complete.size,
            config: complete.config,
            pulled_at: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            notes: complete.notes,
            stamp: Stamp::of(reference),
        }
    }

    pub(super) fn path(&self, store: &Store) -> PathBuf {
        path(store, &self.reference)
    }

    /// Locks of the image itself and of its layers.
    pub(super) fn lock_names(&self) -> impl Iterator<Item = String> {
        std::iter::once(image_lock(&self.reference)).chain(self.layers.iter().cloned())
    }

    pub(super) fn is_complete(&self, store: &Store) -> bool {
        self.layers.iter().all(|layer| store.layer_dir(layer).exists())
    }

    /// Whether the layout that it was read from is there and changed.
    pub(super) fn is_outdated(&self, reference: &Reference) -> bool {
        Stamp::of(reference).is_some_and(|now| Some(now) != self.stamp)
    }

    pub(super) fn image(&self, store: &Store, reference: &str, hold: Option<Hold>) -> Image {
        Image {
            reference: reference.to_owned(),
            digest: self.digest.clone(),
            config: self.config.clone(),
            layers: self.layers.iter().map(|layer| store.layer_dir(layer).join("fs")).collect(),
            size: self.size,
            fetched: 0,
            pulled_at: self.pulled_at,
            notes: self.notes.clone(),
            hold,
        }
    }

    /// Writes it durably: new file, sync, rename, sync of the directory.
    pub(super) fn write(&self, store: &Store) -> Result<(), StoreError> {
        let path = self.path(store);
        let text = serde_json::to_vec_pretty(self).map_err(|e| StoreError::io("write", &path, e.into()))?;
        let write = || {
            let dir = store.root.join("images");
            let mut file = tempfile::NamedTempFile::new_in(store.root.join("tmp"))?;
            file.write_all(&text)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|e| StoreError::io("write", &path, e))
    }
}

/// Name of the lock of a reference's record.
pub(super) fn image_lock(canonical: &str) -> String {
    format!("image-{}", digest_of(canonical.as_bytes()).hex())
}

fn path(store: &Store, canonical: &str) -> PathBuf {
    store.root.join("images").join(format!("{}.json", digest_of(canonical.as_bytes()).hex()))
}

/// The record of a reference.
pub(super) fn read(store: &Store, reference: &Reference) -> Result<Option<Record>, StoreError> {
    read_file(&path(store, &reference.to_string()))
}

/// Every record.
pub(super) fn all(store: &Store) -> Result<Vec<Record>, StoreError> {
    let dir = store.root.join("images");
    let entries = std::fs::read_dir(&dir).map_err(|e| StoreError::io("read", &dir, e))?;
    let mut records = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| StoreError::io("read", &dir, e))?;
        records.extend(read_file(&entry.path())?);
    }
    Ok(records)
}

/// A file that vanished, or that another version wrote, is no record.
fn read_file(path: &Path) -> Result<Option<Record>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok().filter(|record: &Record| record.v == VERSION)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path, error)),
    }
}
