//! Many runs at once: lists of them, what they differ in, and ending several.
use std::process::Command;

use crate::specs::{head, host, item};
use crate::test::Test;

/// A run of this name with this variable and tag.
fn named(name: &str, lr: &str, command: &str) -> String {
    let head = head("host://").replacen("name: test", &format!("name: {name}"), 1);
    format!(
        "{head}tags: [sweep]\nenv:\n  LR: '{lr}'\n  KEY: {{value: hush-4e1c, secret: true}}\n{}",
        item(command)
    )
}

#[test]
fn a_run_of_a_later_version_is_named_beside_the_list() {
    let test = Test::new();
    let [first, later] = [(); 2].map(|()| test.wait(&host("true")).ok().json()["id"].to_string());
    test.until_removed(&later);
    let change = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1])\n\
        db.execute('UPDATE runs SET doc = replace(doc, ?, ?) WHERE id = ?', ('\"ended\"', '\"asleep\"', sys.argv[2]))\ndb.commit()";
    let done =
        Command::new("python3").args(["-c", change]).arg(test.data().join("vessl.db")).arg(&later).status();
    assert!(done.unwrap().success());
    for more in [&[][..], &["--sort", "name"], &["--reverse"]] {
        let list = test.vessl([&["run", "list", "-q"], more].concat()).ok();
        assert_eq!(list.stdout, format!("{first}\n"));
        list.says(&["the server cannot read them: `", &later, "`vessl run read "]);
    }
    test.vessl(["run", "read", &later]).code(5).says(&[&later, "(`test`) cannot be read", "`asleep`"]);
}

#[test]
fn a_list_has_the_runs_and_columns_that_are_asked_for() {
    let test = Test::new();
    let id = |done: crate::test::Done| done.json()["id"].to_string();
    let good = id(test.wait(&named("lr-1", "0.1", "true")).ok());
    let bad = id(test.wait(&named("lr-2", "0.01", "exit 3")).code(3));
    let other = id(test.wait(&host("true")).ok());
    let ids = |args: &[&str]| {
        let args: Vec<&str> = ["run", "list", "-q"].iter().chain(args).copied().collect();
        test.vessl(args).ok().stdout
    };
    assert_eq!(ids(&[]), format!("{other}\n{bad}\n{good}\n"));
    assert_eq!(ids(&["--status", "failed,terminated"]), format!("{bad}\n"));
    assert_eq!(
        ids(&["--status", "failed", "--status", "completed", "--tag", "sweep"]),
        format!("{bad}\n{good}\n")
    );
    assert_eq!(ids(&["--name", "lr-*", "--sort", "name"]), format!("{good}\n{bad}\n"));
    assert_eq!(ids(&["--name", "lr-2", "--since", "1h"]), format!("{bad}\n"));
    assert_eq!(ids(&["--since", "2100-01-01"]), "");
    assert_eq!(
        ids(&["--reverse", "--limit", "2", "--output", "json"]).replace(char::is_whitespace, ""),
        format!("[{good},{bad}]")
    );
    let args =
        ["run", "list", "--columns", "name,env.LR,env.KEY", "--columns", "exit_code", "--tag", "sweep"];
    let table = test.vessl(args).ok().stdout;
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected = [
        ["NAME", "env.LR", "env.KEY", "EXIT_CODE"],
        ["lr-2", "0.01", "(secret)", "3"],
        ["lr-1", "0.1", "(secret)", "0"],
    ];
    assert_eq!(rows, expected, "{table}");
    let listed = test.vessl(["run", "list", "--name", "lr-1", "--output", "json"]).ok().json();
    assert_eq!(listed[0]["env"], serde_json::json!({ "LR": "0.1", "KEY": null }));
    assert_eq!(listed[0]["tags"], serde_json::json!(["sweep"]));
    assert_eq!(listed[0]["resources"]["cpu_milli"], 250);
    for key in ["image_digest", "commit"] {
        assert!(listed[0].get(key).is_some(), "{key} is missing in {listed}");
    }
    test.vessl(["run", "list", "--columns", "colour"]).code(2).says(&["colour", "the columns are id, name"]);
    test.vessl(["run", "list", "--sort", "colour"]).code(2).says(&["runs are sorted by created, name"]);
    test.vessl(["run", "list", "--since", "soon"]).code(2).says(&["write it like `90m`"]);
    test.vessl(["run", "list", "--tag", "x", "--status", "failed,idle"])
        .ok()
        .says(&["there is no run with the status `failed` or `idle` and with the tag `x`"]);
    assert!(test.leaks("hush-4e1c").is_empty());
}

