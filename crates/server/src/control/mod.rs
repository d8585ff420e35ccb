//! The control loop: takes requests in, gives ids, reads the clock, and runs one driver per unfinished run.
//!
//! ```text
//! submit { spec → plan → one durable insert → wake }
//! driver [ store.load → engine.look → core::run::decide → store.save (guarded by revision) → engine.apply ]*
//! ```
//! Rules live in `vessl_core`. No transaction is open while an engine works. A restart only resumes the drivers.
mod clock;
mod driver;
mod error;
mod names;
mod requests;
mod seats;
mod secrets;
mod site;
mod story;
mod submit;
mod views;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vessl_core::plan::{Cluster, RunId};
use vessl_core::queue::{NodeUse, Waiting};
use vessl_core::record::Login;
use vessl_core::run::Status;
use vessl_core::wire::{ImageView, Progress, Pruned};

pub(crate) use crate::engine::Attempt;
use crate::engine::Engine;

/// What an engine says that the API passes on.
pub(crate) use crate::engine::{EngineError, PullStep};
use crate::paths::DataDir;
use crate::reserve::Reserve;
use crate::secrets::Vault;
use crate::store::Store;
use crate::store::runs::StoredRun;
pub(crate) use crate::watch::Changes;
use crate::watch::Watches;

pub use clock::Clock;
pub(crate) use error::ControlError;
pub(crate) use secrets::NewValue;
pub(crate) use site::{Site, SiteError};

/// Longest wait of a start for the first look at the runs.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// Largest progress file that is read, in bytes.
const LARGEST_PROGRESS: u64 = 64 << 10;

/// A result of a request.
pub(crate) type Result<T> = std::result::Result<T, ControlError>;

/// Everything the control loop works with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Arc<Store>,
    /// Where runs are placed.
    pub engine: Engine,
    /// Key of the secrets.
    pub vault: Vault,
    /// Where the time comes from.
    pub clock: Clock,
    /// What is offered.
    pub site: Site,
    /// Where run directories are.
    pub data: DataDir,
    /// Signals of their files.
    pub(crate) watches: Watches,
    /// Space for what must be possible on a full disk.
    pub(crate) reserve: Reserve,
}

/// Handle of the control loop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    seats: seats::Seats,
    names: names::Names,
    desks: Mutex<HashMap<RunId, Arc<Desk>>>,
    drivers: TaskTracker,
    stopping: CancellationToken,
}

/// Where a driver is woken and where it says what it knows.
#[derive(Debug)]
struct Desk {
    wake: Arc<Notify>,
    /// Last saved event of the run.
    seq: watch::Sender<u64>,
    said: Mutex<Option<Said>>,
}

/// What the last turn said.
#[derive(Clone, Debug)]
struct Said {
    /// The status that it is about; `None` for whatever the run has.
    status: Option<Status>,
    why: String,
    next: Vec<String>,
    at: Timestamp,
}

impl Control {
    /// Makes the default names and resumes a driver for every unfinished run. Needs a runtime.
    pub async fn open(parts: Parts) -> Result<Self> {
        let (organization, project) = (parts.site.organization.clone(), parts.site.project.clone());
        parts.store.ensure_project(organization, project, parts.clock.now()).await?;
        let unfinished = parts.store.unfinished().await?;
        let seats = seats::Seats::new(parts.site.nodes());
        let control = Self(Arc::new(Inner {
            parts,
            seats,
            names: names::Names::default(),
            desks: Mutex::default(),
            drivers: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }));
        let mut first = control.0.resume(&unfinished);
        // Whoever asks first sees what happened while no server was there. A run that cannot be looked at holds nobody up.
        let _ = tokio::time::timeout(FIRST_LOOK, first.recv()).await;
        Ok(control)
    }

    /// Lets the drivers end after their current turn, at most `limit` long. Agents live on.
    pub async fn stop(&self, limit: Duration) {
        self.0.stopping.cancel();
        self.0.drivers.close();
        // A turn that takes longer is cut; it is repeated after the next start.
        let _ = tokio::time::timeout(limit, self.0.drivers.wait()).await;
    }

    /// Cancelled when the server begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// What this server offers.
    pub fn site(&self) -> &Site {
        &self.0.parts.site
    }

