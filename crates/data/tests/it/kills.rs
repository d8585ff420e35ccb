//! A process that puts, uploads, collects and moves blobs is killed at every call that changes anything on disk; after each kill, everything
//! that it had acknowledged is whole.
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use vessl_data::Watch;
use vessl_data::blob::{Batch, Digest, Stay, Store, UnitName};
use vessl_data::dir::Dir;
use vessl_data::incoming::{Incoming, Pack};
use vessl_data::tree::{self, Bounds, Entry, Form, Kind, Manifest, Source};

/// Where the child works.
const PLACE: &str = "VESSL_KILLED_CHILD";

/// Calls that change something on disk.
const CHANGES: [i64; 20] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_copy_file_range,
    libc::SYS_openat,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chmod,
    libc::SYS_utimensat,
    libc::SYS_fsync,
    libc::SYS_syncfs,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_rmdir,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
];

/// A store, two directories, and a list of the versions that were acknowledged.
struct Bed {
    dir: tempfile::TempDir,
}

fn store(dir: &Path) -> Store {
    Store::open(&dir.join("blobs")).unwrap()
}

fn acknowledge(dir: &Path, version: Digest) {
    let mut list = File::options().create(true).append(true).open(dir.join("acknowledged")).unwrap();
    writeln!(list, "{version}").unwrap();
    list.sync_all().unwrap();
}

