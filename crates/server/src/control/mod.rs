//! The control loop: takes requests in, gives ids, reads the clock, and runs one driver per unfinished run.
//!
//! ```text
//! submit { spec → plan → one durable insert → wake }
//! driver [ store.load → observe → core::run::decide → store.save (guarded by revision) → engine.apply ]*
//! ```
//! Rules live in `vessl_core`. No transaction is open while an engine works. A restart only resumes the drivers.
mod again;
mod ahead;
mod allocator;
mod clock;
mod driver;
mod ending;
mod error;
mod exports;
mod home;
mod inventory;
mod jupyter;
mod kept;
mod names;
mod observe;
mod pass;
mod ports;
mod reach;
mod record;
mod requests;
mod secrets;
mod ssh;
mod submit;
mod views;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::credential::{CredentialKind, CredentialRef};
use vessl_core::ids::{ClusterName, CredentialName, RunId};
use vessl_core::plan::Cluster;
use vessl_core::queue::{NodeUse, QueuedRun};
use vessl_core::record::Login;
use vessl_core::run::{State, Status};
use vessl_core::wire::{CacheEntry, CachePruned, ImagePull, ImageView, Pruned, Sweep};
use vessl_data::locked;

use crate::attempt::Attempts;
use crate::engine::Engines;
use crate::offsite::Bucket;
use crate::paths::DataDir;

/// What an engine says that the API passes on.
pub(crate) use crate::engine::{EngineError, PullStep};
use crate::reserve::Reserve;
use crate::secrets::Vault;
use crate::store::Store;
use crate::store::runs::StoredRun;
use crate::store::unfinished::{Unfinished, UnreadableRun};
pub(crate) use crate::watch::Changes;

pub use clock::Clock;
pub(crate) use error::ControlError;
pub(crate) use inventory::{Inventory, InventoryError};
pub(crate) use pass::PASS_LIFE;
pub(crate) use ports::{NoWay, PortOf, PortWay, PortsAt};
pub(crate) use secrets::NewValue;
pub(crate) use ssh::SshParts;

/// Longest wait of a start for the first look at the runs.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// A result of a request.
pub(crate) type Result<T> = std::result::Result<T, ControlError>;

/// Everything the control loop works with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Arc<Store>,
    /// The content-addressed store.
    pub blobs: Arc<vessl_data::blob::Store>,
    /// Where blobs are kept besides.
    pub bucket: Option<Arc<Bucket>>,
    /// Where the volumes of the built-in storage are.
    pub data: DataDir,
    /// What places runs, by cluster.
    pub engines: Engines,
    /// Key of the secrets.
    pub vault: Arc<Vault>,
    /// Where the time comes from.
    pub clock: Clock,
    /// What is offered.
    pub inventory: Inventory,
    /// The files of attempts.
    pub attempts: Attempts,
    /// Space for what must be possible on a full disk.
    pub(crate) reserve: Reserve,
    /// SSH into runs.
    pub(crate) ssh: SshParts,
}

/// Handle of the control loop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    parts: Parts,
    allocator: allocator::Allocator,
    ahead: ahead::Ahead,
    names: names::Names,
    ports: ports::Ports,
    ssh: ssh::Ssh,
    handles: Mutex<HashMap<RunId, Arc<DriverHandle>>>,
    drivers: TaskTracker,
    stopping: CancellationToken,
}

/// Where a driver is woken and where it says what it knows.
#[derive(Debug)]
struct DriverHandle {
    wake: Arc<Notify>,
    /// Last saved event of the run.
    seq: watch::Sender<u64>,
    explanation: Mutex<Option<Explanation>>,
}

/// What the last turn said.
#[derive(Clone, Debug)]
struct Explanation {
    /// The status that it is about; `None` for whatever the run has.
    status: Option<Status>,
    why: String,
    next: Vec<String>,
    at: Timestamp,
}

