//! Runs from file to exit code.
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::gate::{Gate, WAIT};
use crate::specs::{endless, head, host, item};
use crate::test::{Test, until};

#[test]
fn the_exit_code_is_that_of_the_run() {
    let test = Test::new();
    let done = test.wait(&host("echo hello")).ok();
    let run = done.json();
    assert_eq!(run["status"], "completed");
    assert_eq!(run["exit_code"], 0);
    for key in ["id", "created_at", "started_at", "ended_at", "reason", "name"] {
        assert!(!run[key].is_null(), "{key} is missing in {run}");
    }
    assert!(run["id"].is_u64(), "{run}");
    let failed = test.wait(&host("exit 41")).code(41).json();
    assert_eq!((failed["status"].as_str(), failed["exit_code"].as_i64()), (Some("failed"), Some(41)));
    let killed = test.wait(&host("kill -9 $$")).code(137).json();
    assert_eq!(killed["exit_code"], 137);
}

#[test]
fn items_run_in_one_shell_until_one_fails() {
    let test = Test::new();
    let yaml = format!(
        "{}run:\n  - command: export A=1; cd /tmp\n  - command: echo A=$A in $PWD\n    workdir: /usr\n  - command: 'false'\n  - command: echo never\n",
        head("host://")
    );
    let id = {
        let done = test.wait(&yaml).code(1);
        done.json()["id"].to_string()
    };
    let log = test.vessl(["run", "logs", &id]).ok();
    assert!(log.stdout.contains("A=1 in /usr") && !log.stdout.contains("never"), "{}", log.stdout);
    assert!(
        test.read(&id)["reason"].as_str().unwrap().contains("item 3"),
        "the reason names the item: {}",
        test.read(&id)
    );
}

#[test]
fn a_run_whose_directory_is_removed_leaves_no_process() {
    let test = Test::new();
    let id = test.create(&host("echo ready; sleep 1000"));
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    std::fs::remove_dir_all(test.data().join("runs").join(&id)).unwrap();
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    let run = test.until_end(&id);
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run["reason"].as_str().unwrap().contains("the record of attempt 1 is gone"), "{run}");
    Test::until_gone(agent);
    test.vessl(["run", "delete", &id]).ok();
}

#[test]
fn a_run_without_its_lock_is_terminated_by_the_next_server() {
    let test = Test::new();
    let id = test.create(&host("echo ready; sleep 1000"));
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    test.kill_server();
    std::fs::remove_file(test.attempt(&id).join("lock")).unwrap();
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    let run = test.until_end(&id);
    assert_eq!(run["status"], "terminated", "{run}");
    Test::until_gone(agent);
    test.until_removed(&id);
}

/// A name, and what somebody, or a failing disk, does to the directory of an attempt.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 9] = [
    ("events cut", |dir| std::fs::write(dir.join("events"), "").unwrap()),
    ("events filled", |dir| std::fs::write(dir.join("events"), vec![0xfe; 200]).unwrap()),
    ("events overwritten", |dir| {
        let file = std::fs::File::options().write(true).open(dir.join("events")).unwrap();
        file.write_all_at(&[b'#'; 200], 0).unwrap();
    }),
    ("events a pipe", |dir| replace(&dir.join("events"), pipe)),
    ("lock a pipe", |dir| replace(&dir.join("lock"), pipe)),
    ("lock a directory", |dir| replace(&dir.join("lock"), |path| std::fs::create_dir(path).unwrap())),
    ("socket a directory", |dir| {
        replace(&dir.join("control.sock"), |path| std::fs::create_dir_all(path.join("in")).unwrap());
    }),
    ("record a directory", |dir| std::fs::create_dir_all(dir.join("exit.json/in")).unwrap()),
    ("record filled", |dir| std::fs::write(dir.join("exit.json"), "garbage").unwrap()),
];

fn replace(path: &Path, make: fn(&Path)) {
    std::fs::remove_file(path).unwrap();
    make(path);
}

fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
}

