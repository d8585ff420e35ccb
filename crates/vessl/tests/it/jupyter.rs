//! JupyterLab of interactive runs: where it comes from, who gets in, what a notebook sees.
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bad_days::save;
use crate::specs::endless;
use crate::test::Test;

/// Longest time until JupyterLab is there, its wheels included.
const LIMIT: Duration = Duration::from_mins(4);

/// Where `.ci/tools` put wheels, and a Python with packages of its own.
pub(crate) fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("jupyter");
    assert!(target.join("wheels").is_dir(), "needs `{}`: run `.ci/tools test`", target.display());
    target
}

pub(crate) fn wheels() -> String {
    tools().join("wheels").display().to_string()
}

/// An interactive run of this machine's root file system, with that Python.
pub(crate) fn notebook() -> String {
    let path = format!("{}/python/bin:/usr/local/bin:/usr/bin:/bin", tools().display());
    format!(
        "name: notebook\nimage: host://\nresources:\n  requests: {{cpu: 1, memory: 1Gi}}\n\
         env:\n  PATH: {path}\n  PYTHONPATH: /opt/own\n  GIVEN: yes\ninteractive: {{max_runtime: 1h}}\n"
    )
}

/// Waits until JupyterLab is ready or will not be; how it is then.
fn until_decided(test: &Test, id: &str) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let run = test.read(id);
        if run["jupyter"]["state"] != "preparing" {
            return run["jupyter"].clone();
        }
        assert!(Instant::now() < deadline, "it does not come: {}", run["jupyter"]);
    }
}

pub(crate) fn link(test: &Test, id: &str) -> String {
    let told = until_decided(test, id);
    assert_eq!(told["state"], "ready", "{told}\n{}", test.vessl(["run", "logs", id]).stdout);
    test.vessl(["run", "jupyter", id, "--no-browser"]).ok().stdout.trim().to_owned()
}

