//! One layer on disk: is it there, how it gets there, how it goes.
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::unpack::Unpacked;

const VERSION: u32 = 1;

/// What is kept of a layer besides its files.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Layer {
    v: u32,
    /// Bytes of its files.
    pub(super) size: u64,
    /// Whether it hides everything below it.
    pub(super) covers: bool,
    pub(super) notes: Vec<String>,
}

impl From<Unpacked> for Layer {
    fn from(unpacked: Unpacked) -> Self {
        Self { v: VERSION, size: unpacked.size, covers: unpacked.covers, notes: unpacked.notes }
    }
}

impl Store {
    /// Where the layer with this diff id (hex) is when it is complete.
    pub(super) fn layer_dir(&self, diff: &str) -> PathBuf {
        self.root.join("layers").join(diff)
    }

    /// Where the work on it happens; only for who holds its lock exclusively.
    pub(super) fn work_dir(&self, diff: &str) -> PathBuf {
        self.root.join("tmp").join(diff)
    }

    /// The layer if it is complete.
    pub(super) fn layer(&self, diff: &str) -> Result<Option<Layer>, StoreError> {
        let path = self.layer_dir(diff).join("layer.json");
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(layer @ Layer { v: VERSION, .. }) => Ok(Some(layer)),
                _ => Err(StoreError::io(
                    "read",
                    &path,
                    io::Error::other("another version of this program wrote it"),
                )),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("read", &path, error)),
        }
    }

    /// Makes an empty directory to unpack a layer into.
    pub(super) fn begin_layer(&self, diff: &str) -> Result<PathBuf, StoreError> {
        let new = self.work_dir(diff).join("new");
        let make = || {
            remove_tree(&new)?;
            let fs = new.join("fs");
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&fs)?;
            std::fs::set_permissions(&fs, PermissionsExt::from_mode(0o755))?;
            Ok(fs)
        };
        make().map_err(|e| StoreError::io("make", &new, e))
    }

    /// Makes the unpacked layer visible, complete and on disk.
    pub(super) fn finish_layer(&self, diff: &str, layer: &Layer) -> Result<(), StoreError> {
        let new = self.work_dir(diff).join("new");
        let finish = || {
            std::fs::write(new.join("layer.json"), serde_json::to_vec(layer)?)?;
            nix::unistd::syncfs(File::open(&new)?)?;
            std::fs::rename(&new, self.layer_dir(diff))
        };
        finish().map_err(|e| StoreError::io("write", &new, e))
    }

    /// Removes half work on a layer, keeping its download.
    pub(super) fn drop_half_layer(&self, diff: &str) {
        // What is left is swept by the next pull.
        let _ = remove_tree(&self.work_dir(diff).join("new"));
    }

    /// Removes everything of a layer's work.
    pub(super) fn drop_work(&self, diff: &str) {
        // What is left is swept by the next pull.
        let _ = remove_tree(&self.work_dir(diff));
    }
}

/// Removes a directory with everything in it, also if there is none.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
