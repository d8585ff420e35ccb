//! Who holds what of which node, who waits, and what the queue's rule says of those: a table for each cluster, so that nobody waits
//! for the runs of another one.
//!
//! What a run is granted it holds from that very moment, so nothing is given twice, and it is free again only when the container
//! of the run has ended. The rule itself is `vessl_core::queue`.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use vessl_core::ids::{ClusterName, ProjectRef, RunId};
use vessl_core::plan::{Amounts, Cluster, Node};
use vessl_core::queue::{Holder, NodeUse, QueuedRun, admit};
use vessl_core::run::{Admission, Placement, Wait};
use vessl_core::wire::QueuePlace;
use vessl_data::locked;

/// Runs at the head of a queue that the rule looks at in one pass; those behind wait for them in any case.
const WINDOW: usize = 64;

/// The tables of all clusters; one per server.
#[derive(Debug)]
pub(super) struct Allocator {
    tables: Mutex<Vec<Table>>,
    /// Told when a queue may be another one.
    changed: watch::Sender<()>,
}

/// One cluster.
#[derive(Debug, Default)]
struct Table {
    cluster: ClusterName,
    /// Whether it is a part of this machine, which it may share with others.
    is_local: bool,
    /// Whether the settings name it.
    is_known: bool,
    nodes: Vec<Node>,
    held: BTreeMap<RunId, Held>,
    waiting: BTreeMap<RunId, Waiter>,
    /// Runs of sweeps that have as many runs here as they may: they are not in the queue yet.
    aside: BTreeMap<RunId, Waiter>,
    answers: HashMap<RunId, Admission>,
}

/// What a run holds.
#[derive(Debug)]
pub(super) struct Held {
    /// Name of the run.
    pub(super) name: String,
    pub(super) amounts: Amounts,
    pub(super) placement: Placement,
    /// Whether it has ended and is only being removed.
    pub(super) ended: bool,
    /// Its place in a sweep.
    pub(super) member: Option<Member>,
}

/// A run that asks for a place.
#[derive(Debug)]
pub(super) struct Waiter {
    /// What it needs.
    pub(super) asks: QueuedRun,
    /// Told when the answer is no longer to wait.
    pub(super) wake: Arc<Notify>,
    /// Its place in a sweep.
    pub(super) member: Option<Member>,
}

/// The place of a run in a sweep.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) project: ProjectRef,
    /// Name of the sweep.
    pub(super) sweep: String,
    /// How many of its runs may be in the queue or have a place at the same time.
    pub(super) parallel: u32,
}

impl Member {
    fn is_of(&self, other: &Self) -> bool {
        self.sweep == other.sweep && self.project == other.project
    }
}