#[test]
fn damage_to_the_directory_of_a_run_costs_neither_its_end_nor_its_seat() {
    let (test, gate) = Gate::new();
    for (damage, harm) in DAMAGES {
        let id = test.create(&gate.host(&format!("echo ready\n{WAIT}")));
        test.until_log(&id, "ready");
        harm(&test.attempt(&id));
        gate.open();
        let run = test.until_end(&id);
        assert_eq!(run["status"], "completed", "{damage}: {run}");
        test.until_removed(&id);
        test.vessl(["run", "delete", &id]).ok();
    }
}

#[test]
fn damage_and_the_death_of_server_and_agent_still_end_the_run() {
    let (test, gate) = Gate::new();
    for (damage, harm) in DAMAGES {
        let id = test.create(&gate.host(&format!("echo ready\n{WAIT}")));
        test.until_log(&id, "ready");
        let agent = test.agent(&id);
        test.kill_server();
        harm(&test.attempt(&id));
        Test::kill(agent);
        let run = test.until_end(&id);
        assert_eq!(run["status"], "failed", "{damage}: {run}");
        test.until_removed(&id);
        test.vessl(["run", "delete", &id]).ok();
    }
}

#[test]
fn watch_prints_the_log_and_ends_with_the_run() {
    let test = Test::new();
    test.file("run.yaml", host("echo to-out; echo to-err >&2; exit 3"));
    let done = test.vessl(["run", "create", "-f", "run.yaml", "--watch"]).code(3);
    let done = done.prints(&["to-out\n", "to-err\n"]).says(&["failed", "exit code 3"]);
    assert!(!done.stdout.contains("vessl:"), "{}", done.stdout);
    let json = test.vessl(["run", "create", "-f", "run.yaml", "--wait", "--output", "json"]).code(3);
    assert_eq!(json.json()["status"], "failed");
    test.file("items.yaml", format!("{}  - command: echo two\n", host("echo one")));
    let said = test.vessl(["run", "create", "-f", "items.yaml", "--watch"]).ok().stderr;
    let at = |line: &str| said.find(line).unwrap_or_else(|| panic!("no `{line}` in {said}"));
    assert!(at("vessl: running") < at("vessl: item 1 of 2"), "{said}");
}

#[test]
fn where_both_outputs_are_one_file_a_line_of_the_product_begins_a_line() {
    let test = Test::new();
    test.file("run.yaml", host("printf open"));
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "\"$0\" run create -f run.yaml --watch 2>&1"]).arg(test.program());
    let both = test.start_command(shell).finish().ok().stdout;
    assert!(both.contains("\nopen\nvessl: "), "{both}");
    let apart = test.vessl(["run", "create", "-f", "run.yaml", "--watch"]).ok();
    assert_eq!(apart.stdout, "open");
    assert!(!apart.stderr.contains("\n\n"), "{}", apart.stderr);
}

#[test]
fn ctrl_c_leaves_the_run_running_and_says_how_to_stop_it() {
    let test = Test::new();
    test.file("run.yaml", endless());
    let mut live = test.start(["run", "create", "-f", "run.yaml", "--watch"]);
    live.until("ready");
    live.signal(Signal::SIGINT);
    live.finish().code(130).says(&["goes on", "vessl run terminate"]);
    let runs = test.vessl(["run", "list", "--output", "json"]).ok().json();
    let id = runs[0]["id"].to_string();
    assert_eq!(runs[0]["status"], "running");
    test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
    assert_eq!(test.until_end(&id)["status"], "terminated");
}

#[test]
fn ctrl_c_tells_a_program_which_run_it_leaves() {
    let test = Test::new();
    test.file("run.yaml", endless());
    let live = test.start(["run", "create", "-f", "run.yaml", "--wait", "--output", "json"]);
    let id = test.until_listed();
    test.until_status(&id, "running");
    live.signal(Signal::SIGINT);
    let told = live.finish().code(130).json();
    assert_eq!((told["id"].to_string(), &told["status"]), (id.clone(), &"running".into()), "{told}");
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    test.until_end(&id);
}

