//! What a submit says beside the file: amounts, names, variables, sweeps.
use serde_json::Value;

use crate::gate::{Gate, WAIT};
use crate::specs::host;
use crate::test::Test;

fn create(test: &Test, yaml: &str, args: &[&str]) -> Value {
    let all = [&["run", "create", "-f", "-", "--output", "json"], args].concat();
    test.vessl_with(all, yaml.as_bytes()).ok().json()
}

#[test]
fn the_command_line_counts_before_the_file() {
    let test = Test::new();
    let args =
        ["--wait", "--name", "trial", "--tag", "one", "--tag", "two", "--cpu", "100m", "--memory", "32Mi"];
    let run = create(&test, &host("true"), &args);
    assert_eq!((&run["name"], &run["tags"]), (&"trial".into(), &serde_json::json!(["one", "two"])), "{run}");
    assert_eq!(
        (&run["resources"]["cpu_milli"], &run["resources"]["memory"]),
        (&100.into(), &(32 << 20).into())
    );
    let yaml = test.read(&run["id"].to_string())["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.contains("name: trial") && yaml.contains("cpu: 100m"), "{yaml}");
    let refused = |args: &[&str], code, words: &[&str]| {
        let all = [&["run", "create", "-f", "-"], args].concat();
        test.vessl_with(all, host("true").as_bytes()).code(code).says(words);
    };
    refused(&["--preset", "nothing-like-it"], 3, &["has no preset `nothing-like-it`", "--> --preset\n"]);
    refused(&["--gpus", "4000"], 3, &["4000 GPUs", "--> --gpus\n"]);
    refused(&["--cpu", "many"], 2, &["not a number of cores"]);
    refused(&["--name", " "], 5, &["`name` is blank"]);
}

#[test]
fn variables_come_from_files_too() {
    let test = Test::new().env("FROM_HERE", "here");
    let path = test
        .file("vars", "# the usual\n\nexport A=1\nB=two words # and this\nFROM_HERE\nC=file\n")
        .display()
        .to_string();
    let yaml = host("echo \"$A|$B|$FROM_HERE|$C\"");
    let run = create(&test, &yaml, &["--wait", "--env-file", &path, "-e", "C=line"]);
    let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok();
    assert_eq!(log.stdout, "1|two words # and this|here|line\n");
    let wrong = test.file("wrong", "A=1\n=s3cret\n").display().to_string();
    let refused =
        test.vessl_with(["run", "create", "-f", "-", "--env-file", &wrong], yaml.as_bytes()).code(2);
    assert!(!refused.stderr.contains("s3cret"), "{}", refused.stderr);
    refused.says(&["wrong:2: ", "the name is empty"]);
}

#[test]
fn a_sweep_is_a_run_for_each_combination() {
    let test = Test::new();
    let args = ["--sweep", "--wait", "-e", "LR=1e-3,1e-2", "-e", "BS=8,16", "-e", "SEED=7"];
    let runs = create(&test, &host("echo \"$LR $BS $SEED\""), &args);
    let runs = runs.as_array().unwrap();
    let names: Vec<&str> = runs.iter().map(|run| run["name"].as_str().unwrap()).collect();
    let expected = ["test-LR=1e-3-BS=8", "test-LR=1e-3-BS=16", "test-LR=1e-2-BS=8", "test-LR=1e-2-BS=16"];
    assert_eq!(names, expected);
    assert!(
        runs.iter().all(|run| run["status"] == "completed" && run["tags"] == runs[0]["tags"]),
        "{runs:?}"
    );
    let log = test.vessl(["run", "logs", &runs[2]["id"].to_string()]).ok();
    assert_eq!(log.stdout, "1e-2 8 7\n");
    let one = ["run", "create", "-f", "-", "--sweep", "-e", "LR=1"];
    test.vessl_with(one, host("true").as_bytes()).code(2).says(&["nothing changes in this sweep"]);
    let failing = ["run", "create", "-f", "-", "--sweep", "--wait", "-e", "CODE=0,3,4"];
    test.vessl_with(failing, host("exit $CODE").as_bytes()).code(3);
}

#[test]
fn a_member_of_a_sweep_that_fits_nowhere_any_more_holds_up_nobody() {
    let (test, gate) = Gate::new();
    let settings = |cpu: &str| {
        let text = format!("[[clusters]]\nname = \"small\"\ncpu = \"{cpu}\"\nmemory = \"256Mi\"\n");
        test.file("../config/vessl/server.toml", text);
    };
    let on = |yaml: String| yaml.replacen("resources:", "resources:\n  cluster: small", 1);
    settings("1");
    let filler = test.create(&on(gate.host(&format!("echo ready\n{WAIT}")).replace("250m", "1")));
    test.until_log(&filler, "ready");
    let wide = on(host("true").replace("250m", "1"));
    let runs = create(&test, &wide, &["--sweep", "--parallel", "1", "-e", "N=1,2,3"]);
    test.vessl(["server", "stop"]).ok();
    settings("500m");
    test.vessl(["run", "list"]).ok();
    gate.open();
    test.until_end(&filler);
    for run in runs.as_array().unwrap() {
        assert_eq!(test.until_end(&run["id"].to_string())["reason_code"], "never_fits");
    }
}

#[test]
fn only_so_many_runs_of_a_sweep_run_at_once_and_nobody_else_waits_for_them() {
    let (test, gate) = Gate::new();
    let yaml = gate.host(&format!("echo ready\n{WAIT}"));
    let runs = create(&test, &yaml, &["--sweep", "--parallel", "1", "-e", "N=1,2,3"]);
    let ids: Vec<String> = runs.as_array().unwrap().iter().map(|run| run["id"].to_string()).collect();
    test.until_log(&ids[0], "ready");
    let waits = "of which 1 may run at the same time";
    for waiting in &ids[1..] {
        test.vessl(["run", "explain", waiting]).ok().prints(&[waits]);
    }
    test.wait(&host("true")).ok();
    // The limit holds after a crash, too.
    test.kill_server();
    test.vessl(["run", "explain", &ids[2]]).ok().prints(&[waits]);
    for _ in &ids {
        gate.open();
    }
    for id in &ids {
        assert_eq!(test.until_end(id)["status"], "completed");
    }
    let started = |id: &String| test.read(id)["started_at"].as_str().unwrap().to_owned();
    let ended = |id: &String| test.read(id)["ended_at"].as_str().unwrap().to_owned();
    assert!(ids.windows(2).all(|two| ended(&two[0]) <= started(&two[1])), "they ran one after the other");
}
