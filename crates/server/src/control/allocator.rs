//! Who holds what of which node, who waits, and what the queue's rule says of those: a table for each cluster, so that nobody waits
//! for the runs of another one.
//!
//! What a run is granted it holds from that very moment, so nothing is given twice, and it is free again only when the container
//! of the run has ended. The rule itself is `vessl_core::queue`.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;
use vessl_core::ids::{ClusterName, RunId};
use vessl_core::plan::{Amounts, Node};
use vessl_core::queue::{Holder, NodeUse, QueuedRun, admit};
use vessl_core::run::{Admission, Placement, Wait};
use vessl_data::locked;

/// Runs at the head of a queue that the rule looks at in one pass; those behind wait for them in any case.
const WINDOW: usize = 64;

/// The tables of all clusters; one per server.
#[derive(Debug)]
pub(super) struct Allocator(Mutex<Vec<Table>>);

/// One cluster.
#[derive(Debug, Default)]
struct Table {
    cluster: ClusterName,
    nodes: Vec<Node>,
    held: BTreeMap<RunId, Held>,
    waiting: BTreeMap<RunId, Waiter>,
    answers: HashMap<RunId, Admission>,
}

/// What a run holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) amounts: Amounts,
    pub(super) placement: Placement,
    /// Whether it has ended and is only being removed.
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Waiter {
    asks: QueuedRun,
    wake: Arc<Notify>,
}

impl Allocator {
    /// Tables in which nothing is held.
    pub(super) fn new(clusters: impl IntoIterator<Item = (ClusterName, Vec<Node>)>) -> Self {
        let table = |(cluster, nodes)| Table { cluster, nodes, ..Table::default() };
        Self(Mutex::new(clusters.into_iter().map(table).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Table>> {
        locked(&self.0)
    }

    /// Notes what was granted before the server started.
    pub(super) fn hold(&self, run: RunId, held: Held) {
        of_cluster(&mut self.lock(), &held.placement.cluster.clone()).held.insert(run, held);
    }

    /// Notes that a run has ended, for those who wait for what it holds until it is removed.
    pub(super) fn ended(&self, run: RunId) {
        for table in self.lock().iter_mut() {
            if let Some(held) = table.held.get_mut(&run).filter(|held| !held.ended) {
                held.ended = true;
                table.admit();
            }
        }
    }

    /// Puts a run into the queue of a cluster; nobody is granted anything by that. `wake` is told when the answer is no longer to
    /// wait.
    pub(super) fn queue(&self, cluster: &ClusterName, asks: QueuedRun, wake: &Arc<Notify>) {
        let waiter = Waiter { wake: Arc::clone(wake), asks };
        of_cluster(&mut self.lock(), cluster).waiting.insert(waiter.asks.id, waiter);
    }

    /// What the queue says of a run that was put into it.
    pub(super) fn admission(&self, run: RunId) -> Option<Admission> {
        let mut tables = self.lock();
        let table = tables.iter_mut().find(|table| table.knows(run))?;
        // Behind a full window nothing changes for anybody.
        let in_window = || table.waiting.keys().nth(WINDOW - 1).is_none_or(|&last| run <= last);
        if !table.answers.contains_key(&run) && in_window() {
            table.admit();
        }
        Some(table.answer(run))
    }

    /// What the queue says of a run now, if it is in the queue.
    pub(super) fn peek(&self, run: RunId) -> Option<Admission> {
        let tables = self.lock();
        tables.iter().find(|table| table.knows(run)).map(|table| table.answer(run))
    }

    /// Frees what a run holds and takes it out of the queue.
    pub(super) fn release(&self, run: RunId) {
        for table in self.lock().iter_mut() {
            let held = table.held.remove(&run).is_some();
            let waited = table.waiting.remove(&run).is_some();
            table.answers.remove(&run);
            if held || waited {
                table.admit();
            }
        }
    }

    /// Nodes of a cluster with who holds what.
    pub(super) fn usage(&self, cluster: &ClusterName) -> Vec<NodeUse> {
        self.lock().iter().find(|table| table.cluster == *cluster).map(Table::usage).unwrap_or_default()
    }
}

/// The table of a cluster. One that the settings do not name any more has no nodes.
fn of_cluster<'t>(tables: &'t mut Vec<Table>, cluster: &ClusterName) -> &'t mut Table {
    let at = tables.iter().position(|table| table.cluster == *cluster).unwrap_or_else(|| {
        tables.push(Table { cluster: cluster.clone(), ..Table::default() });
        tables.len() - 1
    });
    &mut tables[at]
}

impl Table {
    /// Whether the run waits here, or was answered and has not left.
    fn knows(&self, run: RunId) -> bool {
        self.waiting.contains_key(&run) || self.answers.contains_key(&run)
    }

    fn usage(&self) -> Vec<NodeUse> {
        let mut uses: Vec<NodeUse> =
            self.nodes.iter().map(|node| NodeUse { node: node.clone(), holders: Vec::new() }).collect();
        for (&id, Held { amounts, placement, ended }) in &self.held {
            let at = uses.iter().position(|one| one.node.name == placement.node);
            // The only node of a cluster that was renamed while a run was on it is still the same machine.
            let at = at.or_else(|| (uses.len() == 1).then_some(0));
            if let Some(one) = at.and_then(|at| uses.get_mut(at)) {
                let (amounts, gpus) = (amounts.clone(), placement.gpus.clone());
                let holder = Holder { id, amounts, gpus, ended: *ended };
                one.holders.push(holder);
            }
        }
        uses
    }

    /// Asks the rule about the head of the queue and takes what it grants.
    fn admit(&mut self) {
        let head: Vec<QueuedRun> =
            self.waiting.values().take(WINDOW).map(|waiter| waiter.asks.clone()).collect();
        if head.is_empty() {
            return;
        }
        for (id, admission) in admit(&self.cluster, &head, &self.usage()) {
            if !matches!(admission, Admission::Waiting(_)) {
                self.leave_queue(id, &admission);
            }
            self.answers.insert(id, admission);
        }
    }

    fn leave_queue(&mut self, id: RunId, admission: &Admission) {
        let Some(waiter) = self.waiting.remove(&id) else { return };
        if let Admission::Granted(placement) = admission {
            self.held.insert(
                id,
                Held { amounts: waiter.asks.amounts, placement: placement.clone(), ended: false },
            );
        }
        waiter.wake.notify_one();
    }

    fn answer(&self, id: RunId) -> Admission {
        if let Some(answer) = self.answers.get(&id) {
            return answer.clone();
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