/// What somebody sees who opens the link and runs a cell.
fn used(link: &str, cell: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/jupyter_client.py");
    let done = Command::new("python3").args([script, link, cell]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    serde_json::from_slice(&done.stdout).unwrap()
}

pub(crate) fn end(test: &Test, id: &str) {
    test.vessl(["run", "terminate", id, "--grace", "2"]).ok();
    let run = test.until_end(id);
    assert_eq!(run["status"], "terminated", "{run}");
}

const CELL: &str = r#"
import json, os, sys, traitlets, numpy, ipykernel
try:
    wrote = open(ipykernel.__file__, "a").close()
except OSError as error:
    wrote = error.strerror
print(json.dumps({
    "wrote": wrote,
    "traitlets": traitlets.__version__, "numpy": numpy.__file__, "ipykernel": ipykernel.__file__,
    "path": [p for p in sys.path if ".vessl" in p], "first": "/opt/own" in sys.path, "env": dict(os.environ),
}))
"#;

#[test]
fn a_notebook_works_with_the_packages_of_the_image() {
    let test = Test::new().env("VESSL_SERVER_JUPYTER_WHEELS", &wheels());
    let id = test.create(&notebook());
    let opened = link(&test, &id);
    let token = opened.rsplit_once("token=").unwrap().1.to_owned();
    assert!(opened.contains("/lab?vessl-code=") && token.len() == 48, "{opened}");
    let seen = used(&opened, CELL);
    assert_eq!((&seen["status"], &seen["page"], &seen["error"]), (&200.into(), &true.into(), &Value::Null));
    assert_eq!(seen["place"], format!("/lab?token={token}"));
    assert!(seen["files"].as_array().unwrap().contains(&"usr".into()), "{seen}");
    assert!(seen["terminal"].as_str().unwrap().contains("42-"), "{seen}");
    let kernel: Value = serde_json::from_str(seen["printed"].as_str().unwrap()).unwrap();
    let own = tools().join("python").display().to_string();
    assert_eq!(kernel["traitlets"], "5.14.3", "{kernel}");
    assert!(kernel["numpy"].as_str().unwrap().starts_with(&own), "{kernel}");
    assert!(kernel["ipykernel"].as_str().unwrap().starts_with("/.vessl/jupyter/cp3"), "{kernel}");
    assert_eq!(kernel["path"].as_array().unwrap().len(), 1, "{kernel}");
    assert_eq!((&kernel["first"], &kernel["env"]["PYTHONPATH"]), (&true.into(), &"/opt/own".into()));
    assert_eq!(kernel["env"]["GIVEN"], "yes");
    // Other runs read the same files.
    assert_eq!(kernel["wrote"], "Read-only file system");
    // Nobody finds the token who was not given it.
    assert!(!kernel.to_string().contains(&token), "{kernel}");
    let leaks: Vec<String> =
        test.leaks(&token).into_iter().filter(|leak| !leak.starts_with("printed: http")).collect();
    assert!(leaks.len() == 1 && leaks[0].ends_with("/jupyter.token"), "{leaks:#?}");
    // One that dies is started again.
    let find = "for p in /proc/[0-9]*; do grep -qs 'vessl/[s]erver.py' $p/cmdline && kill -9 ${p#/proc/}; done; true";
    test.vessl(["run", "exec", &id, "--", "sh", "-c", find]).ok();
    test.until_log(&id, "JupyterLab: it ended with exit code 137");
    assert_eq!(link(&test, &id).rsplit_once("token=").unwrap().1, token);
    end(&test, &id);
    assert!(test.read(&id)["jupyter"].is_null());
    test.vessl(["run", "jupyter", &id]).code(5).says(&["the run has ended (terminated)"]);
    // What is on the machine needs no wheels any more.
    test.vessl(["server", "stop"]).ok();
    let test = test.env("VESSL_SERVER_JUPYTER_WHEELS", "/nowhere");
    let id = test.create(&notebook());
    let seen = used(&link(&test, &id), "print(6 * 7)");
    assert_eq!(seen["printed"], "42\n");
    end(&test, &id);
}

#[test]
fn a_wheel_that_is_not_the_one_of_the_lock_is_not_used() {
    let index = Index::start(|bytes| bytes[0] ^= 1);
    let test = Test::new().env("VESSL_SERVER_JUPYTER_INDEX", &index.url);
    let id = test.create(&notebook());
    let told = until_decided(&test, &id);
    assert_eq!(told["state"], "unavailable");
    let why = told["why"].as_str().unwrap();
    assert!(why.contains("its digest is another one") && why.contains(&index.url), "{why}");
    test.vessl(["run", "jupyter", &id]).code(5).says(&[
        "JupyterLab is not available: ",
        "its digest",
        "vessl run shell",
    ]);
    test.until_log(&id, "JupyterLab: `");
    test.vessl(["run", "exec", &id, "--", "true"]).ok();
    let kits: Vec<_> = std::fs::read_dir(test.data().join("jupyter")).unwrap().flatten().collect();
    assert!(kits.iter().all(|kit| kit.file_name() == ".lock"), "{kits:?}");
    end(&test, &id);

    test.vessl(["server", "stop"]).ok();
    let test = test.env("VESSL_SERVER_JUPYTER_WHEELS", "/nowhere");
    let id = test.create(&notebook());
    let told = until_decided(&test, &id);
    let why = told["why"].as_str().unwrap();
    assert!(why.contains("is not in `/nowhere` (`jupyter_wheels`); `vessl jupyter requirements`"), "{why}");
    end(&test, &id);
}

#[test]
fn an_image_without_python_says_so_and_works() {
    let test = Test::new();
    let dir = test.path("layout");
    let root = "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && ln -s busybox root/bin/sh";
    save(&dir, "root", root);
    let requests = "resources:\n  requests: {cpu: 250m, memory: 64Mi}\n";
    let id = test.create(&format!(
        "name: bare\nimage: oci://{}/image.tar\n{requests}interactive: {{max_runtime: 1h}}\n",
        dir.display()
    ));
    let told = until_decided(&test, &id);
    assert_eq!(told["state"], "unavailable");
    let why = "the image has no `python3`; JupyterLab needs an image with Python 3.9 to 3.14";
    assert!(told["why"].as_str().unwrap().starts_with(why), "{told}");
    test.vessl(["run", "read", &id]).ok().prints(&["unavailable: the image has no `python3`"]);
    test.vessl(["run", "jupyter", &id]).code(5).says(&[why, "vessl run shell"]);
    test.until_log(&id, "JupyterLab: the image has no `python3`");
    test.vessl(["run", "exec", &id, "--", "sh", "-c", "echo works"]).ok().prints(&["works"]);
    end(&test, &id);
    // What is prepared for later runs is tried, and nothing of the trial stays.
    let image = format!("oci://{}/image.tar", dir.display());
    test.vessl(["jupyter", "prepare", &image]).code(5).says(&[why]);
    let runs = test.vessl(["run", "list", "--output", "json"]).ok().json();
    assert!(runs.as_array().unwrap().iter().all(|run| run["name"] == "bare"), "{runs}");
}

#[test]
fn only_interactive_runs_have_it() {
    let test = Test::new();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    test.vessl(["run", "jupyter", &id])
        .code(5)
        .says(&["is not interactive: it has no JupyterLab", "interactive:"]);
    assert!(test.read(&id)["jupyter"].is_null());
    end(&test, &id);
    let lock = test.vessl(["jupyter", "requirements", "--python", "3.12"]).ok();
    assert!(lock.stdout.contains("jupyterlab==4.") && lock.stdout.contains("--hash=sha256:"));
    test.vessl(["jupyter", "requirements", "--python", "3.8"]).code(2).says(&["Python 3.8", "3.9 to 3.14"]);
}

#[test]
fn a_port_that_is_taken_is_waited_for() {
    let index = Index::start(|_| {});
    let test = Test::new().env("VESSL_SERVER_JUPYTER_INDEX", &index.url);
    let program = "import http.server as h; h.HTTPServer((\"127.0.0.1\", 8888), h.SimpleHTTPRequestHandler).serve_forever()";
    let command = format!(
        "run:\n  - command: |\n      python3 -c '{program}' &\n      echo $! > /tmp/own; wait; echo gone\n"
    );
    let id = test.create(&format!("{}{command}", notebook()));
    let told = until_decided(&test, &id);
    let why = told["why"].as_str().unwrap();
    assert!(why.starts_with("port 8888 is taken by another program") && why.contains(&id), "{told}");
    test.vessl(["run", "exec", &id, "--", "sh", "-c", "kill $(cat /tmp/own)"]).ok();
    test.until_log(&id, "JupyterLab is ready: `vessl run jupyter");
    assert_eq!(used(&link(&test, &id), "print(1)")["printed"], "1\n");
    end(&test, &id);
}

/// A package index with the wheels of `.ci/tools`, changed on their way.
struct Index {
    url: String,
}

impl Index {
    fn start(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let change = std::sync::Arc::new(change);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let change = change.clone();
                std::thread::spawn(move || Self::answer(stream, &*change));
            }
        });
        Self { url: format!("http://{at}/simple") }
    }

    fn answer(mut stream: TcpStream, change: &dyn Fn(&mut Vec<u8>)) {
        let mut from = BufReader::new(stream.try_clone().unwrap());
        let mut first = String::new();
        let _ = from.read_line(&mut first);
        let mut line = String::new();
        while from.read_line(&mut line).is_ok_and(|length| length > 2) {
            line.clear();
        }
        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
        let (kind, body) = if let Some(name) = path.strip_prefix("/files/") {
            let mut bytes = std::fs::read(Path::new(&wheels()).join(name)).unwrap_or_default();
            change(&mut bytes);
            ("application/octet-stream", bytes)
        } else {
            let package = path.trim_start_matches("/simple/").trim_end_matches('/').replace('-', "_");
            let files = std::fs::read_dir(wheels()).unwrap().flatten();
            let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
            let is_of =
                |name: &String| name.to_lowercase().replace('-', "_").starts_with(&format!("{package}_"));
            let files: Vec<Value> = names
                .filter(is_of)
                .map(|name| serde_json::json!({ "filename": name, "url": format!("../../files/{name}"), "hashes": {} }))
                .collect();
            (
                "application/vnd.pypi.simple.v1+json",
                serde_json::json!({ "files": files }).to_string().into_bytes(),
            )
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
    }
}
