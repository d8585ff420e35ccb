//! The run script in real shells: what runs, what is not started, what is told, which exit code comes out.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use vessl_core::record::{Ending, InitReport, MARK_FD, Mark, Marks};
use vessl_core::script;
use vessl_core::spec::Item;
use vessl_core::spec::Shell;
use vessl_core::units::Span;

/// Shells as an image may bring them; those that this machine does not have are left out, bash and sh are required.
const SHELLS: &[&[&str]] = &[&["/bin/bash"], &["/bin/sh"], &["/usr/bin/dash"], &["/usr/bin/busybox", "sh"]];

/// What came out of one script.
#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
    marks: Vec<Mark>,
    item: Option<u32>,
    how: Ending,
}

fn command(text: &str) -> Item {
    Item { command: Some(text.to_owned()), workdir: None, wait: None }
}

fn in_dir(text: &str, dir: &str) -> Item {
    Item { workdir: Some(dir.to_owned()), ..command(text) }
}

fn pause(millis: u64) -> Item {
    Item { command: None, workdir: None, wait: Some(Span(millis)) }
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Runs `items` in one shell as init does: the script as a file, the marks on their descriptor, no input.
fn run(shell: &[&str], items: &[Item]) -> Outcome {
    run_with(shell, items, Shell::Plain)
}

fn run_with(shell: &[&str], items: &[Item], options: Shell) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let (file, told) = (dir.path().join("script"), dir.path().join("marks"));
    File::create(&file)
        .unwrap()
        .write_all(script::build(items, home.to_str().unwrap(), options).as_bytes())
        .unwrap();
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("exec {MARK_FD}>\"$1\"; shift; exec \"$@\""), "sh"])
        .arg(&told)
        .args(shell)
        .arg(&file)
        .env("ROOT", dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut marks = Marks::new(u32::try_from(items.len()).unwrap());
    let heard = marks.feed(&read(&told));
    let code = output
        .status
        .code()
        .unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&output.status).unwrap());
    let InitReport::Ended { exit_code, item, how } = marks.ended(code) else { panic!("not an end") };
    Outcome {
        code: exit_code,
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        marks: heard,
        item,
        how,
    }
}

/// What is expected of a script.
struct Expected<'a> {
    code: i32,
    stdout: &'a str,
    end: (u32, Ending),
}

/// The same in every shell.
fn check(items: &[Item], expected: &Expected<'_>) {
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, items);
        let seen = (got.code, got.stdout.as_str(), (got.item.unwrap_or_default(), got.how));
        assert_eq!(seen, (expected.code, expected.stdout, expected.end), "{shell:?}\n{got:?}");
    }
}

#[test]
fn items_run_in_one_shell_in_order() {
    let items = [
        command("X=1; export Y=2; f() { echo \"f $1 $X\"; }"),
        command("f a; sh -c 'echo $Y'"),
        command("echo last"),
    ];
    check(&items, &Expected { code: 0, stdout: "f a 1\n2\nlast\n", end: (3, Ending::Item) });
}

#[test]
fn an_item_that_fails_ends_the_run() {
    let items = [command("echo one"), command("false; true; (exit 7)"), command("echo never")];
    check(&items, &Expected { code: 7, stdout: "one\n", end: (2, Ending::Item) });
}

#[test]
fn there_is_no_implicit_errexit() {
    check(&[command("false\necho on")], &Expected { code: 0, stdout: "on\n", end: (1, Ending::Item) });
}