impl Control {
    /// Makes the default names and resumes a driver for every unfinished run. Needs a runtime.
    pub async fn open(parts: Parts) -> Result<Self> {
        parts.store.ensure_project(parts.inventory.project.clone(), parts.clock.now()).await?;
        let Unfinished { runs: unfinished, unreadable } = parts.store.unfinished().await?;
        let allocator = allocator::Allocator::new(&parts.inventory.clusters);
        let ssh = ssh::Ssh::new(parts.ssh.clone());
        let control = Self(Arc::new(Inner {
            parts,
            allocator,
            ahead: ahead::Ahead::default(),
            names: names::Names::default(),
            ports: ports::Ports::default(),
            ssh,
            handles: Mutex::default(),
            drivers: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }));
        // A backup may have brought other keys back.
        control.0.tell_good_keys().await?;
        for run in unreadable {
            control.0.leave(run);
        }
        let mut first = control.0.resume(&unfinished);
        control.0.drivers.spawn(kept::free(Arc::clone(&control.0)));
        control.0.drivers.spawn(ahead::work(Arc::clone(&control.0)));
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

    /// Lets every engine set up, beside everything else, what its first run would have to wait for.
    pub(crate) fn warm_up(&self) {
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            for engine in inner.parts.engines.all() {
                engine.warm_up().await;
            }
        });
    }

    /// Cancelled when the server begins to stop.
    pub fn stopping(&self) -> CancellationToken {
        self.0.stopping.clone()
    }

    /// What this server offers.
    pub fn inventory(&self) -> &Inventory {
        &self.0.parts.inventory
    }

    /// Refuses who may not stop the server.
    pub fn may_operate(&self, caller: &Caller) -> Result<()> {
        Ok(allowed(caller, Action::Operate, Scope::Server)?)
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// One cluster by name.
    pub fn cluster(&self, caller: &Caller, name: &str) -> Result<&Cluster> {
        allowed(caller, Action::Read, Scope::Server)?;
        let clusters = &self.0.parts.inventory.clusters;
        clusters.get(name).ok_or_else(|| {
            let names: Vec<String> = clusters.keys().map(ToString::to_string).collect();
            ControlError::not_found("cluster", name, &names)
        })
    }

    /// All clusters.
    pub fn clusters(&self, caller: &Caller) -> Result<&BTreeMap<ClusterName, Cluster>> {
        allowed(caller, Action::Read, Scope::Server)?;
        Ok(&self.0.parts.inventory.clusters)
    }

    /// Nodes of a cluster with the runs that hold something on them.
    pub fn usage(&self, caller: &Caller, cluster: &str) -> Result<Vec<NodeUse>> {
        self.cluster(caller, cluster)?;
        Ok(self.0.allocator.usage(&cluster.into()))
    }

    /// The number of the run's last event, and its changes; `None` once no driver works for the run.
    pub fn follow(&self, run: RunId) -> Option<watch::Receiver<u64>> {
        self.0.handles().get(&run).map(|handle| handle.seq.subscribe())
    }

    /// How many runs a driver works for.
    pub fn unfinished(&self, caller: &Caller) -> Result<u64> {
        allowed(caller, Action::Read, Scope::Server)?;
        Ok(self.0.handles().len() as u64)
    }

    /// The files of attempts, to read from.
    pub(crate) fn attempts(&self) -> &Attempts {
        &self.0.parts.attempts
    }

    /// What imports brought to the machine of a cluster.
    pub async fn cache(&self, caller: &Caller, cluster: &str) -> Result<Vec<CacheEntry>> {
        allowed(caller, Action::Operate, Scope::Server)?;
        Ok(self.0.parts.engines.images(&cluster.into())?.cache().await?)
    }

    /// Removes what no run uses of it until at most `keep` bytes are left.
    pub async fn prune_cache(&self, caller: &Caller, cluster: &str, keep: u64) -> Result<CachePruned> {
        allowed(caller, Action::Operate, Scope::Server)?;
        Ok(self.0.parts.engines.images(&cluster.into())?.prune_cache(keep).await?)
    }

    /// Images of a cluster.
    pub async fn images(&self, caller: &Caller, cluster: &str) -> Result<Vec<ImageView>> {
        self.cluster(caller, cluster)?;
        Ok(self.0.parts.engines.images(&cluster.into())?.list().await?)
    }

    /// Removes images of a cluster that no run uses.
    pub async fn prune_images(&self, caller: &Caller, cluster: &str) -> Result<Pruned> {
        allowed(caller, Action::Operate, Scope::Server)?;
        self.cluster(caller, cluster)?;
        Ok(self.0.parts.engines.images(&cluster.into())?.prune().await?)
    }

    /// Pulls an image into a cluster, with a stored registry credential of the default organization if one is named.
    pub async fn pull_image(
        &self,
        caller: &Caller,
        cluster: &str,
        ask: ImagePull,
    ) -> Result<mpsc::Receiver<std::result::Result<PullStep, EngineError>>> {
        allowed(caller, Action::Operate, Scope::Server)?;
        self.cluster(caller, cluster)?;
        let organization = &self.inventory().project.organization;
        let login: Option<Login> = match ask.credential_name.map(CredentialName::from) {
            Some(name) => {
                let credential = CredentialRef { kind: CredentialKind::Registry, name };
                Some(self.0.login(organization, &credential).await?)
            }
            None => None,
        };
        Ok(self.0.parts.engines.images(&cluster.into())?.pull(ask.reference, login).await?)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    fn handles(&self) -> MutexGuard<'_, HashMap<RunId, Arc<DriverHandle>>> {
        locked(&self.handles)
    }

    /// Goes on with all unfinished runs. Everybody has what they were granted, or their place in the queue before anybody moves.
    fn resume(self: &Arc<Self>, unfinished: &[StoredRun]) -> mpsc::Receiver<()> {
        let (first, looked) = mpsc::channel(1);
        let (hold, wait): (Vec<&StoredRun>, Vec<&StoredRun>) =
            unfinished.iter().partition(|stored| stored.doc.run.allocation().is_some());
        let handles: Vec<(RunId, Arc<DriverHandle>)> =
            hold.into_iter().chain(wait).map(|stored| (stored.id(), self.new_handle(stored))).collect();
        for (id, handle) in handles {
            self.drivers.spawn(driver::drive(Arc::clone(self), id, handle, Some(first.clone())));
        }
        looked
    }

    /// Leaves a run alone that cannot be read. It keeps what it may hold, so that no other run gets it too.
    fn leave(&self, run: UnreadableRun) {
        tracing::error!(run = run.id.0, error = %run, "an unfinished run is left as it is");
        if let Some((placement, amounts)) = run.holds {
            let held = allocator::Held { name: run.name, amounts, placement, ended: false, member: None };
            self.allocator.hold(run.id, held);
        }
    }

    /// Starts the one driver of a new run.
    fn start_driver(self: &Arc<Self>, stored: &StoredRun) {
        let handle = self.new_handle(stored);
        self.drivers.spawn(driver::drive(Arc::clone(self), stored.id(), handle, None));
    }

    /// A handle for the driver of a run, which has what it was granted, or its place in the queue from now on.
    fn new_handle(&self, stored: &StoredRun) -> Arc<DriverHandle> {
        let (id, seq) = (stored.id(), stored.doc.seq);
        let handle = Arc::new(DriverHandle {
            wake: Arc::default(),
            seq: watch::Sender::new(seq),
            explanation: Mutex::default(),
        });
        if self.handles().insert(id, Arc::clone(&handle)).is_some() {
            tracing::error!(run = id.0, "a second driver was asked for");
        }
        match stored.doc.run.allocation() {
            Some(placement) => {
                let (name, amounts) = (stored.name.clone(), stored.doc.resources.clone());
                let (placement, member) = (placement.clone(), member(stored));
                let ended = stored.doc.run.verdict().is_some();
                self.allocator.hold(id, allocator::Held { name, amounts, placement, ended, member });
            }
            None if stored.doc.run.state == State::Queued => {
                self.allocator.queue(&stored.doc.cluster, waiter(stored, &handle.wake));
            }
            None => {}
        }
        handle
    }

    /// Wakes the driver of a run, if it has one.
    fn wake(&self, id: RunId) {
        if let Some(handle) = self.handles().get(&id) {
            handle.wake.notify_one();
        }
    }

    /// Says to those who follow a run that it has events up to `seq`.
    fn publish(&self, id: RunId, seq: u64) {
        if let Some(handle) = self.handles().get(&id) {
            handle.seq.send_if_modified(|known| std::mem::replace(known, (*known).max(seq)) < seq);
        }
    }
}

/// What a run needs of the machine, and who is told when it gets it.
fn waiter(stored: &StoredRun, wake: &Arc<Notify>) -> allocator::Waiter {
    let (amounts, nodes) = (stored.doc.resources.clone(), stored.doc.nodes.clone());
    let asks = QueuedRun { id: stored.id(), name: stored.name.clone(), amounts, nodes };
    allocator::Waiter { asks, wake: Arc::clone(wake), member: member(stored) }
}

/// The place of a run in its sweep.
fn member(stored: &StoredRun) -> Option<allocator::Member> {
    let Sweep { name, parallel } = stored.doc.sweep.clone()?;
    Some(allocator::Member { project: stored.project.clone(), sweep: name, parallel })
}

impl DriverHandle {
    fn explanation(&self) -> Option<Explanation> {
        locked(&self.explanation).clone()
    }

    fn explain(&self, said: Explanation) {
        *locked(&self.explanation) = Some(said);
    }
}
