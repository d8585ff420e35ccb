//! `vessl run logs`.
use crate::gate::{Gate, WAIT};
use crate::specs::host;
use crate::test::Test;

#[test]
fn bytes_arrive_as_they_were_written() {
    let test = Test::new();
    let id = test
        .wait(&host(r"printf 'a\rb\033[31mc\xff\xc3'; printf '\xa9\n'; printf '\0no newline'"))
        .ok()
        .json()["id"]
        .to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(log.bytes, b"a\rb\x1b[31mc\xff\xc3\xa9\n\0no newline");
}

#[test]
fn the_last_lines_and_single_streams() {
    let test = Test::new();
    let id =
        test.wait(&host("for n in $(seq 1000); do echo line $n; done; echo problem >&2")).ok().json()["id"]
            .to_string();
    let tail = test.vessl(["run", "logs", &id, "--tail", "3", "--only", "stdout"]).ok();
    assert_eq!(tail.stdout, "line 998\nline 999\nline 1000\n");
    let tail = test.vessl(["run", "logs", &id, "--tail", "1", "--only", "stderr"]).ok();
    assert_eq!(tail.stdout, "problem\n");
    let errors = test.vessl(["run", "logs", &id, "--only", "stderr"]).ok();
    assert_eq!(errors.stdout, "problem\n");
    let marked = test.vessl(["run", "logs", &id, "--streams", "--timestamps"]).ok();
    assert!(
        marked.stdout.lines().any(|line| line.ends_with("stdout | line 7") && line.starts_with("20")),
        "{}",
        marked.stdout
    );
    assert!(marked.stdout.lines().any(|line| line.ends_with("stderr | problem")), "{}", marked.stdout);
    let all = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(all.stdout.lines().count(), 1001);
}

#[test]
fn json_lines_have_time_stream_and_text() {
    let test = Test::new();
    let id = test.wait(&host("echo one; echo two >&2")).ok().json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id, "--output", "json"]).ok();
    let lines: Vec<serde_json::Value> =
        log.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |stream: &str| {
        lines.iter().find(|line| line["stream"] == stream).unwrap_or_else(|| panic!("{lines:?}"))
    };
    assert_eq!(find("stdout")["text"], "one");
    assert_eq!(find("stderr")["text"], "two");
    assert!(find("stdout")["at"].is_string());
}

#[test]
fn json_lines_are_whole_and_tell_when_they_began() {
    let (test, gate) = Gate::new();
    let first = format!("printf pct10; {WAIT}; echo e1 >&2; {WAIT}; printf pct20");
    let id = test.create(&format!("{}  - command: echo next\n", gate.host(&first)));
    let mut live = test.start(["run", "logs", "-f", &id]);
    for shown in ["pct10", "pct10e1\n"] {
        live.until(shown);
        gate.open();
    }
    live.finish().ok();
    let log = test.vessl(["run", "logs", &id, "--output", "json"]).ok();
    let lines: Vec<serde_json::Value> =
        log.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |text: &str| {
        lines.iter().position(|line| line["text"] == text).unwrap_or_else(|| panic!("{text}: {lines:#?}"))
    };
    assert!(place("pct10pct20") < place("item 2 of 2"), "{lines:#?}");
    assert!(place("item 2 of 2") < place("next"), "{lines:#?}");
    let at = |text: &str| lines[place(text)]["at"].as_str().unwrap().to_owned();
    assert!(at("pct10pct20") < at("e1"), "{lines:#?}");
}

#[test]
fn following_shows_lines_as_they_come_and_ends_with_the_run() {
    let (test, gate) = Gate::new();
    let id = test.create(&gate.host(&format!("for n in 1 2 3; do echo line $n; {WAIT}; done\necho last")));
    let mut live = test.start(["run", "logs", "-f", &id]);
    for shown in ["line 1\n", "line 1\nline 2\n", "line 1\nline 2\nline 3\n"] {
        live.until(shown);
        assert_eq!(live.shown(), shown, "nothing is there before it is written");
        gate.open();
    }
    assert_eq!(live.finish().ok().stdout, "line 1\nline 2\nline 3\nlast\n");
    assert_eq!(test.read(&id)["status"], "completed");
}

#[test]
fn many_megabytes_arrive_whole() {
    let test = Test::new();
    let id = test
        .wait(&host("yes 0123456789012345678901234567890123456789012345678901234567890123 | head -n 200000"))
        .ok()
        .json()["id"]
        .to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(log.bytes.len(), 200_000 * 65);
    assert!(
        log.bytes
            .chunks(65)
            .all(|line| line == b"0123456789012345678901234567890123456789012345678901234567890123\n")
    );
}

#[test]
fn a_progress_bar_has_one_mark_on_its_line() {
    let test = Test::new();
    let id = test.wait(&host("printf '1%%\\r2%%\\r3%%\\n'")).ok().json()["id"].to_string();
    let marked = test.vessl(["run", "logs", &id, "--streams"]).ok();
    assert!(marked.stdout.contains("stdout | 1%\rstdout | 2%\rstdout | 3%\n"), "{:?}", marked.stdout);
    let stamped = test.vessl(["run", "logs", &id, "--timestamps", "--only", "stdout"]).ok().stdout;
    let last = stamped.trim_end().rsplit('\r').next().unwrap();
    assert!(last.starts_with("20") && last.ends_with(" 3%"), "{stamped:?}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "1%\r2%\r3%\n", "as it is without marks");
}