#[test]
fn an_authors_errexit_counts_for_every_item_after_it() {
    let strict = [command("set -e\necho a\nfalse\necho never"), command("echo never")];
    check(&strict, &Expected { code: 1, stdout: "a\n", end: (1, Ending::Shell) });
    let later = [command("set -eu; echo a"), command("false; echo never"), command("echo never")];
    check(&later, &Expected { code: 1, stdout: "a\n", end: (2, Ending::Shell) });
    let off = [command("set -e"), command("set +e"), command("false; echo on")];
    check(&off, &Expected { code: 0, stdout: "on\n", end: (3, Ending::Item) });
    let tested = [command("set -e"), command("if false; then :; fi; false || echo b"), command("echo c")];
    check(&tested, &Expected { code: 0, stdout: "b\nc\n", end: (3, Ending::Item) });
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &[command("set -u"), command("echo \"$unset_name\"; echo never"), command(":")]);
        assert_eq!((got.code != 0, got.item, got.stdout.as_str()), (true, Some(2), ""), "{shell:?} {got:?}");
    }
}

#[test]
fn a_pipe_that_failed_fails_in_the_shells_that_have_pipefail() {
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let has = run(shell, &[command("set -o pipefail")]).code == 0;
        let items = [
            command("(set -o pipefail) 2>/dev/null && set -eo pipefail"),
            command("(echo x; exit 3) | cat"),
            command("echo never"),
        ];
        if has {
            let got = run(shell, &items);
            let expected = (3, "x\n", Some(2));
            assert_eq!((got.code, got.stdout.as_str(), got.item), expected, "{shell:?} {got:?}");
        }
    }
}

#[test]
fn a_strict_shell_sees_every_failure() {
    let failing = |items: &[Item], code: i32, item: u32| {
        for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
            let got = run_with(shell, items, Shell::Strict);
            assert_eq!((got.code, got.item), (code, Some(item)), "{shell:?} {got:?}");
            assert!(!got.stdout.contains("never") && !got.stderr.contains("vessl"), "{shell:?} {got:?}");
        }
    };
    failing(&[command("echo a"), command("false\necho never")], 1, 2);
    failing(&[command("echo a; true"), command("echo b")], 0, 2);
    let got = run_with(&["/bin/bash"], &[command("(exit 3) | cat"), command("echo never")], Shell::Strict);
    assert_eq!((got.code, got.item, got.stdout.as_str()), (3, Some(1), ""), "{got:?}");
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run_with(shell, &[command("echo \"$unset_name\"; echo never")], Shell::Strict);
        assert!(got.code != 0 && got.stdout.is_empty(), "{shell:?} {got:?}");
    }
}

#[test]
fn what_an_item_does_to_the_shell_stays() {
    let items = [
        command("set -f; set -a; umask 077; trap 'echo bye' EXIT; exec 6>\"$ROOT/six\""),
        command("V=1; sh -c 'echo \"[$V]\"'; cd \"$ROOT\"; echo ho*; umask; echo x >&6; cat six"),
        command("set +f; exec >\"$ROOT/out\""),
        command("cd \"$ROOT\"; echo ho*"),
        command("cat \"$ROOT/out\" >&2; exec >&2"),
    ];
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &items);
        assert_eq!((got.code, got.item), (0, Some(5)), "{shell:?} {got:?}");
        let lines: Vec<&str> = got.stdout.lines().collect();
        assert_eq!(lines.len(), 4, "{shell:?} {got:?}");
        assert_eq!((lines[0], lines[1], lines[3]), ("[1]", "ho*", "x"), "{shell:?} {got:?}");
        assert!(lines[2].ends_with("077") && got.stderr == "home\nbye\n", "{shell:?} {got:?}");
    }
}

#[test]
fn a_trace_shows_the_items_and_nothing_of_ours() {
    let items =
        [command("set -x; : first"), command(": second"), pause(10), command("set -v"), command(": third")];
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &items);
        assert_eq!(got.code, 0, "{shell:?} {got:?}");
        for text in [": first", ": second", ": third"] {
            // The option counts for busybox only from the next command on.
            assert!(got.stderr.contains(text) || text == ": first", "{shell:?} {got:?}");
        }
        assert!(!got.stderr.contains("vessl") && !got.stderr.contains("eval"), "{shell:?} {got:?}");
    }
}

