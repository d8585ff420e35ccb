//! More than one attempt of a run, and the time that one may take.
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::gate::{Gate, WAIT};
use crate::specs::{endless, host};
use crate::test::{Done, Test};

/// Commands that say which attempt they are, and remember it behind the gate.
const COUNT: &str = "n=$(($(cat /gate/n 2>/dev/null || echo 0) + 1)); echo $n > /gate/n; echo attempt-$n";

/// A run that may write behind the gate.
fn counting(test: &Test, lines: &str, command: &str) -> String {
    let dir = test.path("gate").display().to_string();
    let mount = format!("mount: {{/gate: {{hostpath: {{path: '{dir}'}}, readonly: false}}}}\n{lines}");
    host(&format!("{COUNT}\n{command}")).replacen("run:", &format!("{mount}run:"), 1)
}

fn submit(test: &Test, yaml: &str, args: &[&str]) -> Done {
    let all = [&["run", "create", "-f", "-", "--output", "json"], args].concat();
    test.vessl_with(all, yaml.as_bytes())
}

/// Number, reason and exit code of each attempt before the last.
fn past(run: &Value) -> Vec<(u64, String, Option<i64>)> {
    let attempts = run["attempts"].as_array().cloned().unwrap_or_default();
    let one = |past: &Value| {
        let code = past["reason_code"].as_str().unwrap().to_owned();
        (past["attempt"].as_u64().unwrap(), code, past["exit_code"].as_i64())
    };
    attempts.iter().map(one).collect()
}

#[test]
fn a_run_that_fails_is_tried_again_with_its_own_log_and_end() {
    let (test, _gate) = Gate::new();
    let yaml = counting(&test, "", "test $n -ge 3");
    let watched =
        test.vessl_with(["run", "create", "-f", "-", "--watch", "--retries", "2"], yaml.as_bytes()).ok();
    for line in ["attempt-1\n", "attempt-2\n", "attempt-3\n"] {
        assert_eq!(watched.stdout.matches(line).count(), 1, "{} {}", watched.stdout, watched.stderr);
    }
    watched.says(&["attempt 1 failed: the command ended with exit code 1; attempt 2 follows (retry 1 of 2)"]);
    let id = test.vessl(["run", "list", "-q"]).ok().stdout.trim().to_owned();
    let run = test.read(&id);
    assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(3)), "{run}");
    let failed = "command_failed".to_owned();
    assert_eq!(past(&run), [(1, failed.clone(), Some(1)), (2, failed, Some(1))]);
    let words: Vec<&str> =
        run["history"].as_array().unwrap().iter().map(|c| c["status"].as_str().unwrap()).collect();
    assert_eq!(words.iter().filter(|word| **word == "running").count(), 3, "{words:?}");
    for attempt in ["1", "2", "3"] {
        let log = test.vessl(["run", "logs", &id, "--attempt", attempt]).ok();
        assert_eq!(log.stdout, format!("attempt-{attempt}\n"));
    }
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "attempt-3\n");
    test.vessl(["run", "logs", &id, "--attempt", "4"]).code(5).says(&["has no attempt 4", "1 to 3"]);
    test.until_removed(&id);
    test.vessl(["run", "delete", &id]).ok();
    assert!(!test.data().join("runs").join(&id).exists());
}

#[test]
fn retries_come_to_an_end_and_never_follow_a_terminate() {
    let test = Test::new();
    let failed = submit(&test, &host("exit 7"), &["--wait", "--retries", "1"]).code(7).json();
    assert_eq!((failed["attempt"].as_u64(), past(&failed)[0].2), (Some(2), Some(7)), "{failed}");
    let id = submit(&test, &endless(), &["--retries", "3"]).ok().json()["id"].to_string();
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("terminated"), Some(1)), "{run}");
    submit(&test, &host("true"), &["--retries", "101"]).code(2).says(&["100"]);
}

#[test]
fn a_lost_run_is_tried_again() {
    let (test, gate) = Gate::new();
    let yaml = counting(&test, "", WAIT);
    for is_server_there in [true, false] {
        std::fs::remove_file(test.path("gate/n")).ok();
        let id = submit(&test, &yaml, &["--retries", "1"]).ok().json()["id"].to_string();
        test.until_log(&id, "attempt-1");
        let agent = test.agent(&id);
        if !is_server_there {
            test.kill_server();
        }
        Test::kill(agent);
        let mut log = test.start(["run", "logs", "-f", &id]);
        log.until("attempt-2");
        log.signal(Signal::SIGKILL);
        gate.open();
        let run = test.until_end(&id);
        assert_eq!(
            (run["status"].as_str(), past(&run)),
            (Some("completed"), vec![(1, "lost".into(), None)]),
            "{run}"
        );
    }
}

