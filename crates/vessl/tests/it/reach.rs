//! Into a run that runs: programs beside its commands, terminals, connections to what listens inside.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;

use crate::specs::{endless, host};
use crate::test::{Test, until};

/// A world with a run that runs, and its id.
fn running(script: &str) -> (Test, String) {
    let test = Test::new();
    let id = test.create(&host(&format!("{script}\necho ready\nsleep 1000")));
    test.until_log(&id, "ready");
    (test, id)
}

fn end(test: &Test, id: &str) {
    test.vessl(["run", "terminate", id, "--grace", "2"]).ok();
    test.until_end(id);
}

#[test]
fn a_program_runs_beside_the_commands_and_ends_as_it_ends() {
    let (test, id) = running("export ONLY_SHELL=1");
    let exec = |args: &[&str]| test.vessl([&["run", "exec", &id][..], args].concat());
    let done = exec(&["--", "sh", "-c", "echo out; echo err >&2; echo $VESSL_RUN_ID; exit 7"]).code(7);
    assert_eq!((done.stdout, done.stderr.as_str()), (format!("out\n{id}\n"), "err\n"));
    exec(&["--", "no-such-program"]).code(127).says(&["error: no program `no-such-program` in the image"]);
    exec(&["--", "/etc/passwd"]).code(126).says(&["cannot run `/etc/passwd`: Permission denied"]);
    exec(&["-w", "/no/such", "--", "true"]).code(126).says(&["cannot enter the directory `/no/such`"]);
    exec(&["-u", "nobody-here", "--", "true"]).code(126).says(&["there is no user `nobody-here`"]);
    exec(&["--", "sh", "-c", "kill -9 $$"]).code(137);
    let done =
        exec(&["-u", "nobody", "-w", "/tmp", "-e", "A=x=y", "--", "sh", "-c", "id -un; pwd; echo $A"]).ok();
    assert_eq!(done.stdout, "nobody\n/tmp\nx=y\n");
    exec(&["-e", "hush", "--", "true"]).code(2).says(&["is not `KEY=VALUE`"]);
    // Without `-i` there is no input; what it has left running keeps nobody.
    assert_eq!(exec(&["--", "sh", "-c", "cat; sleep 1000 & echo over"]).ok().stdout, "over\n");
    exec(&["-t", "--", "true"]).code(2).says(&["`-t` needs a terminal"]);
    end(&test, &id);
    exec(&["--", "true"]).code(5).says(&["the run has ended (terminated)"]);
    test.vessl(["run", "exec", "999999999999", "--", "true"]).code(5);
}

#[test]
fn input_and_output_are_byte_equal_however_much_it_is() {
    let (test, id) = running("true");
    let bytes: Vec<u8> =
        (0..24_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let done = test.vessl_with(["run", "exec", &id, "-i", "--", "cat"], &bytes).ok();
    assert!(done.bytes == bytes, "{} of {} bytes", done.bytes.len(), bytes.len());
    // A program that reads nothing keeps nobody, and one that reads a part of it ends.
    test.vessl_with(["run", "exec", &id, "-i", "--", "true"], &bytes).ok();
    let done = test.vessl_with(["run", "exec", &id, "-i", "--", "head", "-c", "5"], &bytes).ok();
    assert_eq!(done.bytes, &bytes[..5]);
    end(&test, &id);
}

#[test]
fn signals_reach_the_program_and_a_lost_client_ends_it() {
    let (test, id) = running("true");
    let script = "trap 'echo got it; exit 5' INT; echo listening; while :; do sleep 0.1; done";
    let mut live = test.start(["run", "exec", &id, "--", "sh", "-c", script]);
    live.until("listening");
    live.signal(Signal::SIGINT);
    let done = live.finish().code(5);
    assert!(done.stdout.contains("got it"), "{}", done.stdout);
    let script = "exec 2>/dev/null; trap 'echo hung up > /tmp/hung; exit' HUP; echo listening; while :; do sleep 0.1; done";
    let mut live = test.start(["run", "exec", &id, "--", "sh", "-c", script]);
    live.until("listening");
    live.signal(Signal::SIGKILL);
    drop(live);
    until("the program was not told", || {
        test.vessl(["run", "exec", &id, "--", "cat", "/tmp/hung"]).stdout.contains("hung up")
    });
    end(&test, &id);
}

#[test]
fn the_end_of_the_run_is_the_end_of_its_sessions() {
    let (test, id) = running("true");
    let script = "trap 'echo told; exit 3' HUP; echo listening; while :; do sleep 0.1; done";
    let mut polite = test.start(["run", "exec", &id, "--", "sh", "-c", script]);
    polite.until("listening");
    let script = "trap '' HUP TERM; echo listening; while :; do sleep 0.1; done";
    let mut deaf = test.start(["run", "exec", &id, "--", "sh", "-c", script]);
    deaf.until("listening");
    test.vessl(["run", "terminate", &id, "--grace", "2"]).ok();
    let done = polite.finish().code(3);
    assert!(done.stdout.contains("told"), "{}", done.stdout);
    deaf.finish().code(4).says(&["the session is lost: the run has ended"]);
    test.until_end(&id);
}

#[test]
fn a_terminal_is_one_and_has_the_size_of_the_callers() {
    let (test, id) = running("true");
    let on_terminal = |args: &str, (at, input): (&str, &str)| {
        let mut script = Command::new("script");
        let program = env!("CARGO_BIN_EXE_vessl");
        let command = format!("stty rows 33 cols 101; exec {program} run {args}");
        script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let script = test.world(&mut script).env("TERM", "xterm").env("SHELL", "/bin/sh");
        let mut child = script.spawn().unwrap();
        let (mut shown, mut byte) = (Vec::new(), [0]);
        while !String::from_utf8_lossy(&shown).contains(at) {
            assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "no `{at}`");
            shown.push(byte[0]);
        }
        child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
        child.stdout.as_mut().unwrap().read_to_end(&mut shown).unwrap();
        (child.wait().unwrap().code(), String::from_utf8_lossy(&shown).into_owned())
    };
    let (code, shown) = on_terminal(&format!("exec {id} -it -- sh -c 'tty; stty size; exit 9'"), ("", ""));
    assert_eq!(code, Some(9), "{shown}");
    assert!(shown.contains("/dev/pts/") && shown.contains("33 101"), "{shown}");
    let (code, shown) = on_terminal(&format!("shell {id}"), ("", "echo $((6 * 7)) $0; exit 4\n"));
    assert_eq!(code, Some(4), "{shown}");
    assert!(shown.contains("42 "), "{shown}");
    // Ctrl-C is a key there.
    let script = "trap \"echo key; exit 6\" INT; echo wait\"\"ing; while :; do sleep 0.1; done";
    let (code, shown) = on_terminal(&format!("exec {id} -it -- sh -c '{script}'"), ("waiting", "\x03"));
    assert_eq!(code, Some(6), "{shown}");
    assert!(shown.contains("key"), "{shown}");
    let piped = test.vessl_with(["run", "shell", &id], b"echo $((6 * 7))\nexit 8\n").code(8);
    assert_eq!(piped.stdout, "42\n");
    end(&test, &id);
}