    /// The database, to read from.
    pub fn store(&self) -> &Arc<Store> {
        &self.0.parts.store
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// One cluster by name.
    pub fn cluster(&self, name: &str) -> Result<&Cluster> {
        let clusters = &self.0.parts.site.clusters;
        clusters.get(name).ok_or_else(|| {
            ControlError::not_found("cluster", name, &clusters.keys().cloned().collect::<Vec<_>>())
        })
    }

    /// Nodes with the runs that hold seats on them.
    pub fn usage(&self) -> Vec<NodeUse> {
        self.0.seats.usage()
    }

    /// The number of the run's last event, and its changes; `None` once no driver works for the run.
    pub fn follow(&self, run: RunId) -> Option<watch::Receiver<u64>> {
        self.0.desks().get(&run).map(|desk| desk.seq.subscribe())
    }

    /// How many runs a driver works for.
    pub fn unfinished(&self) -> u64 {
        self.0.desks().len() as u64
    }

    /// Directory of an attempt's log.
    pub fn log_dir(&self, at: Attempt) -> PathBuf {
        self.0.parts.data.attempt(at).join("log")
    }

    /// Tells when an attempt's log grows.
    pub fn follow_log(&self, at: Attempt) -> Changes {
        let dir = self.0.parts.data.attempt(at);
        self.0.parts.watches.dirs(&[&dir, &dir.join("log")])
    }

    /// Tells when there is something new in [`Control::progress`].
    pub fn follow_progress(&self, at: Attempt) -> Changes {
        self.0.parts.watches.progress(&self.0.parts.data.attempt(at))
    }

    /// How far a pull, an import or an export of the run is, if one is under way. A view, not a record.
    pub async fn progress(&self, at: Attempt) -> Option<Progress> {
        let path = self.0.parts.data.attempt(at).join("progress");
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            File::open(path)?.take(LARGEST_PROGRESS).read_to_end(&mut text)?;
            std::io::Result::Ok(text)
        });
        serde_json::from_slice(&read.await.ok()?.ok()?).ok()
    }

    /// Images that are here.
    pub async fn images(&self) -> Result<Vec<ImageView>> {
        Ok(self.0.parts.engine.images().await?)
    }

    /// Removes images that no run uses.
    pub async fn prune_images(&self) -> Result<Pruned> {
        Ok(self.0.parts.engine.prune().await?)
    }

    /// Pulls an image, with a stored registry credential if one is named.
    pub async fn pull_image(
        &self,
        organization: &str,
        reference: String,
        credential: Option<String>,
    ) -> Result<mpsc::Receiver<std::result::Result<PullStep, EngineError>>> {
        let login: Option<Login> = match credential {
            Some(name) => Some(self.0.login(organization, &name, "registry").await?),
            None => None,
        };
        Ok(self.0.parts.engine.pull(reference, login).await?)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn desks(&self) -> MutexGuard<'_, HashMap<RunId, Arc<Desk>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on with all unfinished runs. Everybody has his seat or his place in the queue before anybody moves.
    fn resume(self: &Arc<Self>, unfinished: &[StoredRun]) -> mpsc::Receiver<()> {
        let (first, looked) = mpsc::channel(1);
        let desks: Vec<(RunId, Arc<Desk>)> =
            unfinished.iter().map(|stored| (stored.id(), self.new_desk(stored))).collect();
        for (id, desk) in desks {
            self.drivers.spawn(driver::drive(Arc::clone(self), id, desk, Some(first.clone())));
        }
        looked
    }

    /// Starts the one driver of a new run.
    fn start_driver(self: &Arc<Self>, stored: &StoredRun) {
        let desk = self.new_desk(stored);
        self.drivers.spawn(driver::drive(Arc::clone(self), stored.id(), desk, None));
    }

    /// A desk for the driver of a run, which has its seat or its place in the queue from now on.
    fn new_desk(&self, stored: &StoredRun) -> Arc<Desk> {
        let (id, seq) = (stored.id(), stored.doc.seq);
        let desk =
            Arc::new(Desk { wake: Arc::default(), seq: watch::Sender::new(seq), said: Mutex::default() });
        if self.desks().insert(id, Arc::clone(&desk)).is_some() {
            tracing::error!(run = id.0, "a second driver was asked for");
        }
        match stored.doc.run.seat() {
            Some(place) => {
                let (amounts, place) = (stored.doc.resources.clone(), place.clone());
                self.seats.hold(id, seats::Held { amounts, place, ended: stored.status().is_final() });
            }
            None if stored.status() == Status::Queued => self.seats.queue(asks(stored), &desk.wake),
            None => {}
        }
        desk
    }

    /// Wakes the driver of a run, if it has one.
    fn wake(&self, id: RunId) {
        if let Some(desk) = self.desks().get(&id) {
            desk.wake.notify_one();
        }
    }

    /// Says to those who follow a run that it has events up to `seq`.
    fn publish(&self, id: RunId, seq: u64) {
        if let Some(desk) = self.desks().get(&id) {
            desk.seq.send_if_modified(|known| std::mem::replace(known, (*known).max(seq)) < seq);
        }
    }
}

/// What a run needs of the machine.
fn asks(stored: &StoredRun) -> Waiting {
    let (amounts, nodes) = (stored.doc.resources.clone(), stored.doc.nodes.clone());
    Waiting { id: stored.id(), amounts, nodes }
}

impl Desk {
    fn said(&self) -> Option<Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn say(&self, said: Said) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
    }
}
