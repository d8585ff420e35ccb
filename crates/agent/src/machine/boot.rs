//! Which boot of the machine this is, and which process is meant: a number alone may name another process later.
use std::io;

/// A process for all time: its number and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Process id.
    pub(crate) pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since the boot; see proc(5).
    pub(crate) start_time: u64,
}

impl Process {
    /// This process.
    pub(crate) fn me() -> io::Result<Self> {
        Self::of(std::process::id().cast_signed())
    }

    /// The process that has the number `pid` now; `NotFound` if there is none, or one that only waits to be reaped.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        let stat =
            std::fs::read(format!("/proc/{pid}/stat")).map_err(|error| match error.raw_os_error() {
                Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
                _ => error,
            })?;
        match parse(&stat) {
            Some((b'Z' | b'X', _)) => Err(io::ErrorKind::NotFound.into()),
            Some((_, start_time)) => Ok(Self { pid, start_time }),
            None => Err(io::Error::other("`/proc/<pid>/stat` is not as expected")),
        }
    }

    /// Whether it still lives.
    pub(crate) fn lives(&self) -> io::Result<bool> {
        match Self::of(self.pid) {
            Ok(now) => Ok(now == *self),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(crate) use vessl_data::durable::boot_id as id;

/// State and start time. The program's name stands in parentheses and may hold anything.
fn parse(stat: &[u8]) -> Option<(u8, u64)> {
    let text = String::from_utf8_lossy(stat);
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_another_with_its_number_does_not() {
        let me = Process::me().unwrap();
        assert!(me.lives().unwrap());
        assert!(!Process { start_time: me.start_time + 1, ..me }.lives().unwrap());
        assert!(!Process { pid: i32::MAX, start_time: 1 }.lives().unwrap());
    }

    #[test]
    fn the_start_time_is_the_22nd_field() {
        let fields: Vec<String> = (4..=52).map(|n: u32| n.to_string()).collect();
        let stat = format!("7 (a) b) (c) S {}", fields.join(" "));
        assert_eq!(parse(stat.as_bytes()), Some((b'S', 22)));
        assert_eq!(parse(b"7 (sh"), None);
    }

    #[test]
    fn a_process_that_waits_to_be_reaped_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(nix::sys::wait::Id::Pid(pid), flags).unwrap();
        assert_eq!(Process::of(pid.as_raw()).unwrap_err().kind(), io::ErrorKind::NotFound);
        child.wait().unwrap();
    }

    #[test]
    fn the_boot_has_an_id() {
        assert_eq!(id().unwrap().len(), 36);
    }
}
