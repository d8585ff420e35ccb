//! How much a run has written into its own file system, in bytes and in files, looked at now and then beside the supervisor. It
//! stops nothing: who hears of too much decides.
//!
//! A look at the whole tree costs time, so it is taken only when the file system has so much less room that the limit may be
//! reached, and after a while in any case: others may have freed what the run took.
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use vessl_core::plan::Scratch;
use vessl_data::dir::{Dir, proc_path};

/// How often the room of the file system is looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// After this time the tree is looked at in any case, and after a multiple of what the last look took.
const WALK: Duration = Duration::from_secs(15);
const WALK_SHARE: u32 = 20;
/// Longest path that is opened at once, in bytes. Source: `PATH_MAX`, less one name.
const LONGEST: usize = 3800;
/// Below scratch: the layers that a run writes to. What it shows from elsewhere is not its own.
const WRITTEN: [&str; 2] = ["root", "private"];

/// What is taken of a file system, or free in it.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    bytes: u64,
    files: u64,
}

/// A run has more in its own file system than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    /// So many bytes.
    Bytes {
        /// What it has.
        used: u64,
        /// What it may have.
        limit: u64,
    },
    /// So many files and directories.
    Files {
        /// What it has.
        used: u64,
        /// What it may have.
        limit: u64,
    },
}

/// Looks after the scratch of a run; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ScratchWatch {
    bell: Arc<EventFd>,
    excess: Arc<OnceLock<Excess>>,
    /// Closed to end the thread.
    _end: Sender<()>,
}

impl ScratchWatch {
    /// Begins to look, if there is a limit. Files are bounded by a share of what is free, where the file system counts them.
    /// `init` is the container's first process.
    pub(crate) fn start(scratch: &Path, init: i32, bound: Scratch) -> io::Result<Option<Self>> {
        let free = Amount::free(scratch)?;
        let share = free.share();
        let limit = match bound {
            Scratch::All => return Ok(None),
            Scratch::Share => share,
            Scratch::Bytes(bytes) => Amount { bytes, ..share },
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let (excess, (end, ended)) = (Arc::<OnceLock<Excess>>::default(), channel());
        let (scratch, excess_of) = (scratch.to_owned(), excess.clone());
        let observer = Observer { scratch, init, free, limit, bell: bell.clone(), excess: excess_of };
        std::thread::Builder::new().name("scratch".to_owned()).spawn(move || observer.until(&ended))?;
        Ok(Some(Self { bell, excess, _end: end }))
    }

    /// What the run has too much of.
    pub(crate) fn exceeded(&self) -> Option<Excess> {
        self.excess.get().copied()
    }
}

impl AsFd for ScratchWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread that looks.
struct Observer {
    scratch: PathBuf,
    init: i32,
    /// Before the run wrote anything.
    free: Amount,
    limit: Amount,
    bell: Arc<EventFd>,
    excess: Arc<OnceLock<Excess>>,
}

impl Observer {
    fn until(&self, ended: &Receiver<()>) {
        let (mut used, mut before, mut due) = (Amount::default(), self.free, Instant::now() + WALK);
        while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
            let now = Amount::free(&self.scratch).unwrap_or_default();
            if used.and_since(before, now).beyond(self.limit).is_none() && Instant::now() < due {
                continue;
            }
            let began = Instant::now();
            used = self.used();
            before = now;
            due = Instant::now() + WALK.max(began.elapsed() * WALK_SHARE);
            if let Some(excess) = used.beyond(self.limit) {
                let _ = self.excess.set(excess);
                // A full counter has rung already.
                let _ = self.bell.write(1);
                return;
            }
        }
    }

    fn used(&self) -> Amount {
        let mut used = unlinked(self.init);
        for name in WRITTEN {
            let below = below(&self.scratch.join(name));
            used.bytes += below.bytes;
            used.files += below.files;
        }
        used
    }
}

impl Amount {
    /// What is free for everybody on the file system of a path.
    fn free(path: &Path) -> io::Result<Self> {
        let about = statvfs(path)?;
        // Some make room for files as they come, and say that there are none.
        let files = if about.files() == 0 { u64::MAX } else { about.files_available() };
        Ok(Self { bytes: about.blocks_available() * about.fragment_size(), files })
    }

    /// What one run may have of it.
    fn share(self) -> Self {
        Self { bytes: self.bytes / 10 * 9, files: self.files / 10 * 9 }
    }

    /// What it is now at most, when so much was free before and is now.
    fn and_since(self, before: Self, now: Self) -> Self {
        let more = |used: u64, before: u64, now: u64| before.saturating_sub(now).saturating_add(used);
        Self {
            bytes: more(self.bytes, before.bytes, now.bytes),
            files: more(self.files, before.files, now.files),
        }
    }

    fn beyond(self, limit: Self) -> Option<Excess> {
        if self.bytes > limit.bytes {
            return Some(Excess::Bytes { used: self.bytes, limit: limit.bytes });
        }
        (self.files > limit.files).then_some(Excess::Files { used: self.files, limit: limit.files })
    }
}

