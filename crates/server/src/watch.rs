//! Waiting for a change in a directory without polling: one inotify instance, one task, a signal per directory.
//!
//! ```text
//! inotify ─► task: descriptor → entry ─► entry.changed.notify ─► whoever waits looks again
//! ```
//! It says that something may have changed, never what.
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use vessl_data::locked;

/// Files whose changes say nothing about where the attempt stands.
const NOISE: [&str; 3] = ["agent.log", "progress.new", "spare"];
/// The file that says how far something is; only who asks for it hears of it.
const PROGRESS: &str = "progress";

/// How long a wait lasts when the kernel gives no more watches (`fs.inotify.max_user_watches`).
const WITHOUT_SIGNALS: Duration = Duration::from_secs(1);

/// A signal that something may have changed since the last wait.
#[derive(Clone, Debug)]
pub struct Changes(Vec<Source>);

#[derive(Clone, Debug)]
struct Source {
    seen: watch::Receiver<u64>,
    dir: Arc<Dir>,
}

impl Changes {
    /// Waits for the next change; for ever if there can be none.
    pub async fn changed(&mut self) {
        // A directory that was not there before may be there now.
        let refused = self.0.iter().any(|source| !source.dir.attach());
        if refused {
            tokio::time::sleep(WITHOUT_SIGNALS).await;
            return;
        }
        let any = self.0.iter_mut().map(|source| {
            Box::pin(async {
                if source.seen.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        futures::future::select_all(any).await;
    }
}

/// All watched directories of one server; the signals end when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Watches(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The kernel's end, in the shape that the runtime wants.
#[derive(Debug)]
struct Instance(Inotify);

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[derive(Debug)]
struct Shared {
    inotify: AsyncFd<Instance>,
    dirs: Mutex<Dirs>,
}

#[derive(Debug, Default)]
struct Dirs {
    by_path: HashMap<PathBuf, Weak<Dir>>,
    by_descriptor: HashMap<WatchDescriptor, Weak<Dir>>,
}

/// One watched directory; unwatched when the last holder is gone.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    changed: watch::Sender<u64>,
    progressed: watch::Sender<u64>,
    descriptor: Mutex<Option<WatchDescriptor>>,
    shared: Weak<Shared>,
}

impl Watches {
    /// Starts the task that reads the signals; needs a runtime.
    pub fn start() -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; `Instance` owns its descriptor and never changes it"
        )]
        let inotify = AsyncFd::new(Instance(inotify))?;
        let shared = Arc::new(Shared { inotify, dirs: Mutex::default() });
        let task = tokio::spawn(read_signals(Arc::clone(&shared)));
        Ok(Self(Arc::new(Reading { shared, task })))
    }

    /// Signals of directories; one that is not there is tried again at every wait.
    pub fn dirs(&self, paths: &[&Path]) -> Changes {
        let source = |path: &&Path| {
            let dir = self.0.shared.dir(path);
            dir.attach();
            Source { seen: dir.changed.subscribe(), dir }
        };
        Changes(paths.iter().map(source).collect())
    }

    /// Signals of the file that says how far something is.
    pub(crate) fn progress(&self, path: &Path) -> Changes {
        let dir = self.0.shared.dir(path);
        dir.attach();
        Changes(vec![Source { seen: dir.progressed.subscribe(), dir }])
    }

    /// Signals by hand those who wait for a directory, which may just have been made.
    pub(crate) fn signal(&self, path: &Path) {
        let known = self.0.shared.lock().by_path.get(path).and_then(Weak::upgrade);
        if let Some(dir) = known {
            dir.attach();
            dir.signal(Change::State);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Dirs> {
        locked(&self.dirs)
    }

    fn dir(self: &Arc<Self>, path: &Path) -> Arc<Dir> {
        let mut dirs = self.lock();
        if let Some(dir) = dirs.by_path.get(path).and_then(Weak::upgrade) {
            return dir;
        }
        let dir = Arc::new(Dir {
            path: path.to_owned(),
            changed: watch::Sender::new(0),
            progressed: watch::Sender::new(0),
            descriptor: Mutex::default(),
            shared: Arc::downgrade(self),
        });
        dirs.by_path.insert(path.to_owned(), Arc::downgrade(&dir));
        dir
    }

    fn deliver(&self, events: &[InotifyEvent]) {
        // Collected first: dropping the last holder of a directory takes the same lock.
        let lost = events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW));
        let changed: Vec<(Arc<Dir>, Change)> = {
            let dirs = self.lock();
            if lost {
                dirs.by_path.values().filter_map(Weak::upgrade).map(|dir| (dir, Change::State)).collect()
            } else {
                let of = |event: &InotifyEvent| {
                    let change = change(event.name.as_deref())?;
                    Some((dirs.by_descriptor.get(&event.wd)?.upgrade()?, change))
                };
                events.iter().filter_map(of).collect()
            }
        };
        for (dir, change) in &changed {
            dir.signal(*change);
        }
    }
}