#[test]
fn every_variable_that_a_run_gets_is_in_the_reference() {
    let test = Test::new();
    let page = include_str!("../../../../docs/run-file.md");
    let id = test
        .wait(&host("env | sed -n 's/^\\(VESSL_[A-Z_]*\\|HOME\\|HOSTNAME\\|PATH\\)=.*/\\1/p'"))
        .ok()
        .json()["id"]
        .to_string();
    let names = test.vessl(["run", "logs", &id]).ok().stdout;
    assert!(names.lines().count() >= 9, "{names}");
    for name in names.lines() {
        assert!(page.contains(&format!("`{name}`")), "docs/run-file.md does not have `{name}`");
    }
}

#[test]
fn variables_come_from_the_command_line() {
    let test = Test::new().env("FROM_HERE", "two words");
    let yaml = format!(
        "{}env:\n  A: old\n  B: {{source: inject}}\n{}",
        head("host://"),
        item("echo \"[$A][$B][$FROM_HERE]\"")
    );
    let args = ["run", "create", "-f", "-", "-w", "-e", "A=new", "-e", "B=1e-4", "-e", "FROM_HERE"];
    test.vessl_with(args, yaml.as_bytes()).ok().prints(&["[new][1e-4][two words]"]);
    let id = test.vessl(["run", "list", "--output", "json"]).ok().json()[0]["id"].to_string();
    let env = serde_json::json!({ "A": "new", "B": "1e-4", "FROM_HERE": "two words" });
    assert_eq!(test.read(&id)["env"], env);
    test.vessl(["run", "read", &id]).ok().prints(&["A=new", "FROM_HERE=two words"]);
    test.vessl_with(["run", "create", "-f", "-"], yaml.as_bytes()).code(3).says(&["`B`"]);
}

#[test]
fn runs_are_listed_changed_and_removed() {
    let test = Test::new();
    assert_eq!(test.vessl(["run", "list", "--output", "json"]).ok().json(), serde_json::json!([]));
    let first = test.wait(&host("true")).ok().json()["id"].to_string();
    let second = test.wait(&host("exit 1")).code(1).json()["id"].to_string();
    let runs = test.vessl(["run", "list", "--output", "json"]).ok().json();
    assert_eq!((runs[0]["id"].to_string(), runs[1]["id"].to_string()), (second.clone(), first.clone()));
    let failed = test.vessl(["run", "list", "--status", "failed", "--output", "json"]).ok().json();
    assert_eq!(failed.as_array().unwrap().len(), 1);
    let newest = test.vessl(["run", "list", "--limit", "1", "--output", "json"]).ok().json();
    assert_eq!(newest.as_array().unwrap().len(), 1);
    test.vessl(["run", "update", &first, "a description", "--tag", "keep", "--name", "renamed"]).ok();
    let run = test.read(&first);
    assert_eq!((run["name"].as_str(), run["description"].as_str()), (Some("renamed"), Some("a description")));
    assert_eq!(run["tags"], serde_json::json!(["keep"]));
    test.vessl(["run", "list", "--keyword", "renam"]).ok().prints(&[&first, "renamed", "completed"]);
    test.vessl(["run", "list", "--keyword", "KEEP"]).ok().prints(&[&first]);
    test.vessl(["run", "list", "--keyword", "other"])
        .ok()
        .says(&["there is no run with `other` in its texts"]);
    test.vessl(["run", "delete", &first]).ok();
    test.vessl(["run", "read", &first]).code(5).says(&[&first]);
    assert!(!test.data().join("runs").join(&first).exists());
    test.vessl(["run", "read", &second, "--output", "yaml"]).ok().prints(&["status: failed", "exit_code: 1"]);
}

#[test]
fn a_run_that_has_not_ended_is_not_deleted() {
    let test = Test::new();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    test.vessl(["run", "delete", &id]).code(5).says(&[&id]);
    let other = test.create(&host("true"));
    test.until_end(&other);
    let done =
        test.vessl(["run", "delete", "7", &id, &other, "--output", "json"]).code(5).says(&["`7`", &id]);
    assert_eq!(done.json()["deleted"], serde_json::json!([other.parse::<u64>().unwrap()]));
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    test.until_end(&id);
    test.vessl(["run", "delete", &id]).ok();
}