/// What is on disk of everything in a directory. What vanishes meanwhile does not count; links are not followed.
///
/// However deep a run makes its directories, one of them is open at a time: the others are known by their names alone.
fn below(dir: &Path) -> Amount {
    let mut found = Amount::default();
    let Ok(top) = Dir::open(dir) else { return found };
    let mut todo: Vec<Rc<Inner>> = vec![Rc::default()];
    while let Some(inner) = todo.pop() {
        let Ok(here) = inner.open(&top) else { continue };
        for entry in std::fs::read_dir(proc_path(&here)).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            // A file with several names counts for each of them only its part.
            found.bytes += about.blocks() * 512 / about.nlink().max(1);
            found.files += 1;
            if about.is_dir() {
                todo.push(Rc::new(Inner { above: Some(inner.clone()), name: entry.file_name() }));
            }
        }
    }
    found
}

/// A directory below another by its name there; the topmost is `.` of nothing.
#[derive(Default)]
struct Inner {
    above: Option<Rc<Inner>>,
    name: OsString,
}

impl Inner {
    /// Opens it from `top`, in pieces, as the whole path may be too long for the kernel.
    fn open(&self, top: &Dir) -> io::Result<Dir> {
        let mut names = Vec::new();
        let mut at = Some(self);
        while let Some(inner) = at {
            names.push(&inner.name);
            at = inner.above.as_deref();
        }
        let mut here = top.try_clone()?;
        let mut path = PathBuf::from(".");
        for name in names.into_iter().rev() {
            if path.as_os_str().len() + name.len() > LONGEST {
                here = here.dir(&path)?;
                path = PathBuf::from(".");
            }
            path.push(name);
        }
        here.dir(&path)
    }
}

/// What is on disk of files in the layers of a container that its processes have open and that have no name any more.
fn unlinked(init: i32) -> Amount {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let Some(own) = namespace(&PathBuf::from(format!("/proc/{init}"))) else {
        return Amount::default();
    };
    let mut files = HashMap::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
        if namespace(&process).as_ref() != Some(&own) {
            continue;
        }
        for open in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
            let Ok(about) = std::fs::metadata(open.path()) else { continue };
            // Layers are overlays; what is mounted from elsewhere, or is memory, is none.
            let layer = || statfs(&open.path()).is_ok_and(|fs| fs.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
            if about.is_file() && about.nlink() == 0 && layer() {
                files.insert((about.dev(), about.ino()), about.blocks() * 512);
            }
        }
    }
    Amount { bytes: files.values().sum(), files: files.len() as u64 }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use nix::fcntl::{OFlag, openat};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::stat::{Mode, mkdirat};

    use super::*;

    #[test]
    fn what_is_written_is_counted_by_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/upper/d")).unwrap();
        std::fs::write(dir.path().join("root/upper/d/a"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("root/upper/d/a"), dir.path().join("root/upper/b")).unwrap();
        File::create(dir.path().join("root/upper/hole")).unwrap().set_len(1 << 40).unwrap();
        let found = below(&dir.path().join("root"));
        assert!((100_000..200_000).contains(&found.bytes) && found.files == 5, "{found:?}");
        assert_eq!(below(&dir.path().join("missing")).bytes, 0);
        // Also where the path of it is longer than the kernel takes.
        let mut at =
            nix::fcntl::open(&dir.path().join("root/upper"), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1500 {
            for name in ["n".repeat(20), "beside".to_owned()] {
                mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            }
            at = openat(&at, "n".repeat(20).as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let deep = openat(&at, "deep", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        io::Write::write_all(&mut File::from(deep), &vec![1; 1_000_000]).unwrap();
        let found = below(&dir.path().join("root"));
        assert!((1_100_000..30_000_000).contains(&found.bytes) && found.files == 3006, "{found:?}");
        vessl_container::remove::remove_dir_all(&dir.path().join("root")).unwrap();
    }

    #[test]
    fn too_much_rings_once_and_no_limit_looks_at_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ScratchWatch::start(dir.path(), 0, Scratch::All).unwrap().is_none());
        std::fs::create_dir_all(dir.path().join("private/0/upper")).unwrap();
        let watch = ScratchWatch::start(dir.path(), 0, Scratch::Bytes(1_000_000)).unwrap().unwrap();
        assert_eq!(watch.exceeded(), None);
        std::fs::write(dir.path().join("private/0/upper/x"), vec![1; 5_000_000]).unwrap();
        let mut bell = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut bell, PollTimeout::from(60_000_u16)), Ok(1), "it rings");
        let excess = watch.exceeded();
        let is_right = |used, limit| used >= 5_000_000 && limit == 1_000_000;
        assert!(matches!(excess, Some(Excess::Bytes { used, limit }) if is_right(used, limit)), "{excess:?}");
    }
}
