//! What time does to runs: time limits and how they are put off, sessions that nobody uses, and what stays after the commands.
use std::io::Read;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::specs::{head, host};
use crate::test::{Test, until};

fn session(limits: &str) -> String {
    format!("{}interactive: {limits}\n", head("host://"))
}

fn ends(test: &Test, id: &str) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ends = test.read(id)["ends"].clone();
    (text(&ends["limit"]), text(&ends["at"]))
}

fn terminate(test: &Test, id: &str) {
    test.vessl(["run", "terminate", id, "--grace", "2"]).ok();
    test.until_end(id);
}

#[test]
fn a_session_ends_at_its_limits() {
    let test = Test::new();
    let long = test.create(&session("{max_runtime: 1500ms}"));
    let unused = test.create(&session("{jupyter: {idle_timeout: 1500ms}}"));
    let check = |id: &str, reason: &str, words: &str| {
        let run = test.until_end(id);
        assert_eq!((run["status"].as_str(), run["reason_code"].as_str()), (Some("completed"), Some(reason)));
        assert_eq!(run["reason"], words);
    };
    check(&long, "time_limit", "the session reached its `max_runtime` of 1s500ms");
    check(&unused, "idle_limit", "nobody used the session for 1s500ms (`idle_timeout`)");
    test.vessl(["run", "logs", &unused]).ok().says(&["nobody used the session for 1s500ms"]);
}

#[test]
fn exports_are_written_when_a_session_ends_by_its_limit() {
    let test = Test::new();
    let file = session("{jupyter: {idle_timeout: 1s}}") + "run: mkdir -p /out && echo kept > /out/f\n";
    let id = test.create(&(file + "export: {/out: vessl-artifact://}\n"));
    let run = test.until_end(&id);
    assert_eq!(
        (run["reason_code"].as_str(), run["exports"][0]["files"].as_u64()),
        (Some("idle_limit"), Some(1))
    );
}

#[test]
fn who_types_into_a_session_puts_its_end_off() {
    let test = Test::new();
    let id = test.create(&session("{max_runtime: 5h, jupyter: {idle_timeout: 1h}}"));
    test.until_status(&id, "running");
    let (limit, first) = ends(&test, &id);
    assert_eq!(limit, "idle");
    // A program that gets no input is no use of the run.
    test.vessl(["run", "exec", &id, "--", "true"]).ok();
    assert_eq!(ends(&test, &id), (limit.clone(), first.clone()));
    test.vessl_with(["run", "exec", &id, "-i", "--", "cat"], b"x").ok();
    let (_, second) = ends(&test, &id);
    assert!(second > first, "{second} is not after {first}");
    test.vessl(["run", "explain", &id]).ok().prints(&["(unless somebody uses it)"]);
    // The server is not needed for any of it.
    test.kill_server();
    assert_eq!(ends(&test, &id), (limit, second));
    terminate(&test, &id);
}

#[test]
fn a_run_gets_more_time_as_far_as_the_server_allows() {
    let test =
        Test::new().env("VESSL_SERVER_MAX_RUNTIME_LIMIT", "5h").env("VESSL_SERVER_DEFAULT_MAX_RUNTIME", "1h");
    let id = test.create(&host("sleep 1000"));
    test.until_status(&id, "running");
    let (limit, first) = ends(&test, &id);
    assert_eq!(limit, "runtime");
    let done = test.vessl(["run", "extend", &id, "--hours", "1.5", "--output", "json"]).ok().json();
    assert!(done["ends"]["at"].as_str().unwrap() > first.as_str(), "{done}");
    test.vessl(["run", "extend", &id, "--hours", "2"]).ok().prints(&["(its time limit; `vessl run extend`"]);
    test.vessl(["run", "extend", &id, "--hours", "1"]).code(5).says(&[
        "the run has 4h30m, and 1h more is longer than any run may take here (5h)",
        "max_runtime_limit",
    ]);
    test.vessl(["run", "extend", &id, "--hours", "0"]).code(2).says(&["write it as a number of hours"]);
    let events = test.vessl(["run", "read", &id, "--output", "json"]).ok();
    assert_eq!(events.json()["ends"]["limit"], "runtime");
    terminate(&test, &id);
    test.vessl(["run", "extend", &id, "--hours", "1"]).code(5).says(&["the run is terminated"]);
}

#[test]
fn a_run_without_a_limit_needs_no_more_time() {
    let test = Test::new();
    let id = test.create(&host("sleep 1000"));
    test.until_status(&id, "running");
    test.vessl(["run", "extend", &id, "--hours", "1"]).code(5).says(&["the run has no time limit"]);
    assert_eq!(ends(&test, &id), Default::default());
    terminate(&test, &id);
}

#[test]
fn the_end_is_announced_in_the_log_and_on_every_terminal() {
    let test = Test::new();
    // A minute before it, which is a moment after the start.
    let id = test.create(&session("{max_runtime: 63s}"));
    test.until_status(&id, "running");
    let mut script = Command::new("script");
    let command =
        format!("exec {} run exec {id} -it -- sh -c 'echo here; sleep 1000'", env!("CARGO_BIN_EXE_vessl"));
    script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = test.world(&mut script).env("SHELL", "/bin/sh").spawn().unwrap();
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let words = "the time limit ends this run in";
    while !String::from_utf8_lossy(&shown).contains(words) {
        assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "no warning: {shown:?}");
        shown.push(byte[0]);
    }
    test.until_log(&id, words);
    until("there is no event", || test.vessl(["run", "read", &id]).stdout.contains("its time limit"));
    terminate(&test, &id);
    child.wait().unwrap();
}

#[test]
fn what_is_kept_after_its_commands_can_be_reached_until_it_is_terminated() {
    let test = Test::new();
    let id = test.create(&(host("echo left > /tmp/left") + "termination_protection: true\n"));
    test.until_status(&id, "idle");
    let done = test.vessl(["run", "exec", &id, "--", "cat", "/tmp/left"]).ok();
    assert_eq!(done.stdout, "left\n");
    test.vessl(["run", "cp", &format!("{id}:/tmp/left"), &test.path("left").display().to_string()]).ok();
    assert_eq!(std::fs::read_to_string(test.path("left")).unwrap(), "left\n");
    terminate(&test, &id);
    let run = test.read(&id);
    assert_eq!((run["status"].as_str(), run["exit_code"].as_i64()), (Some("terminated"), Some(0)));
}
