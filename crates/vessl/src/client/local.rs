//! The server of this machine: is one running, start one in the background, stop it.
//!
//! A server holds `server.lock` (flock) for its life, and writes to `server.json` where it listens. A client must not try the
//! lock to find out whether a server runs: a server that starts at that moment would find it taken. It looks at the server's
//! open files in `/proc` instead. Clients that start or stop a server take turns by a lock on the data directory, so that a
//! race of clients ends with one server.
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{major, minor};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Deserialize;
use vessl_core::secret::Secret;
use vessl_server::watch::Watches;

use crate::error::{Error, Result};
use crate::output::Out;
use crate::settings;

/// Longest time a server may take until it listens.
const START: Duration = Duration::from_secs(30);
/// Longest time a server may take to stop.
const STOP: Duration = Duration::from_mins(1);
/// Longest time that a killed server takes to be gone.
const DYING: Duration = Duration::from_secs(5);
/// The only version of `server.json` there is.
const VERSION: u32 = 1;

/// The place of this machine's server.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    data: PathBuf,
}

/// What a running server says about itself in `server.json`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ServerInfo {
    /// Version of the format.
    v: u32,
    /// Its process.
    pub(crate) pid: i32,
    /// Where it listens.
    pub(crate) url: String,
    /// Where ports of runs are reached.
    #[serde(default)]
    pub(crate) ports: Option<String>,
    /// Where runs are reached by SSH.
    #[serde(default)]
    pub(crate) ssh: Option<String>,
    /// Since when.
    pub(crate) started_at: Timestamp,
    /// Its version.
    #[serde(default)]
    pub(crate) version: Option<String>,
}

/// How the last server of a data directory went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShutdownKind {
    /// Somebody stopped it, or there never was one.
    Stopped,
    /// It died.
    Died,
}

impl Local {
    /// The server of this data directory.
    pub(crate) fn at(data: PathBuf) -> Self {
        Self { data }
    }

    /// The server of this person's data directory.
    pub(crate) fn of_this_machine() -> Result<Self> {
        Ok(Self::at(settings::data_dir()?))
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The server's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("server.log")
    }

    /// The token that its first start made.
    pub(crate) fn token(&self) -> Result<Secret> {
        let path = self.data.join("token");
        let text = std::fs::read_to_string(&path).map_err(Error::os(format!("read `{}`", path.display())))?;
        Ok(text.trim().into())
    }

    /// The running server, if there is one.
    pub(crate) fn running(&self) -> Result<Option<ServerInfo>> {
        let Some(info) = self.info() else {
            return Ok(None);
        };
        if info.v != VERSION {
            return Err(Error::Usage {
                message: format!("the data directory `{}` belongs to a newer vessl", self.data.display()),
                hint: "use that version, or another directory in `VESSL_DATA`".to_owned(),
            });
        }
        Ok((self.is_held_by(info.pid) && lives(info.pid)).then_some(info))
    }

    /// How the last server went away, if none is running: a stopped one takes its `server.json` along.
    pub(crate) fn shutdown_kind(&self) -> ShutdownKind {
        if self.data.join("server.json").exists() { ShutdownKind::Died } else { ShutdownKind::Stopped }
    }

    /// The running server; one is started in the background, and said, if there is none.
    pub(crate) async fn ensure(&self, out: &Out) -> Result<ServerInfo> {
        if let Some(info) = self.running()? {
            return Ok(info);
        }
        make_private(&self.data)?;
        let _turn = self.turn().await?;
        if let Some(info) = self.running()? {
            return Ok(info);
        }
        let info = self.start().await?;
        out.note(&format!(
            "started a server in the background (data in {}; `vessl server stop` stops it)",
            self.data.display()
        ));
        Ok(info)
    }