/// Whatever an item calls its functions and variables, a later one that fails fails the run with its own status.
#[test]
fn names_of_an_item_mean_nothing_to_the_script() {
    let names =
        ["exit", "set", "eval", "cd", "echo", "read", "test", "printf", "true", "trap", "sleep", "command"];
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        for name in names {
            let define = command(&format!("{name}() {{ :; }}"));
            let got =
                run(shell, &[define.clone(), pause(10), in_dir("pwd; (command exit 7)", "/"), command(":")]);
            let expected = (7, "/\n", Some(3), Ending::Item);
            if got.stderr.contains("yntax error") {
                // Some shells let nobody give a function the name of what is special.
                assert_eq!(got.item, Some(1), "{shell:?} {name} {got:?}");
                continue;
            }
            assert_eq!(
                (got.code, got.stdout.as_str(), got.item, got.how),
                expected,
                "{shell:?} {name} {got:?}"
            );
            let got = run(shell, &[define, command(":")]);
            assert_eq!((got.code, got.item, got.marks.len()), (0, Some(2), 4), "{shell:?} {name} {got:?}");
        }
        for text in [
            "readonly IFS PATH HOME; readonly status=1",
            "IFS=0123456789abcdef",
            "IFS=",
            "set -- a b c; shift",
            "unset PATH IFS HOME",
            "alias command=false test=false; shopt -s expand_aliases 2>/dev/null; :",
            "(set -o posix) 2>/dev/null && set -o posix; :",
            "shopt -s failglob nullglob 2>/dev/null; :",
            "trap 'exit 0' EXIT",
            "trap ': seen' USR1 TERM; trap 'exit 0' ERR 2>/dev/null; :",
        ] {
            let got = run(shell, &[command(text), in_dir("(exit 7)", "/"), command(":")]);
            let seen = (got.code, got.item);
            let by_trap = text.contains("ERR") && got.code == 0;
            assert!(seen == (7, Some(2)) || by_trap, "{shell:?} {text} {got:?}");
        }
    }
}

#[test]
fn a_script_without_its_variables_ends_and_says_so() {
    let unset = "unset $(set | sed -n 's/^\\(__vessl[a-z_]*\\)=.*/\\1/p')";
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &[command(unset), command("echo never")]);
        assert_eq!((got.code, got.stdout.as_str(), got.item), (125, "", Some(1)), "{shell:?} {got:?}");
        assert!(got.stderr.contains("took the variables away"), "{shell:?} {got:?}");
    }
}

#[test]
fn exit_ends_the_run_and_is_told() {
    let items = [command("echo a"), command("exit 0"), command("echo never")];
    check(&items, &Expected { code: 0, stdout: "a\n", end: (2, Ending::Shell) });
    let words = script::ending(&items, 0, Some(2), Ending::Shell);
    assert!(words.ends_with("item 3 was not started"), "{words}");
    check(&[command("exit 3"), command("x")], &Expected { code: 3, stdout: "", end: (1, Ending::Shell) });
}

#[test]
fn exec_replaces_the_shell() {
    let items = [command("exec sh -c 'echo new; exit 4'"), command("echo never")];
    check(&items, &Expected { code: 4, stdout: "new\n", end: (1, Ending::Shell) });
}

#[test]
fn a_trap_of_the_author_runs_at_the_end_of_the_run() {
    let items = [command("trap 'echo bye' EXIT"), command("echo work")];
    check(&items, &Expected { code: 0, stdout: "work\nbye\n", end: (2, Ending::Item) });
    let items = [command("trap 'echo bye' EXIT"), command("false")];
    check(&items, &Expected { code: 1, stdout: "bye\n", end: (2, Ending::Item) });
}

