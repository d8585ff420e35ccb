//! A pull: resolve, then fetch and unpack the missing layers side by side, then write the record.
//!
//! ```text
//! this thread: async, all connections, progress, cancel      worker threads: one layer each at a time
//!        <------------- orders (blob, part) -------------
//!        ------- part grows -------------------------------->  verify + unpack + sync + rename
//! ```
//! The first failure stops everything. No thread outlives the call.
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::layers::Layer;
use super::lock::{How, Lock};
use super::part::{Fetched, Writer};
use super::record::{self, Complete, Record};
use super::unpacker::Unpacker;
use super::{Auth, Hold, Image, PullWatch, Store, StoreError, prune};
use crate::layout::{self, Scratch};
use crate::manifest::Descriptor;
use crate::source::{Blob, ImageSource, Resolved};
use crate::threads::ThreadGroup;
use vessl_core::reference::Reference;
use vessl_data::fetch::Sink;
use vessl_data::locked;

/// How often progress is told and cancel is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Most layers at a time.
const MAX_WORKERS: usize = 8;

/// A layer that is missing.
#[derive(Clone)]
pub(super) struct LayerTask {
    /// Hex diff id.
    pub(super) diff: String,
    pub(super) blob: Blob,
}

/// A download that a worker asks for. Dropped before it is complete, it fails the worker's reader.
pub(super) struct DownloadRequest {
    pub(super) blob: Descriptor,
    pub(super) part: Writer,
}

/// What workers and the fetching thread share.
pub(super) struct PullState {
    tasks: Mutex<VecDeque<LayerTask>>,
    done: Mutex<Vec<(String, Layer, Lock)>>,
    failed: Mutex<Option<StoreError>>,
    stop: AtomicBool,
    pub(super) fetched: Fetched,
    /// The store, for errors.
    root: PathBuf,
}

impl PullState {
    /// Stops everything; the first reason counts.
    fn fail(&self, error: StoreError) {
        locked(&self.failed).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

pub(super) fn pull(
    store: &Store,
    text: &str,
    auth: &Auth,
    watch: &PullWatch<'_>,
) -> Result<Image, StoreError> {
    let reference = Reference::parse(text)?;
    prune::sweep_dead(store)?;
    let source = ImageSource::open(&reference, auth, &store.options, scratch(store, watch.cancel))?;
    let threads = Arc::new(ThreadGroup::default());
    let runtime = runtime(&threads).map_err(|e| StoreError::io("start to pull into", &store.root, e))?;
    let resolved = runtime.block_on(unless_cancelled(watch, source.resolve(&reference)))?;
    let fetched = fetch(store, &source, &resolved, (watch, &runtime));
    if fetched.is_err() {
        // That failure is the one to tell; what is left of this one is swept by the next pull.
        let _ = prune::sweep_dead(store);
    }
    let (locks, layers, fetched) = fetched?;
    let complete = Complete {
        digest: resolved.digest,
        config: resolved.config.process,
        size: layers.iter().map(|(_, layer)| layer.size).sum(),
        notes: layers.iter().flat_map(|(_, layer)| layer.notes.clone()).collect(),
        layers: layers.into_iter().map(|(diff, _)| diff).collect(),
    };
    let (record, hold) = publish(store, Record::new(&reference, complete), locks)?;
    Ok(Image { fetched, ..record.image(store, text, Some(hold)) })
}

/// Where an archive that is compressed as a whole is unpacked: beside what is half done.
fn scratch<'a>(store: &'a Store, cancel: &'a AtomicBool) -> Scratch<'a> {
    Scratch { dir: &store.root, limits: &store.options.limits, cancel }
}

/// Finds what is wrong with a layout or archive without unpacking its layers.
pub(super) fn check(store: &Store, text: &str) -> Result<(), StoreError> {
    let reference = Reference::parse(text)?;
    if let Reference::Layout { path, .. } = &reference
        && layout::is_large_archive(text, path, store.options.roots.as_deref())?
    {
        return Ok(());
    }
    let never = AtomicBool::new(false);
    let source = ImageSource::open(&reference, &Auth::Anonymous, &store.options, scratch(store, &never))?;
    let runtime = runtime(&Arc::default()).map_err(|e| StoreError::io("look at", &store.root, e))?;
    runtime.block_on(source.resolve(&reference)).map(drop)
}

/// Connections are served by the calling thread; only names are looked up in threads of their own.
fn runtime(threads: &Arc<ThreadGroup>) -> std::io::Result<Runtime> {
    let threads = Arc::clone(threads);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("pull-names")
        .on_thread_start(move || threads.enter())
        .build()
}

async fn unless_cancelled<T>(
    watch: &PullWatch<'_>,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut tick = tokio::time::interval(TICK / 2);
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => if watch.cancel.load(Ordering::Relaxed) {
                return Err(StoreError::Cancelled);
            }
        }
    }
}