fn acknowledged(dir: &Path) -> Vec<Digest> {
    let text = std::fs::read_to_string(dir.join("acknowledged")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A version with these contents as files, which must be in the store.
fn version(store: &Store, contents: &[&[u8]]) -> Digest {
    let entry = |(n, bytes): (usize, &&[u8])| {
        let (size, digest, form) = (bytes.len() as u64, Digest::of(bytes), Form::Plain);
        Entry {
            path: PathBuf::from(format!("f{n}")),
            kind: Kind::File { mode: 0o644, size, digest, form },
            modified: None,
        }
    };
    let manifest = Manifest::new(contents.iter().enumerate().map(entry).collect()).unwrap();
    tree::store_manifest(store, &manifest).unwrap().version
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (name, text) in
            [("one/a", "alpha"), ("one/sub/b", "beta"), ("two/a", "alpha"), ("two/c", "gamma")]
        {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let holes = File::create(root.join("two/holes")).unwrap();
        holes.write_all_at(b"end", 1 << 20).unwrap();
        // A pack that is more than half dead, and one that is dead.
        let store = store(root);
        for contents in [[&b"kept"[..], &[1; 500]], [&[2; 100], &[3; 100]]] {
            let batch = Batch::begin(&store).unwrap();
            for bytes in contents {
                batch.put_bytes(bytes).unwrap();
            }
            batch.finish().unwrap();
        }
        acknowledge(root, version(&store, &[b"kept"]));
        store.put_bytes(b"dead and loose").unwrap();
        Self { dir }
    }

    /// Whether everything acknowledged is whole, also after another collection.
    fn check(&self, at: usize) {
        let root = self.dir.path();
        let store = store(root);
        assert_eq!(std::fs::read_dir(root.join("blobs/tmp")).unwrap().count(), 0);
        bring_home(root, &store, at);
        let versions = acknowledged(root);
        for _ in 0..2 {
            let found = store.check(&Watch::NONE).unwrap();
            assert_eq!(found.harms, [], "killed at {at}");
            for version in &versions {
                let faults = tree::check_version(&store, *version, &found).unwrap();
                assert_eq!(faults, [], "killed at {at}");
            }
            let (_, lost) = tree::collect(&store, &versions, later()).unwrap();
            assert!(lost.is_empty(), "killed at {at}: {lost:?}");
        }
    }
}

fn later() -> SystemTime {
    SystemTime::now() + Duration::from_mins(1)
}

fn export(dir: &Path, store: &Store, name: &str) {
    let root = Dir::open(&dir.join(name)).unwrap();
    let source = Source { root: &root, path: Path::new(""), reader: None };
    let written = tree::write(store, source, Bounds::FORMAT, &Watch::NONE).unwrap();
    acknowledge(dir, written.version);
}

/// Copies every unit elsewhere, notes that, and takes it off the disk; some of it comes home again, and what is dead dies.
fn go_elsewhere(dir: &Path, store: &Store) {
    store.put_bytes(b"dead elsewhere").unwrap();
    let mut units = Vec::new();
    for unit in store.units().unwrap() {
        let to = dir.join("elsewhere").join(unit.name().file());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        units.push((unit.name(), std::fs::copy(unit.data(), to).unwrap()));
    }
    store.mark(&units).unwrap();
    let manifests = acknowledged(dir);
    let stay = |digest| if manifests.contains(&digest) { Stay::Itself } else { Stay::May };
    for unit in store.units().unwrap() {
        store.evict(&unit, &stay).unwrap();
    }
    units.sort_unstable();
    let (landing, _lock) = store.landing().unwrap();
    let home =
        units.iter().step_by(2).map(|(unit, _)| (*unit, landing.path().join(unit.file().replace('/', "-"))));
    let home: Vec<(UnitName, PathBuf)> = home.collect();
    for (unit, to) in &home {
        std::fs::copy(dir.join("elsewhere").join(unit.file()), to).unwrap();
    }
    store.take_home(&home).unwrap();
    tree::collect(store, &acknowledged(dir), later()).unwrap();
}

/// Brings home what is elsewhere alone: all that is noted is there, whole.
fn bring_home(dir: &Path, store: &Store, at: usize) {
    for unit in store.marked().unwrap().into_keys() {
        let here = |file: &str| dir.join("blobs").join(file).exists();
        // A pack that was being removed has no index any more.
        if here(&unit.file()) || unit.index().is_some_and(|index| !here(&index)) {
            continue;
        }
        let (landing, _lock) = store.landing().unwrap();
        let to = landing.path().join("unit");
        std::fs::copy(dir.join("elsewhere").join(unit.file()), &to).unwrap();
        assert!(store.is_whole(unit, &to, &Watch::NONE).unwrap(), "killed at {at}");
        store.take_home(&[(unit, to)]).unwrap();
    }
}

/// What is killed: an export, an upload, a collection, another export, a move of everything to elsewhere.
fn work(dir: &Path) {
    let store = store(dir);
    export(dir, &store, "one");
    let frame =
        |bytes: &[u8]| [&Digest::of(bytes).0[..], &(bytes.len() as u64).to_le_bytes(), bytes].concat();
    let mut pack = Pack::begin(&store).unwrap();
    pack.append(&[frame(b"up"), frame(b"kept"), frame(b"load")].concat()).unwrap();
    pack.finish().unwrap();
    let large = [7; 3000];
    for (offset, until) in [(0, 1000), (1000, 3000)] {
        let announced = (Digest::of(&large), 3000);
        let mut incoming = Incoming::open(&dir.join("upload"), announced, offset).unwrap();
        incoming.append(&large[usize::try_from(offset).unwrap()..until]).unwrap();
        incoming.finish(&store).unwrap();
    }
    acknowledge(dir, version(&store, &[b"up", b"load", &large]));
    tree::collect(&store, &acknowledged(dir), later()).unwrap();
    export(dir, &store, "two");
    go_elsewhere(dir, &store);
}

/// The test as the child that is killed.
fn be_killed(dir: &Path) {
    let mut out = std::io::stdout().lock();
    out.write_all(b"\nready\n").unwrap();
    out.flush().unwrap();
    drop(out);
    std::io::stdin().read_exact(&mut [0]).unwrap();
    work(dir);
}

/// Starts the child; it waits for a byte.
fn start(dir: &Path) -> (Child, ChildStdin) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "kills::nothing_acknowledged_is_lost_by_a_kill_at_any_write";
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
    let mut child = command.env(PLACE, dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line != "ready\n" {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the child has ended");
    }
    // What else it says fits into the pipe.
    std::mem::forget(lines);
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

/// Kills the child before the `n`th call that would change something; false if it ended before that.
fn killed_at(n: usize, dir: &Path) -> bool {
    let (child, mut stdin) = start(dir);
    let lead = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    for thread in std::fs::read_dir(format!("/proc/{lead}/task")).unwrap() {
        let name = thread.unwrap().file_name();
        let thread = Pid::from_raw(name.to_str().unwrap().parse().unwrap());
        ptrace::seize(thread, options).unwrap();
        ptrace::interrupt(thread).unwrap();
    }
    stdin.write_all(b"x").unwrap();
    let (mut inside, mut count) = (HashSet::new(), 0);
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL)).unwrap();
        let signal = match status {
            WaitStatus::PtraceSyscall(thread) if inside.insert(thread) => {
                count += usize::from(changes(lead, thread));
                if count == n {
                    kill(lead, Signal::SIGKILL).unwrap();
                    while !matches!(waitpid(None, Some(WaitPidFlag::__WALL)), Err(nix::Error::ECHILD)) {}
                    return true;
                }
                None
            }
            WaitStatus::PtraceSyscall(thread) => {
                inside.remove(&thread);
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(process, code) if process == lead => {
                assert_eq!(code, 0, "the child failed");
                return false;
            }
            WaitStatus::Signaled(process, signal, _) if process == lead => {
                panic!("the child died of {signal}")
            }
            _ => None,
        };
        if let Some(thread) = status.pid() {
            // One that has just ended cannot go on.
            let _ = ptrace::syscall(thread, signal);
        }
    }
}

/// Whether the call that a thread begins changes something.
fn changes(lead: Pid, thread: Pid) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{lead}/task/{thread}/syscall")).unwrap_or_default();
    let mut words = text.split(' ');
    let Some(Ok(call)) = words.next().map(str::parse::<i64>) else { return false };
    // Most files are opened only to be read.
    let flags = words.nth(2).and_then(|word| i64::from_str_radix(word.trim_start_matches("0x"), 16).ok());
    let opens = |flags: i64| flags & i64::from(libc::O_CREAT) != 0;
    CHANGES.contains(&call) && (call != libc::SYS_openat || flags.is_some_and(opens))
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill_at_any_write() {
    if let Some(dir) = std::env::var_os(PLACE) {
        return be_killed(Path::new(&dir));
    }
    let mut kills = 0;
    let mut most = HashSet::new();
    for n in 1.. {
        let bed = Bed::new();
        let killed = killed_at(n, bed.dir.path());
        bed.check(n);
        most.insert(acknowledged(bed.dir.path()).len());
        if !killed {
            break;
        }
        kills += 1;
        assert!(kills < 2000, "it has no end");
    }
    assert!(kills > 50, "only {kills} writes");
    assert_eq!(most, HashSet::from([1, 2, 3, 4]), "kills before, between and after all versions");
}
