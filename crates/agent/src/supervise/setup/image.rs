//! The image of a run: found in the store, or pulled while the event loop stays attentive.
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use vessl_container::image::ImageConfig;
use vessl_container::store::{Auth, Hold, Image, PullWatch, Store, StoreError};
use vessl_core::credential::CredentialKind;
use vessl_core::plan::{ImagePlan, Plan};
use vessl_core::record::{EventKind, Login, Phase, Secrets};
use vessl_core::run::EndReason;
use vessl_core::text::chain;
use vessl_core::wire::{Progress, ProgressKind};

use crate::format;
use crate::supervise::event_loop::EventLoop;
use crate::supervise::setup::error::SetupError;
use crate::task::{Reporter, Task};

/// What the root file system is made of.
#[derive(Debug)]
pub(crate) struct PreparedImage {
    /// Lower layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// What the image says about its process.
    pub(crate) config: ImageConfig,
    /// Keeps the layers while the run needs them.
    pub(crate) hold: Option<Hold>,
}

/// Gets the image of `plan`.
pub(crate) fn get(
    event_loop: &mut EventLoop,
    store: &Store,
    plan: &Plan,
    secrets: &Secrets,
) -> Result<PreparedImage, SetupError> {
    let Some(reference) = reference(&plan.image) else {
        return Ok(PreparedImage {
            layers: vec![PathBuf::from("/")],
            config: ImageConfig::default(),
            hold: None,
        });
    };
    let began = Instant::now();
    let image = match store.find(&reference).map_err(SetupError::because)? {
        Some(image) => image,
        None => pull(event_loop, store, &reference, auth(&plan.image, secrets)?)?,
    };
    as_expected(plan, &reference, &image)?;
    let hold = store.hold(&image).map_err(SetupError::because)?;
    event_loop.events.add(EventKind::Image {
        reference,
        digest: image.digest.clone(),
        bytes: image.fetched,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(PreparedImage { layers: image.layers, config: image.config, hold: Some(hold) })
}

/// Refuses an image that is not the one that an exact re-run wants.
fn as_expected(plan: &Plan, reference: &str, image: &Image) -> Result<(), SetupError> {
    match &plan.image_digest {
        Some(expected) if *expected != image.digest => Err(SetupError::Failed(
            EndReason::VersionChanged,
            format!(
                "the image `{reference}` is another now (its digest is `{}`; this exact re-run needs `{expected}`); bring back the one \
                 that was there, or make the run without `--exact`",
                image.digest
            ),
        )),
        _ => Ok(()),
    }
}

/// The store's name of an image; `None` for the machine's own root.
pub(crate) fn reference(image: &ImagePlan) -> Option<String> {
    match image {
        ImagePlan::Registry { reference, .. } => Some(reference.clone()),
        ImagePlan::Layout { path, tag: None } => Some(format!("oci://{path}")),
        ImagePlan::Layout { path, tag: Some(tag) } => Some(format!("oci://{path}:{tag}")),
        ImagePlan::Host => None,
    }
}

/// How a login is stored.
pub(crate) const STORE_LOGIN: &str =
    "store one with `vessl credential create NAME --kind registry --username USER`";

/// A login in the store's words.
pub(crate) fn auth_of(login: &Login) -> Auth {
    Auth::Basic { username: login.username.clone(), password: login.password.clone() }
}

fn auth(image: &ImagePlan, secrets: &Secrets) -> Result<Auth, SetupError> {
    let ImagePlan::Registry { credential: Some(name), .. } = image else {
        return Ok(Auth::Anonymous);
    };
    let login = secrets.login(CredentialKind::Registry, name);
    login.map(auth_of).ok_or_else(|| {
        SetupError::Failed(
            EndReason::ImageFailed,
            format!("the registry credential `{name}` did not reach the agent"),
        )
    })
}

fn pull(event_loop: &mut EventLoop, store: &Store, reference: &str, auth: Auth) -> Result<Image, SetupError> {
    event_loop.events.add(EventKind::Phase { phase: Phase::Pulling });
    event_loop.log.report(&format!("pulling `{reference}`"));
    let began = Instant::now();
    let (store, name) = (store.clone(), Arc::<str>::from(reference));
    let task = Task::start(move |reporter, cancel| pull_task(&store, &name, &auth, (reporter, cancel)))?;
    let pulled = event_loop.attend(task, |event_loop| event_loop.stop.map(|_| Instant::now()));
    if event_loop.stop.is_some() {
        return Err(SetupError::Stopped);
    }
    let image = pulled?.map_err(|error| refused(reference, error))?;
    let (bytes, time) = (format::size(image.fetched), format::time(began.elapsed()));
    let here = if image.fetched == 0 { " (its layers were here already)" } else { "" };
    event_loop.log.report(&format!("pulled `{reference}`: {bytes} in {time}{here}"));
    Ok(image)
}

/// Where a login is named depends on who pulls. What is wrong with a layer does not say whose it is.
fn refused(reference: &str, error: StoreError) -> SetupError {
    match error {
        StoreError::LoginNeeded { .. } => SetupError::Failed(
            EndReason::ImageFailed,
            format!(
                "{error}; {STORE_LOGIN} and name it in the run file as `image: {{url: …, credential_name: NAME}}`"
            ),
        ),
        error => match chain(&error) {
            said if said.contains(reference) => SetupError::Failed(EndReason::ImageFailed, said),
            said => SetupError::Failed(EndReason::ImageFailed, format!("image `{reference}`: {said}")),
        },
    }
}

fn pull_task(
    store: &Store,
    reference: &str,
    auth: &Auth,
    (reporter, cancel): (&Reporter, &AtomicBool),
) -> Result<Image, StoreError> {
    let progress = |done, total| {
        let label = reference.to_owned();
        reporter.progress(Progress { kind: ProgressKind::Image, label, done, total: Some(total) });
    };
    store.pull(reference, auth, &PullWatch { progress: &progress, cancel })
}
