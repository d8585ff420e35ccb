//! How much a run has written into its own file system, looked at now and then beside the supervisor. It stops nothing: who
//! hears of too much decides.
//!
//! A look at the whole tree costs time, so it is taken only when the file system has so much less room that the limit may be
//! reached, and after a while in any case: others may have freed what the run took.
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::stat::Mode;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};
use nix::sys::statvfs::statvfs;
use vessl_core::plan::Scratch;

/// How often the room of the file system is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// After this time the tree is looked at in any case, and after a multiple of what the last look took.
const WALK: Duration = Duration::from_mins(1);
const WALK_SHARE: u32 = 20;
/// Below scratch: the layers that a run writes to. What it shows from elsewhere is not its own.
const WRITTEN: [&str; 2] = ["root", "private"];

/// Looks after the scratch of a run; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ScratchWatch {
    bell: Arc<EventFd>,
    used: Arc<AtomicU64>,
    /// Bytes that the run may use.
    limit: u64,
    /// Closed to end the thread.
    _end: Sender<()>,
}

impl ScratchWatch {
    /// Begins to look, if there is a limit.
    /// `init` is the container's first process.
    pub(crate) fn start(scratch: &Path, init: i32, bound: Scratch) -> io::Result<Option<Self>> {
        let limit = match bound {
            Scratch::All => return Ok(None),
            Scratch::Share => room(scratch)? / 10 * 9,
            Scratch::Bytes(limit) => limit,
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags)?);
        let (used, (end, ended)) = (Arc::<AtomicU64>::default(), channel());
        let look = Look { scratch: scratch.to_owned(), init, limit, bell: bell.clone(), used: used.clone() };
        std::thread::Builder::new().name("scratch".to_owned()).spawn(move || look.until(&ended))?;
        Ok(Some(Self { bell, used, limit, _end: end }))
    }

    /// What the run uses and what it may use, in bytes, once it uses more.
    pub(crate) fn exceeded(&self) -> Option<(u64, u64)> {
        let used = self.used.load(Ordering::SeqCst);
        (used > self.limit).then_some((used, self.limit))
    }
}

impl AsFd for ScratchWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// The thread that looks.
struct Look {
    scratch: PathBuf,
    init: i32,
    limit: u64,
    bell: Arc<EventFd>,
    used: Arc<AtomicU64>,
}

impl Look {
    fn until(&self, ended: &Receiver<()>) {
        let (mut used, mut free, mut due) =
            (0, room(&self.scratch).unwrap_or_default(), Instant::now() + WALK);
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let now = room(&self.scratch).unwrap_or_default();
            let may_be = free.saturating_sub(now).saturating_add(used);
            if may_be <= self.limit && Instant::now() < due {
                continue;
            }
            let began = Instant::now();
            used = WRITTEN.iter().map(|name| bytes_below(&self.scratch.join(name))).sum();
            used += bytes_unlinked(self.init);
            free = now;
            due = Instant::now() + WALK.max(began.elapsed() * WALK_SHARE);
            if used > self.limit {
                self.used.store(used, Ordering::SeqCst);
                // A full counter has rung already.
                let _ = self.bell.write(1);
                return;
            }
        }
    }
}

/// Bytes that are free for everybody on the file system of a path.
fn room(path: &Path) -> io::Result<u64> {
    let about = statvfs(path)?;
    Ok(about.blocks_available() * about.fragment_size())
}

/// Bytes on disk of everything in a directory. What vanishes meanwhile does not count; links are not followed.
fn bytes_below(dir: &Path) -> u64 {
    let Ok(top) = File::open(dir) else { return 0 };
    // By the directory above: the whole path may be too long for the kernel.
    let (mut todo, mut bytes) = (vec![(Rc::new(top), PathBuf::from("."))], 0);
    while let Some((above, name)) = todo.pop() {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Ok(here) = openat(&*above, &name, flags, Mode::empty()) else { continue };
        let here = Rc::new(File::from(here));
        for entry in
            std::fs::read_dir(format!("/proc/self/fd/{}", here.as_raw_fd())).into_iter().flatten().flatten()
        {
            let Ok(about) = entry.metadata() else { continue };
            // A file with several names counts for each of them only its part.
            bytes += about.blocks() * 512 / about.nlink().max(1);
            if about.is_dir() {
                todo.push((here.clone(), entry.file_name().into()));
            }
        }
    }
    bytes
}

/// Bytes on disk of files in the layers of a container that its processes have open and that have no name any more.
fn bytes_unlinked(init: i32) -> u64 {
    let namespace = |process: &Path| std::fs::read_link(process.join("ns/pid")).ok();
    let Some(own) = namespace(&PathBuf::from(format!("/proc/{init}"))) else { return 0 };
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
    files.values().sum()
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    #[test]
    fn what_is_written_is_counted_by_its_blocks() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/upper/d")).unwrap();
        std::fs::write(dir.path().join("root/upper/d/a"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(dir.path().join("root/upper/d/a"), dir.path().join("root/upper/b")).unwrap();
        File::create(dir.path().join("root/upper/hole")).unwrap().set_len(1 << 40).unwrap();
        let bytes = bytes_below(&dir.path().join("root"));
        assert!((100_000..200_000).contains(&bytes), "{bytes}");
        assert_eq!(bytes_below(&dir.path().join("missing")), 0);
        // Also where the path of it is longer than the kernel takes.
        let mut at =
            nix::fcntl::open(&dir.path().join("root/upper"), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..30 {
            let name = "n".repeat(200);
            nix::sys::stat::mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat(&at, name.as_str(), OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        let deep = openat(&at, "deep", OFlag::O_CREAT | OFlag::O_WRONLY, Mode::S_IRWXU).unwrap();
        io::Write::write_all(&mut File::from(deep), &vec![1; 1_000_000]).unwrap();
        let bytes = bytes_below(&dir.path().join("root"));
        assert!((1_100_000..1_900_000).contains(&bytes), "{bytes}");
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
        let (used, limit) = watch.exceeded().unwrap();
        assert!(used >= 5_000_000 && limit == 1_000_000, "{used}");
    }
}
