//! Removal of what a dead attempt left on the machine. Its record and its log stay. Safe to repeat.
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use vessl_container::runtime::{self, StartError};
use vessl_core::record::EventKind;
use vessl_core::text::chain;
use vessl_data::DataError;
use vessl_data::blob::Store;

use crate::machine::boot::{self, Process};
use crate::record::events::eprint_line;
use crate::record::journal::Journal;
use crate::record::run_dir::{DirError, Lock, RunDir};
use crate::supervise::finish;

/// An agent that has written its exit record is about to end by itself.
const END_LIMIT: Duration = Duration::from_mins(1);
/// A killed agent is gone after this time at the latest.
const DEATH: Duration = Duration::from_secs(10);
/// Pause between two looks at a process that was killed.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// Why something was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RemoveError {
    /// The run directory cannot be used, or its agent still works.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The store's half-written files resist.
    #[error(transparent)]
    Store(#[from] DataError),
    /// The container's remains resist.
    #[error(transparent)]
    Container(#[from] StartError),
    /// The container's remains resist, or its files cannot be kept.
    #[error(transparent)]
    Leave(Box<dyn std::error::Error + Send + Sync>),
    /// Whoever works there cannot be found.
    #[error("cannot look through the processes of this machine: {0}")]
    Processes(#[from] io::Error),
    /// A killed agent is still there.
    #[error("the agent of `{}`, process {pid}, was killed and is still there", path.display())]
    Stays {
        /// Its process id.
        pid: i32,
        /// The run directory that it works in.
        path: PathBuf,
    },
}

/// Removes container, cgroup, mounts and scratch of the attempt in `path`, and what it had half written to the store below
/// `data`. Its agent is first given time to end by itself and then killed; the container goes with it.
pub(crate) fn run(data: &Path, path: &Path) -> Result<(), RemoveError> {
    if !path.exists() {
        return run_without_record(data, path);
    }
    let dir = RunDir::open(path)?;
    let _lock = lock(&dir, END_LIMIT)?;
    // A lock file that somebody replaced held nobody off.
    kill_agents(path)?;
    complete_log(&dir);
    if let Some(unit) = unit(&dir)?.or_else(|| named_unit(data, path)) {
        // Of a record that cannot be read nothing is kept.
        let record = dir.exit().ok().flatten();
        finish::leave(&dir, &unit, record.as_ref()).map_err(RemoveError::Leave)?;
    }
    dir.tidy()?;
    let blobs = data.join("blobs");
    if blobs.is_dir() {
        // Opening it sweeps.
        Store::open(&blobs)?;
    }
    Ok(())
}

/// Removes the files that are kept of an attempt for its exports.
pub(crate) fn forget(data: &Path, path: &Path) -> Result<(), RemoveError> {
    if !path.exists() {
        return Ok(());
    }
    let dir = RunDir::open(path)?;
    let _lock = dir.lock()?;
    match unit(&dir)?.or_else(|| named_unit(data, path)) {
        Some(unit) => Ok(runtime::remove(&unit, &dir.kept())?),
        None => Ok(()),
    }
}

/// The last line of an attempt that has its exit record, if its agent was killed before it. A log that takes nothing more, be
/// it for want of room, keeps nothing else from being removed.
fn complete_log(dir: &RunDir) {
    let completed = match dir.exit() {
        Ok(Some(record)) => {
            Journal::complete(&dir.file("log"), &finish::last_line(&record)).err().map(|e| chain(&e))
        }
        Ok(None) => None,
        Err(error) => Some(chain(&error)),
    };
    if let Some(error) = completed {
        eprint_line(&format!("the log stays without its end: {error}"));
    }
}

/// The same for an attempt whose directory somebody has removed.
fn run_without_record(data: &Path, path: &Path) -> Result<(), RemoveError> {
    kill_agents(path)?;
    match named_unit(data, path) {
        Some(unit) => Ok(runtime::remove(&unit, path)?),
        None => Ok(()),
    }
}

/// Kills agents of the attempt that its own record does not tell of, and waits for their end.
fn kill_agents(path: &Path) -> Result<(), RemoveError> {
    for agent in agents(path)? {
        // One that ended in this moment needs no kill.
        let _ = nix::sys::signal::kill(Pid::from_raw(agent.pid), Signal::SIGKILL);
        let deadline = Instant::now() + DEATH;
        while agent.lives()? {
            if Instant::now() > deadline {
                return Err(RemoveError::Stays { pid: agent.pid, path: path.to_owned() });
            }
            std::thread::sleep(KILL_INTERVAL);
        }
    }
    Ok(())
}

/// The name that every attempt's container has, from where its directory stands.
fn named_unit(data: &Path, path: &Path) -> Option<String> {
    let instance = std::fs::read_to_string(data.join("instance")).ok()?;
    let (run, attempt) = (path.parent()?.file_name()?.to_str()?, path.file_name()?.to_str()?);
    Some(format!("vessl-{}-{run}-{attempt}", instance.trim()))
}

/// Processes that were started as the supervisor of the attempt in `path`.
fn agents(path: &Path) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended by now, and one that this user may not look at, is none.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
        if let [.., b"supervise", b"--data", _, dir, b"--network", _, b""]
        | [.., b"export", b"--data", _, dir, b""] = words.as_slice()
            && *dir == path.as_os_str().as_bytes()
            && let Ok(agent) = Process::of(pid)
        {
            found.push(agent);
        }
    }
    Ok(found)
}

