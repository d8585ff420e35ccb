//! Server, agent and machine die in each state of a run: nothing is lost, nothing happens twice, nothing is left.
use serde_json::Value;

use crate::gate::{Gate, WAIT};
use crate::scripted::Scripted;
use crate::specs::{head, host, item, much};
use crate::test::{Test, files_below, until};

/// A run that stays in a state until it is ended.
struct Stay {
    status: &'static str,
    yaml: String,
    _registry: Option<Scripted>,
}

impl Stay {
    fn all() -> [Self; 4] {
        let stay = |status, yaml| Self { status, yaml, _registry: None };
        let registry = Scripted::silent();
        let pulling =
            format!("{}{}", head(&format!("{}/team/app:v1", registry.address())), item("echo once"));
        let exporting = format!(
            "{}export: {{/out-d: vessl-artifact://}}\n{}",
            head("host://"),
            item(&format!("echo once\n{}", much("/out-d", 5)))
        );
        [
            Self { _registry: Some(registry), ..stay("initializing", pulling) },
            stay("running", host("echo once\nsleep 1000")),
            stay("idle", format!("termination_protection: true\n{}", host("echo once\nexit 4"))),
            stay("stopping", exporting),
        ]
    }

    /// Exit status of the commands, if they have ended.
    fn exit_code(&self) -> Option<i64> {
        match self.status {
            "idle" => Some(4),
            "stopping" => Some(0),
            _ => None,
        }
    }

    fn log(&self) -> &'static str {
        if self.status == "initializing" { "" } else { "once\n" }
    }

    fn begin(&self, test: &Test) -> String {
        let id = test.create(&self.yaml);
        test.until_status(&id, self.status);
        if !self.log().is_empty() {
            test.until_log(&id, self.log());
        }
        id
    }

    /// The run's end, with its log and its one attempt.
    fn end(&self, test: &Test, id: &str) -> Value {
        let run = test.until_end(id);
        assert_eq!(test.vessl(["run", "logs", id]).ok().stdout, self.log(), "{run}");
        assert_eq!(run["attempt"], 1, "{run}");
        let history = run["history"].as_array().unwrap();
        let last = history.iter().filter(|change| change["status"] == run["status"]).count();
        assert_eq!(last, 1, "{run}");
        assert_eq!(test.read(id), run, "a finished run never changes");
        run
    }
}

#[test]
fn what_was_exported_before_the_agent_was_killed_can_be_fetched() {
    let test = Test::new();
    let yaml = format!(
        "{}export: {{/a: vessl-artifact://default/default/kept, /z: vessl-artifact://}}\n{}",
        head("host://"),
        item(&format!("echo once\necho kept > /a/x\n{}", much("/z", 5)))
    );
    let id = test.create(&yaml);
    test.until_log(&id, "exporting `/z`");
    Test::kill(test.agent(&id));
    let run = test.until_end(&id);
    assert_eq!((&run["status"], &run["exit_code"]), (&"completed".into(), &0.into()), "{run}");
    test.vessl(["run", "download", &id, "back", "--path", "/a"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("back/x")).unwrap(), "kept\n");
    let artifact = test.vessl(["artifact", "read", "kept", "--output", "json"]).ok().json();
    assert_eq!(artifact["versions"][0]["run"].to_string(), id, "{artifact}");
    assert_eq!(artifact["versions"].as_array().unwrap().len(), 1, "{artifact}");
    // The log tells of one end, and another agent wrote the rest.
    let log = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
    assert!(
        log.contains("the agent died over the exports") && log.matches("completed:").count() == 1,
        "{log}"
    );
}

#[test]
fn of_the_server_changes_nothing() {
    for stay in Stay::all() {
        let test = Test::new();
        let id = stay.begin(&test);
        let agent = test.agent(&id);
        test.kill_server();
        let run = test.read(&id);
        if stay.status == "stopping" {
            // The export goes on without a server, and may be over.
            let run = stay.end(&test, &id);
            assert_eq!(
                (run["status"].as_str(), run["exit_code"].as_i64()),
                (Some("completed"), Some(0)),
                "{run}"
            );
            let files = test.vessl(["run", "files", &id, "--output", "json"]).ok().json();
            let sizes: u64 = files.as_array().unwrap().iter().filter_map(|file| file["size"].as_u64()).sum();
            assert_eq!(sizes, 1 << 30);
            continue;
        }
        assert_eq!(run["status"], stay.status, "{run}");
        assert_eq!(test.agent(&id), agent);
        test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
        let run = stay.end(&test, &id);
        assert_eq!(run["status"], "terminated", "{run}");
        let code = if stay.status == "idle" { Some(4) } else { None };
        assert!(code.is_none() || run["exit_code"].as_i64() == code, "{run}");
    }
}

