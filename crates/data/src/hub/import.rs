//! The work of an import: one thread reads the list, a few fetch its files side by side.
//!
//! ```text
//! pages of the list ─► queue of at most 1000 files ─► a few threads, several files each ─► both digests
//! ```
//! The first failure stops everything. No thread outlives the call.
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use futures::future::try_join_all;
use tokio::sync::Mutex;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::answers::Hub;
use super::error::shown;
use super::listing::{Listed, Pages, twice};
use super::part::{Part, Target};
use super::work::drive;
use super::{HubError, Imported, Request};
use crate::locked;

/// Files that are fetched at a time.
const IN_FLIGHT: usize = 16;
/// Most threads: each writes, hashes and decrypts for some of them.
const MOST_THREADS: usize = 4;
/// Files that are listed ahead, so the list of a large repository is never in memory as a whole.
const AHEAD: usize = 1000;
/// How often a file is fetched whose bytes are not what they should be.
const TRIES: usize = 2;

/// What the threads share.
struct Shared<'a> {
    request: &'a Request<'a>,
    commit: &'a str,
    target: Target<'a>,
    failed: StdMutex<Option<HubError>>,
    is_over: AtomicBool,
    files: AtomicU64,
    /// Bytes of what is listed so far.
    bytes: AtomicU64,
    is_all_listed: AtomicBool,
}

type Queue = Mutex<Receiver<Listed>>;

/// Fetches every file of a commit into an empty directory.
pub(super) fn import(request: &Request<'_>, commit: &str, target: Target<'_>) -> Result<Imported, HubError> {
    let shared = Shared {
        request,
        commit,
        target,
        failed: StdMutex::default(),
        is_over: AtomicBool::new(false),
        files: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        is_all_listed: AtomicBool::new(false),
    };
    shared.fetch();
    if let Some(error) = locked(&shared.failed).take() {
        return Err(error);
    }
    let (bytes, files) = (shared.bytes.into_inner(), shared.files.into_inner());
    Ok(Imported { commit: commit.to_owned(), bytes, files })
}

impl Shared<'_> {
    /// The first reason counts.
    fn fail(&self, error: HubError) {
        locked(&self.failed).get_or_insert(error);
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Lists on this thread and fetches on others.
    fn fetch(&self) {
        let (send, receive) = channel(AHEAD);
        let queue = Queue::new(receive);
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS);
        let lanes = IN_FLIGHT / threads;
        let fetch =
            || self.run(async |hub| try_join_all((0..lanes).map(|_| self.lane(hub, &queue))).await.map(drop));
        thread::scope(|scope| {
            for number in 0..threads {
                let started = thread::Builder::new().name("hub-files".to_owned()).spawn_scoped(scope, fetch);
                match started {
                    Err(error) if number == 0 => self.fail(HubError::Start(error)),
                    // A machine that is out of threads still gets the work done by those that there are.
                    Err(_) => break,
                    Ok(_) => {}
                }
            }
            self.run(async |hub| self.list(hub, send).await);
        });
    }

    /// Works with a connection of its own until that is done, or something failed.
    fn run(&self, work: impl AsyncFnOnce(&Hub<'_>) -> Result<(), HubError>) {
        let is_over = || self.is_over.load(Ordering::Relaxed) || (self.request.watch.stop)();
        let done = Hub::new(self.request).and_then(|hub| drive(&is_over, work(&hub)));
        if let Err(error) = done {
            self.fail(error);
        }
    }

    /// Puts every file into the queue.
    async fn list(&self, hub: &Hub<'_>, queue: Sender<Listed>) -> Result<(), HubError> {
        let mut pages = Pages::new(hub, self.commit);
        while let Some(page) = pages.next().await? {
            self.bytes.store(pages.bytes(), Ordering::Relaxed);
            self.is_all_listed.store(pages.is_over(), Ordering::Relaxed);
            for listed in page {
                // Without a reader there is a failure to tell.
                if queue.send(listed).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Fetches one file after the other.
    async fn lane(&self, hub: &Hub<'_>, queue: &Queue) -> Result<(), HubError> {
        loop {
            let next = queue.lock().await.recv().await;
            let Some(listed) = next else { return Ok(()) };
            self.file(hub, &listed).await?;
            self.files.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn file(&self, hub: &Hub<'_>, listed: &Listed) -> Result<(), HubError> {
        let Listed { path, size, .. } = listed;
        let unwritten = |error| HubError::write(hub.repository, path, error);
        let file = self.target.create(Path::new(path), *size).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => twice(hub.repository, path),
            _ => unwritten(error),
        })?;
        let progress = |new| (self.request.watch.progress)(new, self.total());
        let mut part = Part::new(file, listed, &progress);
        let url = hub.repository.file_url(self.commit, path);
        let mut left = TRIES;
        loop {
            hub.download((&url, path, *size), &mut part).await?;
            let Err(why) = part.check().map_err(unwritten)? else { return Ok(()) };
            left -= 1;
            if left == 0 {
                let (repository, path) = (hub.repository.to_string(), shown(path));
                return Err(HubError::Damaged { repository, path, why });
            }
        }
    }

    /// Bytes in all, once they are known.
    fn total(&self) -> Option<u64> {
        self.is_all_listed.load(Ordering::Relaxed).then(|| self.bytes.load(Ordering::Relaxed))
    }
}
