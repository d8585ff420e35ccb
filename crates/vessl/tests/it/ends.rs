//! Terminate: grace, kill, exports.
use crate::specs::{endless, head, host, item};
use crate::test::Test;

#[test]
fn the_commands_get_their_grace() {
    let test = Test::new();
    let id = test.create(&host("trap 'echo saving; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done"));
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id]).ok().prints(&["stopping"]).says(&["will end"]);
    let run = test.until_end(&id);
    assert_eq!(run["status"], "terminated", "{run}");
    assert!(test.vessl(["run", "logs", &id]).ok().stdout.contains("saving"));
    let said = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
    assert!(said.contains("SIGTERM and 30 s to end"), "{said}");
}

#[test]
fn what_ignores_the_grace_is_killed() {
    let test = Test::new();
    let id = test.create(&host("trap '' TERM\necho ready\nwhile :; do sleep 0.1; done"));
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
    let run = test.until_end(&id);
    assert_eq!((&run["status"], &run["exit_code"]), (&"terminated".into(), &137.into()), "{run}");
    assert_eq!(run["reason"], "terminated; the commands did not end in time after SIGTERM and were killed");
}

/// A training program whose two workers must live while it saves.
const TRAIN: &str = r#"cat > /tmp/train.py <<'EOF'
import multiprocessing, signal, sys
fork = multiprocessing.get_context("fork")
def work(pipe):
    while True:
        pipe.send(pipe.recv())
pipes = [fork.Pipe() for _ in range(2)]
for _, theirs in pipes:
    fork.Process(target=work, args=(theirs,), daemon=True).start()
def save(*_):
    for ours, _ in pipes:
        ours.send("batch")
        if not (ours.poll(20) and ours.recv() == "batch"):
            sys.exit("a worker is gone")
    open("/tmp/out/checkpoint", "w").write("weights")
    print("saved the checkpoint", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    signal.pause()
EOF
"#;

#[test]
fn a_training_program_saves_before_its_workers_end() {
    let test = Test::new();
    for command in [
        "python3 /tmp/train.py",
        "python3 /tmp/train.py 2>&1 | tee /tmp/log",
        "echo 'python3 /tmp/train.py | cat | tee /tmp/log; true' > /tmp/train.sh; bash /tmp/train.sh",
        "trap 'exit 3' TERM; python3 /tmp/train.py",
        "setsid -w python3 /tmp/train.py",
        "cat /dev/zero | python3 /tmp/train.py",
    ] {
        let head = head("host://").replace("64Mi", "256Mi");
        let run = item(&format!("{TRAIN}{command}"));
        let id = test.create(&format!("{head}export:\n  /tmp/out: vessl-artifact://\n{run}"));
        test.until_log(&id, "ready");
        // Who reads from another program is told after half of it.
        test.vessl(["run", "terminate", &id, "--grace", "10"]).ok();
        let run = test.until_end(&id);
        assert_eq!(run["status"], "terminated", "{command}: {run}");
        let said = test.vessl(["run", "logs", &id]).ok().stdout;
        assert!(said.contains("saved the checkpoint"), "{command}: {said}");
        test.vessl(["run", "files", &id]).ok().prints(&["checkpoint"]);
    }
}

#[test]
fn what_a_program_does_not_end_is_told_after_half_the_grace() {
    let test = Test::new();
    let told = "env --default-signal=TERM sh -c \"echo ready; exec sleep 1000\"";
    let stubborn = format!("sh -c 'trap \"\" TERM; {told}; echo over'");
    let id = test.create(&host(&stubborn));
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "3"]).ok();
    let run = test.until_end(&id);
    assert!(!run["reason"].as_str().unwrap().contains("killed"), "{run}");
    test.vessl(["run", "logs", &id]).ok().prints(&["over"]);
    test.vessl(["run", "logs", &id, "--only", "system"]).ok().prints(&["half of the grace is over"]);
}

#[test]
fn a_run_whose_socket_is_gone_can_be_ended() {
    let test = Test::new();
    for instead in ["", "file", "directory"] {
        let id = test.create(&host("trap '' TERM\necho ready\nwhile :; do sleep 0.1; done"));
        test.until_log(&id, "ready");
        let socket = test.attempt(&id).join("control.sock");
        std::fs::remove_file(&socket).unwrap();
        match instead {
            "file" => std::fs::write(&socket, "").unwrap(),
            "directory" => std::fs::create_dir_all(socket.join("sub")).unwrap(),
            _ => {}
        }
        test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
        assert_eq!(test.until_end(&id)["status"], "terminated", "{instead}");
        let said = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
        assert!(said.contains("SIGTERM and 1 s to end"), "{instead}: {said}");
    }
}