#[test]
fn of_the_agent_is_the_end_and_said() {
    for both in [false, true] {
        for stay in Stay::all() {
            let test = Test::new();
            let id = stay.begin(&test);
            let agent = test.agent(&id);
            if both {
                test.kill_server();
            }
            Test::kill(agent);
            let run = stay.end(&test, &id);
            if stay.status == "stopping" {
                // Another agent goes on with the exports.
                assert_eq!((&run["status"], &run["exit_code"]), (&"completed".into(), &0.into()), "{run}");
                continue;
            }
            assert_eq!(run["status"], "failed", "{}: {run}", stay.status);
            assert_eq!(run["exit_code"].as_i64(), stay.exit_code(), "{}: {run}", stay.status);
            let reason = run["reason"].as_str().unwrap();
            assert!(reason.contains("is gone") && reason.contains("agent"), "{}: {run}", stay.status);
            assert_eq!(
                test.vessl(["run", "files", &id, "--output", "json"]).ok().json(),
                serde_json::json!([])
            );
        }
    }
}

#[test]
fn of_the_machine_is_the_end_and_said() {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for stay in Stay::all() {
        let test = Test::new();
        let id = stay.begin(&test);
        let agent = test.agent(&id);
        test.kill_server();
        Test::kill(agent);
        // What the agent noted of its boot is now of an earlier one.
        for name in ["events", "commands.json"] {
            let file = test.attempt(&id).join(name);
            let Ok(said) = std::fs::read_to_string(&file) else { continue };
            let earlier = said.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
            assert_ne!(said, earlier);
            std::fs::write(&file, earlier).unwrap();
        }
        let run = stay.end(&test, &id);
        assert_eq!(run["status"], "failed", "{run}");
        assert!(run["reason"].as_str().unwrap().contains("the machine was started again"), "{run}");
    }
}

#[test]
fn of_the_machine_after_the_end_keeps_the_result() {
    let (test, gate) = Gate::new();
    let id = test.create(&gate.host(&format!("echo ready\n{WAIT}\nexit 7")));
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    test.kill_server();
    gate.open();
    Test::until_gone(agent);
    let file = test.attempt(&id).join("events");
    let events = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let earlier = events.replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
    assert_ne!(events, earlier);
    std::fs::write(&file, earlier).unwrap();
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["exit_code"].as_i64()), (Some("failed"), Some(7)), "{run}");
}

/// At every step after the submit, from before the start to after the end: as soon as the step's file is there.
#[test]
fn of_the_server_at_any_moment_runs_everything_once() {
    let (test, gate) = Gate::new();
    for step in ["", "lock", "plan.json", "events", "box", "control.sock", "log", "exit.json"] {
        let ends = step == "exit.json";
        let id = test.create(&gate.host(&format!("echo once\n{}", if ends { "" } else { WAIT })));
        let attempt = test.attempt(&id);
        until(step, || step.is_empty() || attempt.join(step).exists());
        test.kill_server();
        assert_eq!(attempt.join("exit.json").exists(), ends, "the server died at `{step}`");
        // The next server begins while the run waits, if it was started.
        test.vessl(["whoami"]).ok();
        if !ends {
            gate.open();
        }
        let run = test.until_end(&id);
        assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(1)), "{run}");
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "once\n");
    }
}

/// A reader of an artifact's name finds the new version, whole and once, whenever the writer dies.
#[test]
fn of_an_export_at_any_moment_leaves_the_old_version_or_the_new_one() {
    const SIZE: usize = 20_000_000;
    let test = Test::new();
    let name = "vessl-artifact://default/default/weights";
    let write = |text: &str| {
        let command =
            format!("mkdir -p /out-d/deep\nyes {text} | head -c {SIZE} | tee /out-d/one > /out-d/deep/two");
        format!("{}export: {{/out-d: '{name}'}}\n{}", head("host://"), item(&command))
    };
    let read = format!(
        "{}import: {{/in-d: '{name}'}}\n{}",
        head("host://"),
        item("cmp /in-d/one /in-d/deep/two || exit 9\nwc -c < /in-d/one\nhead -n 1 /in-d/one")
    );
    let stored = || {
        let files = files_below(&test.data().join("blobs")).into_iter();
        files.map(|file| std::fs::metadata(file).map_or(0, |file| file.len())).sum::<u64>()
    };
    test.wait(&write("old")).ok();
    let mut cut_off = 0;
    // As soon as so many tenths of the files are stored.
    for tenths in [0, 2, 5, 9, 10] {
        let text = format!("new{tenths}");
        let before = stored();
        let id = test.create(&write(&text));
        let attempt = test.attempt(&id);
        let began = || std::fs::read_to_string(attempt.join("events")).is_ok_and(|text| text.contains('\n'));
        until("no agent starts", began);
        let agent = test.agent(&id);
        let ended = attempt.join("exit.json");
        let enough = before + SIZE as u64 * tenths / 10;
        until("the export does not go on", || stored() >= enough.max(before + 1) || ended.exists());
        // It may end at this very moment.
        let _ = nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGKILL);
        Test::until_gone(agent);
        let run = test.until_end(&id);
        assert_eq!(run["status"], "completed", "{run}");
        let log = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
        cut_off += usize::from(log.contains("the agent died over the exports"));
        let expected = text;
        let id = test.wait(&read).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, format!("{SIZE}\n{expected}\n"), "{run}");
    }
    assert!(cut_off > 0, "no export was cut off");
}
