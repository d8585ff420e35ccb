//! The API against its own document: schemathesis asks a real server for a bounded time and finds nothing.
use std::path::Path;
use std::process::Command;

use crate::specs::{head, item};
use crate::test::Test;

/// How long it asks, in seconds. Another seed asks other things; a failure prints the one that it had.
const SECONDS: &str = "60";
/// What stops the server, what takes the run away that the others ask for, what reaches for registries elsewhere, and what is for
/// connections that are upgraded.
const LEFT_OUT: [&str; 6] = ["shutdown", "deleteRun", "pullImage", "execInRun", "dialInRun", "sshToRun"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The program, where `.ci/tools test` puts it: in the target directory, of which the temporary one is a part.
fn schemathesis() -> std::path::PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../schemathesis/bin/st");
    assert!(program.exists(), "`{}` is missing: `.ci/tools test` installs it", program.display());
    program
}

#[test]
fn what_the_document_says_is_what_the_server_does() {
    let test = Test::new().env("VESSL_SERVER_LISTEN", "127.0.0.1:0");
    let run = format!(
        "{}export: {{/o: vessl-artifact://default/default/a}}\n{}",
        head("host://"),
        item("date > /o/x")
    );
    let id = test.wait(&run).ok().json()["id"].to_string();
    let url =
        test.vessl(["server", "status", "--output", "json"]).ok().json()["url"].as_str().unwrap().to_owned();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    let settings = std::fs::read_to_string(root().join(".ci/schemathesis.toml")).unwrap();
    let paths = format!(
        "[parameters]\n\"path.organization\" = \"default\"\n\"path.project\" = \"default\"\n\"path.id\" = {id}\n"
    );
    let settings = test.file("schemathesis.toml", settings + &paths);
    let mut command = Command::new(schemathesis());
    command.arg("--config-file").arg(settings).arg("run").arg(root().join("openapi/v1.json"));
    command.args(["--url", &format!("{url}/v1"), "--max-time", SECONDS, "--request-timeout", "20"]);
    command.arg("--header").arg(format!("Authorization: Bearer {}", token.trim()));
    for operation in LEFT_OUT {
        command.args(["--exclude-operation-id", operation]);
    }
    let said = command.env("NO_COLOR", "1").current_dir(test.path("")).output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success(), "{text}\n{}", String::from_utf8_lossy(&said.stderr));
    assert!(text.contains(" passed"), "it asked something: {text}");
}

#[test]
fn what_makes_no_sense_is_a_400() {
    use std::io::{Read, Write};
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    let ask = |line: &str, headers: &str, body: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(test.data().join("server.sock")).unwrap();
        let head = format!(
            "Authorization: Bearer {}\r\nConnection: close\r\nContent-Length: {}",
            token.trim(),
            body.len()
        );
        stream.write_all(format!("{line} HTTP/1.1\r\n{headers}{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let host = "Host: localhost\r\n";
    let pull = |reference: &str| {
        ask("POST /v1/clusters/local/images/pull", host, &format!("{{\"reference\":\"{reference}\"}}"))
    };
    for reference in ["a\\u0000b", "", " ", "oci:///x\\u0000", "a b", "http://x"] {
        let answer = pull(reference);
        assert!(answer.starts_with("HTTP/1.1 400"), "{reference}: {answer}");
    }
    let twice = ask("GET /v1/whoami", &format!("{host}Host: elsewhere\r\n"), "");
    assert!(twice.starts_with("HTTP/1.1 400") && twice.contains("more than one `Host`"), "{twice}");
    assert!(ask("GET /v1/whoami", host, "").starts_with("HTTP/1.1 200"));
}
