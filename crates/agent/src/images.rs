//! The image verbs: what the layer store has, a pull that somebody watches, the removal of what no run needs.
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::Timestamp;
use vessl_container::store::{Auth, Image, Options, PullWatch, Store, StoreError};
use vessl_core::record::Login;
use vessl_core::text::chain;
use vessl_core::wire::{ImageView, Progress, ProgressKind, Pruned};

use crate::supervise::setup::image::{STORE_LOGIN, auth_of};

/// Most that a login may take, in bytes.
const LOGIN: u64 = 1 << 20;

/// Why an image verb failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ImagesError {
    /// The store or the registry.
    #[error(transparent)]
    Store(StoreError),
    /// The registry shows the image to nobody without a login.
    #[error("{0}; {STORE_LOGIN} and name it with `--credential-name NAME`")]
    LoginNeeded(StoreError),
    /// What came in is no login.
    #[error("standard input is not a login")]
    Login,
    /// What goes out cannot be written.
    #[error("cannot write the answer: {0}")]
    Answer(#[from] io::Error),
}

impl From<StoreError> for ImagesError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::LoginNeeded { .. } => Self::LoginNeeded(error),
            error => Self::Store(error),
        }
    }
}

/// Every image that is completely here.
pub(crate) fn list(data: &Path) -> Result<Vec<ImageView>, ImagesError> {
    Ok(open(data)?.list()?.iter().map(view).collect())
}

/// Why an image of this machine cannot be used, if that is so; where there are `roots` it must lie below one.
pub(crate) fn check(data: &Path, reference: &str, roots: &[PathBuf]) -> Result<Option<String>, ImagesError> {
    let roots = (!roots.is_empty()).then(|| roots.to_vec());
    let store = open(data)?.with(Options { roots, ..Options::default() });
    match store.check(reference) {
        Ok(()) => Ok(None),
        // That says nothing about the image.
        Err(error @ StoreError::NoSpace { .. }) => Err(error.into()),
        Err(error) => Ok(Some(chain(&error))),
    }
}

/// Removes what no run needs.
pub(crate) fn prune(data: &Path) -> Result<Pruned, ImagesError> {
    let freed = open(data)?.prune()?;
    Ok(Pruned { images: freed.images, layers: freed.layers, bytes: freed.bytes })
}

/// Pulls one image; `out` gets its progress. When it cannot take it, whoever wanted the image is gone, and the pull ends; what
/// was fetched stays for the next one.
pub(crate) fn pull(
    data: &Path,
    reference: &str,
    out: &(dyn Fn(&Progress) -> io::Result<()> + Sync),
) -> Result<ImageView, ImagesError> {
    let auth = read_login()?;
    // Held while a line is written: the store calls from several threads.
    let told = Mutex::new(());
    let cancel = AtomicBool::new(false);
    let progress = |done, total| {
        // A bug in another call is told by that call.
        let _one = told.lock();
        let (kind, label) = (ProgressKind::Image, reference.to_owned());
        if out(&Progress { kind, label, done, total: Some(total) }).is_err() {
            cancel.store(true, Ordering::Relaxed);
        }
    };
    let watch = PullWatch { progress: &progress, cancel: &cancel };
    Ok(view(&open(data)?.pull(reference, &auth, &watch)?))
}

fn open(data: &Path) -> Result<Store, StoreError> {
    Store::open(&data.join("images"))
}

/// A login on standard input, if there is one.
fn read_login() -> Result<Auth, ImagesError> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        return Ok(Auth::Anonymous);
    }
    let mut text = Vec::new();
    input.by_ref().take(LOGIN).read_to_end(&mut text)?;
    if text.is_empty() {
        return Ok(Auth::Anonymous);
    }
    // The parser's own words could show a part of the password.
    let login: Login = serde_json::from_slice(&text).map_err(|_| ImagesError::Login)?;
    Ok(auth_of(&login))
}

fn view(image: &Image) -> ImageView {
    let hex = image.digest.split_once(':').map_or(image.digest.as_str(), |(_, hex)| hex);
    ImageView {
        id: hex.chars().take(12).collect(),
        reference: image.reference.clone(),
        digest: image.digest.clone(),
        size: image.size,
        pulled_at: Timestamp::from_second(image.pulled_at).ok(),
        layers: u32::try_from(image.layers.len()).unwrap_or(u32::MAX),
    }
}
