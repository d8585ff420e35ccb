//! `vessl run validate` and `vessl run schema`: no server.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use crate::test::Test;

const WRONG: &str = "name: x\nimage: host://\nresources:\n  preste: cpu-small\nrun: echo\nunknwon: 1\n";
const GOOD: &str = "name: x\nimage: host://\nrun: echo\n";

#[test]
fn every_problem_is_shown_with_its_place() {
    let test = Test::new();
    test.file("wrong.yaml", WRONG);
    let done = test.vessl(["run", "validate", "wrong.yaml"]).code(3);
    done.says(&[
        "error[unknown-key]",
        "--> wrong.yaml:4:3",
        "4 |   preste: cpu-small",
        "  |   ^",
        "did you mean `preset`?",
        "--> wrong.yaml:6:1",
    ])
    .prints(&["wrong.yaml: not valid"]);
    assert!(!test.data().exists(), "a server was started for nothing");
}

#[test]
fn lenient_makes_warnings_of_unknown_keys() {
    let test = Test::new();
    test.file("wrong.yaml", WRONG);
    test.vessl(["run", "validate", "--lenient", "wrong.yaml"]).ok().says(&["warning[unknown-key]"]);
}

#[test]
fn what_every_server_refuses_is_an_error() {
    let test = Test::new();
    test.file("s3.yaml", format!("{GOOD}import:\n  /data: s3://bucket/prefix\nresources: {{spot: true}}\n"));
    let done = test.vessl(["run", "validate", "s3.yaml"]).code(3);
    done.prints(&["s3.yaml: not valid"]).says(&[
        "error[unsupported]: capacity that can be taken away (`spot`) is not offered in this version",
        "--> s3.yaml:6:19",
    ]);
    // The modern spelling is there all the same.
    test.vessl(["run", "validate", "s3.yaml", "--canonical"]).code(3).prints(&["s3:", "bucket: bucket"]);
    let told = test.vessl(["run", "validate", "s3.yaml", "--output", "json"]).code(3).json();
    assert_eq!((&told[0]["valid"], &told[0]["problems"][0]["level"]), (&json!(false), &json!("error")));
    // What depends on the server is none of it.
    let named = format!("{GOOD}resources: {{preset: p}}\nenv: {{A: {{secret: S}}}}\n");
    assert_eq!(test.vessl_with(["run", "validate", "-"], named.as_bytes()).ok().stderr, "");
    assert!(!test.data().exists(), "a server was started for nothing");
}

#[test]
fn problems_of_a_kind_share_their_help() {
    let test = Test::new();
    let file =
        format!("{GOOD}import:\n  /a: vessl-artifact://\n  /b: vessl-artifact://\n  /c: vessl-artifact://\n");
    let done = test.vessl_with(["run", "validate", "-"], file.as_bytes()).code(3);
    let count = |text: &str| done.stderr.matches(text).count();
    let written = "= help: write `vessl-artifact://organization/project/name`";
    assert_eq!(
        (count("error[unsupported]"), count(written), count("= help: ")),
        (3, 1, 2),
        "{}",
        done.stderr
    );
    let told = test.vessl_with(["run", "validate", "-", "--output", "json"], file.as_bytes()).code(3).json();
    let hints = told[0]["problems"].as_array().unwrap().iter().filter(|problem| problem["hint"].is_string());
    assert_eq!(hints.count(), 6, "{told}");
    let refused = test.vessl_with(["run", "create", "-f", "-"], file.as_bytes()).code(3);
    assert_eq!(refused.stderr.matches("= help: ").count(), 2, "{}", refused.stderr);
}

