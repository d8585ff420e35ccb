//! Rootless: enter a user namespace (subuid/subgid through newuidmap/newgidmap, else only the own id) in which
//! everything else of this crate works as if it were root.
//!
//! ```text
//! this process                          helper (forked before, stays outside)
//! unshare(NEWUSER | NEWNS)
//! ── "entered" ───────────────────────▶ newuidmap PID …, newgidmap PID …
//! ◀──────────────────────── exit status
//! setresgid(0), setresuid(0), / becomes slave
//! ```
//! It must not know what runs inside.
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Uid, User};

use crate::sys::{self, Forked};

/// Gives the calling process a mount namespace of its own (propagation slave), so that every mount it makes goes when
/// it goes; if it is not root, inside a user namespace of its own as well. Must be called before any thread is started.
///
/// Errors name the step; a process with more than one thread is refused.
pub fn isolate() -> io::Result<()> {
    if sys::threads()? != 1 {
        return Err(io::Error::other("a process with several threads cannot be isolated"));
    }
    if may_mount()? {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .map_err(|e| step("make a mount namespace", &e.into()))?;
    } else {
        enter_user_namespace()?;
    }
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|e| step("keep mounts private", &e.into()))
}

/// Runs `work` in a child process that has isolated itself, and gives its outcome. The caller must have one thread.
pub(crate) fn run_inside(work: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if sys::threads()? != 1 {
        return Err(io::Error::other("a process with several threads cannot enter a user namespace"));
    }
    // SAFETY: this process has one thread, so the child may go on with ordinary code.
    #[allow(unsafe_code)]
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => {
            let outcome = catch_unwind(AssertUnwindSafe(|| isolate().and_then(|()| work())));
            let code = outcome
                .map_or(libc::EIO, |done| done.err().map_or(0, |e| e.raw_os_error().unwrap_or(libc::EIO)));
            sys::exit_now(code)
        }
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            WaitStatus::Exited(_, code) => Err(io::Error::from_raw_os_error(code)),
            other => Err(io::Error::other(format!("the child ended with {other:?}"))),
        },
    }
}

/// A user namespace in which `owner` stands for root and nobody else is known: the map by which a mount shows root's files as his.
/// This process may have threads.
pub(crate) fn root_is((uid, gid): (u32, u32)) -> io::Result<OwnedFd> {
    let parent = nix::unistd::getpid();
    // SAFETY: the child calls nothing but the kernel.
    #[allow(unsafe_code)]
    let child = match unsafe { sys::clone_process(CloneFlags::CLONE_NEWUSER.bits(), None) }? {
        Forked::Child => sys::wait_for_the_end(parent),
        Forked::Parent(pid, _) => nix::unistd::Pid::from_raw(pid),
    };
    let about = PathBuf::from(format!("/proc/{child}"));
    let made = std::fs::write(about.join("uid_map"), format!("0 {uid} 1"))
        .and_then(|()| std::fs::write(about.join("gid_map"), format!("0 {gid} 1")))
        .and_then(|()| File::open(about.join("ns/user")));
    // The namespace stays as long as somebody has it open.
    let _ = nix::sys::signal::kill(child, nix::sys::signal::Signal::SIGKILL);
    waitpid(child, None)?;
    Ok(made?.into())
}

/// Whether this process is in a user namespace that is not the machine's first one.
pub fn is_inside() -> bool {
    id_map("uid_map").is_none_or(|map| map != [(0, 0, u32::MAX)])
}

/// Whether only one id exists here, so that files cannot be given to other owners.
pub fn has_one_id() -> bool {
    id_map("uid_map").is_some_and(|map| map.iter().map(|r| u64::from(r.2)).sum::<u64>() == 1)
}

/// Whether group `gid` exists in this user namespace.
pub(crate) fn has_group(gid: u32) -> bool {
    id_map("gid_map")
        .is_some_and(|map| map.iter().any(|(first, _, count)| gid >= *first && gid - *first < *count))
}

/// Rows (first inside, first outside, count) of `/proc/self/{uid,gid}_map`.
fn id_map(file: &str) -> Option<Vec<(u32, u32, u32)>> {
    let text = std::fs::read_to_string(Path::new("/proc/self").join(file)).ok()?;
    text.lines().map(parse_row).collect()
}

fn parse_row(line: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = line.split_whitespace().map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn may_mount() -> io::Result<bool> {
    Ok(Uid::effective().is_root() && sys::permitted()? & (1 << sys::CAP_SYS_ADMIN) != 0)
}

fn step(what: &str, source: &io::Error) -> io::Error {
    io::Error::new(source.kind(), format!("cannot {what}: {source}"))
}

fn enter_user_namespace() -> io::Result<()> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let ranges = Ranges::of(uid)?;
    let mapper = ranges.map(|ranges| Mapper::fork(uid, gid, &ranges)).transpose()?;
    nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).map_err(|e| {
        step(
            "make a user namespace (`sysctl user.max_user_namespaces` or a security module may forbid it)",
            &e.into(),
        )
    })?;
    let mapped = mapper.is_some_and(|mapper| mapper.finish().is_ok());
    if !mapped {
        map_own_id(uid, gid).map_err(|e| step("map the own id into the user namespace", &e))?;
    }
    nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
    nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
    if mapped {
        nix::unistd::setgroups(&[])?;
    }
    Ok(())
}

