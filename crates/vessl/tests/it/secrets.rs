//! Secrets: used by name, masked, never written in clear.
use crate::specs::{head, item};
use crate::test::Test;

const VALUE: &str = "s3cr3t-cb7d1e55-value";

#[test]
fn a_secret_reaches_the_run_and_nothing_else() {
    let test = Test::new();
    let made =
        test.vessl_with(["secret", "create", "hf", "--output", "json"], format!("{VALUE}\n").as_bytes()).ok();
    assert!(!made.stdout.contains(VALUE));
    let listed = test.vessl(["secret", "list", "--output", "json"]).ok();
    assert!(listed.stdout.contains("\"hf\"") && !listed.stdout.contains(VALUE));
    let yaml = format!(
        "{}env:\n  TOKEN: {{secret: hf}}\n{}",
        head("host://"),
        item(
            "echo ${#TOKEN}\necho \"whole: $TOKEN\"\nprintf %s \"${TOKEN%-value}\"; sleep 0.1; printf '%s\\n' -value\nenv | grep TOKEN >&2"
        )
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(log.stdout.lines().next(), Some(VALUE.len().to_string().as_str()), "{}", log.stdout);
    assert!(!log.stdout.contains("cb7d1e55") && log.stdout.contains("whole: "), "{}", log.stdout);
    let shown = test.vessl(["run", "read", &id, "--output", "yaml"]).ok();
    assert!(!shown.stdout.contains(VALUE) && shown.stdout.contains("hf"), "{}", shown.stdout);
    assert_eq!(test.leaks(VALUE), Vec::<String>::new());
    test.vessl(["secret", "delete", "hf"]).ok();
    test.vessl_with(["run", "create", "-f", "-"], yaml.as_bytes()).code(3).says(&["`hf`"]);
}

#[test]
fn a_value_that_is_marked_secret_in_the_file_is_kept_back() {
    let test = Test::new();
    let yaml = format!(
        "{}env:\n  KEY: {{value: {VALUE}, secret: true}}\n{}",
        head("host://"),
        item("echo got $KEY")
    );
    let done = test.wait(&yaml).ok();
    let id = done.json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert!(log.stdout.starts_with("got ") && !log.stdout.contains(VALUE), "{}", log.stdout);
    for output in ["json", "yaml", "table"] {
        assert!(!test.vessl(["run", "read", &id, "--output", output]).ok().stdout.contains(VALUE));
    }
    assert_eq!(test.leaks(VALUE), Vec::<String>::new());
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
