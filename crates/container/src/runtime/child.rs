//! The container's first process between fork and exec. It never returns to its caller's code; what fails is told to the
//! parent in words.
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::mount::MsFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use super::{Bundle, INIT_PATH, inherited, mounts};
use crate::error::{StartError, os};
use crate::limits::make::Made;
use crate::limits::{init_name, init_short_name};
use crate::sys;

/// The capabilities that Docker gives by default, less two. `NET_RAW`: the network is the machine's, and whoever has a raw socket
/// there reads what everybody sends. `MKNOD`: a device node in a directory of the machine would be one for its users too, and a
/// container has its devices in `/dev` alone. Source: linux/capability.h.
const CAPABILITIES: [u32; 12] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    29, // AUDIT_WRITE
    31, // SETFCAP
];

/// How much sooner than other processes the kernel ends a container's when the machine is out of memory (0–1000).
const OOM_SCORE: &str = "200";

/// The reason of a failure that has no other.
const NOT_THAT_FAR: &str = "it did not get that far";

/// Becomes init, or tells the parent why not and ends.
pub(crate) fn run(bundle: &Bundle, groups: &Made, parent: &OwnedFd, report: OwnedFd) -> ! {
    let outcome = catch_unwind(AssertUnwindSafe(|| become_init(bundle, groups, parent)));
    let (what, source) = match outcome {
        Ok(Ok(never)) => match never {},
        Ok(Err(StartError::Os { what, source })) => (what, source),
        Ok(Err(other)) => (other.to_string(), io::Error::other(NOT_THAT_FAR)),
        Err(_) => {
            ("start the container's first process (a bug in it)".to_owned(), io::Error::other(NOT_THAT_FAR))
        }
    };
    // If the parent is gone there is nobody to tell.
    let _ = File::from(report).write_all(tell_failure(&what, &source).as_bytes());
    sys::exit_now(127)
}

/// The system's number for what failed, or 0; what failed; why in words.
fn tell_failure(what: &str, source: &io::Error) -> String {
    format!("{} {what}\0{source}", source.raw_os_error().unwrap_or(0))
}

/// What [`run`] told; `None` if it told nothing, because init is running.
pub(crate) fn parse_failure(told: &[u8]) -> Option<StartError> {
    let text = String::from_utf8_lossy(told);
    let (number, what) = text.split_once(' ')?;
    let (what, why) = what.split_once('\0').unwrap_or((what, NOT_THAT_FAR));
    let source = match number.parse().unwrap_or(0) {
        0 => io::Error::other(why),
        number => io::Error::from_raw_os_error(number),
    };
    Some(StartError::Os { what: what.to_owned(), source })
}

fn become_init(
    bundle: &Bundle,
    groups: &Made,
    parent: &OwnedFd,
) -> Result<std::convert::Infallible, StartError> {
    groups.join().map_err(os("join the container's cgroup"))?;
    if let Some(network) = &bundle.network {
        step("enter the network", nix::sched::setns(network, CloneFlags::CLONE_NEWNET))?;
    }
    step("make a cgroup namespace", nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP))?;
    step("set the host name", nix::unistd::sethostname(&bundle.hostname))?;
    step("start a session", nix::unistd::setsid())?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    step("keep mounts private", nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>))?;
    mounts::furnish(bundle, groups)?;
    step("enter the root file system", nix::unistd::chdir(&bundle.merged))?;
    sys::pivot_here().map_err(os("make the root file system the root"))?;
    // Raising the own score is always allowed; it is a courtesy to the rest of the machine and no limit.
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    sys::default_signals().map_err(os("reset the signals"))?;
    // Kernels without keyrings have nothing to leak.
    let _ = sys::new_keyring();
    inherited::replace(groups)?;
    if let (true, Some(most)) = (groups.counts_users, bundle.limits.pids) {
        step("limit the processes", setrlimit(Resource::RLIMIT_NPROC, most, most))?;
    }
    if bundle.no_new_privs {
        step("forbid new privileges", prctl::set_no_new_privs())?;
    }
    // Where new privileges are not forbidden, this needs a capability that goes in the next step. What follows is allowed by it.
    sys::load_filter(&bundle.seccomp).map_err(os("load the system call filter"))?;
    let keep = CAPABILITIES.iter().fold(0, |bits, number| bits | 1u64 << number);
    sys::keep_capabilities(keep).map_err(os("drop capabilities"))?;
    descriptors(bundle).map_err(os("pass the descriptors"))?;
    die_with(parent)?;
    exec(bundle)
}

fn step<T>(what: &str, outcome: nix::Result<T>) -> Result<T, StartError> {
    outcome.map_err(|e| os(what)(e.into()))
}

/// Puts the descriptors at 0 and up, and marks all others to be closed by exec.
fn descriptors(bundle: &Bundle) -> io::Result<()> {
    // Out of the way first: one of them may stand where another belongs.
    let copies =
        bundle.fds.iter().map(|fd| sys::copy_above(fd.as_fd(), 64)).collect::<io::Result<Vec<_>>>()?;
    sys::close_on_exec_from(5)?;
    (0..).zip(&copies).try_for_each(|(number, fd)| sys::place(fd.as_raw_fd(), number))
}

/// Asks for SIGKILL at the parent's death. This comes after every change of credentials, because those clear the request;
/// a parent that died before it was made is seen by its pidfd.
fn die_with(parent: &OwnedFd) -> Result<(), StartError> {
    step("ask to end with the supervisor", prctl::set_pdeathsig(Signal::SIGKILL))?;
    let mut watched = [PollFd::new(parent.as_fd(), PollFlags::POLLIN)];
    match step("look for the supervisor", poll(&mut watched, PollTimeout::ZERO))? {
        0 => Ok(()),
        _ => sys::exit_now(127),
    }
}

fn exec(bundle: &Bundle) -> Result<std::convert::Infallible, StartError> {
    let c = |text: &str| CString::new(text).map_err(|e| os("pass the arguments of init")(e.into()));
    let name = init_name(&bundle.unit);
    let arguments =
        std::iter::once(&name).chain(&bundle.init_args).map(|a| c(a)).collect::<Result<Vec<_>, _>>()?;
    let environment = [c(&format!("NAME={}", init_short_name(&bundle.unit)))?];
    step("run init in the container", nix::unistd::execve(&c(INIT_PATH)?, &arguments, &environment))
}