#[test]
fn a_variable_without_a_value_is_empty_and_warned_of() {
    let test = Test::new();
    let file = "name: x\nimage: host://\nenv:\n  A:\n  B: ~\n  C: null\n  D: \"\"\nrun: echo \"$A$B$C$D${A-no}${B-no}${C-no}${D-no}|\"\n";
    let done = test.vessl_with(["run", "create", "-f", "-", "--watch"], file.as_bytes()).ok();
    let done = done.prints(&["|\n"]).says(&[
        "warning[empty-variable]: `A` has no value: it is set, and empty",
        "--> standard input:4:3",
        "--> standard input:5:3",
        "--> standard input:6:3",
        "help: write `\"\"` if that is meant",
    ]);
    assert!(!done.stdout.contains("no") && !done.stderr.contains(":7:3"), "{}{}", done.stdout, done.stderr);
}

/// What `validate` says of a file is what a server says of it, as far as it does not depend on the server.
#[test]
fn a_submit_agrees_with_validate() {
    let test = Test::new();
    let presets = "[[presets]]\nname = \"tiny\"\ncpu = \"100m\"\nmemory = \"64Mi\"\n";
    test.file("../config/vessl/server.toml", presets);
    let login = ["credential", "create", "hub", "--kind", "registry", "--username", "u"];
    test.vessl_with(login, b"hush").ok();
    let codes = |problems: &serde_json::Value| -> Vec<String> {
        let all = problems.as_array().into_iter().flatten();
        let errors = all.filter(|problem| problem["level"] == "error");
        errors.map(|problem| problem["code"].as_str().unwrap().to_owned()).collect()
    };
    let check = |body: &str, code: &str, (checked, submitted): (i32, i32)| {
        let file = format!("{GOOD}{body}\n");
        let file = if body.contains("image:") { file.replace("image: host://\n", "") } else { file };
        let file = if body.contains("run:") { file.replace("run: echo\n", "") } else { file };
        let of = |args: &[&str]| test.vessl_with(args.iter().chain(&["--output", "json"]), file.as_bytes());
        let done = of(&["run", "validate", "-"]).code(checked);
        let alone = codes(&done.json()[0]["problems"]);
        let done = of(&["run", "create", "-f", "-"]).code(submitted);
        let told = done.stderr.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let told: serde_json::Value = told.unwrap_or_default();
        let served = codes(&told["error"]["problems"]);
        assert_eq!(alone.iter().any(|found| found == code), checked == 3, "{body}: {alone:?}");
        assert_eq!(served.iter().any(|found| found == code), submitted == 3, "{body}: {served:?}");
    };
    let long = "x".repeat(140_000);
    let (here, everywhere, nowhere) = ((0, 3), (3, 3), (0, 0));
    check("import: {/a: vessl-artifact://}", "unsupported", everywhere);
    check("import: {/a: vessl-dataset://o/none}", "unknown-dataset", here);
    check("export: {/a: vessl-model://o/none}", "unknown-model", here);
    check("resources: {spot: true}", "unsupported", everywhere);
    check("run: []", "no-command", everywhere);
    check("export: {/a: vessl-artifact://o/p/x, /b: vessl-artifact://o/p/x}", "same-target", everywhere);
    check(&format!("env: {{A: {long}}}"), "env-too-long", everywhere);
    let git = "import: {/c: {git: {url: h.com/x/y, credential_name: hub}}}";
    check(&format!("image: {{url: x, credential_name: hub}}\n{git}"), "wrong-credential", everywhere);
    check("env: {A: {secret: not a name}}", "unknown-secret", everywhere);
    check("ports: [0]", "bad-amount", everywhere);
    check(git, "wrong-credential", here);
    check("env: {A: {secret: none}}", "unknown-secret", here);
    check("image: {url: x, credential_name: none}", "unknown-credential", here);
    check("import: {/a: vessl-artifact://o/p/x}", "unknown-artifact", here);
    check("export: {/a: vessl-artifact://o/p/x}", "unknown-project", here);
    check("import: {/a: {git: {url: 'file:///not/here'}}}", "unknown-path", here);
    check("mount: {/a: hostpath:///etc}", "not-allowed", here);
    check("env: {A: {source: inject}}", "missing-inject", here);
    check("resources: {cluster: moon}", "unknown-cluster", here);
    check("resources: {node_names: [moon]}", "unknown-node", here);
    check("resources: {preset: moon}", "unknown-preset", here);
    check("resources: {preset: tiny, requests: {cpu: 200m}}", "request-over-preset", here);
    check("resources: {requests: {cpu: 200m}}", "no-preset-fits", here);
    check("resources: {requests: {cpu: 100000}}", "no-node-fits", here);
    check("ports: [8000]", "unsupported", nowhere);
}

