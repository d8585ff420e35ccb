//! Names that do not exist: each refusal names the thing, and what there is instead.
use crate::specs::{head, host, item};
use crate::test::Test;

#[test]
fn names_that_only_the_server_knows() {
    let test = Test::new();
    let check = |yaml: String, says: &[&str]| {
        test.vessl_with(["run", "create", "-f", "-"], yaml.as_bytes()).code(3).says(says);
    };
    check(host("true").replace("resources:\n", "resources:\n  cluster: moon\n"), &["`moon`", "`local`"]);
    check(
        host("true").replace("requests: {cpu: 250m, memory: 64Mi}", "preset: gpu-9000"),
        &["`gpu-9000`", "cpu-small"],
    );
    check(host("true").replace("resources:\n", "resources:\n  node_names: [nowhere]\n"), &["`nowhere`"]);
    check(host("true").replace("250m", "100000"), &["100000"]);
    check(
        host("true")
            .replace("image: host://", "image: {url: 'registry.example.org/x:1', credential_name: nobody}"),
        &["`nobody`"],
    );
    check(format!("{}env: {{A: {{secret: nothing}}}}\n{}", head("host://"), item("true")), &["`nothing`"]);
    check(
        format!(
            "{}import: {{/in: 'vessl-artifact://default/default/none'}}\n{}",
            head("host://"),
            item("true")
        ),
        &["none"],
    );
    check(format!("{}mount: {{/m: 'hostpath:///etc'}}\n{}", head("host://"), item("true")), &["/etc"]);
    check(
        "name: x\nimage: host://\n".to_owned(),
        &["no-command", "standard input:2:8", "2 | image: host://"],
    );
    let nowhere = test.path("nowhere").display().to_string();
    let import = format!("import: {{/in: {{git: {{url: 'file://{nowhere}'}}}}}}\n");
    check(format!("{}{import}{}", head("host://"), item("true")), &["unknown-path", &nowhere]);
    check(format!("{}{}", head(&format!("oci://{nowhere}:1")), item("true")), &["unknown-path", &nowhere]);
    let text = test.file("text.tar", "no image".repeat(100)).display().to_string();
    let place = ["bad-image", "standard input:2:8", "2 | image: oci://", "is not an image archive"];
    check(format!("{}{}", head(&format!("oci://{text}")), item("true")), &place);
    std::fs::create_dir(test.path("empty")).unwrap();
    let empty = test.path("empty").display().to_string();
    let words = ["bad-image", &empty, "neither an OCI layout nor a saved image"];
    check(format!("{}{}", head(&format!("oci://{empty}")), item("true")), &words);
    // None of them was given an id.
    let id: u64 = test.create(&host("true")).parse().unwrap();
    assert_eq!(id, 100_000_000_001);
    test.vessl(["cluster", "read", "moon"]).code(5).says(&["`moon`"]);
    test.vessl(["resource", "read", "local", "gpu-9000"]).code(5).says(&["gpu-9000"]);
    test.vessl(["image", "read", "nothing"]).code(5).says(&["nothing"]);
    test.vessl(["--project", "unheard-of", "run", "list"]).code(5).says(&["unheard-of"]);
}

#[test]
fn sources_that_cannot_be_had_fail_before_the_first_command() {
    let test = Test::new();
    let check = |yaml: String, reason: &[&str]| {
        let run = test.wait(&yaml).code(1).json();
        assert_eq!(run["status"], "failed", "{run}");
        assert!(run["started_at"].is_null() && run["exit_code"].is_null(), "{run}");
        for text in reason {
            assert!(run["reason"].as_str().unwrap().contains(text), "no `{text}` in {run}");
        }
    };
    let empty = test.path("empty").display().to_string();
    std::fs::create_dir(&empty).unwrap();
    check(
        format!(
            "{}import: {{/in: {{git: {{url: 'file://{empty}'}}}}}}\n{}",
            head("host://"),
            item("echo no")
        ),
        &["/in"],
    );
    check(format!("{}{}", head("127.77.77.77:9/team/x:1"), item("echo no")), &["127.77.77.77:9"]);
}

#[test]
fn a_missing_workdir_is_named() {
    let test = Test::new();
    let yaml = format!("{}run:\n  - command: echo no\n    workdir: /not/here\n", head("host://"));
    let run = test.wait(&yaml).code(127).json();
    assert_eq!(run["status"], "failed", "{run}");
    assert!(run["reason"].as_str().unwrap().contains("`/not/here`"), "{run}");
    let log = test.vessl(["run", "logs", &run["id"].to_string(), "--only", "stdout"]).ok();
    assert_eq!(log.stdout, "");
}

#[test]
fn a_file_that_is_wrong_never_reaches_the_server() {
    let test = Test::new();
    test.vessl_with(["run", "create", "-f", "-"], b"name: x\n").code(3).says(&["image", "standard input"]);
    assert!(!test.data().exists());
}
