//! What one run may take of the machine beside its resources: each bound is kept and said.
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::specs::{head, host, item, much};
use crate::test::Test;

fn failed(run: &Value, words: &[&str]) {
    assert_eq!(run["status"], "failed", "{run}");
    for word in words {
        assert!(run["reason"].as_str().is_some_and(|reason| reason.contains(word)), "no `{word}` in {run}");
    }
}

fn exporting(command: &str) -> String {
    format!("{}export: {{/o: vessl-artifact://}}\n{}", head("host://"), item(command))
}

#[test]
fn a_log_keeps_its_begin_and_its_end_and_says_what_is_left_out() {
    let test = Test::new().env("VESSL_SERVER_LOG_LIMIT", "1Mi");
    let run = test.wait(&host("echo first\nseq 1000000\necho last")).ok().json();
    let id = run["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok().stdout;
    assert!(log.starts_with("first\n1\n2\n") && log.ends_with("999999\n1000000\nlast\n"), "{}", log.len());
    assert!(log.len() < 2 << 20, "{}", log.len());
    let said = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
    assert!(said.contains("bytes of the log are left out here") && said.contains("`log_limit`"), "{said}");
    assert!(said.contains("completed: "), "{said}");
    test.vessl(["run", "logs", &id, "--tail", "2"]).ok().prints(&["last"]);
    let sizes = crate::test::files_below(&test.attempt(&id).join("log"));
    let bytes: u64 = sizes.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < 2 << 20, "{bytes}");
}

#[test]
fn a_run_that_writes_too_much_is_ended_and_told() {
    let test = Test::new().env("VESSL_SERVER_SCRATCH_LIMIT", "20Mi");
    let run = test.wait(&host("echo begin\nhead -c 50000000 /dev/urandom > /x\nsleep 1000")).json();
    failed(&run, &["own file system", "may have 20.0 MiB", "`scratch_limit`"]);
    // Also where it has no name any more.
    let run = test.wait(&host("exec 9>/x; rm /x; head -c 50000000 /dev/urandom >&9; sleep 1000")).json();
    failed(&run, &["own file system", "may have 20.0 MiB"]);
    // What is below the limit is its own business.
    test.wait(&host("head -c 5000000 /dev/urandom > /x\nsleep 3")).ok();
}

#[test]
fn an_export_beyond_its_bounds_fails_at_once() {
    let test = Test::new().env("VESSL_SERVER_EXPORT_FILES", "10").env("VESSL_SERVER_EXPORT_BYTES", "1Mi");
    let run = test.wait(&exporting("for i in $(seq 11); do echo $i > /o/$i; done")).json();
    failed(&run, &["the export of `/o` failed", "more than 10 files", "`export_files`"]);
    let run = test.wait(&exporting("truncate -s 15T /o/hole")).json();
    failed(&run, &["the export of `/o` failed", "`hole`", "more than 1048576 bytes"]);
    assert_eq!(run["exit_code"], 0);
    test.wait(&exporting("for i in $(seq 10); do echo $i > /o/$i; done")).ok();
}

#[test]
fn a_plain_terminate_ends_a_long_export() {
    let test = Test::new().env("VESSL_SERVER_EXPORT_TIME", "1s");
    let id = test.create(&exporting(&much("/o", 11)));
    test.until_log(&id, "exporting `/o`");
    test.vessl(["run", "terminate", &id]).ok();
    let run = test.until_end(&id);
    failed(&run, &["the time limit of 1s for exports was over"]);
    test.vessl(["run", "logs", &id, "--only", "system"]).ok().prints(&["exports may take another 1s"]);
}

#[test]
fn what_a_run_held_is_free_while_its_exports_are_written() {
    let test = Test::new();
    // All of the machine, twice.
    let all = |command: &str| {
        let (small, all) = ("requests: {cpu: 250m, memory: 64Mi}", "preset: cpu-large");
        assert!(exporting(command).contains(small));
        exporting(command).replace(small, all)
    };
    let first = test.create(&all(&much("/o", 11)));
    test.until_log(&first, "exporting `/o`");
    test.wait(&all("echo second > /o/x")).ok();
    assert_eq!(test.read(&first)["status"], "stopping");
    test.vessl(["run", "terminate", &first, "--no-export"]).ok();
    test.until_end(&first);
}

#[test]
fn a_run_that_makes_too_many_files_is_ended_and_told() {
    crate::bad_days::on_disk("64m,nr_inodes=4000", |test| {
        let run = test.wait(&host("mkdir /d; cd /d; seq 10000 | xargs touch 2>/dev/null\nsleep 1000")).json();
        failed(&run, &["files in its own file system", "nine tenths of what was free"]);
        test.until_removed(&run["id"].to_string());
        test.wait(&host("touch /x")).ok();
    });
}

#[test]
fn only_so_many_items_are_recorded_as_events() {
    let test = Test::new().env("VESSL_SERVER_EVENT_LIMIT", "3");
    let items = "  - command: echo done\n".repeat(6);
    let id = test.wait(&format!("{}run:\n{items}", head("host://"))).ok().json()["id"].to_string();
    let events = std::fs::read_to_string(test.attempt(&id).join("events")).unwrap();
    assert_eq!(events.matches("\"kind\":\"item\"").count(), 3, "{events}");
    let log = test.vessl(["run", "logs", &id]).ok().stdout;
    assert_eq!(log, "done\n".repeat(6));
    let said = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
    assert_eq!(said.matches("`event_limit` of the server").count(), 1, "{said}");
}

#[test]
fn requests_whose_bodies_do_not_arrive_are_refused_when_there_are_too_many() {
    let test = Test::new().env("VESSL_SERVER_OPEN_BODIES", "1");
    test.vessl(["whoami"]).ok();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let streams = [1, 2].map(|_| {
        let mut stream = UnixStream::connect(test.data().join("server.sock")).unwrap();
        let (line, token) = ("POST /v1/organizations/default/projects/default/runs HTTP/1.1", token.trim());
        let head = format!("{line}\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 9");
        stream.write_all(format!("{head}\r\n\r\n{{").as_bytes()).unwrap();
        let (mut answers, tell) = (stream.try_clone().unwrap(), tell.clone());
        std::thread::spawn(move || {
            let mut answer = [0; 4096];
            let bytes = answers.read(&mut answer).unwrap_or(0);
            tell.send(String::from_utf8_lossy(&answer[..bytes]).into_owned())
        });
        stream
    });
    let answer = told.recv_timeout(std::time::Duration::from_secs(40)).expect("one of them is answered");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("`open_bodies`"), "{answer}");
    for stream in streams {
        stream.shutdown(Shutdown::Both).unwrap();
    }
    test.wait(&host("true")).ok();
}