#[test]
fn what_could_fail_unseen_is_noted_with_its_place() {
    let test = Test::new();
    let file = format!(
        "{}\n  - |\n    pip install x\n    python t.py | tee log\n",
        GOOD.replace("run: echo\n", "run:")
    );
    test.file("unseen.yaml", &file);
    let note = [
        "note[unseen-failure]: `pip …` can fail without the run failing",
        "--> unseen.yaml:5:5",
        "5 |     pip install x",
        "  |     ^",
        "note[unseen-failure]: `python … | tee` can fail without the run failing",
        "= help: begin with the item `set -euo pipefail`, or use `vessl run create --strict`",
    ];
    test.vessl(["run", "validate", "unseen.yaml"]).ok().says(&note).prints(&["unseen.yaml: valid"]);
    let seen = file.replace("run:\n", "run:\n  - set -euo pipefail\n");
    assert_eq!(test.vessl_with(["run", "validate", "-"], seen.as_bytes()).ok().stderr, "");
    // A submit says the same, and nothing where it sees to it itself.
    test.file("unseen.yaml", file.replace("pip install x", "true x").replace("python t.py", "cat /dev/null"));
    let create = ["run", "create", "-f", "unseen.yaml", "--wait"];
    test.vessl(create).ok().says(&[
        "note[unseen-failure]: `cat … | tee` can",
        "--> unseen.yaml:5:5",
        "= help: ",
    ]);
    let strict = test.vessl(create.iter().chain(&["--strict"])).ok();
    assert!(!strict.stderr.contains("unseen"), "{}", strict.stderr);
}

#[test]
fn words_of_other_tools_are_answered_with_what_does_it_here() {
    let test = Test::new();
    let check = |file: &str, says: &str| {
        test.vessl_with(["run", "validate", "-"], file.as_bytes()).code(3).says(&[says]);
    };
    check(
        "name: x\nimage: host\nrun: a\n",
        "help: did you mean `host://`, the root file system of this machine?",
    );
    check("name: x\nimage: {url: localhost}\nrun: a\n", "did you mean `host://`");
    check(&format!("{GOOD}retries: 3\n"), "`vessl run create --retries N`");
    check(&format!("{GOOD}outputs: {{}}\n"), "did you mean `export`?");
    for good in ["docker.io/library/host", "host:1", "host/x"] {
        let file = format!("name: x\nimage: {good}\n");
        assert_eq!(test.vessl_with(["run", "validate", "-"], file.as_bytes()).ok().stderr, "");
    }
}

#[test]
fn json_has_every_file_and_nothing_else() {
    let test = Test::new();
    test.file("wrong.yaml", WRONG);
    test.file("good.yaml", GOOD);
    let done = test.vessl(["run", "validate", "good.yaml", "wrong.yaml", "--output", "json"]).code(3);
    let files = done.json();
    assert_eq!(files[0]["file"], "good.yaml");
    assert_eq!(files[0]["valid"], true);
    assert_eq!(files[1]["valid"], false);
    assert_eq!(files[1]["problems"][0]["line"], 4);
    assert_eq!(files[1]["problems"][0]["column"], 3);
    assert_eq!(files[1]["problems"][0]["code"], "unknown-key");
    assert_eq!(done.stderr, "");
}