type Held = (Vec<Lock>, Vec<(String, Layer)>, u64);

/// Brings every layer here: the locks that keep them, the layers that count (lowest first), the bytes fetched.
fn fetch(
    store: &Store,
    source: &ImageSource,
    resolved: &Resolved,
    (watch, runtime): (&PullWatch<'_>, &Runtime),
) -> Result<Held, StoreError> {
    let tasks = tasks(resolved);
    let wanted = tasks.len();
    let total = tasks.iter().map(|task| task.blob.size()).sum();
    let state = PullState {
        tasks: Mutex::new(tasks),
        done: Mutex::default(),
        failed: Mutex::default(),
        stop: AtomicBool::new(false),
        fetched: Fetched::default(),
        root: store.root.clone(),
    };
    let threads = ThreadGroup::default();
    std::thread::scope(|scope| {
        let (requests, inbox) = unbounded_channel();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for _ in 0..locked(&state.tasks).len().min((cores + 2).min(MAX_WORKERS)) {
            let (state, threads, requests) = (&state, &threads, requests.clone());
            let work = move || {
                threads.enter();
                worker(store, state, &requests);
            };
            if let Err(error) =
                std::thread::Builder::new().name("pull-layer".into()).spawn_scoped(scope, work)
            {
                state.fail(StoreError::io("start a thread to pull into", &store.root, error));
            }
        }
        drop(requests);
        runtime.block_on(serve(source, &state, inbox, (watch, total)));
    });
    if let Some(error) = locked(&state.failed).take() {
        return Err(error);
    }
    if locked(&state.done).len() < wanted {
        return Err(StoreError::Cancelled);
    }
    let fetched = state.fetched.new.load(Ordering::Relaxed);
    (watch.progress)(total, total);
    Ok(stack(resolved, locked(&state.done).drain(..), fetched))
}

/// Each layer once, the largest first: the longest work should not begin last.
fn tasks(resolved: &Resolved) -> VecDeque<LayerTask> {
    let mut seen = HashSet::new();
    let diffs = resolved.config.diff_ids.iter().map(|diff| diff.hex().to_owned());
    let mut tasks: Vec<LayerTask> = diffs
        .zip(&resolved.layers)
        .filter(|(diff, _)| seen.insert(diff.clone()))
        .map(|(diff, blob)| LayerTask { diff, blob: blob.clone() })
        .collect();
    tasks.sort_by_key(|task| std::cmp::Reverse(task.blob.size()));
    tasks.into()
}

/// Puts the layers in order. Overlayfs refuses a layer twice: of equal ones the highest decides, so the others go. Those
/// below one that covers them go as well.
fn stack(resolved: &Resolved, done: impl Iterator<Item = (String, Layer, Lock)>, fetched: u64) -> Held {
    let mut by_diff = std::collections::HashMap::new();
    let mut locks = Vec::new();
    for (diff, layer, lock) in done {
        by_diff.insert(diff, layer);
        locks.push(lock);
    }
    let mut layers = Vec::new();
    for diff in resolved.config.diff_ids.iter().rev() {
        let Some(layer) = by_diff.remove(diff.hex()) else { continue };
        let covers = layer.covers;
        layers.push((diff.hex().to_owned(), layer));
        if covers {
            break;
        }
    }
    layers.reverse();
    (locks, layers, fetched)
}

/// Writes the record while its lock is held, so that no prune takes it for one without user.
fn publish(store: &Store, record: Record, mut locks: Vec<Lock>) -> Result<(Record, Hold), StoreError> {
    let name = record::image_lock(&record.reference);
    // Exclusive holders of a record's lock only remove the record.
    let lock = store.wait_shared(&name, &|| true)?;
    record.write(store)?;
    locks.extend(lock);
    Ok((record, Hold { _locks: Arc::new(locks) }))
}

/// Serves the downloads that workers request until all workers are gone or something failed.
async fn serve(
    source: &ImageSource,
    state: &PullState,
    mut inbox: UnboundedReceiver<DownloadRequest>,
    (watch, total): (&PullWatch<'_>, u64),
) {
    let mut downloads = FuturesUnordered::new();
    let mut tick = tokio::time::interval(TICK);
    let mut told = None;
    while !state.is_stopped() {
        tokio::select! {
            request = inbox.recv() => match request {
                Some(request) => downloads.push(download(source, request, state)),
                None => return,
            },
            Some(done) = downloads.next(), if !downloads.is_empty() => {
                if let Err(error) = done {
                    state.fail(error);
                }
            }
            _ = tick.tick() => {
                let now = state.fetched.all.load(Ordering::Relaxed).min(total);
                if told.replace(now) != Some(now) {
                    (watch.progress)(now, total);
                }
                if watch.cancel.load(Ordering::Relaxed) {
                    state.fail(StoreError::Cancelled);
                }
            }
        }
    }
}

/// A part whose bytes are counted as they come.
struct Counted<'a> {
    part: &'a mut Writer,
    fetched: &'a Fetched,
}

impl Sink for Counted<'_> {
    fn received(&self) -> u64 {
        self.part.received()
    }

    async fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.part.append(bytes).await?;
        self.fetched.add(bytes.len() as u64);
        Ok(())
    }
}

