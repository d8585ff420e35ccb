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

type Committed = std::result::Result<(), Uncommitted>;
type Answer = Box<dyn FnOnce(Committed) + Send>;
/// Does its work in the transaction, if one could be begun, and returns how to answer once the commit is known.
type WriteTask = Box<dyn FnOnce(Option<&mut Transaction<'_>>) -> Answer + Send>;

/// Why nothing of a group was stored.
#[derive(Clone)]
enum Uncommitted {
    /// The commit failed.
    Sql(Arc<rusqlite::Error>),
    /// One job met an error that ended the transaction of all.
    Lost,
}

impl From<Uncommitted> for StoreError {
    fn from(why: Uncommitted) -> Self {
        match why {
            Uncommitted::Sql(error) => Self::Commit(error),
            Uncommitted::Lost => Self::Lost,
        }
    }
}

/// Sends jobs to the writer thread. Dropping it ends the thread after what was sent.
#[derive(Debug)]
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<WriteTask>>,
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
        let job: WriteTask = Box::new(move |tx| {
            let done = tx.map_or(Err(StoreError::Lost), |tx| in_savepoint(tx, work));
            Box::new(move |committed| {
                drop(room);
                // The one who asked may be gone; what was committed stays committed.
                let _ = answer.send(done.and_then(|done| Ok(committed.map(|()| done)?)));
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

fn write_groups(mut conn: Connection, waiting: &mpsc::Receiver<WriteTask>) {
    while let Ok(first) = waiting.recv() {
        let others = waiting.try_iter().take(LARGEST_GROUP - 1);
        let group = std::iter::once(first).chain(others).collect();
        write_group(&mut conn, group);
    }
}

fn write_group(conn: &mut Connection, group: Vec<WriteTask>) {
    let sql = |error| {
        tracing::error!(%error, "a group was not stored");
        Uncommitted::Sql(Arc::new(error))
    };
    let (answers, committed): (Vec<_>, Committed) =
        match conn.transaction_with_behavior(TransactionBehavior::Immediate) {
            Ok(mut tx) => {
                let answers = group.into_iter().map(|job| job(Some(&mut tx))).collect();
                // A full disk ends the whole transaction at once.
                let lost = tx.is_autocommit();
                (answers, if lost { Err(Uncommitted::Lost) } else { tx.commit().map_err(sql) })
            }
            Err(error) => (group.into_iter().map(|job| job(None)).collect(), Err(sql(error))),
        };
    for answer in answers {
        answer(committed.clone());
    }
}

fn in_savepoint<T>(tx: &mut Transaction<'_>, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    // What comes after the end of the transaction would be on its own.
    if tx.is_autocommit() {
        return Err(StoreError::Lost);
    }
    let point = tx.savepoint()?;
    let done = work(&point)?;
    point.commit()?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::params;

    fn opened(dir: &tempfile::TempDir) -> (Arc<Writer>, Connection) {
        let open = || Connection::open(dir.path().join("x.db")).unwrap();
        let conn = open();
        conn.pragma_update(None, "journal_mode", "WAL").unwrap();
        conn.execute_batch(
            "CREATE TABLE t (n INTEGER PRIMARY KEY);
             CREATE TABLE u (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED);",
        )
        .unwrap();
        conn.pragma_update(None, "foreign_keys", "ON").unwrap();
        (Arc::new(Writer::start(conn)), open())
    }

    fn rows(conn: &Connection) -> u32 {
        conn.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap()
    }

    /// Holds the writer in a group of its own until the sender is dropped, so that what follows becomes one group.
    async fn hold(writer: &Arc<Writer>) -> mpsc::Sender<()> {
        let (free, held) = mpsc::channel::<()>();
        let (begin, begun) = oneshot::channel();
        let writer = Arc::clone(writer);
        tokio::spawn(async move {
            let holding = writer.write(move |_| {
                begin.send(()).unwrap();
                let _ = held.recv();
                Ok(())
            });
            holding.await.unwrap();
        });
        begun.await.unwrap();
        free
    }

    fn insert(n: u32) -> impl FnOnce(&Connection) -> Result<()> + Send + 'static {
        move |db| {
            db.execute("INSERT INTO t VALUES (?1)", params![n])?;
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_waits_is_committed_together_and_a_failure_hurts_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, outside) = opened(&dir);
        let free = hold(&writer).await;
        let seen_outside = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut waiting: Vec<std::pin::Pin<Box<dyn Future<Output = Result<()>>>>> = Vec::new();
        for n in 0..100 {
            // Number 50 is inserted twice; the second one fails, alone.
            waiting.push(Box::pin(writer.write(insert(if n == 51 { 50 } else { n }))));
        }
        let (outside, seen) = (std::sync::Mutex::new(outside), Arc::clone(&seen_outside));
        waiting.push(Box::pin(writer.write(move |_| {
            seen.lock().unwrap().push(rows(&outside.lock().unwrap()));
            Ok(())
        })));
        let all = futures::future::join_all(waiting);
        let (answers, ()) = tokio::join!(all, async { drop(free) });
        let failed: Vec<usize> =
            answers.iter().enumerate().filter(|(_, answer)| answer.is_err()).map(|(n, _)| n).collect();
        assert_eq!(failed, [51]);
        assert_eq!(*seen_outside.lock().unwrap(), [0], "nobody sees a part of a group");
        drop(writer);
        assert_eq!(rows(&Connection::open(dir.path().join("x.db")).unwrap()), 99);
    }

    #[tokio::test]
    async fn a_disk_that_is_full_in_the_middle_of_a_group_stores_none_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, outside) = opened(&dir);
        let limit = writer.write(|db| {
            let pages: u32 = db.query_row("PRAGMA page_count", [], |row| row.get(0))?;
            db.pragma_update(None, "max_page_count", pages + 1)?;
            Ok(())
        });
        limit.await.unwrap();
        let free = hold(&writer).await;
        let large = |n: u32| {
            move |db: &Connection| {
                db.execute("CREATE TABLE IF NOT EXISTS large (text)", [])?;
                db.execute("INSERT INTO large VALUES (zeroblob(100000))", [])?;
                insert(n)(db)
            }
        };
        let (first, full, last) = (writer.write(insert(1)), writer.write(large(2)), writer.write(insert(3)));
        let (first, full, last, ()) = tokio::join!(first, full, last, async { drop(free) });
        for answer in [&first, &full, &last] {
            assert_eq!(answer.is_ok(), rows(&outside) > 0, "{first:?} {full:?} {last:?}");
        }
        assert!(full.unwrap_err().is_disk_full());
        assert!(matches!((first, last), (Err(StoreError::Lost), Err(StoreError::Lost))));
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_committed_is_stored_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, outside) = opened(&dir);
        let free = hold(&writer).await;
        let good = writer.write(insert(1));
        let bad = writer.write(|db| Ok(db.execute("INSERT INTO u VALUES (99)", [])?));
        let (good, bad, ()) = tokio::join!(good, bad, async { drop(free) });
        assert!(matches!(good, Err(StoreError::Commit(_))), "{good:?}");
        assert!(matches!(bad, Err(StoreError::Commit(_))), "{bad:?}");
        assert_eq!(rows(&outside), 0);
        writer.write(insert(2)).await.unwrap();
        assert_eq!(rows(&outside), 1, "the writer goes on");
    }
}