/// A server that answers every line with the same line, and says when it has seen the end of the input.
const ECHO: &str = r#"cat > /tmp/echo.py <<'EOF'
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    way, _ = listener.accept()
    data = b""
    while piece := way.recv(65536):
        data += piece
    way.sendall(data + b" over")
    way.close()
EOF
python3 /tmp/echo.py 7001 &
sleep 1000"#;

#[test]
fn a_port_of_the_run_is_reached_from_here() {
    let test = Test::new();
    let id = test.create(&host(ECHO));
    test.until_log(&id, "listening");
    let mut forward = test.start(["run", "port-forward", &id, "0:7001", "0:7002"]);
    forward.until("port 7002");
    let local = |port: &str| {
        let shown = forward.shown();
        let line = shown.lines().find(|line| line.contains(port)).unwrap().to_owned();
        line.split(" -> ").next().unwrap().to_owned()
    };
    let (there, nobody) = (local("7001"), local("7002"));
    for _ in 0..3 {
        let mut way = TcpStream::connect(&there).unwrap();
        way.write_all(&vec![b'x'; 300_000]).unwrap();
        way.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        way.read_to_end(&mut answer).unwrap();
        assert!(answer.len() == 300_005 && answer.ends_with(b" over"), "{}", answer.len());
    }
    let mut way = TcpStream::connect(&nobody).unwrap();
    assert_eq!(way.read(&mut [0; 8]).unwrap(), 0);
    forward.until("nothing listens on port 7002 in the run");
    end(&test, &id);
    // The next connection is the last.
    drop(TcpStream::connect(&there));
    forward.finish().code(5).says(&["the run has ended"]);
}

#[test]
fn a_run_that_waits_cannot_be_reached_and_a_stopped_server_ends_sessions_only() {
    let test = Test::new();
    let all = endless().replace("250m", "64");
    let refused = test.vessl_with(["run", "create", "-f", "-"], all.as_bytes());
    assert_ne!(refused.code, 0);
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    let mut live = test.start(["run", "exec", &id, "--", "sh", "-c", "echo listening; sleep 1000"]);
    live.until("listening");
    test.vessl(["server", "stop"]).ok();
    live.finish().code(4).says(&["the session is lost: the server is stopping"]);
    assert_eq!(test.vessl(["run", "exec", &id, "--", "echo", "again"]).ok().stdout, "again\n");
    end(&test, &id);
}