    /// Waits a moment until that server is gone, as one is that was killed; false if it stays.
    pub(crate) async fn wait_until_gone(&self, info: &ServerInfo) -> Result<bool> {
        let deadline = tokio::time::Instant::now() + DYING;
        while self.running()?.is_some_and(|now| now.pid == info.pid) {
            if tokio::time::Instant::now() > deadline {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(true)
    }

    /// Waits until a server is running, started by whomever.
    pub(crate) async fn wait(&self) -> Result<ServerInfo> {
        let watches = self.watches()?;
        let mut changes = watches.dirs(&[&self.data]);
        loop {
            if let Some(info) = self.running()? {
                return Ok(info);
            }
            changes.changed().await;
        }
    }

    /// Stops the running server, also one whose `server.json` is lost, and waits until it is gone. Its process; `None` if
    /// there was none.
    pub(crate) async fn stop(&self) -> Result<Option<i32>> {
        if !self.data.exists() {
            return Ok(None);
        }
        let _turn = self.turn().await?;
        let Some(pid) = self.running()?.map(|info| info.pid).or_else(|| self.keeper()) else {
            return Ok(None);
        };
        kill(Pid::from_raw(pid), Signal::SIGTERM)
            .map_err(|e| Error::os(format!("stop the server (process {pid})"))(e.into()))?;
        let lock = self.data.join("server.lock");
        match tokio::time::timeout(STOP, locked(lock, FlockArg::LockShared)).await {
            Ok(free) => free.map(|_| Some(pid)),
            Err(_) => Err(Error::Unreachable {
                address: format!("process {pid}"),
                reason: "it was asked to stop and still runs after 60 seconds".to_owned(),
                hint: format!("its log is `{}`", self.log().display()),
            }),
        }
    }

    /// The living process that holds the data directory, whatever its `server.json` says.
    pub(crate) fn keeper(&self) -> Option<i32> {
        self.holder().filter(|pid| lives(*pid))
    }

    fn info(&self) -> Option<ServerInfo> {
        serde_json::from_slice(&std::fs::read(self.data.join("server.json")).ok()?).ok()
    }

    /// Whether this process holds `server.lock`. A process that is just being killed shows no descriptors any more while
    /// its lock is still there, so only the list of all locks can say no.
    fn is_held_by(&self, pid: i32) -> bool {
        let lock = std::fs::metadata(self.data.join("server.lock"));
        lock.is_ok_and(|lock| holds(pid, &lock).unwrap_or(false)) || self.holder() == Some(pid)
    }

    /// The process that holds `server.lock`, whichever it is. The list of all locks takes the kernel some 10 ms, so it
    /// is read only where nothing else helps.
    fn holder(&self) -> Option<i32> {
        let meta = std::fs::metadata(self.data.join("server.lock")).ok()?;
        // In one piece where it fits: between two reads a lock may move and be missed.
        let mut locks = String::with_capacity(1 << 16);
        File::open("/proc/locks").ok()?.read_to_string(&mut locks).ok()?;
        holder_of(&locks, (meta.dev(), meta.ino()))
    }

    /// Waits for this client's turn to start or stop a server; given back on drop.
    async fn turn(&self) -> Result<Flock<File>> {
        locked(self.data.clone(), FlockArg::LockExclusive).await
    }

    /// A child that a killed server was just starting has its lock for a moment longer.
    async fn until_free(&self) -> Result<()> {
        if self.holder().is_some_and(|pid| !lives(pid)) {
            locked(self.data.join("server.lock"), FlockArg::LockShared).await?;
        }
        Ok(())
    }

    /// The error of a server that has been there for `age` and does not say where it listens.
    fn lost(&self, age: Duration) -> Result<()> {
        match self.keeper() {
            Some(pid) if age_of(pid).is_some_and(|is| is >= age) => Err(Error::Unreachable {
                address: format!("process {pid}"),
                reason: format!("its `server.json` in `{}` is lost", self.data.display()),
                hint: "`vessl server stop` stops it, and the next command starts it again; runs that were started go on".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Starts a server and waits until it, or another one that was faster, listens.
    async fn start(&self) -> Result<ServerInfo> {
        self.until_free().await?;
        self.lost(START)?;
        let watches = self.watches()?;
        let mut changes = watches.dirs(&[&self.data]);
        let log = self.open_log()?;
        let begin = log.metadata().map_or(0, |meta| meta.len());
        let mut child = self.spawn(log)?;
        let mut exited = false;
        let wait = async {
            loop {
                if let Some(info) = self.running()? {
                    return Ok(info);
                }
                if exited && self.holder().is_none() {
                    return Err(self.no_start(begin, "it ended at once"));
                }
                tokio::select! {
                    () = changes.changed() => {}
                    status = child.wait(), if !exited => {
                        status.map_err(Error::os("wait for the server"))?;
                        exited = true;
                    }
                }
            }
        };
        let late = "it does not listen after 30 seconds";
        let started = tokio::time::timeout(START, wait).await;
        started.unwrap_or_else(|_| self.lost(START).and(Err(self.no_start(begin, late))))
    }

    fn spawn(&self, log: File) -> Result<tokio::process::Child> {
        // What this process inherited, a pipe of the calling shell perhaps, must not stay open for the server's life.
        vessl_agent::close_on_exec_from(3).map_err(Error::os("prepare the start of the server"))?;
        let program = std::env::current_exe().map_err(Error::os("find the vessl program"))?;
        let err = log.try_clone().map_err(Error::os("open the server's log"))?;
        tokio::process::Command::new(program)
            .args(["server", "run", "--background"])
            .args(self.config()?.map(|file| [OsString::from("--config"), file.into()]).into_iter().flatten())
            .env("VESSL_DATA", &self.data)
            .env_remove("VESSL_TOKEN")
            .env_remove("VESSL_SERVER")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(err)
            .spawn()
            .map_err(Error::os("start the server"))
    }

    /// The settings file of the last server, unless it is the one that counts anyway.
    fn config(&self) -> Result<Option<PathBuf>> {
        let Ok(bytes) = std::fs::read(self.data.join("config")) else { return Ok(None) };
        let file = PathBuf::from(OsString::from_vec(bytes));
        Ok((file != settings::config_dir()?.join("server.toml")).then_some(file))
    }

    fn open_log(&self) -> Result<File> {
        let path = self.log();
        let open = std::fs::OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(&path);
        open.map_err(Error::os(format!("write `{}`", path.display())))
    }

    /// Tells of changes in the data directory, which is made if it is missing.
    fn watches(&self) -> Result<Watches> {
        make_private(&self.data)?;
        Watches::start().map_err(Error::os(format!("watch `{}`", self.data.display())))
    }

    /// The error of a server that did not start, with what it said last.
    fn no_start(&self, begin: u64, otherwise: &str) -> Error {
        let mut said = String::new();
        if let Ok(mut log) = File::open(self.log()) {
            let _ =
                log.seek(SeekFrom::Start(begin)).and_then(|_| log.take(1 << 16).read_to_string(&mut said));
        }
        // Its error is not the last line where a hint follows.
        let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines().rev().find_map(|line| line.strip_prefix("error: "));
        let reason = error.or_else(|| lines().next_back()).unwrap_or(otherwise);
        Error::NoStart { reason: reason.to_owned(), log: self.log() }
    }
}

/// Whether a process holds a `flock` on this file; an error if there is no such process, or it may not be looked at.
fn holds(pid: i32, file: &std::fs::Metadata) -> std::io::Result<bool> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    for entry in std::fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        let same = |open: std::fs::Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
        // One that was closed meanwhile is not the one that is kept for a life.
        if std::fs::metadata(entry.path()).is_ok_and(same) {
            let about = std::fs::read_to_string(process.join("fdinfo").join(entry.file_name()))?;
            let mut locks = about.lines().filter_map(|line| line.strip_prefix("lock:"));
            if locks.any(|lock| lock.contains(" FLOCK ") && lock.contains(" WRITE ")) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The process that holds a `flock` on the file with this device and inode, from the text of `/proc/locks`. Some file
/// systems (btrfs) show files another device than the kernel's list does: where no row has the device, the inode decides.
fn holder_of(locks: &str, (device, inode): (u64, u64)) -> Option<i32> {
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    let rows = locks.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = words[..] else {
            return None;
        };
        let (of, number) = file.rsplit_once(':')?;
        (number.parse() == Ok(inode)).then_some((of == device, pid.parse().ok()?))
    });
    rows.max_by_key(|(same, _)| *same).map(|(_, pid)| pid)
}

/// Whether a process is there and has not ended.
fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in brackets and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// How long a process has been there.
fn age_of(pid: i32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22, see proc(5); the name stands in brackets and may hold anything.
    let ticks: f64 = stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()?;
    let per_second: i32 = i32::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    let uptime: f64 = std::fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64((uptime - ticks / f64::from(per_second)).max(0.0)).ok()
}

/// Locks a file or directory in a thread of its own; the thread ends with the process if nobody waits any longer.
async fn locked(path: PathBuf, how: FlockArg) -> Result<Flock<File>> {
    let file = File::open(&path).map_err(Error::os(format!("open `{}`", path.display())))?;
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = tell.send(Flock::lock(file, how));
    });
    let lock = told.await.map_err(|_| Error::Bug("the thread that waits for a lock is gone".to_owned()))?;
    lock.map_err(|(_, e)| Error::os(format!("lock `{}`", path.display()))(e.into()))
}

/// Makes a directory that only its owner may enter.
fn make_private(dir: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(Error::os(format!("make the data directory `{}`", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_locks_is_read() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  READ  12 08:01:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 00:2f:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 15 08:01:77 0 EOF\n";
        let check = |(major, minor), inode, expected| {
            assert_eq!(holder_of(locks, (nix::sys::stat::makedev(major, minor), inode)), expected);
        };
        check((0, 0x2f), 77, Some(14));
        check((8, 1), 77, Some(15));
        check((9, 9), 77, Some(15));
        check((8, 1), 7, None);
    }

    #[test]
    fn a_held_lock_is_seen_and_a_dead_server_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::at(dir.path().to_owned());
        assert_eq!(local.shutdown_kind(), ShutdownKind::Stopped);
        let info = format!(
            r#"{{"v":1,"pid":{},"url":"http://x","started_at":"2024-01-01T00:00:00Z"}}"#,
            std::process::id()
        );
        std::fs::write(dir.path().join("server.json"), info).unwrap();
        assert!(local.running().unwrap().is_none());
        assert_eq!(local.shutdown_kind(), ShutdownKind::Died);
        let file = File::create(dir.path().join("server.lock")).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
        assert!(local.running().unwrap().is_some());
        assert_eq!(local.holder(), Some(std::process::id().cast_signed()));
        assert!(local.lost(Duration::from_hours(100)).is_ok(), "a young one may still be starting");
        let lost = local.lost(Duration::ZERO).unwrap_err();
        assert!(lost.to_string().contains("`server.json`"), "{lost}");
        drop(held);
        assert!(local.lost(Duration::ZERO).is_ok());
        assert!(local.running().unwrap().is_none());
    }

    #[tokio::test]
    async fn a_server_that_is_being_killed_is_seen_to_go() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::at(dir.path().to_owned());
        let text = format!(
            r#"{{"v":1,"pid":{},"url":"http://x","started_at":"2024-01-01T00:00:00Z"}}"#,
            std::process::id()
        );
        std::fs::write(dir.path().join("server.json"), text).unwrap();
        let file = File::create(dir.path().join("server.lock")).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e).unwrap();
        let info = local.running().unwrap().unwrap();
        let (is_gone, ()) = tokio::join!(local.wait_until_gone(&info), async { drop(held) });
        assert!(is_gone.unwrap());
        assert!(local.running().unwrap().is_none());
    }
}