impl Dir {
    fn signal(&self, change: Change) {
        let sender = match change {
            Change::State => &self.changed,
            Change::Progress => &self.progressed,
        };
        sender.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Begins to watch, if the directory is there and is not watched yet. False if the kernel refuses.
    fn attach(self: &Arc<Self>) -> bool {
        let Some(shared) = self.shared.upgrade() else { return true };
        let mut mine = locked(&self.descriptor);
        if mine.is_some() {
            return true;
        }
        // A record is renamed into place, events and log are appended to, and the agent's lock file is closed (for
        // writing) when the agent is gone.
        let what = AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ONLYDIR;
        match shared.inotify.get_ref().0.add_watch(&self.path, what) {
            Ok(descriptor) => {
                *mine = Some(descriptor);
                shared.lock().by_descriptor.insert(descriptor, Arc::downgrade(self));
                true
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => true,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot be watched; looked at every second");
                false
            }
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mine = locked(&self.descriptor).take();
        let mut dirs = shared.lock();
        // Somebody may have begun to watch the same path in between: then the kernel gave the same descriptor.
        if dirs.by_path.get(&self.path).is_some_and(|dir| dir.strong_count() == 0) {
            dirs.by_path.remove(&self.path);
        }
        if let Some(descriptor) = mine
            && dirs.by_descriptor.get(&descriptor).is_some_and(|dir| dir.strong_count() == 0)
        {
            dirs.by_descriptor.remove(&descriptor);
            // Already gone when the directory was deleted.
            let _ = shared.inotify.get_ref().0.rm_watch(descriptor);
        }
    }
}

async fn read_signals(shared: Arc<Shared>) {
    while let Ok(mut ready) = shared.inotify.readable().await {
        let read = ready.try_io(|inotify| Ok(inotify.get_ref().0.read_events()?));
        if let Ok(Ok(events)) = read {
            let events: Vec<InotifyEvent> = events;
            shared.deliver(&events);
        }
    }
}

/// What a change of a file is about.
#[derive(Clone, Copy, Debug)]
enum Change {
    State,
    Progress,
}

fn change(name: Option<&OsStr>) -> Option<Change> {
    match name.and_then(OsStr::to_str) {
        Some(name) if NOISE.contains(&name) => None,
        Some(PROGRESS) => Some(Change::Progress),
        _ => Some(Change::State),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_mins(1);

    async fn signals(changes: &mut Changes) {
        tokio::time::timeout(DEADLINE, changes.changed()).await.expect("a signal");
    }

    #[tokio::test]
    async fn what_agents_do_is_heard_and_what_we_do_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let watches = Watches::start().unwrap();
        let (state, mut progress) = (watches.dirs(&[dir.path()]), watches.progress(dir.path()));
        let mut heard = async || {
            // Signals come in order: what was before this one has been heard.
            std::fs::write(path("progress.new"), "{}").unwrap();
            std::fs::rename(path("progress.new"), path("progress")).unwrap();
            signals(&mut progress).await;
            *state.0[0].seen.borrow()
        };
        std::fs::write(path("lock"), "").unwrap();
        let quiet = heard().await;
        let lock = std::fs::File::open(path("lock")).unwrap();
        lock.lock_shared().unwrap();
        drop(lock);
        std::fs::write(path("agent.log"), "noise").unwrap();
        std::fs::read(path("agent.log")).unwrap();
        assert_eq!(heard().await, quiet, "looking and noise are no changes");
        let mut last = quiet;
        let lock = std::fs::OpenOptions::new().write(true).open(path("lock")).unwrap();
        drop(lock);
        let changes: [&dyn Fn(); 2] = [&|| std::fs::write(path("events"), "{}\n").unwrap(), &|| {
            std::fs::rename(path("events"), path("exit.json")).unwrap();
        }];
        for change in changes {
            let before = heard().await;
            assert!(before > last, "an agent that lets its lock go, writes, or ends is heard");
            change();
            last = before;
        }
        assert!(heard().await > last);
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_is_watched_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let (run, log) = (dir.path().join("1"), dir.path().join("1/log"));
        let watches = Watches::start().unwrap();
        let mut changes = watches.dirs(&[&run, &log]);
        std::fs::create_dir(&run).unwrap();
        watches.signal(&run);
        signals(&mut changes).await;
        std::fs::create_dir(&log).unwrap();
        signals(&mut changes).await;
        // The wait itself begins to watch what is new.
        let write = async {
            tokio::task::yield_now().await;
            std::fs::write(log.join("000000.seg"), "x").unwrap();
        };
        tokio::join!(signals(&mut changes), write);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_watched() {
        let dir = tempfile::tempdir().unwrap();
        let watches = Watches::start().unwrap();
        let first = watches.dirs(&[dir.path()]);
        let second = first.clone();
        drop(first);
        assert_eq!(watches.0.shared.lock().by_descriptor.len(), 1);
        drop(second);
        let dirs = watches.0.shared.lock();
        assert_eq!((dirs.by_descriptor.len(), dirs.by_path.len()), (0, 0));
    }
}