#[test]
fn a_run_that_has_ended_is_started_again() {
    let (test, _gate) = Gate::new();
    let lines = "env: {TOKEN: {value: hush-hush, secret: true}}\nexport: {/out: vessl-artifact://}\n";
    let commands = "mkdir -p /out; echo $n > /out/n; test $TOKEN = hush-hush";
    let id = test.wait(&counting(&test, lines, commands)).ok().json()["id"].to_string();
    test.vessl(["run", "restart", &id, "--wait"]).ok();
    let run = test.read(&id);
    assert_eq!(
        (run["attempt"].as_u64(), past(&run)),
        (Some(2), vec![(1, "completed".into(), Some(0))]),
        "{run}"
    );
    let files = test.vessl(["run", "files", &id, "--output", "json"]).ok().json();
    assert_eq!(files.as_array().map(Vec::len), Some(1), "{files}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "attempt-2\n");

    let going = test.create(&endless());
    test.until_log(&going, "ready");
    test.vessl(["run", "restart", &going]).code(5).says(&["is running", "vessl run terminate --wait"]);
    test.vessl(["run", "terminate", &going, "--grace", "0"]).ok();
    test.until_end(&going);
    // Terminated or not, a restart is a person's will; a terminate of before is forgotten.
    test.vessl(["run", "restart", &going]).ok();
    test.until_status(&going, "running");
    test.vessl(["run", "terminate", &going, "--grace", "0"]).ok();
    assert_eq!(test.until_end(&going)["attempt"], 2);
}

#[test]
fn a_run_ends_at_its_time_limit_with_its_exports() {
    let test = Test::new();
    let yaml = host("trap 'echo saved > /out/state; exit 0' TERM\nmkdir -p /out; echo begun > /out/state\nsleep 1000 & wait")
        .replace("run:", "export: {/out: vessl-artifact://}\nrun:");
    let run = submit(&test, &yaml, &["--wait", "--max-runtime", "700ms"]).code(143).json();
    let found = (run["status"].as_str(), run["reason_code"].as_str());
    assert_eq!(found, (Some("terminated"), Some("time_limit")), "{run}");
    assert!(run["reason"].as_str().unwrap().starts_with("terminated at its time limit of 700ms"), "{run}");
    assert_eq!(run["exports"][0]["files"], 1, "{run}");
    submit(&test, &host("true"), &["--max-runtime", "soon"]).code(2).says(&["duration"]);
}

#[test]
fn every_attempt_has_the_whole_time_limit() {
    let (test, _gate) = Gate::new();
    let yaml = counting(&test, "", "if test $n = 1; then sleep 1; exit 1; fi\nsleep 1000");
    let args = ["--wait", "--retries", "1", "--max-runtime", "3s"];
    let run = submit(&test, &yaml, &args).code(143).json();
    assert_eq!(past(&run), [(1, "command_failed".to_owned(), Some(1))], "{run}");
    assert_eq!(
        (run["attempt"].as_u64(), run["reason_code"].as_str()),
        (Some(2), Some("time_limit")),
        "{run}"
    );
    let at = |key: &str| run[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    // What was left of the time of the first attempt would be two seconds.
    assert!(at("ended_at").duration_since(at("started_at")).as_millis() >= 3000, "{run}");
}

#[test]
fn the_server_has_a_time_limit_for_all_and_a_longest_one() {
    let test = Test::new()
        .env("VESSL_SERVER_DEFAULT_MAX_RUNTIME", "500ms")
        .env("VESSL_SERVER_MAX_RUNTIME_LIMIT", "1h");
    let run = test.wait(&host("sleep 1000")).code(143).json();
    assert_eq!(run["reason_code"], "time_limit", "{run}");
    for too_long in ["2h", "0"] {
        let refused = submit(&test, &host("true"), &["--max-runtime", too_long]).code(3);
        refused.says(&["no run may take longer than 1h here", "max_runtime_limit"]);
    }
    assert_eq!(
        submit(&test, &host("true"), &["--wait", "--max-runtime", "1h"]).ok().json()["status"],
        "completed"
    );
}

#[test]
fn of_many_restarts_at_once_one_begins_an_attempt() {
    let (test, gate) = Gate::new();
    let id = test.wait(&host("true")).ok().json()["id"].to_string();
    test.until_removed(&id);
    // Nothing moves while they come in: the machine is taken.
    let cores = test.vessl(["cluster", "list-nodes", "local", "--output", "json"]).ok().json();
    let all = format!("'{}m'", cores[0]["cpu_milli"]);
    let filler = test.create(&gate.host(&format!("echo ready\n{WAIT}")).replace("250m", &all));
    test.until_log(&filler, "ready");
    let asked: Vec<_> = (0..4).map(|_| test.start(["run", "restart", &id])).collect();
    let done: Vec<_> = asked.into_iter().map(|one| one.finish()).collect();
    let said: Vec<&str> = done.iter().map(|one| one.stderr.as_str()).collect();
    let refused = said.iter().filter(|text| text.contains("only a run that has ended can be started again"));
    assert_eq!(refused.count(), 3, "{said:?}");
    gate.open();
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(2)), "{run}");
}
