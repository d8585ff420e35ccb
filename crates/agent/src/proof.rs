//! Whether an attempt without an exit record is over: shown by facts of this machine, never by silence.
use vessl_container::limits::Cgroup;
use vessl_core::record::{EventKind, Proof};

use crate::machine::boot::{self, Process};
use crate::record::run_dir::{DirError, RunDir};

/// What the machine says.
#[derive(Debug)]
struct Facts {
    boot_id: String,
    agent_lives: Result<bool, String>,
    cgroup_is_empty: bool,
}

/// The proof for the attempt in `dir`. While an agent holds the lock it is alive.
pub(crate) fn of(dir: &RunDir) -> Result<Proof, DirError> {
    let _lock = match dir.lock() {
        Ok(lock) => lock,
        Err(DirError::Busy { .. }) => {
            return Ok(Proof::Alive { why: "an agent holds the run's lock".to_owned() });
        }
        Err(error) => return Err(error),
    };
    let events = dir.events()?;
    // The last agent that took it: its exports may be another one's.
    let started = events.iter().rev().find_map(|event| match &event.what {
        EventKind::Started { boot_id, pid, start_time, unit, .. } => Some((boot_id, *pid, *start_time, unit)),
        _ => None,
    });
    let Some((boot_id, pid, start_time, unit)) = started else {
        return Ok(Proof::NeverStarted);
    };
    let now = Facts {
        boot_id: boot::id().unwrap_or_default(),
        agent_lives: Process { pid, start_time }.lives().map_err(|error| error.to_string()),
        cgroup_is_empty: Cgroup::named(unit).is_empty(),
    };
    Ok(evaluate(boot_id, pid, &now))
}

fn evaluate(boot_id: &str, pid: i32, now: &Facts) -> Proof {
    if !now.boot_id.is_empty() && now.boot_id != boot_id {
        return Proof::Dead { why: "the machine was started again since".to_owned() };
    }
    match &now.agent_lives {
        Ok(true) => Proof::Alive { why: format!("its agent, process {pid}, is there") },
        Err(why) => Proof::Alive { why: format!("process {pid} cannot be looked at: {why}") },
        Ok(false) if !now.cgroup_is_empty => {
            Proof::Alive { why: "its agent is gone, but processes of its container are left".to_owned() }
        }
        Ok(false) => {
            Proof::Dead { why: format!("its agent, process {pid}, is gone and its container is empty") }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(boot_id: &str, agent_lives: Result<bool, &str>, cgroup_is_empty: bool, dead: Option<&str>) {
        let agent_lives = agent_lives.map_err(str::to_owned);
        let now = Facts { boot_id: boot_id.to_owned(), agent_lives, cgroup_is_empty };
        match (evaluate("then", 7, &now), dead) {
            (Proof::Dead { why }, Some(words)) => assert!(why.contains(words), "{why}"),
            (Proof::Alive { .. }, None) => {}
            (proof, _) => panic!("{now:?}: {proof:?}"),
        }
    }

    #[test]
    fn only_facts_prove_a_death() {
        check("then", Ok(true), true, None);
        check("then", Ok(true), false, None);
        check("then", Ok(false), false, None);
        check("then", Ok(false), true, Some("process 7, is gone"));
        check("then", Err("no permission"), true, None);
        check("now", Ok(true), false, Some("started again"));
        check("now", Err("no permission"), false, Some("started again"));
        check("", Ok(true), true, None);
    }

    #[test]
    fn an_empty_directory_was_never_started() {
        let dir = tempfile::tempdir().unwrap();
        let dir = RunDir::open(dir.path()).unwrap();
        assert_eq!(of(&dir).unwrap(), Proof::NeverStarted);
    }

    #[test]
    fn a_held_lock_is_life() {
        let dir = tempfile::tempdir().unwrap();
        let dir = RunDir::open(dir.path()).unwrap();
        let lock = dir.lock().unwrap();
        assert!(matches!(of(&dir).unwrap(), Proof::Alive { .. }));
        drop(lock);
        assert_eq!(of(&dir).unwrap(), Proof::NeverStarted);
    }
}