impl Allocator {
    /// Tables in which nothing is held.
    pub(super) fn new(clusters: &BTreeMap<ClusterName, Cluster>) -> Self {
        let table = |(name, of): (&ClusterName, &Cluster)| Table {
            cluster: name.clone(),
            is_local: of.local,
            is_known: true,
            nodes: of.nodes.clone(),
            ..Table::default()
        };
        Self { tables: Mutex::new(clusters.iter().map(table).collect()), changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Table>> {
        locked(&self.tables)
    }

    /// Changes when a queue may be another one.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The runs at the head of each queue that were told to wait, `most` of each.
    pub(super) fn first_waiting(&self, most: usize) -> Vec<RunId> {
        let tables = self.lock();
        let first = tables.iter().flat_map(|table| {
            let waits = |id: &&RunId| matches!(table.answers.get(id), Some(Admission::Waiting(_)));
            table.waiting.keys().take(most).filter(waits)
        });
        first.copied().collect()
    }

    /// Whether a run waits in a queue, or has a place.
    pub(super) fn has(&self, run: RunId) -> bool {
        self.lock().iter().any(|table| table.waiting.contains_key(&run) || table.held.contains_key(&run))
    }

    /// Notes what was granted before the server started.
    pub(super) fn hold(&self, run: RunId, held: Held) {
        of_cluster(&mut self.lock(), &held.placement.cluster.clone()).held.insert(run, held);
    }

    /// Notes that a run has ended, for those who wait for what it holds until it is removed.
    pub(super) fn ended(&self, run: RunId) {
        let mut tables = self.lock();
        let has_ended = |table: &mut Table| {
            let held = table.held.get_mut(&run).filter(|held| !held.ended);
            held.map(|held| held.ended = true)
        };
        if let Some(at) = tables.iter_mut().position(|table| has_ended(table).is_some()) {
            admit_after(&mut tables, at);
        }
        self.changed.send_replace(());
    }

    /// Puts a run into the queue of a cluster; nobody is granted anything by that.
    pub(super) fn queue(&self, cluster: &ClusterName, waiter: Waiter) {
        let mut tables = self.lock();
        let table = of_cluster(&mut tables, cluster);
        let queue = if table.may_queue(&waiter) { &mut table.waiting } else { &mut table.aside };
        queue.insert(waiter.asks.id, waiter);
    }

    /// What the queue says of a run that was put into it.
    pub(super) fn admission(&self, run: RunId) -> Option<Admission> {
        let mut tables = self.lock();
        let at = tables.iter().position(|table| table.knows(run))?;
        let table = &tables[at];
        // Behind a full window nothing changes for anybody.
        let in_window = || table.waiting.keys().nth(WINDOW - 1).is_none_or(|&last| run <= last);
        if !table.answers.contains_key(&run) && in_window() {
            admit_at(&mut tables, at);
            self.changed.send_replace(());
        }
        Some(tables[at].answer(run))
    }

    /// What the queue says of a run now, if it is in the queue.
    pub(super) fn peek(&self, run: RunId) -> Option<Admission> {
        let tables = self.lock();
        tables.iter().find(|table| table.knows(run)).map(|table| table.answer(run))
    }

    /// Place of a run in its queue, from 1, and how many wait there.
    pub(super) fn place(&self, run: RunId) -> Option<QueuePlace> {
        let tables = self.lock();
        let table = tables.iter().find(|table| table.waiting.contains_key(&run))?;
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Some(QueuePlace { place: number(table.place_in_queue(run) + 1), of: number(table.waiting.len()) })
    }

    /// Notes that a run has another name.
    pub(super) fn rename(&self, run: RunId, name: &str) {
        for table in self.lock().iter_mut() {
            if let Some(waiter) = table.waiting.get_mut(&run) {
                name.clone_into(&mut waiter.asks.name);
            }
            if let Some(held) = table.held.get_mut(&run) {
                name.clone_into(&mut held.name);
            }
        }
    }

    /// Frees what a run holds and takes it out of the queue.
    pub(super) fn release(&self, run: RunId) {
        let mut tables = self.lock();
        let leaves = |table: &mut Table| {
            let held = table.held.remove(&run).is_some();
            let waited = table.waiting.remove(&run).or_else(|| table.aside.remove(&run)).is_some();
            table.answers.remove(&run);
            // The run may have been answered that it can never be placed, and have left the queue by that.
            let took = table.take_in();
            held || waited || took
        };
        if let Some(at) = tables.iter_mut().position(leaves) {
            admit_after(&mut tables, at);
        }
        self.changed.send_replace(());
    }

    /// Nodes of a cluster with who holds what.
    pub(super) fn usage(&self, cluster: &ClusterName) -> Vec<NodeUse> {
        let tables = self.lock();
        let at = tables.iter().position(|table| table.cluster == *cluster);
        at.map(|at| usage(&tables, at)).unwrap_or_default()
    }
}

/// The nodes of a table with who holds what, and with what runs of other clusters still hold of the same machine although the settings
/// have given it away.
fn usage(tables: &[Table], at: usize) -> Vec<NodeUse> {
    let mut uses = tables[at].usage();
    let others = tables.iter().enumerate().filter(|(other, table)| *other != at && table.is_local);
    if let (true, [one]) = (tables[at].is_local, uses.as_mut_slice()) {
        one.holders.extend(others.flat_map(|(_, table)| table.beyond_its_share()));
    }
    uses
}

/// Asks the rule about the head of one queue and takes what it grants.
fn admit_at(tables: &mut [Table], at: usize) {
    if !tables[at].waiting.is_empty() && tables[at].is_known {
        let uses = usage(tables, at);
        tables[at].admit(&uses);
    }
}

/// The same when something of that cluster is free now, and for those to whom it was given meanwhile.
fn admit_after(tables: &mut [Table], at: usize) {
    admit_at(tables, at);
    for other in (0..tables.len()).filter(|&other| other != at) {
        if tables[at].is_local && tables[other].is_local {
            admit_at(tables, other);
        }
    }
}

/// The table of a cluster. One that the settings do not name any more has no nodes.
fn of_cluster<'t>(tables: &'t mut Vec<Table>, cluster: &ClusterName) -> &'t mut Table {
    let at = tables.iter().position(|table| table.cluster == *cluster).unwrap_or_else(|| {
        tables.push(Table { cluster: cluster.clone(), is_local: true, ..Table::default() });
        tables.len() - 1
    });
    &mut tables[at]
}

impl Table {
    /// Whether the run waits here, or was answered and has not left.
    fn knows(&self, run: RunId) -> bool {
        self.waiting.contains_key(&run) || self.answers.contains_key(&run) || self.aside.contains_key(&run)
    }

    /// Whether the sweep of a run has room for it.
    fn may_queue(&self, waiter: &Waiter) -> bool {
        let Some(member) = &waiter.member else { return true };
        let here = self.held.values().map(|held| &held.member);
        let here = here.chain(self.waiting.values().map(|waiter| &waiter.member));
        let of_sweep = here.flatten().filter(|other| other.is_of(member)).count();
        u32::try_from(of_sweep).is_ok_and(|of_sweep| of_sweep < member.parallel)
    }