#[test]
fn files_are_copied_into_a_run_and_out_of_it() {
    let (test, id) =
        running("mkdir -p /tmp/there/deep; echo out > /tmp/there/deep/x; ln -s deep/x /tmp/there/link");
    let remote = |path: &str| format!("{id}:{path}");
    let done = test.vessl(["run", "cp", &remote("/tmp/there"), "here"]).ok();
    assert_eq!(done.stderr, "copied 1 file, 4 B\n");
    assert_eq!(std::fs::read_to_string(test.path("here/deep/x")).unwrap(), "out\n");
    assert_eq!(std::fs::read_link(test.path("here/link")).unwrap(), std::path::Path::new("deep/x"));
    // Into a directory that is there, in either direction.
    test.vessl(["run", "cp", &remote("/tmp/there/deep"), "here"]).ok();
    assert!(test.path("here/deep/x").exists());
    let bytes: Vec<u8> = (0..9_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    test.file("big", &bytes);
    test.vessl(["run", "cp", "big", &remote("/tmp/there")]).ok();
    let done = test.vessl(["run", "cp", &remote("/tmp/there/big"), "back", "--output", "json"]).ok().json();
    assert_eq!(done, serde_json::json!({"files": 1, "bytes": 9_000_000, "left_out": []}));
    assert!(std::fs::read(test.path("back")).unwrap() == bytes);
    // As another user, whose the files are then.
    test.vessl(["run", "cp", "big", &remote("/tmp/of-nobody"), "-u", "nobody"]).ok();
    let owner = test.vessl(["run", "exec", &id, "--", "stat", "-c", "%U", "/tmp/of-nobody"]).ok();
    assert_eq!(owner.stdout, "nobody\n");
    let fails = |from: &str, to: &str, says: &str| {
        test.vessl(["run", "cp", from, to]).code(1).says(&["error: cannot copy: ", says]);
    };
    fails(&remote("/no/such"), ".", "in the run: cannot find `/no/such`");
    fails("big", &remote("/no/such/place"), "the directory that it would be in is not there");
    fails("no-such", &remote("/tmp"), "cannot find `no-such`");
    fails(&remote("/tmp/there"), "no/such/place", "the directory that it would be in is not there");
    test.vessl(["run", "cp", "big", "other"]).code(2).says(&["one of the two must be a place in a run"]);
    end(&test, &id);
}

#[test]
fn a_program_has_what_the_commands_have_and_nothing_more() {
    let about = "grep -E '^(Cap|Seccomp:|NoNewPrivs|Uid|Groups)' /proc/self/status; cat /proc/self/cgroup; \
                 ls /proc/self/fd | wc -l; echo $HOME $PATH; umask; readlink /proc/self/ns/*";
    let test = Test::new();
    let id = test.create(&host(&format!("({about}) > /tmp/own\necho ready\nsleep 1000")));
    test.until_log(&id, "ready");
    let own = test.vessl(["run", "exec", &id, "--", "cat", "/tmp/own"]).ok().stdout;
    let there = test.vessl([
        "run",
        "exec",
        &id,
        "--",
        "sh",
        "-c",
        &format!("({about}) > /tmp/other; cat /tmp/other"),
    ]);
    assert_eq!(there.ok().stdout, own);
    assert!(own.contains("Seccomp:\t2"), "{own}");
    end(&test, &id);
}

#[test]
fn an_init_that_does_not_answer_is_named() {
    let (test, id) = running("true");
    let agent = test.agent(&id);
    let children = std::fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap();
    let init = nix::unistd::Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap());
    nix::sys::signal::kill(init, Signal::SIGSTOP).unwrap();
    let done = test.vessl(["run", "exec", &id, "--", "true"]).code(1);
    nix::sys::signal::kill(init, Signal::SIGCONT).unwrap();
    done.says(&["the first process of the container does not answer within 5 s"]);
    test.vessl(["run", "exec", &id, "--", "true"]).ok();
    end(&test, &id);
}

/// The commands of the page about reaching into a run, in its order, each with what it prints.
#[test]
fn the_page_says_what_happens() {
    let page = include_str!("../../../../docs/reach.md");
    let block = |kind: &str| {
        let kind = kind.to_owned();
        page.split("```").skip(1).step_by(2).filter_map(move |block| {
            let (found, text) = block.split_once('\n')?;
            (found == kind).then(|| text.to_owned())
        })
    };
    let test = Test::new();
    let id = test.create(&block("yaml").next().unwrap());
    test.until_log(&id, "ready");
    let mut commands = 0;
    for text in block("console") {
        let (line, prints) = text.strip_prefix("$ vessl ").unwrap().split_once('\n').unwrap();
        let args: Vec<&str> = line.split(' ').collect();
        commands += 1;
        if args.contains(&"port-forward") {
            // Its number here may be another's.
            let args = args.iter().map(|arg| arg.replace("18501:", "0:"));
            let mut forward = test.start(args);
            forward.until(&format!(" -> port 8501 of run {id}"));
            assert!(prints.contains(" -> port 8501 of run "), "{prints}");
            continue;
        }
        let done = test.vessl(args).ok();
        assert_eq!(done.stdout + &done.stderr, prints, "{line}");
    }
    assert_eq!(commands, 3);
    end(&test, &id);
}
