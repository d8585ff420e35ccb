//! What needs no server: help, versions, wrong usage.
use std::io::{BufRead, Write};

use crate::test::Test;

#[test]
fn version_and_help_need_nothing() {
    let test = Test::new();
    test.vessl(["--version"]).ok().prints(&[concat!("vessl ", env!("CARGO_PKG_VERSION"))]);
    test.vessl(["--help"]).ok().prints(&["vessl run create -f run.yaml --watch", "VESSL_TOKEN"]);
    test.vessl(["-h"]).ok().prints(&["Exit codes:", "70 "]);
    test.vessl(["run", "create", "--help"]).ok().prints(&["Examples:", "--wait"]);
    assert!(!test.data().exists(), "a server was started for nothing");
}

#[test]
fn wrong_usage_is_2_and_says_what() {
    let test = Test::new();
    test.vessl(["run", "craete"]).code(2).says(&["craete", "create"]);
    test.vessl(["run", "create"]).code(2).says(&["--file"]);
    test.vessl(["run", "create", "bug.yaml", "--watch"]).code(2).says(&["`vessl run create -f bug.yaml`"]);
    test.vessl(["run", "create", "-f", "x", "--watch", "--wait"]).code(2).says(&["--wait"]);
    let nobody = ["credential", "create", "x", "--kind", "registry"];
    test.vessl(nobody).code(2).says(&[
        "--username <USER>",
        "Usage: vessl credential create <NAME> --kind registry --username <USER>",
    ]);
    test.vessl(["server", "start"]).code(2).says(&["starts by itself", "`vessl server run`"]);
    test.vessl(["run", "logs", "1", "--tail", "-1"]).code(2).says(&["'-1'", "a number is 0 or more here"]);
    for word in ["x", "1.5", ""] {
        test.vessl(["run", "logs", "1", "--tail", word]).code(2).says(&["it must be a whole number"]);
        test.vessl(["run", "list", "--limit", word]).code(2).says(&["it must be a whole number"]);
    }
    test.vessl(["run", "list", "--limit", "0"]).code(2).says(&["it must be 1 or more"]);
    test.vessl(["run", "read", ""]).code(2).says(&["a run has an id or a name"]);
    test.vessl(["run", "terminate"]).code(2).says(&["<ID>"]);
    test.vessl(["run", "compare", "7"]).code(2).says(&["2 values required"]);
    test.vessl(["run", "compare"]).code(2).says(&["--tag"]);
    test.vessl(["run", "list", "--status", "sleeping"]).code(2).says(&["sleeping", "queued"]);
    test.vessl(["run", "list", "--reason", "tired"]).code(2).says(&["tired", "out_of_memory"]);
    test.vessl(["run", "create", "-f", "-", "-e", "NOT_SET_ANYWHERE"]).code(2).says(&["NOT_SET_ANYWHERE"]);
    test.vessl(["--server", "localhost:80", "whoami"]).code(2).says(&["not a server address", "hint"]);
    assert!(!test.data().exists(), "a server was started for nothing");
}

#[test]
fn flags_and_commands_of_other_tools_are_answered() {
    let test = Test::new();
    let check = |line: &str, says: &[&str]| {
        test.vessl(line.split(' ')).code(2).says(says);
        let told = test.vessl(line.split(' ').chain(["--output", "json"])).code(2);
        for text in says {
            assert!(told.stderr.contains(text), "{}", told.stderr);
        }
    };
    for detach in ["--detach", "-d", "--detach=true"] {
        check(&format!("run create -f run.yaml {detach}"), &["returns at once", "`--watch` and `--wait`"]);
    }
    check("run create -f run.yaml -v /data:/data", &["`mount: {/data: hostpath:///srv/data}`"]);
    check("run create -f run.yaml --dry-run", &["`vessl run validate FILE`"]);
    check("run create -f run.yaml --cpus 2", &["`--cpu N`", "`--gpus N`"]);
    check("run create -f run.yaml --restart always", &["`--retries N`"]);
    check("run retry 1", &["`vessl run restart ID`"]);
    check(
        "run create -f run.yaml --detach",
        &["Usage: vessl run create [OPTIONS] <--file <FILE>|--from <ID>>"],
    );
    check("run create -f run.yaml --rm", &["`vessl run delete ID`"]);
    check("run stop 1", &["`vessl run terminate ID`"]);
    check("run ps", &["`vessl run list`"]);
    check("ps", &["`vessl run list`"]);
    check("logs 1", &["`vessl run logs -f ID`"]);
    check("run logs 1 -n 10", &["`--tail N`"]);
    check("run create -f - -e LR:1e-4", &["LR:1e-4", "write `LR=VALUE`"]);
    check("run create -f - -e lr", &["'lr'", "not set in this environment"]);
}

