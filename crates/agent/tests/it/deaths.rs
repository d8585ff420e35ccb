//! Agents that die, and what is proven, kept and removed afterwards. Nothing is ever started twice.
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vessl_core::plan::Plan;
use vessl_core::record::{Phase, Proof};
use vessl_core::run::Status;

use crate::look;
use crate::plans::host;
use crate::rig::{PATIENCE, Rig, text, until};
use crate::stops::{exporting, importing, pulling, silence};

pub(crate) const CASES: &[crate::Case] = &[
    ("deaths::in_a_pull", in_a_pull),
    ("deaths::in_an_import", in_an_import),
    ("deaths::while_commands_run", while_commands_run),
    ("deaths::in_its_grace", in_its_grace),
    ("deaths::while_kept", while_kept),
    ("deaths::in_an_export", in_an_export),
    ("deaths::at_any_moment", at_any_moment),
    ("deaths::before_it_took_the_run", before_it_took_the_run),
    ("deaths::secrets_cut_short_take_nothing", secrets_cut_short_take_nothing),
    ("deaths::another_boot_is_proof", another_boot_is_proof),
    ("deaths::another_process_with_the_number_is_proof", another_process_with_the_number_is_proof),
    ("deaths::two_agents_never_work_on_one_attempt", two_agents_never_work_on_one_attempt),
    ("deaths::what_has_ended_is_not_touched", what_has_ended_is_not_touched),
    ("deaths::between_the_record_and_the_end_of_the_log", between_the_record_and_the_end_of_the_log),
    ("deaths::of_the_container_alone", of_the_container_alone),
];

/// Kills the agent in `phase`: proven dead, nothing lives on, removed completely, and not started again.
fn dies(plan: Plan, phase: Phase) {
    let mut rig = Rig::new(plan);
    rig.start();
    rig.until_phase(phase);
    rig.kill();
    let why = rig.until_dead();
    assert!(why.contains("is gone and its container is empty"), "{why}");
    rig.remove();
    rig.assert_clean();
    rig.remove();
    let events = rig.events();
    rig.start();
    let output = rig.wait();
    assert_eq!(output.status.code(), Some(1));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains("never started again"), "{words}");
    assert_eq!((rig.events(), rig.record()), (events, None));
}

fn in_a_pull() {
    let (_listener, port) = silence();
    dies(pulling(port), Phase::Pulling);
}

fn in_an_import() {
    let (_listener, port) = silence();
    dies(importing(port), Phase::Importing);
}

fn while_commands_run() {
    dies(host(&["trap '' TERM HUP; setsid sleep 1000 & sleep 1000"]), Phase::Running);
}

fn in_its_grace() {
    let mut rig = Rig::new(host(&["trap '' TERM; echo ready; while :; do sleep 0.05; done"]));
    rig.start();
    rig.until_log("ready");
    rig.stop(3600);
    rig.until_phase(Phase::Terminating);
    rig.kill();
    rig.until_dead();
    rig.remove();
    rig.assert_clean();
}

fn while_kept() {
    dies(Plan { termination_protection: true, ..host(&["sleep 1000 &"]) }, Phase::Idle);
}

fn in_an_export() {
    dies(exporting(), Phase::Exporting);
}

/// How far an attempt had come when its agent was killed.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    NotTaken,
    OnTheWay,
    ToItsEnd,
}

/// Kills the agent of `rig` when so much time is over: what is on disk always tells what to do.
fn killed_after(rig: &mut Rig, time: Duration) -> Came {
    let moment = Instant::now() + time;
    spin("the moment", || Instant::now() >= moment);
    rig.kill();
    let proof = until("a decision", || match rig.proof() {
        Proof::Alive { .. } => None,
        proof => Some(proof),
    });
    let came = match (proof, rig.record()) {
        (Proof::NeverStarted, None) => {
            assert_eq!(rig.run().status, Status::Completed);
            Came::NotTaken
        }
        (Proof::Dead { .. }, None) => Came::OnTheWay,
        (Proof::Dead { .. }, Some(record)) => {
            assert_eq!((record.status, record.exit_code), (Status::Completed, Some(0)));
            Came::ToItsEnd
        }
        (proof, record) => panic!("after {time:?}: {proof:?} {record:?}"),
    };
    rig.remove();
    rig.assert_clean();
    came
}

/// Waits without a pause.
fn spin(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
        std::hint::spin_loop();
    }
}

/// From the first instruction to after the end of a whole life, and in each part of it: as many kills fall before, into
/// and after the commands, however fast the machine is.
fn at_any_moment() {
    let began = Instant::now();
    Rig::new(host(&["true"])).run();
    let life = began.elapsed();
    for n in 0..=24 {
        let mut rig = Rig::new(host(&["true"]));
        rig.start();
        killed_after(&mut rig, life * n / 24);
    }
    for time in (0..=6).map(|n| life * n / 6) {
        let mut rig = Rig::new(host(&["true"]));
        let _secrets = rig.start_without_secrets();
        assert_eq!(killed_after(&mut rig, time), Came::NotTaken, "{time:?}");

        let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
        rig.start();
        rig.until_log("ready");
        assert!(!look::mounts(rig.data.path()).is_empty());
        assert_eq!(killed_after(&mut rig, time), Came::OnTheWay, "{time:?}");

        let mut rig = Rig::new(host(&["true"]));
        rig.start();
        spin("the end", || rig.record().is_some());
        assert_eq!(killed_after(&mut rig, time), Came::ToItsEnd, "{time:?}");
    }
}