#[test]
fn a_run_that_has_ended_says_what_it_took() {
    let test = Test::new();
    let command = "x=$(head -c 20000000 /dev/zero | tr '\\0' x)\ni=0; while [ $i -lt 40000 ]; do i=$((i+1)); done\necho ${#x} > /out-took/n";
    let file = format!(
        "{}ports:\n  - 8080\nexport: {{/out-took: vessl-artifact://default/default/took}}\n{}",
        head("host://"),
        item(command)
    );
    let run = test.wait(&file).ok().json();
    let id = run["id"].to_string();
    let usage = &run["usage"];
    let peak = usage["memory_peak"].as_u64().unwrap();
    assert!((20_000_000..=64 << 20).contains(&peak), "{run}");
    assert!(usage["cpu_millis"].as_u64().unwrap() > 10, "{run}");
    let read = test.read(&id);
    assert_eq!(read["exports"][0]["number"], 1, "{read}");
    let phases: Vec<&str> =
        read["phases"].as_array().unwrap().iter().map(|change| change["phase"].as_str().unwrap()).collect();
    assert_eq!(phases, ["starting", "running", "exporting"], "{read}");
    let shown = test.vessl(["run", "read", &id]).ok();
    let shown = shown.prints(&[
        ", limit 64.0 MiB",
        "limit 0.25 cores",
        &format!("http://8080-{id}.vessl.localhost:"),
        "version 1 (",
    ]);
    for phase in ["  queued ", ", pending ", ", starting ", ", running ", ", exporting "] {
        assert!(shown.stdout.contains(phase), "{phase}: {}", shown.stdout);
    }
}

#[test]
fn runs_are_compared_by_what_differs() {
    let test = Test::new();
    let id = |done: crate::test::Done| done.json()["id"].to_string();
    let one = id(test.wait(&named("lr-1", "10", "true")).ok());
    let two = id(test.wait(&named("lr-2", "9", "exit 3")).code(3));
    let rows = |args: &[&str]| -> Vec<Vec<String>> {
        let args: Vec<&str> = ["run", "compare"].iter().chain(args).copied().collect();
        let table = test.vessl(args).ok().stdout;
        table.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let shown = rows(&["lr-1", &two]);
    assert_eq!(shown[0], ["ID", "NAME", "env.LR", "STATUS", "EXIT_CODE", "TIME"]);
    assert_eq!(shown[1][..5], [one.as_str(), "lr-1", "10", "completed", "0"]);
    assert_eq!(shown[2][..5], [two.as_str(), "lr-2", "9", "failed", "3"]);
    let sorted = |args: &[&str]| rows(args).iter().skip(1).map(|row| row[1].clone()).collect::<Vec<_>>();
    assert_eq!(sorted(&["--tag", "sweep"]), ["lr-2", "lr-1"]);
    assert_eq!(sorted(&["--tag", "sweep", "--sort", "env.LR"]), ["lr-2", "lr-1"], "9 is less than 10");
    assert_eq!(sorted(&["--tag", "sweep", "--sort", "name"]), ["lr-1", "lr-2"]);
    assert_eq!(sorted(&["--tag", "sweep", "--sort", "name", "--reverse"]), ["lr-2", "lr-1"]);
    let csv = test.vessl(["run", "compare", &one, &two, "--csv"]).ok().stdout;
    let csv: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(csv[0], "id,name,env.LR,status,exit_code,time");
    let (begin, time) = csv[1].rsplit_once(',').unwrap();
    assert_eq!(begin, format!("{one},lr-1,10,completed,0"));
    assert!(time.parse::<f64>().is_ok(), "{time}");
    let told = test.vessl(["run", "compare", &one, &two, "--output", "json"]).ok().json();
    assert_eq!(told["differs"], serde_json::json!(["env.LR"]));
    assert_eq!(told["runs"][1]["differs"], serde_json::json!({ "env.LR": "9" }));
    assert_eq!((&told["runs"][1]["status"], &told["runs"][1]["exit_code"]), (&"failed".into(), &3.into()));
    assert!(told["runs"][0]["time_millis"].is_u64(), "{told}");
    test.vessl(["run", "compare", &one, &one]).ok().says(&["they differ in no variable"]);
    test.vessl(["run", "compare", "--tag", "nothing"]).code(5).says(&["no run with the tag `nothing`"]);
    test.vessl(["run", "compare", &one, "7"]).code(5).says(&["`7`"]);
    assert!(test.leaks("hush-4e1c").is_empty());
}
