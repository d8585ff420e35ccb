//! What a person at a terminal sees: colours, hidden prompts, bars. `script` gives the program a terminal.
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::specs::host;
use crate::test::{Test, until};

/// Starts the program on a terminal, whose name it writes into the file `terminal` before.
fn start(test: &Test, args: &str) -> Child {
    let mut script = Command::new("script");
    let command = format!("tty > terminal; exec {} {args}", env!("CARGO_BIN_EXE_vessl"));
    script.args(["-qec", &command, "/dev/null"]);
    let script = test.world(&mut script).env("TERM", "xterm").env("SHELL", "/bin/sh");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

fn shown(program: Child) -> String {
    String::from_utf8_lossy(&program.wait_with_output().unwrap().stdout).into_owned()
}

/// What the program shows on a terminal on which nothing is typed.
fn on_terminal(test: &Test, args: &str) -> String {
    shown(start(test, args))
}

/// Whether the terminal whose name is in this file shows what is typed; not known before it is there.
fn echoes(terminal: &Path) -> Option<bool> {
    let name = std::fs::read_to_string(terminal).ok()?;
    let terminal = std::fs::File::open(name.strip_suffix('\n')?).ok()?;
    Some(tcgetattr(terminal).ok()?.local_flags.contains(LocalFlags::ECHO))
}

#[test]
fn problems_have_colours_there_and_not_in_a_pipe() {
    let test = Test::new();
    test.file("wrong.yaml", "name: x\n");
    assert!(on_terminal(&test, "run validate wrong.yaml").contains("\x1b[1;31merror[missing-key]\x1b[0m"));
    assert!(!test.vessl(["run", "validate", "wrong.yaml"]).code(3).stderr.contains('\x1b'));
    let plain = test.env("NO_COLOR", "1");
    assert!(!on_terminal(&plain, "run validate wrong.yaml").contains("\x1b["));
}

#[test]
fn a_list_is_as_wide_as_the_terminal_and_whole_in_a_pipe() {
    let test = Test::new();
    let name = format!("sweep {}", "with a long name ".repeat(8).trim_end());
    test.wait(&host("true").replacen("name: test", &format!("name: {name}"), 1)).ok();
    let listed = test.vessl(["run", "list"]).ok();
    listed.prints(&[&name]);
    let mut stty = Command::new("script");
    let command = format!("stty cols 80; exec {} run list", env!("CARGO_BIN_EXE_vessl"));
    stty.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let stty = test.world(&mut stty).env("TERM", "xterm").env("SHELL", "/bin/sh");
    let shown = shown(stty.spawn().unwrap());
    assert!(shown.contains("sweep ") && shown.contains('…'), "{shown}");
    assert!(shown.contains("\x1b[32mcompleted\x1b[0m"), "the status has a colour: {shown}");
    let plain = shown.replace("\x1b[32m", "").replace("\x1b[1m", "").replace("\x1b[0m", "");
    assert!(plain.lines().all(|line| line.trim_end().chars().count() <= 80), "{plain}");
}

#[test]
fn a_secret_is_typed_without_being_shown() {
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let mut program = start(&test, "secret create typed");
    let mut keys = program.stdin.take().unwrap();
    // Typed only now: what is typed before the program asks, the terminal shows by itself.
    until("the terminal shows what is typed", || echoes(&test.path("terminal")) == Some(false));
    keys.write_all(b"hush-71aa\n").unwrap();
    drop(keys);
    let shown = shown(program);
    assert!(shown.contains("value of the secret `typed`"), "{shown}");
    assert!(!shown.contains("hush-71aa"), "{shown}");
    test.vessl(["secret", "list"]).ok().prints(&["typed"]);
    assert_eq!(test.leaks("hush-71aa"), Vec::<String>::new());
}

#[test]
fn a_watched_run_reads_well() {
    let test = Test::new();
    test.file("run.yaml", host("echo hello"));
    let shown = on_terminal(&test, "run create -f run.yaml --watch");
    assert!(shown.contains("hello") && shown.contains("completed"), "{shown}");
}
