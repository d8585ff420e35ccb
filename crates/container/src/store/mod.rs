//! The layer store: images pulled once, unpacked once, used by many agents at the same time.
//!
//! ```text
//! images/<sha256 of reference>.json    what a reference points to (v, reference, digest, layers, config, pulled_at)
//! layers/<diff id>/fs                  one unpacked layer, ready as an overlay lower directory
//! layers/<diff id>/layer.json          its size and notes (v, size, covers, notes)
//! locks/<diff id | image-…>            see `lock`
//! tmp/<diff id>/                       half work; renamed into place when complete, swept when its lock is free;
//!                                      `<blob>.part` is a download that the next pull continues
//! ```
//!
//! A layer is written below `tmp/`, synced, and renamed: whoever sees it below `layers/` sees all of it, also after a
//! power cut. It knows nothing of runs: what a run uses it keeps with [`Hold`].
mod layers;
mod lock;
mod part;
mod prune;
mod pull;
mod record;
mod unpacker;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::image::ImageConfig;
use crate::layout;
use vessl_core::reference::Reference;

pub use crate::error::StoreError;
pub use crate::options::{Auth, Options};

/// Handle of a layer store directory; cheap, many processes may hold one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    options: Options,
}

/// An image that is completely here. It keeps its layers from being pruned while it lives, unless it comes from a list.
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
    /// What of it could not be unpacked faithfully here, in words; empty as a rule.
    pub notes: Vec<String>,
    hold: Option<Hold>,
}

/// What a pull tells while it works.
pub struct PullWatch<'a> {
    /// Called with (bytes fetched, bytes in all) at most some times a second.
    pub progress: &'a (dyn Fn(u64, u64) + Sync),
    /// Becomes true when the pull should stop.
    pub cancel: &'a AtomicBool,
}

/// What prune freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Images forgotten.
    pub images: u32,
    /// Layers removed.
    pub layers: u32,
    /// Bytes freed.
    pub bytes: u64,
}

/// Keeps layers from being pruned. Clones hold the same locks.
#[derive(Clone, Debug)]
pub struct Hold {
    _locks: Arc<Vec<lock::Lock>>,
}

impl Store {
    /// Opens (and makes, mode 0700) a store at `root`.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        use std::os::unix::fs::DirBuilderExt;
        for dir in ["images", "layers", "locks", "tmp"] {
            let dir = root.join(dir);
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(|e| StoreError::io("make the directory", &dir, e))?;
        }
        Ok(Self { root: root.to_owned(), options: Options::default() })
    }

    /// The same store with other options.
    #[must_use]
    pub fn with(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// The image if it is completely here; no network. An `oci://` layout that changed since counts as not here; one that does not
    /// lie where it must ([`Options::roots`]) is an error, whoever brought it here.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, StoreError> {
        let parsed = Reference::parse(reference)?;
        if let (Some(roots), Reference::Layout { path, .. }) = (&self.options.roots, &parsed) {
            layout::check(reference, path, roots)?;
        }
        let Some(record) = record::read(self, &parsed)? else { return Ok(None) };
        if record.is_outdated(&parsed) {
            return Ok(None);
        }
        match self.hold_record(&record)? {
            Some(hold) => Ok(Some(record.image(self, reference, Some(hold)))),
            None => Ok(None),
        }
    }

    /// Fetches, verifies and unpacks what is missing; always asks the registry what the reference means now. Blocking;
    /// leaves no thread behind. Also for `oci://` layouts. Call it in the user namespace in which the image will be used.
    pub fn pull(&self, reference: &str, auth: &Auth, watch: &PullWatch<'_>) -> Result<Image, StoreError> {
        pull::pull(self, reference, auth, watch)
    }

    /// Whether an `oci://` layout or archive can be pulled, as far as that is seen without its layers; of a large compressed
    /// archive only its begin is looked at.
    pub fn check(&self, reference: &str) -> Result<(), StoreError> {
        match self.find(reference)? {
            Some(_) => Ok(()),
            None => pull::check(self, reference),
        }
    }

    /// Every image that is completely here, by reference.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let complete = record::all(self)?.into_iter().filter(|record| record.is_complete(self));
        let mut images: Vec<Image> = complete.map(|r| r.image(self, &r.reference, None)).collect();
        images.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(images)
    }

    /// Forgets images that no live run holds (see [`Store::hold`]) and removes layers that no image needs, and downloads
    /// that nobody continues.
    pub fn prune(&self) -> Result<Freed, StoreError> {
        prune::prune(self)
    }

    /// Keeps the layers of an image from being pruned while the returned guard lives (a shared lock).
    pub fn hold(&self, image: &Image) -> Result<Hold, StoreError> {
        if let Some(hold) = &image.hold {
            return Ok(hold.clone());
        }
        let gone = || StoreError::Gone(image.reference.clone());
        let record = record::read(self, &Reference::parse(&image.reference)?)?.ok_or_else(gone)?;
        if record.digest != image.digest {
            return Err(gone());
        }
        self.hold_record(&record)?.ok_or_else(gone)
    }

    /// Locks image and layers; `None` if something of it is not there (any more).
    fn hold_record(&self, record: &record::Record) -> Result<Option<Hold>, StoreError> {
        let is_here = || record.path(self).exists() && record.is_complete(self);
        let mut locks = Vec::with_capacity(record.layers.len() + 1);
        for name in record.lock_names() {
            match self.wait_shared(&name, &is_here)? {
                Some(lock) => locks.push(lock),
                None => return Ok(None),
            }
        }
        Ok(is_here().then(|| Hold { _locks: Arc::new(locks) }))
    }

    /// A shared lock. Who has it exclusively either removes what it locks, which ends the wait, or looks and goes.
    fn wait_shared(&self, name: &str, is_here: &impl Fn() -> bool) -> Result<Option<lock::Lock>, StoreError> {
        loop {
            if let Some(lock) = self.lock(name, lock::How::Shared)? {
                return Ok(Some(lock));
            }
            if !is_here() {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn lock(&self, name: &str, how: lock::How) -> Result<Option<lock::Lock>, StoreError> {
        let path = self.root.join("locks").join(name);
        lock::take(&path, how).map_err(|e| StoreError::io("lock", &path, e))
    }
}