#[test]
fn mistakes_of_syntax_belong_to_their_item() {
    for wrong in ["if", "echo 'open", "echo \"open", "done", "f() {", "cat <<(", "for", "case x in", ")"] {
        for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
            let got = run(shell, &[command("echo one"), command(wrong), command("echo never")]);
            assert_ne!(got.code, 0, "`{wrong}` {shell:?}\n{got:?}");
            assert_eq!((got.item, got.stdout.as_str()), (Some(2), "one\n"), "`{wrong}` {shell:?}\n{got:?}");
            assert!(!got.stderr.is_empty(), "`{wrong}` {shell:?} is explained");
        }
    }
}

#[test]
fn text_arrives_as_it_was_written() {
    let heredoc = command("cat <<'EOF'\n$HOME `x` \\ \"q\" 'q'\nEOF");
    let open_end = command("cat <<EOF\nlast line\nEOF");
    let quotes = command("printf '%s|' 'a b' \"c'd\" \\$x '\\'; echo; # comment's end");
    let stdout = "$HOME `x` \\ \"q\" 'q'\nlast line\na b|c'd|$x|\\|\n";
    check(&[heredoc, open_end, quotes], &Expected { code: 0, stdout, end: (3, Ending::Item) });
    check(&[command("echo a \\")], &Expected { code: 0, stdout: "a\n", end: (1, Ending::Item) });
    check(&[command("")], &Expected { code: 0, stdout: "", end: (1, Ending::Item) });
    check(&[command("# nothing")], &Expected { code: 0, stdout: "", end: (1, Ending::Item) });
    check(
        &[command("echo ä€😀; echo 'a\r'")],
        &Expected { code: 0, stdout: "ä€😀\na\r\n", end: (1, Ending::Item) },
    );
}

#[test]
fn a_text_of_any_length_works() {
    let long = "x".repeat(400_000);
    let text = format!("X='{long}'\necho ${{#X}}");
    check(&[command(&text)], &Expected { code: 0, stdout: "400000\n", end: (1, Ending::Item) });
    let lines = "A=$((A+1))\n".repeat(20_000) + "echo $A";
    check(&[command(&lines)], &Expected { code: 0, stdout: "20000\n", end: (1, Ending::Item) });
}

#[test]
fn a_text_may_begin_like_an_option() {
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &[command("-x")]);
        assert_eq!((got.code, got.item), (127, Some(1)), "{got:?}");
    }
}

#[test]
fn every_item_starts_in_its_directory() {
    let base = tempfile::tempdir().unwrap();
    let odd = base.path().join("o'dd $dir `x`");
    std::fs::create_dir(&odd).unwrap();
    let odd = odd.to_str().unwrap();
    let items =
        [in_dir("pwd; cd /", odd), command("pwd | sed 's,.*/,,'"), in_dir("pwd", "/"), in_dir("pwd", "./")];
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &items);
        let lines: Vec<_> = got.stdout.lines().collect();
        assert_eq!((lines[0], lines[1], lines[2]), (odd, "home", "/"), "{got:?}");
        assert!(lines[3].ends_with("/home"), "{got:?}");
    }
}

#[test]
fn a_missing_directory_is_named() {
    let items = [command("echo one"), in_dir("echo never", "/no/such dir"), command("echo never")];
    check(&items, &Expected { code: 127, stdout: "one\n", end: (2, Ending::Workdir) });
    let got = run(&["/bin/sh"], &items);
    assert_eq!(got.stderr, "", "the end of the run says it");
    let got = run(&["/bin/sh"], &[in_dir("echo never", "/dev/null")]);
    assert_eq!((got.code, got.how), (126, Ending::Workdir));
}

#[test]
fn background_processes_keep_running() {
    let items = [
        command("mkfifo \"$ROOT/p\"; (read -r x < \"$ROOT/p\"; echo \"got $x\" > \"$ROOT/out\") & B=$!"),
        command("echo hello > \"$ROOT/p\"; wait $B; cat \"$ROOT/out\""),
    ];
    check(&items, &Expected { code: 0, stdout: "got hello\n", end: (2, Ending::Item) });
}