fn before_it_took_the_run() {
    let mut rig = Rig::new(host(&["echo once"]));
    // The pipe of secrets stays open, so the agent waits.
    let mut waiting = rig.spawn_waiting();
    // Who asks for a proof takes the lock for a moment, and the agent must not find it taken.
    until("the lock", || holds_a_lock(waiting.id()).then_some(()));
    assert!(matches!(rig.proof(), Proof::Alive { .. }));
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    assert_eq!(rig.proof(), Proof::NeverStarted);
    assert_eq!(rig.run().status, Status::Completed);
}

fn holds_a_lock(process: u32) -> bool {
    let about = std::fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    about.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains("FLOCK"))
}

fn secrets_cut_short_take_nothing() {
    let mut rig = Rig::new(host(&["echo once"]));
    for cut in [&b""[..], b"{", b"{\"env\":{\"A\":\"hunter2"] {
        rig.start_with(cut);
        let output = rig.wait();
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(words.contains("the secrets did not arrive whole"), "{words}");
        assert!(!words.contains("hunter"), "{words}");
        assert_eq!(rig.proof(), Proof::NeverStarted);
    }
    assert_eq!(rig.run().status, Status::Completed);
}

/// A copy of the record of a living attempt with one word changed.
fn forged(rig: &Rig, from: &str, to: &str) -> Proof {
    let copy = tempfile::tempdir().unwrap();
    let events = text(&rig.dir.join("events"));
    assert!(events.contains(from), "{events}");
    let mut file = std::fs::File::create(copy.path().join("events")).unwrap();
    file.write_all(events.replace(from, to).as_bytes()).unwrap();
    Rig::proof_of(copy.path())
}

fn another_boot_is_proof() {
    let mut rig = Rig::new(host(&["sleep 1000"]));
    rig.start();
    rig.until_phase(Phase::Running);
    let boot = text(Path::new("/proc/sys/kernel/random/boot_id"));
    let proof = forged(&rig, boot.trim(), "00000000-0000-0000-0000-000000000000");
    assert!(matches!(&proof, Proof::Dead { why } if why.contains("started again")), "{proof:?}");
    assert!(matches!(forged(&rig, boot.trim(), boot.trim()), Proof::Alive { .. }));
    rig.stop(0);
    rig.end();
}

fn another_process_with_the_number_is_proof() {
    let mut rig = Rig::new(host(&["true"]));
    rig.run();
    let mut living = Rig::new(host(&["sleep 1000"]));
    living.start();
    living.until_phase(Phase::Running);
    // The finished attempt's record, as if its number had been given to the living agent.
    let pid = |rig: &Rig| {
        let events = text(&rig.dir.join("events"));
        let started: serde_json::Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
        started["what"]["pid"].to_string()
    };
    let proof = forged(&rig, &format!("\"pid\":{},", pid(&rig)), &format!("\"pid\":{},", pid(&living)));
    assert!(matches!(proof, Proof::Dead { .. }), "{proof:?}");
    living.stop(0);
    living.end();
}

fn two_agents_never_work_on_one_attempt() {
    let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
    rig.start();
    rig.until_log("ready");
    let second = rig.spawn_waiting().wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.contains("another agent holds"), "{words}");
    assert!(matches!(rig.proof(), Proof::Alive { .. }));
    rig.stop(0);
    assert_eq!(rig.end().status, Status::Terminated);
}

fn what_has_ended_is_not_touched() {
    let mut rig = Rig::new(host(&["echo once"]));
    let record = rig.run();
    let before = std::fs::read(rig.dir.join("events")).unwrap();
    rig.start();
    assert_eq!(rig.wait().status.code(), Some(1));
    assert_eq!(rig.record(), Some(record));
    assert_eq!(std::fs::read(rig.dir.join("events")).unwrap(), before);
    rig.remove();
    rig.assert_clean();
}

/// The exit record is written before the last line of the log: what an agent that died in between has not said is said for it.
fn between_the_record_and_the_end_of_the_log() {
    let mut ended = Rig::new(host(&["echo ready; exit 3"]));
    let record = ended.run();
    let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
    rig.start();
    rig.until_log("ready");
    rig.kill();
    rig.until_dead();
    assert!(!look::log(&rig.dir).contains("failed: "), "nobody has told of an end");
    std::fs::copy(ended.dir.join("exit.json"), rig.dir.join("exit.json")).unwrap();
    for _ in 0..2 {
        rig.remove();
        let log = look::log(&rig.dir);
        let last = log.lines().last().unwrap();
        assert!(last.ends_with(&format!("failed: {}", record.reason)), "{log}");
        assert_eq!(log.matches("failed: ").count(), 1, "{log}");
    }
    rig.assert_clean();
}

fn of_the_container_alone() {
    let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
    rig.start();
    rig.until_log("ready");
    let children = text(Path::new(&format!("/proc/{0}/task/{0}/children", rig.pid())));
    for child in children.split_whitespace() {
        kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
    }
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Failed, Some(137)), "{record:?}");
    assert!(record.reason.contains("killed from outside"), "{}", record.reason);
}
