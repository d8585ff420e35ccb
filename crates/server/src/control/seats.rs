//! The one seat table: which run holds what of which node, who waits, and what the queue's rule says of those.
//!
//! A seat is taken in the same moment in which the rule gives it, so nothing is given twice, and it is free again only
//! when the container of the run has ended. The rule itself is `vessl_core::queue`.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use vessl_core::plan::{Amounts, Node, RunId};
use vessl_core::queue::{Holder, NodeUse, Waiting, admit};
use vessl_core::run::{Place, Seat, Wait};

/// Runs at the head of the queue that the rule looks at in one pass; those behind wait for them in any case.
const WINDOW: usize = 64;

/// The table; one per server.
#[derive(Debug)]
pub(super) struct Seats(Mutex<Table>);

#[derive(Debug)]
struct Table {
    nodes: Vec<Node>,
    held: BTreeMap<RunId, Held>,
    waiting: BTreeMap<RunId, Waiter>,
    said: HashMap<RunId, Seat>,
}

/// What a run holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) amounts: Amounts,
    pub(super) place: Place,
    /// Whether it has ended and is only being removed.
    pub(super) ended: bool,
}

#[derive(Debug)]
struct Waiter {
    asks: Waiting,
    wake: Arc<Notify>,
}

impl Seats {
    /// A table in which nothing is held.
    pub(super) fn new(nodes: Vec<Node>) -> Self {
        Self(Mutex::new(Table {
            nodes,
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            said: HashMap::new(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a seat that was given before the server started.
    pub(super) fn hold(&self, run: RunId, held: Held) {
        self.lock().held.insert(run, held);
    }

    /// Notes that a run has ended, for those who wait for what it holds until it is removed.
    pub(super) fn ended(&self, run: RunId) {
        let mut table = self.lock();
        if let Some(held) = table.held.get_mut(&run).filter(|held| !held.ended) {
            held.ended = true;
            table.admit();
        }
    }

    /// Puts a run into the queue; nobody gets a seat by that. `wake` is told when the answer is no longer to wait.
    pub(super) fn queue(&self, asks: Waiting, wake: &Arc<Notify>) {
        self.lock().waiting.insert(asks.id, Waiter { asks, wake: Arc::clone(wake) });
    }

    /// What the queue says of a run that was put into it.
    pub(super) fn seat(&self, run: RunId) -> Seat {
        let mut table = self.lock();
        // Behind a full window nothing changes for anybody.
        let in_window = || table.waiting.keys().nth(WINDOW - 1).is_none_or(|&last| run <= last);
        if !table.said.contains_key(&run) && in_window() {
            table.admit();
        }
        table.answer(run)
    }

    /// What the queue says of a run now, if it is in the queue.
    pub(super) fn peek(&self, run: RunId) -> Option<Seat> {
        let table = self.lock();
        (table.waiting.contains_key(&run) || table.said.contains_key(&run)).then(|| table.answer(run))
    }

    /// Frees what a run holds and takes it out of the queue.
    pub(super) fn release(&self, run: RunId) {
        let mut table = self.lock();
        let held = table.held.remove(&run).is_some();
        let waited = table.waiting.remove(&run).is_some();
        table.said.remove(&run);
        if held || waited {
            table.admit();
        }
    }

    /// Nodes with who holds what.
    pub(super) fn usage(&self) -> Vec<NodeUse> {
        self.lock().usage()
    }
}

impl Table {
    fn usage(&self) -> Vec<NodeUse> {
        let mut uses: Vec<NodeUse> =
            self.nodes.iter().map(|node| NodeUse { node: node.clone(), holders: Vec::new() }).collect();
        for (&id, Held { amounts, place, ended }) in &self.held {
            // A node that was renamed while a run was on it is still the same machine.
            let at = uses.iter().position(|one| one.node.name == place.node).unwrap_or(0);
            if let Some(one) = uses.get_mut(at) {
                let (amounts, gpus) = (amounts.clone(), place.gpus.clone());
                let holder = Holder { id, amounts, gpus, ended: *ended };
                one.holders.push(holder);
            }
        }
        uses
    }

    /// Asks the rule about the head of the queue and takes the seats it gives.
    fn admit(&mut self) {
        let head: Vec<Waiting> =
            self.waiting.values().take(WINDOW).map(|waiter| waiter.asks.clone()).collect();
        if head.is_empty() {
            return;
        }
        for (id, seat) in admit(&head, &self.usage()) {
            if !matches!(seat, Seat::Waits(_)) {
                self.leave_queue(id, &seat);
            }
            self.said.insert(id, seat);
        }
    }

    fn leave_queue(&mut self, id: RunId, seat: &Seat) {
        let Some(waiter) = self.waiting.remove(&id) else { return };
        if let Seat::Free(place) = seat {
            self.held.insert(id, Held { amounts: waiter.asks.amounts, place: place.clone(), ended: false });
        }
        waiter.wake.notify_one();
    }

    fn answer(&self, id: RunId) -> Seat {
        if let Some(said) = self.said.get(&id) {
            return said.clone();
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
        Seat::Waits(Wait { why, next: vec![next.to_owned()] })
    }

    fn place_in_queue(&self, id: RunId) -> usize {
        match self.waiting.last_key_value() {
            Some((&last, _)) if last == id => self.waiting.len() - 1,
            _ => self.waiting.range(..id).count(),
        }
    }
}
