//! Work on many things at once: a queue that hands out the largest first, and tasks of which the first error ends the others. It must
//! not know what the work is.
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::error::BucketError;
use crate::{DataError, Watch, locked};

/// Requests in flight, of those that bring or take much each.
pub(super) const IN_FLIGHT: usize = 32;
/// Small objects in flight on their way here: each is more waiting than moving.
pub(super) const SMALL_IN_FLIGHT: usize = 128;
/// How often is told how far it is, and asked whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// Jobs by rank.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    wake: Notify,
}

#[derive(Debug)]
struct State<T> {
    waiting: BinaryHeap<Ranked<T>>,
    /// Jobs that are being done: they may still bring new ones.
    active: usize,
    is_closed: bool,
}

#[derive(Debug)]
struct Ranked<T> {
    rank: u64,
    job: T,
}

impl<T> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl<T> Eq for Ranked<T> {}

impl<T> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { waiting: BinaryHeap::new(), active: 0, is_closed: false };
        Self { state: Mutex::new(state), wake: Notify::new() }
    }
}

impl<T> Queue<T> {
    /// Adds jobs, each with its rank.
    pub(super) fn push(&self, jobs: impl IntoIterator<Item = (u64, T)>) {
        locked(&self.state).waiting.extend(jobs.into_iter().map(|(rank, job)| Ranked { rank, job }));
        self.wake.notify_waiters();
    }

    /// No jobs come any more, but from other jobs.
    pub(super) fn close(&self) {
        locked(&self.state).is_closed = true;
        self.wake.notify_waiters();
    }

    /// Gives up what waits.
    pub(super) fn halt(&self) {
        locked(&self.state).waiting.clear();
    }

    /// The job of the highest rank; `None` if all are done.
    pub(super) async fn next(&self) -> Option<T> {
        loop {
            let woken = self.wake.notified();
            {
                let mut state = locked(&self.state);
                if let Some(Ranked { job, .. }) = state.waiting.pop() {
                    state.active += 1;
                    return Some(job);
                }
                if state.is_closed && state.active == 0 {
                    return None;
                }
            }
            woken.await;
        }
    }

    /// A job that [`Queue::next`] gave is done.
    pub(super) fn ended(&self) {
        let mut state = locked(&self.state);
        state.active -= 1;
        if state.active == 0 {
            self.wake.notify_waiters();
        }
    }
}

/// How far the work is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) done: std::sync::Arc<AtomicU64>,
    pub(super) total: AtomicU64,
    pub(super) is_total_known: AtomicBool,
}

impl Progress {
    pub(super) fn set_total(&self, bytes: u64) {
        self.total.store(bytes, Relaxed);
        self.is_total_known.store(true, Relaxed);
    }

    fn tell(&self, watch: &Watch<'_>, told: &mut u64) {
        let done = self.done.load(Relaxed);
        // What was moved in vain is taken back.
        if done > *told {
            let total = self.is_total_known.load(Relaxed).then(|| self.total.load(Relaxed));
            (watch.progress)(done - *told, total);
            *told = done;
        }
    }
}

/// Waits until all tasks have ended; after the first error, or when the caller wants no more, the others are ended.
pub(super) async fn drive(
    mut tasks: JoinSet<Result<(), BucketError>>,
    watch: &Watch<'_>,
    progress: &Progress,
) -> Result<(), BucketError> {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    let ended = loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => break Ok(()),
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => break Err(error),
                Some(Err(bug)) if bug.is_panic() => std::panic::resume_unwind(bug.into_panic()),
                Some(Err(_)) => break Err(DataError::Stopped.into()),
            },
            _ = tick.tick() => {
                progress.tell(watch, &mut told);
                if (watch.stop)() {
                    break Err(DataError::Stopped.into());
                }
            }
        }
    };
    tasks.shutdown().await;
    progress.tell(watch, &mut told);
    ended
}
