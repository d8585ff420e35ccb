//! The one writer: takes everything that waits, runs it in one transaction, syncs once, then answers all.
//!
//! ```text
//! wait for a job ─► take all that wait ─► BEGIN ─► each in its own savepoint ─► COMMIT (one sync) ─► answer each
//! ```
use std::sync::{Arc, mpsc};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::{Result, StoreError};

/// Most jobs in one group: bounds the memory and the time that one answer waits for the others.
const LARGEST_GROUP: usize = 256;
/// Most jobs that wait before submitters are held back.
const LONGEST_QUEUE: usize = 1024;

type Committed = std::result::Result<(), Arc<rusqlite::Error>>;
type Answer = Box<dyn FnOnce(Committed) + Send>;
/// Does its work in the transaction, if one could be begun, and returns how to answer once the commit is known.
type Job = Box<dyn FnOnce(Option<&mut Transaction<'_>>) -> Answer + Send>;

/// Sends jobs to the writer thread. Dropping it ends the thread after what was sent.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    room: Arc<tokio::sync::Semaphore>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(conn: Connection) -> Self {
        let (jobs, waiting) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_groups(conn, &waiting))
            .expect("the system gives a thread at start-up");
        let room = Arc::new(tokio::sync::Semaphore::new(LONGEST_QUEUE));
        Self { jobs: Some(jobs), room, thread: Some(thread) }
    }

    pub(super) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let room = Arc::clone(&self.room).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |tx| {
            let done = tx.map_or(Err(StoreError::Closed), |tx| in_savepoint(tx, work));
            Box::new(move |committed| {
                drop(room);
                // The one who asked may be gone; what was committed stays committed.
                let _ = answer.send(committed.map_err(StoreError::Commit).and(done));
            })
        });
        let jobs = self.jobs.as_ref().ok_or(StoreError::Closed)?;
        jobs.send(job).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_groups(mut conn: Connection, waiting: &mpsc::Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let others = waiting.try_iter().take(LARGEST_GROUP - 1);
        let group = std::iter::once(first).chain(others).collect();
        write_group(&mut conn, group);
    }
}

fn write_group(conn: &mut Connection, group: Vec<Job>) {
    let (answers, committed): (Vec<_>, _) =
        match conn.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(mut tx) => (group.into_iter().map(|job| job(Some(&mut tx))).collect(), tx.commit()),
            Err(error) => (group.into_iter().map(|job| job(None)).collect(), Err(error)),
        };
    let committed = committed.map_err(Arc::new);
    for answer in answers {
        answer(committed.clone());
    }
}

fn in_savepoint<T>(tx: &mut Transaction<'_>, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let point = tx.savepoint()?;
    let done = work(&point)?;
    point.commit()?;
    Ok(done)
}
