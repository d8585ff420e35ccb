//! How long an agent takes from its start to the first program of a run, and how fast output becomes log. Prints numbers; it
//! judges only against the targets named here. Needs root. This program is also the agent that it measures.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on panics, and its result is text"
)]
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};
use vessl_core::record::{Event, EventKind, ExitRecord, Phase};
use vessl_data::log::Reader;

const AGENT: &str = "agent-under-test";
const STARTS: u32 = 60;
const LINE: u32 = 65;
const LINES: u32 = 100_000_000 / LINE;
const START_TARGET: Duration = Duration::from_millis(15);
const LOG_TARGET: f64 = 300.0;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == AGENT) {
        return vessl_agent::main(args);
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: the measurement makes containers as root");
        return ExitCode::SUCCESS;
    }
    starts();
    output("without secrets", &json!({}));
    output("with two secrets", &json!({ "A": "correct horse battery staple", "B": "0123456789abcdef" }));
    ExitCode::SUCCESS
}

fn starts() {
    let data = tempfile::tempdir().unwrap();
    let mut times: Vec<[Duration; 2]> = (0..STARTS).map(|n| start(data.path(), n)).collect();
    for (what, place) in [("process start to exec of the shell", 0), ("process start to process end", 1)] {
        times.sort_unstable_by_key(|time| time[place]);
        let at = |part: usize| times[times.len() * part / 100][place].as_secs_f64() * 1e3;
        println!("{what}: median {:.1} ms, p90 {:.1} ms, best {:.1} ms", at(50), at(90), at(0));
    }
    times.sort_unstable_by_key(|time| time[0]);
    let met = times[times.len() / 2][0] <= START_TARGET;
    println!("target {} ms: {}", START_TARGET.as_millis(), if met { "met" } else { "MISSED" });
}

/// One run of `true`: until its shell was executed, and until the agent was gone.
fn start(data: &Path, n: u32) -> [Duration; 2] {
    let dir = attempt(data, n, &json!({ "items": [{ "command": "true", "workdir": null, "wait": null }] }));
    let (clock, began) = (Timestamp::now(), Instant::now());
    carry_out(data, &dir, &json!({}));
    let gone = began.elapsed();
    let events = std::fs::read_to_string(dir.join("events")).unwrap();
    let running = events.lines().map(|line| serde_json::from_str::<Event>(line).unwrap());
    let running = running.into_iter().find(|event| event.what == EventKind::Phase { phase: Phase::Running });
    let executed = running.expect("it ran").at.duration_since(clock);
    [executed.try_into().unwrap(), gone]
}

fn output(what: &str, secrets: &Value) {
    let (data, shared) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let line = [&[b'x'; 64][..], b"\n"].concat();
    std::fs::write(shared.path().join("lines"), line.repeat(LINES as usize)).unwrap();
    let env: Vec<Value> = secrets
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| json!({ "key": key, "value": { "secret": key } }))
        .collect();
    let source = json!({ "kind": "hostpath", "path": shared.path(), "roots": [shared.path()] });
    let changes = json!({
        "items": [{ "command": "cat /data/lines", "workdir": null, "wait": null }],
        "mounts": [{ "path": "/data", "source": source, "readonly": true }],
        "env": env,
    });
    let mut rates: Vec<f64> = (0..5)
        .map(|n| {
            let dir = attempt(data.path(), n, &changes);
            carry_out(data.path(), &dir, secrets);
            let record: ExitRecord =
                serde_json::from_slice(&std::fs::read(dir.join("exit.json")).unwrap()).unwrap();
            let time = record.ended_at.duration_since(record.started_at.expect("it ran"));
            let log = Reader::open(&dir.join("log")).unwrap().extent().unwrap();
            assert!(log.finished && log.lines >= u64::from(LINES), "{log:?}");
            std::fs::remove_dir_all(dir.join("log")).unwrap();
            f64::from(LINE * LINES) / 1e6 / time.as_secs_f64()
        })
        .collect();
    rates.sort_unstable_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    let met = if rate >= LOG_TARGET { "met" } else { "MISSED" };
    println!(
        "100 MB of 65-byte lines into the log, {what}: {rate:.0} MB/s; target {LOG_TARGET:.0} MB/s: {met}"
    );
}

/// A run directory whose plan differs from the plainest one by `changes`.
fn attempt(data: &Path, n: u32, changes: &Value) -> PathBuf {
    let mut plan = json!({
        "v": 1, "run": 100_000_000_000_u64 + u64::from(n), "attempt": 1, "instance": format!("be{:06x}", std::process::id()),
        "name": "bench", "organization": "o", "project": "p", "cluster": "local", "nodes": [], "preset": null,
        "resources": { "cpu_milli": 2000, "memory": 1_000_000_000, "gpus": 0, "gpu_type": null },
        "image": { "kind": "host" }, "imports": [], "mounts": [], "exports": [], "items": [], "env": [], "ports": [],
        "interactive": null, "termination_protection": false, "grace": 30000, "export_limit": 60000,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        plan[key] = value.clone();
    }
    let dir = data.join(format!("runs/{n}/1"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("plan.json"), plan.to_string()).unwrap();
    dir
}

fn carry_out(data: &Path, dir: &Path, secrets: &Value) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([AGENT, "supervise", "--data"]).arg(data).arg(dir).stdin(Stdio::piped());
    let mut agent = command.spawn().unwrap();
    let document = json!({ "env": secrets, "registry": {}, "git": {} });
    agent.stdin.take().unwrap().write_all(document.to_string().as_bytes()).unwrap();
    assert!(agent.wait().unwrap().success(), "{}", std::fs::read_to_string(dir.join("agent.log")).unwrap());
}
