//! The page about data says what happens: from its first line to its last, its commands are run and its run files too.
use std::process::Command;

use crate::data::repository;
use crate::stores::{Bucket, KEY, hugging_face, secret};
use crate::test::Test;

const PAGE: &str = include_str!("../../../../docs/data.md");

/// A command of the page, with what it prints; or a run file.
#[derive(Debug)]
enum Step {
    Command { line: String, prints: String },
    Run(String),
}

/// Everything that the page shows, in its order.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (n, block) in PAGE.split("```").enumerate().filter(|(n, _)| n % 2 == 1) {
        let (kind, text) = block.split_once('\n').unwrap_or_else(|| panic!("block {n} has one line"));
        match kind {
            "yaml" => steps.push(Step::Run(text.to_owned())),
            "" => steps.extend(commands(text)),
            other => assert_eq!(other, "text", "block {n}"),
        }
    }
    steps
}

/// The commands of a block. One that nobody can repeat as it stands is in a block of `text`.
fn commands(text: &str) -> impl Iterator<Item = Step> {
    text.trim_end().split("$ ").skip(1).map(|part| {
        let (line, prints) = part.split_once('\n').unwrap_or((part, ""));
        Step::Command { line: line.to_owned(), prints: prints.trim_end().to_owned() }
    })
}

/// Without what is another each time: times, digests and ids; and blanks only count as such.
fn settled(text: &str) -> String {
    let is = |word: &str, len, may: &dyn Fn(char) -> bool| word.len() == len && word.chars().all(may);
    let word = |word: &str| {
        let word = match word {
            word if is(word, 10, &|c| c.is_ascii_digit() || c == '-') => "DAY",
            word if is(word, 8, &|c| c.is_ascii_digit() || c == ':') => "TIME",
            word if is(word, 16, &|c| c.is_ascii_hexdigit()) => "DIGEST",
            word if is(word, 12, &|c| c.is_ascii_digit()) => "RUN",
            word => word,
        };
        word.to_owned()
    };
    let lines = text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

/// What the page takes from elsewhere is on this machine. Every change has something to change.
struct Changes(Vec<(&'static str, String)>);

impl Changes {
    fn apply(&self, text: &str, seen: &mut [bool]) -> String {
        let mut text = text.to_owned();
        for ((from, to), seen) in self.0.iter().zip(seen) {
            *seen |= text.contains(from);
            text = text.replace(from, to);
        }
        text
    }
}

#[test]
fn the_page_about_data_says_what_happens() {
    let test = Test::new();
    let bucket = Bucket::new();
    std::fs::create_dir_all(bucket.root.join("data")).unwrap();
    std::fs::create_dir_all(bucket.root.join("results")).unwrap();
    let machine = test.path("datasets");
    std::fs::create_dir(&machine).unwrap();
    let settings = format!("hostpath_roots = [{machine:?}]\nhf_endpoint = \"{}\"\n", hugging_face());
    test.file("../config/vessl/server.toml", settings);
    fixtures(&test);
    repository(&test.path("train"));
    let endpoint = format!("http://{}", bucket.address);
    let face = "{hf: {url: huggingface.co/datasets/acme/small, credential_name: face}}";
    let changes = Changes(vec![
        ("python:3.12-slim", "host://".to_owned()),
        ("https://github.com/example/train.git", format!("file://{}", test.path("train").display())),
        ("python /code/train.py", "cat /code/where".to_owned()),
        ("AKIAEXAMPLE", KEY.to_owned()),
        ("http://minio.example.com:9000", endpoint.clone()),
        (
            "gs: {bucket: results, prefix: iris, credential_name: robot}",
            format!("s3: {{bucket: results, prefix: iris, endpoint: '{endpoint}', credential_name: keys}}"),
        ),
        ("hf://huggingface.co/example/small", face.to_owned()),
        ("huggingface.co/datasets/example/iris", "huggingface.co/datasets/acme/small".to_owned()),
        ("hostpath:///srv/datasets", format!("hostpath://{}", machine.display())),
        // This kernel may have no client: the machine of another test mounts it.
        (
            "  /home/shared:\n    nfs: {server: 10.0.0.1, path: /export/shared}\n    readonly: false\n",
            String::new(),
        ),
        ("ls /datasets /home/shared", "ls /datasets".to_owned()),
    ]);
    let mut seen = vec![false; changes.0.len()];
    for step in steps() {
        match step {
            Step::Run(text) => {
                let text = changes.apply(&text, &mut seen);
                if text.contains("prefix: iris/2024") {
                    fill(&test, &endpoint);
                }
                test.wait(&text).ok();
            }
            Step::Command { line, prints } => {
                let command = changes.apply(&line, &mut seen);
                let prints = changes.apply(&prints, &mut seen);
                assert_eq!(settled(&said(&test, &command)), settled(&prints), "{line}");
            }
        }
    }
    for ((from, _), seen) in changes.0.iter().zip(seen) {
        assert!(seen, "the page has no `{from}` any more");
    }
}

/// What the page takes for granted in the directory that its commands are given in.
fn fixtures(test: &Test) {
    let write = |name: &str, len: usize| {
        let path = test.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x".repeat(len)).unwrap();
    };
    write("iris/README", 34);
    write("iris/train.csv", 1502);
    write("checkpoint/weights.bin", 40 << 20);
    write("by-hand/a", 2);
    write("notes.txt", 5);
    test.file("secret-key", secret());
    test.file("token", "hf_token\n");
    let account = serde_json::json!({
        "type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": "none",
        "client_email": "robot@p.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token",
    });
    test.file("service-account.json", account.to_string());
}

/// Something where the page reads from, put there by a run.
fn fill(test: &Test, endpoint: &str) {
    let text = format!(
        "name: fill\nimage: host://\nexport:\n  /out:\n    s3: {{bucket: data, prefix: iris/2024, endpoint: '{endpoint}', \
         credential_name: keys}}\nrun: ['mkdir -p /out && echo 1 > /out/a']\n"
    );
    test.wait(&text).ok();
}

/// What a command of the page prints, in a shell that knows the program; it succeeds.
fn said(test: &Test, line: &str) -> String {
    let bin = test.path("../bin");
    if !bin.exists() {
        std::fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(test.program(), bin.join("vessl")).unwrap();
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]);
    let done = test.world(&mut shell).env("PATH", format!("{}:{path}", bin.display())).output().unwrap();
    let err = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{line}: {err}");
    String::from_utf8(done.stdout).unwrap()
}
