//! The layer store: images pulled once, unpacked once, used by many agents at the same time.
//!
//! ```text
//! images/<sha256 of reference>.json    what a reference points to (v, reference, digest, layers, config, pulled_at)
//! layers/<diff id>/fs                  one unpacked layer, ready as an overlay lower directory
//! tmp/                                 half work; renamed into place when complete, swept when its lock is free
//! ```
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::image::ImageConfig;

/// Handle of a layer store directory; cheap, many processes may hold one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

/// An image that is completely here.
#[derive(Clone, Debug)]
pub struct Image {
    /// Reference as asked for.
    pub reference: String,
    /// Manifest digest, `sha256:…`.
    pub digest: String,
    /// What the image says about its process.
    pub config: ImageConfig,
    /// Unpacked layers, lowest first.
    pub layers: Vec<PathBuf>,
    /// Unpacked bytes.
    pub size: u64,
    /// Compressed bytes fetched by this call; 0 when all was here.
    pub fetched: u64,
    /// Unix seconds of the pull.
    pub pulled_at: i64,
}

/// How to log in to a registry.
#[derive(Clone, Debug, Default)]
pub enum Auth {
    /// No credential.
    #[default]
    Anonymous,
    /// User name and password or token.
    Basic {
        /// User.
        username: String,
        /// Password; never printed.
        password: Password,
    },
}

/// A password that prints as `***`.
#[derive(Clone, Default)]
pub struct Password(pub String);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a pull tells while it works.
pub struct PullWatch<'a> {
    /// Called with (bytes fetched, bytes in all) at most some times a second.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Becomes true when the pull should stop.
    pub cancel: &'a AtomicBool,
}

/// What prune freed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freed {
    /// Images forgotten.
    pub images: u32,
    /// Layers removed.
    pub layers: u32,
    /// Bytes freed.
    pub bytes: u64,
}

/// Why a store operation failed. The text names registry, repository and reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The reference is not one.
    #[error("{0}")]
    Reference(String),
}

impl Store {
    /// Opens (and makes, mode 0700) a store at `root`.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Ok(Self { root: root.to_owned() })
    }

    /// The image if it is completely here; no network.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, StoreError> {
        let _ = (reference, &self.root);
        todo!()
    }

    /// Fetches, verifies and unpacks what is missing. Blocking; leaves no thread behind. Also for `oci://` layouts.
    pub fn pull(&self, reference: &str, auth: &Auth, watch: &PullWatch<'_>) -> Result<Image, StoreError> {
        let _ = (reference, auth, watch);
        todo!()
    }

    /// Every image that is completely here.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        todo!()
    }

    /// Forgets images that no live run holds (see [`Store::hold`]) and removes layers that no image needs.
    pub fn prune(&self) -> Result<Freed, StoreError> {
        todo!()
    }

    /// Keeps the layers of an image from being pruned while the returned guard lives (a shared lock).
    pub fn hold(&self, image: &Image) -> Result<Hold, StoreError> {
        let _ = image;
        todo!()
    }
}

/// Keeps layers from being pruned.
#[derive(Debug)]
pub struct Hold {
    _files: Vec<std::fs::File>,
}