async fn download(
    source: &ImageSource,
    mut request: DownloadRequest,
    state: &PullState,
) -> Result<(), StoreError> {
    state.fetched.found(request.part.received());
    if let ImageSource::Registry(registry) = source {
        let mut sink = Counted { part: &mut request.part, fetched: &state.fetched };
        registry.download(&request.blob, &mut sink, &state.root).await?;
    }
    request.part.complete();
    Ok(())
}

/// Takes jobs until there is none; one that another process works on goes to the end.
fn worker(store: &Store, state: &PullState, requests: &UnboundedSender<DownloadRequest>) {
    while let Some(task) = next_task(state) {
        match layer(store, state, &task, requests) {
            Ok(Some((layer, lock))) => locked(&state.done).push((task.diff, layer, lock)),
            Ok(None) => {
                locked(&state.tasks).push_back(task);
                std::thread::sleep(TICK / 4);
            }
            // Its input was stopped; who stopped it says why.
            Err(StoreError::Cancelled) => {}
            Err(error) => state.fail(error),
        }
    }
}

fn next_task(state: &PullState) -> Option<LayerTask> {
    if state.is_stopped() { None } else { locked(&state.tasks).pop_front() }
}

/// One layer: found, or fetched and unpacked. `None` if another process has its lock.
fn layer(
    store: &Store,
    state: &PullState,
    task: &LayerTask,
    requests: &UnboundedSender<DownloadRequest>,
) -> Result<Option<(Layer, Lock)>, StoreError> {
    if let Some(lock) = store.lock(&task.diff, How::Shared)?
        && let Some(layer) = store.layer(&task.diff)?
    {
        state.fetched.found(task.blob.size());
        return Ok(Some((layer, lock)));
    }
    let Some(lock) = store.lock(&task.diff, How::Exclusive)? else { return Ok(None) };
    if store.layer(&task.diff)?.is_none() {
        Unpacker { store, state, task, requests }.run()?;
    }
    // Between the exclusive and the shared lock a prune may come; then everything begins again.
    let shared = lock.share().map_err(|e| StoreError::io("lock", &store.root, e))?;
    match store.layer(&task.diff)? {
        Some(layer) if shared => Ok(Some((layer, lock))),
        _ => Ok(None),
    }
}