#[test]
fn asking_again_and_asking_late_are_no_errors() {
    let test = Test::new();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
    test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
    let ended = test.until_end(&id);
    let late = test.vessl(["run", "terminate", &id]).ok();
    assert_eq!(late.stderr, "");
    assert_eq!(test.read(&id)["ended_at"], ended["ended_at"]);
    test.vessl(["run", "terminate", "999999999999"]).code(5).says(&["999999999999"]);
}

#[test]
fn exports_are_written_unless_they_are_not_wanted() {
    let test = Test::new();
    let yaml = format!(
        "{}export:\n  /tmp/out: vessl-artifact://\n{}",
        head("host://"),
        item("mkdir -p /tmp/out; echo 1 > /tmp/out/x\necho ready\nsleep 1000")
    );
    let with = test.create(&yaml);
    test.until_log(&with, "ready");
    test.vessl(["run", "terminate", &with, "--grace", "1"]).ok();
    test.until_end(&with);
    assert_eq!(test.vessl(["run", "files", &with, "--output", "json"]).ok().json()[0]["path"], "x");
    let without = test.create(&yaml);
    test.until_log(&without, "ready");
    test.vessl(["run", "terminate", &without, "--grace", "1", "--no-export"]).ok();
    test.until_end(&without);
    assert_eq!(test.vessl(["run", "files", &without, "--output", "json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn waiting_for_a_terminated_run_is_not_success() {
    let check = |own: i32, expected: i32| {
        let test = Test::new();
        let yaml = host(&format!("trap 'exit {own}' TERM\necho ready\nwhile :; do sleep 0.1; done"));
        test.file("run.yaml", yaml);
        let live = test.start(["run", "create", "-f", "run.yaml", "--wait", "--output", "json"]);
        let id = test.until_listed();
        test.until_log(&id, "ready");
        test.vessl(["run", "terminate", &id]).ok();
        live.finish().code(expected);
    };
    check(0, 143);
    check(7, 7);
}

#[test]
fn why_a_watched_run_failed_is_said_once() {
    let test = Test::new();
    let check = |yaml: &str, reason: &str| {
        let done = test.vessl_with(["run", "create", "-f", "-", "--watch"], yaml.as_bytes());
        assert_eq!(done.stderr.matches(reason).count(), 1, "{}", done.stderr);
        let last = done.stderr.lines().last().unwrap();
        assert!(last.starts_with("run ") && last.contains(" failed after "), "{last}");
        assert_eq!(done.stdout, "");
    };
    check(&host("exit 3"), "the command ended with exit code 3");
    let nowhere = format!("{}    workdir: /kode\n", host("true"));
    check(&nowhere, "the working directory `/kode` does not exist in the container");
}

#[test]
fn a_run_that_is_kept_says_how_its_commands_ended() {
    let test = Test::new();
    let kept = "termination_protection: true\nrun: [exit 5, echo never]\n";
    let id = test.create(&format!("{}{kept}", head("host://")));
    test.until_status(&id, "idle");
    let run = test.read(&id);
    let ended = "item 1 of 2 ended with exit code 5; item 2 was not started";
    assert_eq!(run["reason"], format!("{ended}; the container is kept until the run is terminated"), "{run}");
    assert_eq!(run["exit_code"], 5, "{run}");
    test.vessl(["run", "explain", &id]).ok().prints(&[ended, "vessl run terminate"]);
    test.vessl(["run", "logs", &id]).ok().says(&[ended]);
    test.vessl(["run", "terminate", &id]).ok();
    let run = test.until_end(&id);
    assert_eq!((&run["status"], &run["exit_code"]), (&"terminated".into(), &5.into()), "{run}");
}

#[test]
fn a_version_that_was_imported_is_exported_again() {
    let test = Test::new();
    let run = |import: &str, command: &str| {
        let export = "export: {/w: {artifact: {name: ck}}}\n";
        let id = test.create(&format!("{import}{export}{}", host(command)));
        let run = test.until_end(&id);
        assert_eq!(run["status"], "completed", "{run}");
    };
    run("", "mkdir -p /w; head -c 5000 /dev/urandom > /w/bin; echo 1 > /w/step");
    let import = "import: {/w: {artifact: {name: ck}}}\n";
    run(import, "true");
    run(import, "echo 2 >> /w/step; cat /w/bin > /dev/null");
    let versions = test.vessl(["artifact", "read", "ck", "--output", "json"]).ok().json();
    let versions: Vec<_> =
        versions["versions"].as_array().unwrap().iter().map(|v| v["manifest"].clone()).collect();
    assert_eq!(versions.len(), 3, "{versions:?}");
}