    /// Takes those into the queue whose sweep has room for them again; whether there were any.
    fn take_in(&mut self) -> bool {
        let ids: Vec<RunId> = self.aside.keys().copied().collect();
        let before = ids.len();
        for id in ids {
            if self.aside.get(&id).is_some_and(|waiter| self.may_queue(waiter)) {
                self.waiting.extend(self.aside.remove_entry(&id));
            }
        }
        self.aside.len() < before
    }

    fn usage(&self) -> Vec<NodeUse> {
        let mut uses: Vec<NodeUse> =
            self.nodes.iter().map(|node| NodeUse { node: node.clone(), holders: Vec::new() }).collect();
        for (&id, Held { name, amounts, placement, ended, .. }) in &self.held {
            let at = uses.iter().position(|one| one.node.name == placement.node);
            // The only node of a cluster that was renamed while a run was on it is still the same machine.
            let at = at.or_else(|| (uses.len() == 1).then_some(0));
            if let Some(one) = at.and_then(|at| uses.get_mut(at)) {
                let (amounts, gpus) = (amounts.clone(), placement.gpus.clone());
                let holder = Holder { id, name: name.clone(), amounts, gpus, ended: *ended };
                one.holders.push(holder);
            }
        }
        uses
    }

    /// What its runs hold and it does not have any more, since its share was made smaller or was given away.
    fn beyond_its_share(&self) -> Vec<Holder> {
        let node = self.nodes.first().cloned().unwrap_or_default();
        let (mut cpu, mut memory) = (node.cpu_milli, node.memory);
        let mut beyond = |(&id, held): (&RunId, &Held)| {
            let rest = |left: &mut u64, held: u64| {
                let within = held.min(*left);
                *left -= within;
                held - within
            };
            let amounts = Amounts {
                cpu_milli: rest(&mut cpu, held.amounts.cpu_milli),
                memory: rest(&mut memory, held.amounts.memory),
                ..Amounts::default()
            };
            let mut gpus = held.placement.gpus.clone();
            gpus.retain(|gpu| node.gpus.iter().all(|own| own.index != *gpu));
            let any = amounts != Amounts::default() || !gpus.is_empty();
            any.then_some(Holder { id, name: held.name.clone(), amounts, gpus, ended: held.ended })
        };
        self.held.iter().filter_map(&mut beyond).collect()
    }

    /// Asks the rule about the head of the queue and takes what it grants.
    fn admit(&mut self, uses: &[NodeUse]) {
        let head: Vec<QueuedRun> =
            self.waiting.values().take(WINDOW).map(|waiter| waiter.asks.clone()).collect();
        for (id, admission) in admit(&self.cluster, &head, uses) {
            if !matches!(admission, Admission::Waiting(_)) {
                self.leave_queue(id, &admission);
            }
            self.answers.insert(id, admission);
        }
    }

    fn leave_queue(&mut self, id: RunId, admission: &Admission) {
        let Some(Waiter { asks, wake, member }) = self.waiting.remove(&id) else { return };
        if let Admission::Granted(placement) = admission {
            let (QueuedRun { name, amounts, .. }, placement) = (asks, placement.clone());
            self.held.insert(id, Held { name, amounts, placement, ended: false, member });
        }
        wake.notify_one();
    }

    fn answer(&self, id: RunId) -> Admission {
        if let Some(answer) = self.answers.get(&id) {
            return answer.clone();
        }
        if !self.is_known {
            let why =
                format!("waits: the settings of the server name no cluster `{}` any more", self.cluster);
            let next = "the cluster is in the settings file again, and the server is started anew";
            return Admission::Waiting(Wait { why, next: vec![next.to_owned()] });
        }
        if let Some(Member { sweep, parallel, .. }) = self.aside.get(&id).and_then(|run| run.member.as_ref())
        {
            let why = format!("waits for its sweep `{sweep}`, of which {parallel} may run at the same time");
            return Admission::Waiting(Wait { why, next: vec!["the end of one of its runs".to_owned()] });
        }
        let (why, next) = match self.place_in_queue(id) {
            0 => ("is next to be placed".to_owned(), "a moment"),
            1 => (
                "waits for its turn: one run was submitted before it".to_owned(),
                "the run before it is placed",
            ),
            n => (
                format!("waits for its turn: {n} runs were submitted before it"),
                "the runs before it are placed",
            ),
        };
        Admission::Waiting(Wait { why, next: vec![next.to_owned()] })
    }

    fn place_in_queue(&self, id: RunId) -> usize {
        match self.waiting.last_key_value() {
            Some((&last, _)) if last == id => self.waiting.len() - 1,
            _ => self.waiting.range(..id).count(),
        }
    }
}
