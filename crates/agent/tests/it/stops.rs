//! Attempts that somebody or a clock ends.
use std::net::TcpListener;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vessl_core::plan::{GitParts, ImagePlan, ImportPlan, ImportSource, Plan};
use vessl_core::record::{Control, Phase};
use vessl_core::run::Status;
use vessl_core::units::Span;
use vessl_data::log::Stream;

use crate::look;
use crate::plans::{export, host, session};
use crate::rig::{Rig, until};

pub(crate) const CASES: &[crate::Case] = &[
    ("stops::commands_get_a_signal_and_time", commands_get_a_signal_and_time),
    ("stops::a_second_request_shortens_the_grace", a_second_request_shortens_the_grace),
    ("stops::a_signal_to_the_agent_is_a_request", a_signal_to_the_agent_is_a_request),
    ("stops::a_pull_can_be_stopped", a_pull_can_be_stopped),
    ("stops::a_pull_ends_with_whoever_asked_for_it", a_pull_ends_with_whoever_asked_for_it),
    ("stops::an_import_can_be_stopped", an_import_can_be_stopped),
    ("stops::exports_after_a_stop_have_a_limit", exports_after_a_stop_have_a_limit),
    ("stops::exports_can_be_skipped", exports_can_be_skipped),
    ("stops::a_protected_run_stays_until_it_is_stopped", a_protected_run_stays_until_it_is_stopped),
    ("stops::a_session_ends_with_its_time", a_session_ends_with_its_time),
    ("stops::a_session_needs_no_commands", a_session_needs_no_commands),
    ("stops::what_is_no_request_is_refused", what_is_no_request_is_refused),
];

/// A listener that takes connections and never answers, and its port.
pub(crate) fn silence() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A plan whose image comes from a registry that does not answer.
pub(crate) fn pulling(port: u16) -> Plan {
    let reference = format!("127.0.0.1:{port}/team/image:1");
    Plan { image: ImagePlan::Registry { reference, credential: None }, ..host(&["echo never"]) }
}

/// A plan that imports from a place that does not answer.
pub(crate) fn importing(port: u16) -> Plan {
    let url = format!("http://127.0.0.1:{port}/repo.git");
    let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
    Plan { imports: vec![ImportPlan::new("/code", source)], ..host(&["echo never"]) }
}

/// A plan whose export takes some seconds: 32 MiB under 256 names, each of which becomes a file of its own.
pub(crate) fn exporting() -> Plan {
    let commands = "cd /output && mkdir 0 && head -c 33554432 /dev/urandom > 0/x\n\
                    for d in 1 2 3 4 5 6 7 8; do set -- *; mkdir $d; cp -al \"$@\" $d; done";
    Plan { exports: vec![export("/output")], ..host(&[commands]) }
}

fn commands_get_a_signal_and_time() {
    let command = "trap 'echo saving; sleep 0.3; echo saved > /output/state; exit 0' TERM; echo ready; \
                   while :; do sleep 0.05; done";
    let plan = Plan { exports: vec![export("/output")], ..host(&[command]) };
    let mut rig = Rig::new(plan);
    rig.start();
    rig.until_log("ready");
    rig.stop(60);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, Some(0)), "{record:?}");
    assert_eq!(record.exports[0].files, 1);
    assert_eq!(rig.phases(), [Phase::Starting, Phase::Running, Phase::Terminating, Phase::Exporting]);
    let system = look::stream(&rig.dir, Stream::System);
    assert!(system.contains("asked to stop: the commands get SIGTERM and 60 s to end"), "{system}");
}

fn a_second_request_shortens_the_grace() {
    let mut rig = Rig::new(host(&["trap '' TERM; echo ready; while :; do sleep 0.05; done"]));
    rig.start();
    rig.until_log("ready");
    rig.stop(3600);
    rig.until_phase(Phase::Terminating);
    rig.stop(7200);
    rig.stop(0);
    assert_eq!(rig.end().status, Status::Terminated);
}

fn a_signal_to_the_agent_is_a_request() {
    let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
    rig.start();
    rig.until_log("ready");
    kill(Pid::from_raw(rig.pid()), Signal::SIGTERM).unwrap();
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, Some(143)), "{record:?}");
}

fn stopped_before_the_commands(plan: Plan, phase: Phase) {
    let mut rig = Rig::new(plan);
    rig.start();
    rig.until_phase(phase);
    rig.stop(3600);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, None), "{record:?}");
    assert_eq!(record.reason, "terminated before the commands started");
    assert_eq!(record.started_at, None);
}

fn a_pull_can_be_stopped() {
    let (_listener, port) = silence();
    stopped_before_the_commands(pulling(port), Phase::Pulling);
}

fn a_pull_ends_with_whoever_asked_for_it() {
    let (listener, port) = silence();
    let data = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([crate::AGENT, "images", "--data"]).arg(data.path());
    command.args(["pull".to_owned(), format!("127.0.0.1:{port}/team/image:1")]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let connection = listener.accept().unwrap();
    assert_eq!(child.try_wait().unwrap(), None, "it waits for the registry");
    drop(child.stdout.take());
    let ended = until("the end of the pull", || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
    drop(connection);
}

fn an_import_can_be_stopped() {
    let (_listener, port) = silence();
    stopped_before_the_commands(importing(port), Phase::Importing);
}

fn exports_after_a_stop_have_a_limit() {
    let mut rig = Rig::new(Plan { export_limit: Span(1), ..exporting() });
    rig.start();
    rig.until_phase(Phase::Exporting);
    rig.stop(0);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Failed, Some(0)), "{record:?}");
    assert!(record.exports[0].error.is_some() && record.exports[0].version.is_none(), "{record:?}");
}

fn exports_can_be_skipped() {
    let stop = Control::Stop { grace_s: 60, export: false };
    let mut rig = Rig::new(exporting());
    rig.start();
    rig.until_phase(Phase::Exporting);
    assert!(rig.ask(&stop).ok);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, Some(0)), "{record:?}");
}

fn a_protected_run_stays_until_it_is_stopped() {
    let mut plan =
        host(&["sh -c 'trap \"echo bye; exit 0\" TERM; echo ready; while :; do sleep 0.05; done' & exit 4"]);
    plan.termination_protection = true;
    let mut rig = Rig::new(plan);
    rig.start();
    rig.until_phase(Phase::Idle);
    rig.until_log("ready");
    rig.stop(60);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, Some(4)), "{record:?}");
    assert!(look::stream(&rig.dir, Stream::Stdout).contains("bye"));
}

fn a_session_ends_with_its_time() {
    let mut rig = Rig::new(session(&["echo ready", "sleep 1000"], 300));
    let record = rig.run();
    assert_eq!(record.status, Status::Completed, "{record:?}");
    assert_eq!(record.reason, "the session reached its `max_runtime` of 300ms");
}

fn a_session_needs_no_commands() {
    let mut rig = Rig::new(session(&[], 0));
    rig.start();
    rig.until_phase(Phase::Running);
    assert!(rig.ask(&Control::Ping).ok);
    rig.stop(60);
    let record = rig.end();
    assert_eq!((record.status, record.exit_code), (Status::Terminated, None), "{record:?}");
}

fn what_is_no_request_is_refused() {
    let mut rig = Rig::new(host(&["echo ready; sleep 1000"]));
    rig.start();
    rig.until_log("ready");
    let reply = look::ask(&rig.dir, "{\"ask\":\"dance\"}\n");
    assert!(!reply.ok && reply.error.is_some(), "{reply:?}");
    rig.stop(0);
    assert_eq!(rig.end().status, Status::Terminated);
}