#[test]
fn the_canonical_form_is_its_own_canonical_form() {
    let test = Test::new();
    let once = test.vessl_with(["run", "validate", "-", "--canonical"], GOOD.as_bytes()).ok();
    let twice = test.vessl_with(["run", "validate", "-", "--canonical"], once.stdout.as_bytes()).ok();
    assert_eq!(once.stdout, twice.stdout);
    assert!(once.stdout.contains("name: x"), "{}", once.stdout);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let test = Test::new();
    test.vessl(["run", "validate", "nowhere.yaml"]).code(3).says(&["nowhere.yaml", "no such file"]);
    test.file("good.yaml", GOOD);
    let done = test.vessl(["run", "validate", "nowhere.yaml", "good.yaml"]).code(3);
    done.prints(&["nowhere.yaml: not valid", "good.yaml: valid"]);
    std::fs::create_dir(test.path("dir.yaml")).unwrap();
    let odd = OsStr::from_bytes(b"\xff.yaml");
    for (name, shown, why) in [
        (OsStr::new("nowhere.yaml"), "nowhere.yaml", "no such file"),
        (OsStr::new("dir.yaml"), "dir.yaml", "is a directory"),
        (odd, "\u{fffd}.yaml", "no such file"),
    ] {
        for more in [&[][..], &[OsStr::new("good.yaml")]] {
            let args = ["run", "validate", "--output", "json"].map(OsStr::new);
            let done = test.vessl(args.iter().copied().chain([name]).chain(more.iter().copied())).code(3);
            let (files, stderr) = (done.json(), &done.stderr);
            let problem = &files[0]["problems"][0];
            assert_eq!((&files[0]["file"], &files[0]["valid"]), (&json!(shown), &json!(false)));
            assert_eq!((&problem["code"], &problem["line"]), (&json!("unreadable"), &json!(0)), "{files}");
            assert!(problem["message"].as_str().unwrap().contains(why), "{problem}");
            assert_eq!((files.as_array().unwrap().len(), stderr.as_str()), (1 + more.len(), ""));
        }
    }
    std::fs::write(test.path(".").join(odd), GOOD).unwrap();
    test.vessl(["run", "validate"].map(OsStr::new).iter().copied().chain([odd])).ok();
}

#[test]
fn every_code_can_be_looked_up() {
    let test = Test::new();
    test.vessl(["run", "validate", "--explain", "unknown-key"]).ok().prints(&["unknown-key", "--lenient"]);
    for code in vessl_core::codes() {
        let said = test.vessl(["run", "validate", "--explain", code.code, "--output", "json"]).ok().json();
        let expected = json!({"code": code.code, "meaning": code.meaning, "remedy": code.remedy});
        assert_eq!(said, expected);
    }
    for planned in ["not-allowed", "no-node-fits", "host-ports"] {
        test.vessl(["run", "validate", "--explain", planned]).ok().prints(&[planned, "Remedy"]);
    }
    test.vessl(["run", "validate", "--explain", "no-such-code"]).code(2).says(&["no-such-code"]);
}

#[test]
fn hostile_text_is_refused() {
    let test = Test::new();
    let bomb: String = (0..30)
        .map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(",")))
        .skip(1)
        .collect();
    let bomb = format!("a0: &a0 x\n{bomb}");
    let (deep, long) = ("[".repeat(1 << 20), " ".repeat((1 << 20) + 1));
    for text in [bomb.as_bytes(), deep.as_bytes(), b"\xff\xfe", b"name: \0\n", long.as_bytes()] {
        test.vessl_with(["run", "validate", "-"], text).code(3).says(&["error["]);
    }
}

#[test]
fn the_schema_is_json_schema() {
    let schema = Test::new().vessl(["run", "schema"]).ok().json();
    assert_eq!(schema["$schema"], json!("https://json-schema.org/draft/2020-12/schema"));
    assert!(schema["properties"]["image"].is_object());
}
