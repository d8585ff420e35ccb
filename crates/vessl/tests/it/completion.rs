//! What a shell completes.
use std::process::Command;

use crate::specs::{endless, head, host, item};
use crate::test::Test;

/// What bash offers for the last of these words.
fn offered(test: &Test, words: &[&str]) -> Vec<String> {
    let script = r#"
        source <(vessl completion bash)
        COMP_WORDS=(vessl "$@"); COMP_CWORD=$#; COMP_TYPE=9
        _clap_complete_vessl vessl "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let mut bash = Command::new("bash");
    let bin = test.program().parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    bash.args(["--norc", "-c", script, "bash"]).args(words);
    test.world(&mut bash).env("PATH", path);
    let done = bash.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    // Flags are offered behind what was asked for.
    let is_value = |line: &String| !line.is_empty() && !line.starts_with("--");
    text.lines().map(|line| line.trim().to_owned()).filter(is_value).collect()
}

#[test]
fn commands_and_words_are_completed_without_a_server() {
    let test = Test::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        test.vessl(["completion", shell]).ok().prints(&["VESSL_COMPLETE"]);
    }
    assert_eq!(offered(&test, &["clus"]), ["cluster"]);
    assert_eq!(offered(&test, &["run", "list", "--status", "fa"]), ["failed"]);
    assert_eq!(offered(&test, &["run", "list", "--reason", "out"]), ["out_of_memory"]);
    assert_eq!(offered(&test, &["run", "list", "--sort", "en"]), ["ended"]);
    assert!(offered(&test, &["run", "read", "1"]).is_empty(), "no server, no runs");
    assert!(!test.data().exists(), "a server was started for nothing");
}

#[test]
fn what_the_server_knows_by_name_is_completed() {
    let test = Test::new();
    let named = |name: &str, file: String| file.replacen("name: test", &format!("name: {name}"), 1);
    let export = "export: {/out-c: vessl-artifact://default/default/weights}\n";
    let file = format!("{}{export}{}", head("host://"), item("date > /out-c/x"));
    let first = test.wait(&named("alpha", file)).ok().json()["id"].to_string();
    let second = test.wait(&named("two words", host("true"))).ok().json()["id"].to_string();
    test.vessl_with(["secret", "create", "HF_TOKEN"], b"hush").ok();
    assert_eq!(offered(&test, &["run", "read", ""]), [second.clone(), first.clone()]);
    assert_eq!(offered(&test, &["run", "logs", &first]), std::slice::from_ref(&first));
    assert_eq!(offered(&test, &["run", "terminate", &first, "al"]), ["alpha"]);
    assert!(offered(&test, &["run", "read", "two"]).is_empty(), "a shell would take it for two words");
    assert_eq!(offered(&test, &["secret", "delete", "H"]), ["HF_TOKEN"]);
    assert_eq!(offered(&test, &["artifact", "read", "w"]), ["weights"]);
    let presets = offered(&test, &["resource", "read", "cpu"]);
    assert!(presets.iter().any(|preset| preset.starts_with("cpu-")), "{presets:?}");
    assert_eq!(offered(&test, &["run", "create", "--preset", "cpu"]), presets);
    assert_eq!(offered(&test, &["cluster", "read", ""]).first().map(String::as_str), Some("local"));
}

#[test]
fn a_run_is_named_by_its_name_where_no_other_has_it() {
    let test = Test::new();
    let named = |name: &str, file: String| file.replacen("name: test", &format!("name: '{name}'"), 1);
    let one = test.create(&named("only *", endless()));
    let two = test.wait(&named("only one", host("echo two"))).ok().json()["id"].to_string();
    let three = test.wait(&named("only one", host("true"))).ok().json()["id"].to_string();
    test.vessl(["run", "read", "nobody"]).code(5).says(&["there is no run `nobody`", "vessl run list"]);
    let both = format!("several runs are called `only one`: {three}, {two}");
    test.vessl(["run", "read", "only one"]).code(5).says(&[&both, "by its id"]);
    test.vessl(["run", "update", &two, "--name", "second"]).ok();
    for args in [["run", "read", "second"], ["run", "explain", "second"]] {
        test.vessl(args).ok().prints(&[&two]);
    }
    test.vessl(["run", "logs", "second"]).ok().prints(&["two"]);
    // A star stands for itself.
    let done = test.vessl(["run", "terminate", "only *", &two, "nobody", "--grace", "0", "--wait"]).code(5);
    let done = done.says(&["there is no run `nobody`"]).prints(&["terminated", "completed"]);
    assert!(!done.stderr.contains("will end"), "{}", done.stderr);
    assert_eq!(test.read(&one)["status"], "terminated");
    let told = test.vessl(["run", "terminate", "second", &one, "--output", "json"]).ok().json();
    let ids: Vec<String> = told.as_array().unwrap().iter().map(|run| run["id"].to_string()).collect();
    assert_eq!(ids, [two.clone(), one]);
    assert_eq!(test.vessl(["run", "terminate", "#7", "--output", "json"]).code(5).stdout, "");
    test.vessl(["run", "delete", "second"]).ok().says(&[&format!("removed run {two}")]);
}
