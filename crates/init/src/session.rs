//! Who belongs to the script: every process of its session, read from `/proc`. A program that made a process group of
//! its own (`timeout` does) still belongs; one that made a session of its own (a daemon) does not.
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Sends `signal` to the script's process group and to the rest of its session.
pub(crate) fn signal(session: Pid, signal: Signal) {
    // A failure means that the receiver is gone already.
    let _ = killpg(session, signal);
    for process in members(session).into_iter().filter(|process| process.group != session) {
        let _ = kill(process.pid, signal);
    }
}

/// Whether no process of the session is left; one that only waits to be reaped does not count.
pub(crate) fn is_empty(session: Pid) -> bool {
    members(session).is_empty()
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: Pid,
    group: Pid,
    session: Pid,
}

fn members(session: Pid) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
        .filter(|process| process.session == session)
        .collect()
}

/// Reads a line of `/proc/<pid>/stat`, see proc(5); `None` for a zombie. The program's name stands in parentheses and
/// may hold anything.
fn parse(stat: &[u8]) -> Option<Process> {
    let text = String::from_utf8_lossy(stat);
    let pid = text.split(' ').next()?.parse().ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let _parent = fields.next()?;
    let group = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    Some(Process { pid: Pid::from_raw(pid), group: Pid::from_raw(group), session: Pid::from_raw(session) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stat: &str, expected: Option<(i32, i32, i32)>) {
        let got = parse(stat.as_bytes()).map(|p| (p.pid.as_raw(), p.group.as_raw(), p.session.as_raw()));
        assert_eq!(got, expected, "{stat}");
    }

    #[test]
    fn stat_lines() {
        check("12 (sh) S 1 10 9 0 -1", Some((12, 10, 9)));
        check("12 (a) R (b) S 1 10 9 0 -1", Some((12, 10, 9)));
        check("12 (x\ny) R 1 10 9 0 -1", Some((12, 10, 9)));
        check("12 (sh) Z 1 10 9 0 -1", None);
        check("", None);
        check("12 (sh", None);
    }

    #[test]
    fn this_process_is_a_member_of_its_own_session() {
        let session = nix::unistd::getsid(None).unwrap();
        let me = nix::unistd::getpid();
        assert!(members(session).iter().any(|process| process.pid == me));
        assert!(!is_empty(session));
    }
}
