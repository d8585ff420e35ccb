//! Secrets: used by name, masked, never written in clear.
use crate::gate::{Gate, WAIT};
use crate::test::Test;

/// A value that no other test on this machine has.
fn value(of: &str) -> String {
    format!("s3cr3t-{of}-{:08x}-value", std::process::id())
}

/// Asks in every way about a run, and looks everywhere for the value.
fn assert_kept(test: &Test, id: &str, value: &str) {
    for output in ["json", "yaml", "table"] {
        test.vessl(["run", "read", id, "--output", output]).ok();
    }
    test.vessl(["run", "list", "--output", "json"]).ok().prints(&[id]);
    test.vessl(["run", "explain", id, "--output", "json"]).ok();
    test.vessl(["run", "logs", id]).ok();
    test.vessl(["run", "logs", id, "--output", "json"]).ok();
    assert_eq!(test.leaks(value), Vec::<String>::new());
}

/// The same while the run's command, and nobody else, has it in its environment.
fn assert_kept_while_it_runs(test: &Test, id: &str, value: &str) {
    assert!(!Test::with_environment(value).is_empty(), "the command has it");
    assert_kept(test, id, value);
    assert!(!Test::with_environment(value).is_empty(), "the command still has it");
    assert_eq!(test.read(id)["status"], "running");
}

#[test]
fn a_secret_reaches_the_run_and_nothing_else() {
    let (test, gate) = Gate::new();
    let value = value("stored");
    test.vessl_with(["secret", "create", "hf", "--output", "json"], format!("{value}\n").as_bytes()).ok();
    test.vessl(["secret", "list", "--output", "json"]).ok().prints(&["\"hf\""]);
    let yaml = gate.host_with(
        "env:\n  TOKEN: {secret: hf}\n",
        &format!(
            "echo ${{#TOKEN}}\necho \"whole: $TOKEN\"\nprintf %s \"${{TOKEN%-value}}\"\n{WAIT}\n\
             printf '%s\\n' -value\nenv | grep TOKEN >&2"
        ),
    );
    let id = test.create(&yaml);
    test.until_log(&id, "whole: ");
    assert_kept_while_it_runs(&test, &id, &value);
    gate.open();
    assert_eq!(test.until_end(&id)["status"], "completed");
    assert_kept(&test, &id, &value);
    let log = test.vessl(["run", "logs", &id]).ok().stdout;
    assert_eq!(log.lines().next(), Some(value.len().to_string().as_str()), "{log}");
    let unique = value.trim_end_matches("-value");
    assert!(!log.contains(unique) && log.contains("whole: ") && log.contains("TOKEN="), "{log}");
    test.vessl(["run", "read", &id, "--output", "yaml"]).ok().prints(&["hf"]);
    test.vessl(["secret", "delete", "hf"]).ok();
    test.vessl_with(["run", "create", "-f", "-"], yaml.as_bytes()).code(3).says(&["`hf`"]);
}

#[test]
fn a_value_that_is_marked_secret_in_the_file_is_kept_back() {
    let (test, gate) = Gate::new();
    let value = value("written");
    let env = format!("env:\n  KEY: {{value: {value}, secret: true}}\n");
    let id = test.create(&gate.host_with(&env, &format!("echo got $KEY\n{WAIT}")));
    test.until_log(&id, "got ");
    assert_kept_while_it_runs(&test, &id, &value);
    gate.open();
    assert_eq!(test.until_end(&id)["status"], "completed");
    assert_kept(&test, &id, &value);
    test.vessl(["run", "logs", &id]).ok().prints(&["got "]);
}

#[test]
fn values_come_from_the_standard_input_only() {
    let test = Test::new();
    test.vessl(["secret", "create", "a", "value"]).code(2);
    test.vessl_with(["secret", "create", "a"], b"").code(2).says(&["empty"]);
    test.vessl(["credential", "create", "c", "--kind", "registry"]).code(2).says(&["--username"]);
    test.vessl_with(["credential", "create", "c", "--kind", "git"], b"tok").ok().prints(&["CREATED"]);
    let again = test.vessl_with(["credential", "create", "c", "--kind", "git"], b"new").ok();
    assert!(again.stdout.contains("REPLACED") && !again.stdout.contains("CREATED"), "{}", again.stdout);
    test.vessl(["credential", "list"]).ok().prints(&["c", "git"]);
    test.vessl(["credential", "delete", "c"]).ok();
    test.vessl(["credential", "delete", "c"]).code(5).says(&["`c`"]);
}
