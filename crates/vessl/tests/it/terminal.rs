//! What a person at a terminal sees: colours, hidden prompts, bars. `script` gives the program a terminal.
use std::io::Write;
use std::process::{Command, Stdio};

use crate::specs::host;
use crate::test::Test;

/// What the program shows on a terminal on which `typed` is typed.
fn on_terminal(test: &Test, args: &str, typed: &str) -> String {
    let mut script = Command::new("script");
    script.args(["-qec", &format!("{} {args}", env!("CARGO_BIN_EXE_vessl")), "/dev/null"]);
    let script = test.world(&mut script).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut shown = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    shown.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    String::from_utf8_lossy(&shown.wait_with_output().unwrap().stdout).into_owned()
}

#[test]
fn problems_have_colours_there_and_not_in_a_pipe() {
    let test = Test::new();
    test.file("wrong.yaml", "name: x\n");
    assert!(
        on_terminal(&test, "run validate wrong.yaml", "").contains("\x1b[1;31merror[missing-key]\x1b[0m")
    );
    assert!(!test.vessl(["run", "validate", "wrong.yaml"]).code(3).stderr.contains('\x1b'));
    let plain = test.env("NO_COLOR", "1");
    assert!(!on_terminal(&plain, "run validate wrong.yaml", "").contains("\x1b["));
}

#[test]
fn a_secret_is_typed_without_being_shown() {
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let shown = on_terminal(&test, "secret create typed", "hush-71aa\n");
    assert!(shown.contains("value of the secret `typed`"), "{shown}");
    assert!(shown.matches("hush-71aa").count() <= 1, "{shown}");
    test.vessl(["secret", "list"]).ok().prints(&["typed"]);
    assert_eq!(test.leaks("hush-71aa"), Vec::<String>::new());
}

#[test]
fn a_watched_run_reads_well() {
    let test = Test::new();
    test.file("run.yaml", host("echo hello"));
    let shown = on_terminal(&test, "run create -f run.yaml --watch", "");
    assert!(shown.contains("hello") && shown.contains("completed"), "{shown}");
}