/// Maps this one user and group to root, where nothing is mapped yet.
fn map_own_id(uid: Uid, gid: Gid) -> io::Result<()> {
    if id_map("gid_map").is_none_or(|map| map.is_empty()) {
        std::fs::write("/proc/self/setgroups", "deny")?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    if id_map("uid_map").is_none_or(|map| map.is_empty()) {
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    Ok(())
}

/// The subordinate ids of a user: (first, count) each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranges {
    pub(crate) uids: Vec<(u32, u32)>,
    pub(crate) gids: Vec<(u32, u32)>,
}

impl Ranges {
    /// What `/etc/subuid` and `/etc/subgid` give to `uid`; `None` if either gives nothing.
    pub(crate) fn of(uid: Uid) -> io::Result<Option<Self>> {
        let name = User::from_uid(uid)?.map(|user| user.name);
        let read = |path: &str| match std::fs::read_to_string(path) {
            Ok(text) => Ok(parse_ranges(&text, uid, name.as_deref())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(step(&format!("read `{path}`"), &e)),
        };
        let found = Self { uids: read("/etc/subuid")?, gids: read("/etc/subgid")? };
        Ok((!found.uids.is_empty() && !found.gids.is_empty()).then_some(found))
    }
}

/// Rows `name-or-uid:first:count` of one user. Source: subuid(5).
fn parse_ranges(text: &str, uid: Uid, name: Option<&str>) -> Vec<(u32, u32)> {
    let row = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if Some(owner) != name && owner != uid.to_string() {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0).then_some((first, count))
    };
    text.lines().filter_map(row).collect()
}

/// A child outside the user namespace that writes its maps once it exists.
struct Mapper {
    pid: nix::unistd::Pid,
    go: io::PipeWriter,
}

impl Mapper {
    fn fork(uid: Uid, gid: Gid, ranges: &Ranges) -> io::Result<Self> {
        let (mut wait, go) = io::pipe()?;
        let target = std::process::id();
        let commands = [
            ("newuidmap", map_arguments(target, uid.as_raw(), &ranges.uids)),
            ("newgidmap", map_arguments(target, gid.as_raw(), &ranges.gids)),
        ];
        // SAFETY: this process has one thread (checked by `isolate`), so the child may go on with ordinary code.
        #[allow(unsafe_code)]
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { child } => Ok(Self { pid: child, go }),
            ForkResult::Child => {
                drop(go);
                let entered = wait.read_exact(&mut [0]).is_ok();
                let mapped =
                    entered && commands.iter().all(|(program, arguments)| succeeds(program, arguments));
                sys::exit_now(i32::from(!mapped))
            }
        }
    }

    /// Lets the child write the maps; an error if it could not.
    fn finish(mut self) -> io::Result<()> {
        self.go.write_all(&[1])?;
        match waitpid(self.pid, None)? {
            WaitStatus::Exited(_, 0) => Ok(()),
            _ => Err(io::Error::other("`newuidmap` or `newgidmap` failed")),
        }
    }
}

fn succeeds(program: &str, arguments: &[String]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// `PID 0 OWN 1 1 FIRST COUNT …`: the own id is root, the subordinate ids follow without a gap.
fn map_arguments(pid: u32, own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut rows = vec![(0, own, 1)];
    let mut next = 1u32;
    for (first, count) in ranges {
        let count = (*count).min(u32::MAX - next);
        rows.push((next, *first, count));
        next += count;
    }
    let numbers = rows.iter().flat_map(|(inside, outside, count)| [inside, outside, count]);
    std::iter::once(pid).chain(numbers.copied()).map(|n| n.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let check = |text: &str, expected: &[(u32, u32)]| {
            assert_eq!(parse_ranges(text, Uid::from_raw(1000), Some("ada")), expected, "{text:?}");
        };
        check("", &[]);
        check("ada:100000:65536\n", &[(100_000, 65536)]);
        check("1000:100000:65536\nbob:200000:65536", &[(100_000, 65536)]);
        check("ada:1:2\nada:10:20", &[(1, 2), (10, 20)]);
        check("ada:1\nada:x:5\nada:5:0\n# ada:1:2", &[]);
    }

    #[test]
    fn maps_start_with_the_own_id_and_have_no_gap() {
        let check = |ranges: &[(u32, u32)], expected: &str| {
            assert_eq!(map_arguments(7, 1000, ranges).join(" "), expected);
        };
        check(&[], "7 0 1000 1");
        check(&[(100_000, 65536)], "7 0 1000 1 1 100000 65536");
        check(&[(10, 5), (90, 5)], "7 0 1000 1 1 10 5 6 90 5");
    }
}
