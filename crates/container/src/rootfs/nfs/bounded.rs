//! A call of the kernel that may take for ever, with a limit: it is made in a child, which can be killed where a thread of ours
//! could not. It must not know what the call is for.
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::sys::{self, Forked};

/// How often it is looked whether the caller wants no more.
const TICK: Duration = Duration::from_millis(100);
/// How long a child that was killed is waited for; one that the kernel does not let go is left to it.
const END: Duration = Duration::from_secs(2);
/// What a child ends with whose error is no ordinary number.
const NAMELESS: i32 = 255;

/// How the call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// With this error number, or 0.
    Returned(i32),
    /// Not before its time was over.
    TimedOut,
    /// Not before the caller wanted no more.
    Stopped,
}

/// How long a call is waited for.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    /// The latest moment.
    pub(super) until: Instant,
    /// Whether the caller wants no more.
    pub(super) stop: &'a dyn Fn() -> bool,
}

impl Limit<'_> {
    /// Time that is left, at most a tick; none if it is over.
    fn tick(&self) -> Option<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(TICK))
    }

    /// Waits with `look`, a tick after the other.
    pub(super) fn wait<T>(&self, mut look: impl FnMut(Duration) -> Option<T>) -> Result<T, Ended> {
        loop {
            if (self.stop)() {
                return Err(Ended::Stopped);
            }
            let tick = self.tick().ok_or(Ended::TimedOut)?;
            if let Some(found) = look(tick) {
                return Ok(found);
            }
        }
    }
}

/// Makes `call`, which returns an error number or 0, on a descriptor in a child that has no other.
///
/// # Safety
/// `call` must do nothing but call the kernel.
#[allow(unsafe_code)]
pub(super) unsafe fn call(call: fn(&OwnedFd) -> i32, on: &OwnedFd, limit: &Limit<'_>) -> io::Result<Ended> {
    // SAFETY: the child calls nothing but the kernel.
    let (pid, pidfd) = match unsafe { sys::clone_process(0, None) }? {
        Forked::Child => sys::exit_now(child(call, on)),
        Forked::Parent(pid, pidfd) => (Pid::from_raw(pid), pidfd),
    };
    match limit.wait(|tick| is_over(&pidfd, tick)) {
        Ok(over) => over.and_then(|()| reap(&pidfd)).map(Ended::Returned),
        Err(ended) => {
            // It is not reaped yet, so the number is still its own. One that stays is the kernel's.
            let _ = kill(pid, Signal::SIGKILL);
            if is_over(&pidfd, END).is_some() {
                let _ = reap(&pidfd);
            }
            Ok(ended)
        }
    }
}

/// What happens in the child: it holds nothing of the caller's open and dies with it.
fn child(call: fn(&OwnedFd) -> i32, on: &OwnedFd) -> i32 {
    let bound = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    if let Err(errno) = bound {
        return errno as i32;
    }
    if let Err(error) = sys::close_all_but(on.as_raw_fd()) {
        return error.raw_os_error().unwrap_or(NAMELESS);
    }
    match call(on) {
        errno @ 0..NAMELESS => errno,
        _ => NAMELESS,
    }
}

/// Whether a process has ended, after at most `wait`; `None` if it has not.
fn is_over(pidfd: &OwnedFd, wait: Duration) -> Option<io::Result<()>> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(0) | Err(nix::Error::EINTR) => None,
        other => Some(other.map(drop).map_err(io::Error::from)),
    }
}

/// The number that a process ended with.
fn reap(pidfd: &OwnedFd) -> io::Result<i32> {
    match waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED)? {
        WaitStatus::Exited(_, code) => Ok(code),
        other => Err(io::Error::other(format!("the child ended with {other:?}"))),
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;

    fn refused(_: &OwnedFd) -> i32 {
        libc::EACCES
    }

    fn nameless(_: &OwnedFd) -> i32 {
        524
    }

    /// Says whether the child has no descriptor but this one.
    fn alone(on: &OwnedFd) -> i32 {
        let others = (0..64).filter(|fd| *fd != on.as_raw_fd());
        // SAFETY: asks for the flags of a number.
        let open = others.filter(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
        // SAFETY: as above.
        if open.count() == 0 && unsafe { libc::fcntl(on.as_raw_fd(), libc::F_GETFD) } >= 0 {
            0
        } else {
            libc::EBADF
        }
    }

    /// As a server that never answers.
    fn endless(_: &OwnedFd) -> i32 {
        loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        }
    }

    fn made(what: fn(&OwnedFd) -> i32, limit: Duration, stop: &dyn Fn() -> bool) -> Ended {
        let on = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let limit = Limit { until: Instant::now() + limit, stop };
        // SAFETY: the functions above call nothing but the kernel.
        unsafe { call(what, &on, &limit) }.unwrap()
    }

    #[test]
    fn a_call_ends_as_it_ends_or_in_time() {
        let long = Duration::from_mins(1);
        assert_eq!(made(refused, long, &|| false), Ended::Returned(libc::EACCES));
        assert_eq!(made(nameless, long, &|| false), Ended::Returned(NAMELESS));
        assert_eq!(made(alone, long, &|| false), Ended::Returned(0));
        let begun = Instant::now();
        assert_eq!(made(endless, Duration::from_millis(150), &|| false), Ended::TimedOut);
        assert_eq!(made(endless, long, &|| true), Ended::Stopped);
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
