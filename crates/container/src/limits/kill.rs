//! The end of every process of a container, also of a container that forks as fast as it can.
//!
//! ```text
//! version 2:             cgroup.kill, then cgroup.events says "populated 0"
//! version 1, pids:       forbid forks, signal all, again until empty
//! version 1, freezer:    freeze, signal all, thaw, again until empty
//! no group:              kill PID 1 of the container; its PID namespace goes with it
//! ```
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::group::Group;
use super::tree::Version;

/// Longest pause between two looks at what is left.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// What the names of all inits begin with.
pub(super) const INIT_PREFIX: &str = "vessl-init:";

/// Name under which init shows in a process list; it is found by this.
pub(crate) fn init_name(unit: &str) -> String {
    format!("{INIT_PREFIX}{unit}")
}

/// Name that init gives itself, of the 15 bytes that the kernel keeps: what it is known by when its arguments are gone.
pub(crate) fn init_short_name(unit: &str) -> String {
    use sha2::Digest as _;
    let hash = sha2::Sha256::digest(unit);
    hash.iter().take(7).fold("v".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Kills all and waits until nothing is left or `limit` is over.
pub(crate) fn everything(unit: &str, groups: &[Group], limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    for pid in inits(unit) {
        signal(pid);
    }
    for group in groups {
        // What dies needs time on a core as well; a group that limits none has no such file.
        let _ = write(&group.dir, "cpu.max", "max").or_else(|_| write(&group.dir, "cpu.cfs_quota_us", "-1"));
        match &group.version {
            Version::Two if write(&group.dir, "cgroup.kill", "1").is_ok() => await_events(group, deadline)?,
            _ => kill_by_list(group, deadline)?,
        }
    }
    until(deadline, || groups.iter().all(Group::is_empty) && inits(unit).is_empty())
}

fn write(dir: &Path, file: &str, text: &str) -> io::Result<()> {
    // Never creates: a cgroup directory that goes away must stay away.
    io::Write::write_all(&mut std::fs::File::options().write(true).open(dir.join(file))?, text.as_bytes())
}

fn signal(pid: i32) {
    // A process that is already gone is what we want.
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// The kernel wakes a poll of `cgroup.events` when the group becomes empty.
fn await_events(group: &Group, deadline: Instant) -> io::Result<()> {
    let Ok(events) = std::fs::File::open(group.dir.join("cgroup.events")) else { return Ok(()) };
    while !group.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(timed_out());
        }
        let mut waited = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        // Woken at least this often, so that a change between the look and the poll is never slept over.
        let slice = left.min(Duration::from_millis(50));
        match poll(&mut waited, PollTimeout::try_from(slice).unwrap_or(PollTimeout::ZERO)) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// Version 1. Where no new process may be made any more, the list is killed until it is empty. Else the freezer keeps it
/// complete while it is read; what is frozen cannot die, so the pauses between grow until all had their turn.
fn kill_by_list(group: &Group, deadline: Instant) -> io::Result<()> {
    let has = |name| matches!(&group.version, Version::One(list) if list.iter().any(|c| c == name));
    // From here on a fork fails.
    let is_closed = has("pids") && write(&group.dir, "pids.max", "0").is_ok();
    let freeze = |state| {
        if !is_closed && has("freezer") {
            let _ = write(&group.dir, "freezer.state", state);
        }
    };
    until(deadline, || {
        freeze("FROZEN");
        let left = group.processes();
        for pid in &left {
            signal(*pid);
        }
        freeze("THAWED");
        left.is_empty()
    })
}

fn until(deadline: Instant, done: impl Fn() -> bool) -> io::Result<()> {
    let mut pause = Duration::from_micros(200);
    while !done() {
        if Instant::now() >= deadline {
            return Err(timed_out());
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "processes of the container do not end (stuck in the kernel?)")
}

/// PID 1 of the containers called `unit`: processes with our name that are number 1 of a PID namespace below ours.
pub(crate) fn inits(unit: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let (name, short) = (init_name(unit), init_short_name(unit));
    numbers.filter(|pid| is_init(*pid, &name, &short)).collect()
}

/// One that is being killed has no command line any more while the kernel ends its namespace, process by process; it is
/// known by the short name that init gives itself.
fn is_init(pid: i32, name: &str, short: &str) -> bool {
    let dir = Path::new("/proc").join(pid.to_string());
    let Ok(command) = std::fs::read(dir.join("cmdline")) else { return false };
    let is_named = match command.split(|byte| *byte == 0).next() {
        None | Some([]) => {
            std::fs::read_to_string(dir.join("comm")).is_ok_and(|comm| comm.trim_end_matches('\n') == short)
        }
        Some(first) => first == name.as_bytes(),
    };
    is_named && std::fs::read_to_string(dir.join("status")).is_ok_and(|status| is_first(&status))
}

/// Whether the `NSpid` row of a status file has several numbers, the innermost being 1. A zombie's namespace is empty.
pub(super) fn is_first(status: &str) -> bool {
    if status.lines().any(|line| line.starts_with("State:\tZ")) {
        return false;
    }
    let row = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<_> = row.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_process_of_an_inner_namespace_is_an_init() {
        let check = |status, expected| assert_eq!(is_first(status), expected, "{status:?}");
        check("Name:\tx\nNSpid:\t77\t1\n", true);
        check("NSpid:\t77\t12\t1\n", true);
        check("Name:\tx\nState:\tS (sleeping)\nNSpid:\t77\t1\n", true);
        check("Name:\tx\nState:\tZ (zombie)\nNSpid:\t77\t1\n", false);
        check("NSpid:\t1\n", false);
        check("NSpid:\t77\t2\n", false);
        check("", false);
    }
}
