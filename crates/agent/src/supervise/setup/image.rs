//! The image of a run: found in the store, or pulled while the desk stays attentive.
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use vessl_container::image::ImageConfig;
use vessl_container::store::{Auth, Hold, Image, Password, PullWatch, Store, StoreError};
use vessl_core::plan::{ImagePlan, Plan};
use vessl_core::record::{EventKind, Login, Phase, Secrets};
use vessl_core::text::chain;
use vessl_core::wire::Progress;

use crate::format;
use crate::supervise::event_loop::Desk;
use crate::supervise::setup::error::Halt;
use crate::task::{Job, Teller};

/// What the root file system is made of.
#[derive(Debug)]
pub(crate) struct Found {
    /// Lower layers, lowest first.
    pub(crate) layers: Vec<PathBuf>,
    /// What the image says about its process.
    pub(crate) config: ImageConfig,
    /// Keeps the layers while the run needs them.
    pub(crate) hold: Option<Hold>,
}

/// Gets the image of `plan`.
pub(crate) fn get(desk: &mut Desk, store: &Store, plan: &Plan, secrets: &Secrets) -> Result<Found, Halt> {
    let Some(reference) = reference(&plan.image) else {
        return Ok(Found { layers: vec![PathBuf::from("/")], config: ImageConfig::default(), hold: None });
    };
    let began = Instant::now();
    let image = match store.find(&reference).map_err(Halt::because)? {
        Some(image) => image,
        None => pull(desk, store, &reference, auth(&plan.image, secrets)?)?,
    };
    let hold = store.hold(&image).map_err(Halt::because)?;
    desk.events.add(EventKind::Image {
        reference,
        digest: image.digest.clone(),
        bytes: image.fetched,
        millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    Ok(Found { layers: image.layers, config: image.config, hold: Some(hold) })
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
    Auth::Basic { username: login.username.clone(), password: Password(login.password.clone()) }
}

fn auth(image: &ImagePlan, secrets: &Secrets) -> Result<Auth, Halt> {
    let ImagePlan::Registry { credential: Some(name), .. } = image else {
        return Ok(Auth::Anonymous);
    };
    let login = secrets.registry.get(name);
    login
        .map(auth_of)
        .ok_or_else(|| Halt::Failed(format!("the registry credential `{name}` did not reach the agent")))
}

fn pull(desk: &mut Desk, store: &Store, reference: &str, auth: Auth) -> Result<Image, Halt> {
    desk.events.add(EventKind::Phase { phase: Phase::Pulling });
    desk.log.say(&format!("pulling `{reference}`"));
    let began = Instant::now();
    let (store, name) = (store.clone(), Arc::<str>::from(reference));
    let job = Job::start(move |teller, cancel| pull_job(&store, &name, &auth, (teller, cancel)))?;
    let pulled = desk.attend(job, |desk| desk.stop.map(|_| Instant::now()));
    if desk.stop.is_some() {
        return Err(Halt::Stopped);
    }
    let image = pulled?.map_err(|error| refused(reference, error))?;
    let (bytes, time) = (format::size(image.fetched), format::time(began.elapsed()));
    let here = if image.fetched == 0 { " (its layers were here already)" } else { "" };
    desk.log.say(&format!("pulled `{reference}`: {bytes} in {time}{here}"));
    Ok(image)
}

/// Where a login is named depends on who pulls. What is wrong with a layer does not say whose it is.
fn refused(reference: &str, error: StoreError) -> Halt {
    match error {
        StoreError::LoginNeeded { .. } => Halt::Failed(format!(
            "{error}; {STORE_LOGIN} and name it in the run file as `image: {{url: …, credential_name: NAME}}`"
        )),
        error => match chain(&error) {
            said if said.contains(reference) => Halt::Failed(said),
            said => Halt::Failed(format!("image `{reference}`: {said}")),
        },
    }
}

fn pull_job(
    store: &Store,
    reference: &str,
    auth: &Auth,
    (teller, cancel): (&Teller, &AtomicBool),
) -> Result<Image, StoreError> {
    let progress = |done, total| {
        let label = reference.to_owned();
        teller.progress(Progress { kind: "image".to_owned(), label, done, total: Some(total) });
    };
    store.pull(reference, auth, &PullWatch { progress: &progress, cancel })
}
