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
fn what_every_server_refuses_is_a_warning() {
    let test = Test::new();
    test.file("s3.yaml", format!("{GOOD}import:\n  /data: s3://bucket/prefix\ninteractive: {{}}\n"));
    let done = test.vessl(["run", "validate", "s3.yaml"]).ok();
    done.prints(&["s3.yaml: valid"]).says(&[
        "warning[unsupported]: importing from S3 is not possible in this version",
        "--> s3.yaml:5:10",
        "warning[unsupported]: interactive runs are not possible",
    ]);
    // What depends on the server is none of it.
    let named = format!("{GOOD}resources: {{preset: p}}\nenv: {{A: {{secret: S}}}}\n");
    assert_eq!(test.vessl_with(["run", "validate", "-"], named.as_bytes()).ok().stderr, "");
    assert!(!test.data().exists(), "a server was started for nothing");
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