#[test]
fn a_pause_lasts() {
    let items = [
        command("A=$(date +%s%N)"),
        pause(60),
        command("[ $(($(date +%s%N) - A)) -ge 60000000 ] && echo yes"),
    ];
    for shell in [&["/bin/bash"][..], &["/bin/sh"]] {
        let got = run(shell, &items);
        assert_eq!((got.code, got.stdout.as_str()), (0, "yes\n"), "{shell:?}\n{got:?}");
    }
    let after = Item { wait: Some(Span(10)), ..command("echo a") };
    let got = run(&["/bin/bash"], &[after, pause(0)]);
    assert_eq!(got.marks, [Mark::Item(1), Mark::Done(1, 0), Mark::Item(2), Mark::Done(2, 0)]);
}

#[test]
fn marks_tell_every_step() {
    let got = run(&["/bin/sh"], &[command("IFS=; PATH=/nowhere"), command("echo x"), command("false")]);
    let marks =
        [Mark::Item(1), Mark::Done(1, 0), Mark::Item(2), Mark::Done(2, 0), Mark::Item(3), Mark::Done(3, 127)];
    // `false` is built into some shells and a program for others.
    assert_eq!(got.marks[..5], marks[..5], "{got:?}");
    assert_eq!(got.item, Some(3));
}

#[test]
fn marks_come_through_whatever_an_item_does() {
    let marks = [Mark::Item(1), Mark::Done(1, 0), Mark::Item(2), Mark::Done(2, 0)];
    let same = |shell: &[&str], text: &str| {
        let got = run(shell, &[command(text), command(":")]);
        assert_eq!((got.marks.as_slice(), got.code), (marks.as_slice(), 0), "{shell:?} {got:?}");
    };
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        same(shell, "echo() { :; }; read() { :; }; set -u; set -f");
        same(shell, "alias echo=: read=: command=:; IFS=0123456789abcdef");
    }
    // Half a line on the shell's own copy of the descriptor; a POSIX shell alone cannot name it.
    for shell in [&["/bin/bash"][..], &["/usr/bin/busybox", "sh"]] {
        if Path::new(shell[0]).exists() {
            same(shell, "for n in 10 11 12 13 14; do { printf junk >&$n; } 2>/dev/null; done; :");
        }
    }
}

#[test]
fn commands_do_not_get_the_descriptor_of_the_marks() {
    let items = [command(&format!(
        "if [ -e /proc/self/fd/{MARK_FD} ]; then echo open; else echo closed; fi; ls -l /proc/self/fd"
    ))];
    for shell in SHELLS.iter().filter(|shell| Path::new(shell[0]).exists()) {
        let got = run(shell, &items);
        assert!(got.stdout.starts_with("closed\n"), "{shell:?}\n{got:?}");
        assert!(!got.stdout.contains("/marks"), "{shell:?}\n{got:?}");
    }
}

#[test]
fn a_descriptor_that_an_item_opens_stays_open() {
    let items = [
        command("exec 3>\"$ROOT/three\"; exec 9>\"$ROOT/nine\""),
        command("echo a >&3; echo b >&9; cat \"$ROOT/three\" \"$ROOT/nine\""),
    ];
    check(&items, &Expected { code: 0, stdout: "a\nb\n", end: (2, Ending::Item) });
}

#[test]
fn a_script_without_listener_works() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    File::create(&file)
        .unwrap()
        .write_all(script::build(&[command("echo a"), command("exit 3")], "/", Shell::Plain).as_bytes())
        .unwrap();
    let output = Command::new("/bin/sh").arg(&file).stdin(Stdio::null()).output().unwrap();
    assert_eq!(
        (output.status.code(), output.stdout.as_slice(), output.stderr.as_slice()),
        (Some(3), &b"a\n"[..], &b""[..])
    );
}

#[test]
fn a_killed_shell_is_a_signal_of_its_item() {
    let items = [command("kill -KILL $$"), command("echo never")];
    check(&items, &Expected { code: 137, stdout: "", end: (1, Ending::Shell) });
}