#[test]
fn a_secret_in_the_command_line_is_not_repeated() {
    let test = Test::new();
    let secret = ["secret", "create", "HF_TOKEN"].as_slice();
    let credential = ["credential", "create", "team", "--kind", "git"].as_slice();
    let words: [&[&str]; 4] =
        [&["hush-71"], &["--value", "hush-71"], &["--value=hush-71"], &["-p", "hush-71"]];
    for (command, next) in [
        (secret, "`vessl secret create NAME < file`"),
        (credential, "`vessl credential create NAME … < file`"),
        (&["configure", "token"], "`vessl configure token < file`"),
        (&["configure", "server", "http://127.0.0.1:1"], "`vessl configure server URL < file`"),
    ] {
        for more in words {
            for form in ["table", "json"] {
                let format = ["--output", form];
                let done = test.vessl(command.iter().chain(more).chain(&format)).code(2);
                assert!(!done.stderr.contains("hush-71"), "{more:?}: {}", done.stderr);
                done.says(&["the standard input", next]);
            }
        }
    }
    for command in
        [&["secret", "create", "T=hush-71"][..], &["credential", "create", "T=hush-71", "--kind", "git"]]
    {
        let done = test.vessl(command).code(2);
        assert!(!done.stderr.contains("hush-71"), "{}", done.stderr);
        done.says(&["`T=…` is not a name", "T < file`"]);
    }
    for pair in ["=hush-71", "=hush-71=hush-71"] {
        let done = test
            .vessl(["run", "create", "-f", "-", "-e", pair])
            .code(2)
            .says(&["'***'", "the name is empty"]);
        assert!(!done.stderr.contains("hush-71"), "{}", done.stderr);
    }
    for pair in ["PASSWORD hush-71", "PASSWORD\thush-71", "PASSWORD hush-71 hush-71=="] {
        for form in ["table", "json"] {
            let done = test.vessl(["run", "create", "-f", "-", "--output", form, "-e", pair]).code(2);
            let done = done.says(&["write `PASSWORD=VALUE`"]);
            assert!(!done.stderr.contains("hush-71"), "{}", done.stderr);
        }
    }
    for (pair, said) in [
        ("PASSWORD:hush-71", "write `PASSWORD=VALUE`"),
        ("PASSWORD: hush-71=", "write `PASSWORD=VALUE`"),
        ("hush_71abc", "it is not set in this environment"),
        ("@hush-71", "write `NAME=VALUE`"),
    ] {
        let done = test.vessl(["run", "create", "-f", "-", "-e", pair]).code(2).says(&[said]);
        assert!(!done.stderr.contains("hush"), "{}", done.stderr);
    }
    test.vessl(["run", "create", "-f", "-", "-e", "NOT_THERE"]).code(2).says(&["`NOT_THERE` is not set"]);
}

#[test]
fn errors_are_told_in_the_format_that_was_asked_for() {
    let test = Test::new();
    let error = |args: &[&str], input: &str, code: i32| {
        let done = test.vessl_with(args.iter().chain(&["--output", "json"]), input.as_bytes()).code(code);
        assert_eq!(done.stdout, "", "{args:?}");
        let told: serde_json::Value =
            serde_json::from_str(&done.stderr).unwrap_or_else(|e| panic!("{args:?}: {e} in {}", done.stderr));
        assert_eq!(told.as_object().unwrap().len(), 1, "{told}");
        told["error"].clone()
    };
    let told = error(&["run", "craete"], "", 2);
    assert_eq!(told["code"], "usage");
    assert_eq!(told["message"], "unrecognized subcommand 'craete'");
    assert!(told["hint"].as_str().unwrap().contains("'create'"), "{told}");
    let told = error(&["run", "create", "bug.yaml"], "", 2);
    assert!(told["hint"].as_str().unwrap().contains("-f bug.yaml"), "{told}");
    let told = error(&["run"], "", 2);
    assert!(told["message"].as_str().unwrap().contains("requires a subcommand"), "{told}");
    assert_eq!(error(&["run", "create", "-f", "gone.yaml"], "", 3)["code"], "unreadable");
    let told = error(&["run", "create", "-f", "-"], "name: x\nimage: host://\nunknwon: 1\n", 3);
    assert_eq!((&told["code"], &told["file"]), (&"spec_invalid".into(), &"standard input".into()));
    assert_eq!(told["problems"][0]["line"], 3, "{told}");
    let told = error(&["--server", "http://127.77.77.77:9", "run", "list"], "", 4);
    assert_eq!(told["code"], "unreachable");
    assert!(told["hint"].is_string() && told.get("problems").is_none(), "{told}");

    let yaml = test.vessl(["run", "create", "-f", "gone.yaml", "--output", "yaml"]).code(3);
    assert!(yaml.stderr.starts_with("---\nerror:\n  code: unreadable\n  message: "), "{}", yaml.stderr);
}

#[test]
fn a_server_that_is_not_there_is_4() {
    let test = Test::new();
    // Nothing listens on the discard port of a loopback address that nobody uses.
    test.vessl(["--server", "http://127.77.77.77:9", "run", "list"])
        .code(4)
        .says(&["127.77.77.77:9", "nothing listens"]);
    test.vessl(["--server", "unix:///nowhere/socket", "run", "list"])
        .code(4)
        .says(&["unix:///nowhere/socket"]);
}

#[test]
fn another_web_server_is_4_and_no_bug() {
    let test = Test::new().env("VESSL_TOKEN", "t");
    for answer in ["404 Not Found", "200 OK"] {
        let web = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", web.local_addr().unwrap());
        let asked = test.start(["--server", &url, "run", "list"]);
        let (mut connection, _) = web.accept().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(&connection).read_line(&mut line).unwrap();
        assert!(line.starts_with("GET /v1/"), "{line}");
        let page = "<html></html>";
        let head = format!("HTTP/1.1 {answer}\r\ncontent-length: {}\r\n\r\n", page.len());
        connection.write_all(format!("{head}{page}").as_bytes()).unwrap();
        asked.finish().code(4).says(&[
            &url,
            "no vessl server",
            "`VESSL_SERVER`",
            "`vessl configure server URL`",
        ]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error_to_talk_about() {
    let test = Test::new();
    let script = format!("{} --help | true; exit ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_vessl"));
    let mut bash = std::process::Command::new("bash");
    let out = bash.args(["-c", &script]).env("VESSL_DATA", test.data()).output().unwrap();
    assert!(matches!(out.status.code(), Some(0 | 141)), "{out:?}");
    assert!(out.stderr.is_empty(), "{out:?}");
}