#[test]
fn explain_says_what_a_waiting_run_waits_for() {
    let test = Test::new();
    let nodes = test.vessl(["cluster", "list-nodes", "local", "--output", "json"]).ok().json();
    let all = format!("{}m", nodes[0]["cpu_milli"]);
    let big = |command: &str| host(command).replace("250m", &all);
    let first = test.create(&big("echo ready\nsleep 1000"));
    test.until_log(&first, "ready");
    let second = test.create(&big("true"));
    // Just after the submit it may only say that the queue has not been asked yet.
    until("it does not say what is missing", || {
        let why = test.vessl(["run", "explain", &second, "--output", "json"]).ok().json();
        assert_eq!(why["status"], "queued");
        let why = why["why"].as_str().unwrap().to_lowercase();
        why.contains("cpu") || why.contains("core")
    });
    test.vessl(["run", "terminate", &first, "--grace", "0"]).ok();
    assert_eq!(test.until_end(&second)["status"], "completed");
    test.until_end(&first);
}

/// Why a run ended, for programs.
#[test]
fn runs_are_found_by_the_reason_of_their_end() {
    let test = Test::new();
    let id = |done: crate::test::Done| done.json()["id"].to_string();
    let export = format!("{}export: {{/etc/passwd/x: vessl-artifact://}}\n{}", head("host://"), item("true"));
    let missing = head("127.77.77.77:9/team/x:1");
    let ended = [
        ("completed", id(test.wait(&host("true")).ok())),
        ("command_failed", id(test.wait(&host("exit 3")).code(3))),
        ("image_failed", id(test.wait(&format!("{missing}{}", item("true"))))),
        ("setup_failed", id(test.wait(&export))),
    ];
    let running = test.create(&endless());
    test.until_log(&running, "ready");
    assert_eq!(test.read(&running)["reason_code"], serde_json::Value::Null);
    test.vessl(["run", "terminate", &running, "--grace", "0"]).ok();
    test.until_end(&running);
    for (code, id) in ended.iter().map(|(code, id)| (*code, id)).chain([("terminated", &running)]) {
        let listed = test.vessl(["run", "list", "--reason", code, "--output", "json"]).ok().json();
        let found: Vec<String> = listed.as_array().unwrap().iter().map(|run| run["id"].to_string()).collect();
        assert_eq!(found, std::slice::from_ref(id), "{code}: {}", test.read(id));
        assert_eq!(test.read(id)["reason_code"], code);
    }
    test.vessl(["run", "list", "--reason", "lost"]).ok().says(&["there is no run that ended with `lost`"]);
}

#[test]
fn machine_and_catalogue_can_be_looked_at() {
    let test = Test::new();
    let clusters = test.vessl(["cluster", "list", "--output", "json"]).ok().json();
    assert_eq!((clusters[0]["name"].as_str(), clusters[0]["default"].as_bool()), (Some("local"), Some(true)));
    test.vessl(["cluster", "read", "local"]).ok().prints(&["local"]);
    let presets = test.vessl(["resource", "list", "--output", "json"]).ok().json();
    let name = presets[0]["name"].as_str().unwrap();
    test.vessl(["resource", "read", "local", name]).ok().prints(&[name]);
    test.vessl(["resource", "read", name]).ok().prints(&[name]);
    test.vessl(["cluster", "list-nodes"]).ok().prints(&["NAME"]);
    test.vessl(["resource", "list", "local"]).ok().prints(&["NAME", name]);
    let who = test.vessl(["whoami", "--output", "json"]).ok().json();
    assert_eq!(who["server_version"], env!("CARGO_PKG_VERSION"));
    let probes = test.vessl(["doctor", "--output", "json"]).ok().json();
    assert!(probes.as_array().is_some_and(|probes| probes.len() > 3), "{probes}");
}

#[test]
fn json_of_a_watched_run_is_one_object() {
    let test = Test::new();
    test.file("run.yaml", host("echo to-out"));
    let done = test.vessl(["run", "create", "-f", "run.yaml", "--watch", "--output", "json"]).ok();
    assert_eq!(done.json()["status"], "completed");
    done.says(&["to-out"]);
}