fn lock(dir: &RunDir, limit: Duration) -> Result<Lock, RemoveError> {
    match dir.lock_within(limit) {
        Err(DirError::Busy { .. }) => {
            kill(dir)?;
            Ok(dir.lock_within(DEATH)?)
        }
        lock => Ok(lock?),
    }
}

/// Kills the agent that the attempt recorded, if it still is that process.
fn kill(dir: &RunDir) -> Result<(), DirError> {
    let boot_id = boot::id().unwrap_or_default();
    for event in dir.events()? {
        let EventKind::Started { boot_id: then, pid, start_time, .. } = event.what else { continue };
        if then == boot_id && (Process { pid, start_time }).lives().unwrap_or(false) {
            // One that ended in this moment needs no kill.
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    Ok(())
}

/// As the attempt itself recorded it. One that recorded nothing made nothing.
fn unit(dir: &RunDir) -> Result<Option<String>, DirError> {
    let events = dir.events()?;
    Ok(events.into_iter().find_map(|event| match event.what {
        EventKind::Started { unit, .. } => Some(unit),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_nothing_and_a_second_time_is_as_good() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["control.sock", ".new-Xy12zz"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        for path in [dir.path(), dir.path(), &dir.path().join("missing")] {
            run(Path::new("/nowhere"), path).unwrap();
        }
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
    }

    #[test]
    fn an_agent_that_does_not_end_is_killed() {
        use std::io::{BufRead, BufReader};
        let dir = tempfile::tempdir().unwrap();
        let mut agent = std::process::Command::new("sh")
            .args(["-c", "exec 9>lock; flock 9; echo held; exec sleep 1000"])
            .current_dir(dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(agent.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let Process { pid, start_time } = Process::of(agent.id().cast_signed()).unwrap();
        let what = EventKind::Started {
            boot_id: boot::id().unwrap(),
            pid,
            start_time,
            unit: "vessl-none".to_owned(),
            nonce: vessl_core::ids::Nonce::default(),
        };
        let event = vessl_core::record::Event { v: 1, seq: 1, at: jiff::Timestamp::UNIX_EPOCH, what };
        let line = serde_json::to_string(&event).unwrap() + "\n";
        std::fs::write(dir.path().join("events"), line).unwrap();
        let dir = RunDir::open(dir.path()).unwrap();
        drop(lock(&dir, Duration::ZERO).unwrap());
        assert!(!agent.wait().unwrap().success());
    }
}
