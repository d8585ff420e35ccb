//! Who belongs to the script: every process of its session, read from `/proc`. A program that made a process group of
//! its own (`timeout` does) still belongs; one that made a session of its own (a daemon) does only when all are stopped.
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// No script.
pub(crate) const NOBODY: Pid = Pid::from_raw(-1);

/// Sends `signal` to the script's process group and to the rest of its session.
pub(crate) fn signal(session: Pid, signal: Signal) {
    // A failure means that the receiver is gone already.
    let _ = killpg(session, signal);
    for process in members(session).into_iter().filter(|process| process.group != session) {
        let _ = kill(process.id.pid, signal);
    }
}

/// A process, also after its number was given to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    pub(crate) pid: Pid,
    /// When it started, in the kernel's ticks.
    started: u64,
}

/// A process of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: Id,
    pub(crate) parent: Pid,
    group: Pid,
    session: Pid,
}

/// Every living process of the session.
fn members(session: Pid) -> Vec<Process> {
    living(|process| process.session == session)
}

/// Everybody that a stop is for: in a container all but its first process, also those that made a session of their own. Elsewhere the
/// session alone.
pub(crate) fn everybody(session: Pid) -> Vec<Process> {
    let init = nix::unistd::getpid();
    let is_alone = init == Pid::from_raw(1);
    living(|process| process.session == session || (is_alone && process.id.pid != init))
}

fn living(belongs: impl Fn(&Process) -> bool) -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| parse(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)).filter(belongs).collect()
}

/// Whether one of `above` began the process, or began who did.
pub(crate) fn is_below(process: &Process, above: &[Pid], all: &[Process]) -> bool {
    let mut parent = process.parent;
    // A chain is no longer than there are processes, whatever was read while they changed.
    for _ in all {
        if above.contains(&parent) {
            return true;
        }
        match all.iter().find(|other| other.id.pid == parent) {
            Some(next) => parent = next.parent,
            None => return false,
        }
    }
    false
}

/// Those whose parent is not among them.
pub(crate) fn tops(processes: &[Process]) -> Vec<Process> {
    let has_parent = |process: &Process| processes.iter().any(|other| other.id.pid == process.parent);
    processes.iter().filter(|process| !has_parent(process)).copied().collect()
}

/// Reads a line of `/proc/<pid>/stat`, see proc(5); `None` for a zombie. The program's name stands in parentheses and
/// may hold anything.
fn parse(stat: &[u8]) -> Option<Process> {
    /// Fields between the session and the start time.
    const BETWEEN: usize = 15;
    let text = String::from_utf8_lossy(stat);
    let pid = text.split(' ').next()?.parse().ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let mut number = || fields.next()?.parse().ok().map(Pid::from_raw);
    let (parent, group, session) = (number()?, number()?, number()?);
    let started = fields.nth(BETWEEN)?.trim_end().parse().ok()?;
    Some(Process { id: Id { pid: Pid::from_raw(pid), started }, parent, group, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(stat: &str, expected: Option<[i32; 4]>) {
        let got = parse(stat.as_bytes()).map(|p| [p.id.pid, p.parent, p.group, p.session].map(Pid::as_raw));
        assert_eq!(got, expected, "{stat}");
    }

    #[test]
    fn stat_lines() {
        let rest = "0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9";
        check(&format!("12 (sh) S 1 10 9 {rest}"), Some([12, 1, 10, 9]));
        check(&format!("12 (a) R (b) S 1 10 9 {rest}"), Some([12, 1, 10, 9]));
        check(&format!("12 (x\ny) R 1 10 9 {rest}"), Some([12, 1, 10, 9]));
        check(&format!("12 (sh) Z 1 10 9 {rest}"), None);
        check("12 (sh) S 1 10 9 0 -1", None);
        check("", None);
        check("12 (sh", None);
        let process = parse(format!("12 (sh) S 1 10 9 {rest}").as_bytes()).unwrap();
        assert_eq!(process.id.started, 4711);
    }

    #[test]
    fn this_process_is_a_member_of_its_own_session() {
        let session = nix::unistd::getsid(None).unwrap();
        let me = nix::unistd::getpid();
        assert!(members(session).iter().any(|process| process.id.pid == me));
        assert!(everybody(session).iter().any(|process| process.id.pid == me));
    }

    #[test]
    fn the_top_is_whose_parent_does_not_belong() {
        let process = |pid, parent| Process {
            id: Id { pid: Pid::from_raw(pid), started: 0 },
            parent: Pid::from_raw(parent),
            group: Pid::from_raw(2),
            session: Pid::from_raw(2),
        };
        let all = [process(2, 1), process(5, 4), process(4, 2), process(9, 1), process(7, 3)];
        let found: Vec<i32> = tops(&all).iter().map(|process| process.id.pid.as_raw()).collect();
        assert_eq!(found, [2, 9, 7]);
        let below = |at: usize| is_below(&all[at], &[Pid::from_raw(4)], &all);
        assert_eq!([0, 1, 2, 3, 4].map(below), [false, true, false, false, false]);
    }
}
