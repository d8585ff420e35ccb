//! Every kind of data in and out, from the run file to the files: datasets, models, volumes, buckets of a real server with the S3 API,
//! a stand-in for Hugging Face.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::test::Test;

pub(crate) const KEY: &str = "AKIATEST";

/// Of this test alone: a server of another one has its own in its command line.
pub(crate) fn secret() -> String {
    format!("not-so-secret-{}", std::process::id())
}

/// s3s-fs with the bucket `bkt`, which takes the signatures of [`KEY`] alone.
pub(crate) struct Bucket {
    child: Child,
    pub(crate) address: String,
    pub(crate) root: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bucket {
    pub(crate) fn new() -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../buckets/bin/s3s-fs");
        assert!(program.exists(), "`{}` is missing; `.ci/tools test` installs it", program.display());
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        std::fs::create_dir_all(root.join("bkt")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command.args(["--host", "127.0.0.1", "--port", "0", "--access-key", KEY, "--secret-key", &secret()]);
        command.arg(&root).env("RUST_LOG", "info").stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (found, address) = mpsc::channel();
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in out {
            let found = found.clone();
            // What it says must be read, or it would stop at a full pipe.
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if let Some((_, after)) = line.split_once("http://") {
                        let is_part = |c: &char| c.is_ascii_digit() || ".:".contains(*c);
                        let _ = found.send(after.chars().take_while(is_part).collect::<String>());
                    }
                }
            });
        }
        let address = address.recv_timeout(Duration::from_mins(1)).expect("the server did not start");
        Self { child, address, root, _dir: dir }
    }

    /// The map form of a place in it.
    pub(crate) fn at(&self, prefix: &str, credential: &str) -> String {
        let Self { address, .. } = self;
        format!(
            "s3: {{bucket: bkt, prefix: {prefix}, endpoint: 'http://{address}', credential_name: {credential}}}"
        )
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn file(name: &str, rest: &str) -> String {
    format!("name: {name}\nimage: host://\n{rest}\n")
}

pub(crate) fn keys(test: &Test) {
    let create = ["credential", "create", "keys", "--kind", "s3", "--username", KEY];
    test.vessl_with(create, secret().as_bytes()).ok();
}

#[test]
fn datasets_and_models_grow_from_run_to_run() {
    let test = Test::new();
    test.vessl(["dataset", "create", "iris"]).ok();
    test.vessl(["model-repository", "create", "flowers"]).ok();
    let make = |command: &str| {
        let export =
            "export:\n  /out-d: vessl-dataset://default/iris\n  /out-m: vessl-model://default/flowers\n";
        test.wait(&file("make", &format!("{export}run: ['{command}']"))).ok().json()
    };
    let first = make("mkdir /out-d/sub && echo 1 > /out-d/a && echo 2 > /out-d/sub/b && echo w1 > /out-m/w");
    assert_eq!(first["exports"].as_array().unwrap().len(), 2, "{first}");
    make("echo 9 > /out-d/a && echo 3 > /out-d/c && echo w2 > /out-m/w");
    let dataset = test.vessl(["dataset", "read", "iris", "--output", "json"]).ok().json();
    assert_eq!(dataset["newest"]["version"], 2, "{dataset}");
    let look = "import: {/i/d: vessl-dataset://default/iris, /i/m: vessl-model://default/flowers/1}\n\
                mount: {/i/ro: vessl-dataset://default/iris}\n\
                run: ['cat /i/d/a /i/d/sub/b /i/d/c /i/m/w /i/ro/c; ! touch /i/ro/new 2>/dev/null; echo x > /i/d/a']";
    for how in ["", ", nothing copied: it is here already"] {
        let id = test.wait(&file("look", look)).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "9\n2\n3\nw1\n3\n");
        let said = format!("imported `/i/m`: 1 file, 3 B{how}");
        test.vessl(["run", "logs", &id]).ok().says(&[&said]);
    }
    let cache = test.vessl(["cache", "list", "--output", "json"]).ok().json();
    let sources: Vec<_> =
        cache.as_array().unwrap().iter().map(|entry| entry["source"].as_str().unwrap()).collect();
    assert!(sources.contains(&"vessl-model://default/flowers/1"), "{cache}");
    let freed = test.vessl(["cache", "prune", "--output", "json"]).ok().json();
    assert_eq!(freed["entries"], 2, "{freed}");
    let busy = file("busy", "import: {/i: vessl-dataset://default/iris}\nrun: ['echo ready; sleep 1000']");
    let id = test.create(&busy);
    test.until_log(&id, "ready");
    assert_eq!(test.vessl(["cache", "prune", "--output", "json"]).ok().json()["entries"], 0, "it is in use");
    test.vessl(["dataset", "delete", "iris"]).code(5).says(&[&id]);
    test.vessl(["run", "terminate", &id]).ok();
    test.until_end(&id);
}

#[test]
fn volumes_are_written_mounted_and_read() {
    let test = Test::new();
    let make = "export: {/out: volume://vessl-storage}\nrun: ['mkdir /out/sub; echo 1 > /out/sub/a; ln -s sub/a /out/l']";
    let run = test.wait(&file("make", make)).ok().json()["id"].to_string();
    let volume = format!("vessl-storage/run-{run}");
    let live = format!(
        "mount:\n  /v:\n    volume: {volume}\n    readonly: false\n  /ro: volume://{volume}\nrun: ['echo 2 > /v/b; cat /ro/b; ! touch /ro/x 2>/dev/null']"
    );
    let id = test.wait(&file("live", &live)).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "2\n");
    let read = format!("import: {{/i: volume://{volume}}}\nrun: ['cat /i/l /i/b; echo mine > /i/b']");
    for _ in 0..2 {
        let id = test.wait(&file("read", &read)).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "1\n2\n");
    }
    test.vessl(["storage", "create-volume", "empty", "--storage-name", "vessl-storage"]).ok();
    let fill = "export: {/out: volume://vessl-storage/empty}\nrun: ['echo 3 > /out/c']";
    test.wait(&file("fill", fill)).ok();
    test.vessl(["storage", "list-files", "volume://vessl-storage/empty"]).ok().prints(&["c"]);
    let history = test
        .vessl(["storage", "volume-history", &format!("volume://{volume}"), "--output", "json"])
        .ok()
        .json();
    assert_eq!(history.as_array().unwrap().len(), 1, "a mounted volume is changed unseen: {history}");
    let change = &history[0];
    assert_eq!(
        (&change["what"], &change["files"], change["run"].to_string()),
        (&"export".into(), &2.into(), run.clone()),
        "{change}"
    );
    let missing = file("none", "import: {/i: volume://vessl-storage/none}\nrun: ['true']");
    test.vessl_with(["run", "create", "-f", "-"], missing.as_bytes())
        .code(3)
        .says(&["unknown-volume", "`empty`"]);
    assert!(test.mounts().is_empty(), "{:?}", test.mounts());
    let backup = test.path("backup").display().to_string();
    test.vessl(["server", "backup", &backup]).ok().says(&["are not in it", "`--volumes`"]);
    let whole = test.path("whole").display().to_string();
    let taken = test.vessl(["server", "backup", &whole, "--volumes", "--output", "json"]).ok().json();
    assert_eq!(taken["volumes"], 2, "{taken}");
    test.vessl(["server", "stop"]).ok();
    std::fs::remove_dir_all(test.data().join("volumes/default").join(format!("run-{run}"))).unwrap();
    let done = test.vessl(["server", "restore", &whole, "--output", "json"]).ok().json();
    assert_eq!(
        (&done["volumes"], &done["volumes_left"]),
        (&1.into(), &serde_json::json!(["default/empty"])),
        "{done}"
    );
    let id = test.wait(&file("read", &read)).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "1\n2\n");
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

#[test]
fn a_volume_of_the_machine_lies_below_the_roots_wherever_its_links_lead() {
    let test = Test::new();
    let (open, closed) = (test.path("open"), test.path("closed"));
    for dir in [open.join("lab"), closed.join("v")] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(closed.join("v/f"), "private").unwrap();
    test.file("../config/vessl/server.toml", format!("hostpath_roots = [{open:?}]\n"));
    let lab = open.join("lab").display().to_string();
    test.vessl(["storage", "create", "lab", "--storage-type", "host-path", "--path", &lab]).ok();
    test.vessl(["storage", "create-volume", "v", "--storage-name", "lab"]).ok();
    let uses = [
        "mount: {/m: volume://lab/v}\nrun: ['cat /m/f']",
        "import: {/m: volume://lab/v}\nrun: ['cat /m/f']",
        "export: {/m: volume://lab/v}\nrun: ['echo > /m/new']",
    ];
    std::fs::write(open.join("lab/v/f"), "shared").unwrap();
    for body in uses {
        test.wait(&file("inside", body)).ok();
    }
    std::fs::rename(open.join("lab"), open.join("away")).unwrap();
    std::os::unix::fs::symlink(&closed, open.join("lab")).unwrap();
    for body in uses {
        let run = test.wait(&file("outside", body)).json();
        let why = run["reason"].as_str().unwrap();
        assert!(run["status"] == "failed" && why.contains("that the administrator allowed"), "{body}: {why}");
        let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok();
        assert!(!log.stdout.contains("private"), "{body}: {}", log.stdout);
    }
    assert!(!closed.join("v/new").exists());
}

#[test]
fn buckets_are_written_and_read() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    let make = format!(
        "export:\n  /out:\n    {}\nrun: ['mkdir /out/sub; echo 1 > /out/a; echo 2 > /out/sub/b; chmod 600 /out/a']",
        bucket.at("results/x", "keys")
    );
    test.wait(&file("make", &make)).ok();
    assert_eq!(std::fs::read_to_string(bucket.root.join("bkt/results/x/sub/b")).unwrap(), "2\n");
    assert!(bucket.root.join("bkt/results/x/.vessl-manifest.json").exists());
    let read = format!(
        "import:\n  /i:\n    {}\nrun: [\"cat /i/a /i/sub/b; stat -c %a /i/a; ls -A /i | tr '\\\\n' ' '\"]",
        bucket.at("results/x", "keys")
    );
    for how in ["", ", nothing copied: it is here already"] {
        let id = test.wait(&file("read", &read)).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "1\n2\n600\na sub ");
        test.vessl(["run", "logs", &id]).ok().says(&[&format!("imported `/i`: 2 files, 4 B{how}")]);
    }
    // What is wrong is said before the first command, with the place and the reason, and without the key.
    test.vessl_with(["credential", "create", "wrong", "--kind", "s3", "--username", KEY], b"another-one")
        .ok();
    for (prefix, credential, words) in
        [("results/none", "keys", "results/none"), ("results/x", "wrong", "credential")]
    {
        let place = bucket.at(prefix, credential);
        let text = format!("import:\n  /i:\n    {place}\nrun: ['echo never']");
        let run = test.wait(&file("bad", &text)).code(1).json();
        let why = run["reason"].as_str().unwrap();
        assert!(why.contains("`/i`") && why.contains(words) && !why.contains("another-one"), "{why}");
        assert_eq!(run["reason_code"], "import_failed", "{run}");
    }
    // The store itself was told its key in its command line.
    let own = format!("command line of process {}", bucket.child.id());
    let leaks: Vec<_> = test.leaks(&secret()).into_iter().filter(|leak| *leak != own).collect();
    assert_eq!(leaks, [""; 0]);
}

#[test]
fn exports_to_one_place_add_up_and_what_is_changed_there_is_said() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    let place = bucket.at("results/st", "keys");
    let export = |command: &str| {
        test.wait(&file("make", &format!("export:\n  /out:\n    {place}\nrun: ['{command}']"))).ok();
    };
    let import = || {
        let look = "cd /i; ls -A; cat a 2>/dev/null || true";
        let run = test.wait(&file("read", &format!("import:\n  /i:\n    {place}\nrun: ['{look}']"))).json();
        let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok();
        (run["reason"].as_str().unwrap().to_owned(), log.stdout, log.stderr)
    };
    export("echo 1 > /out/a; echo 1 > /out/gone");
    export("echo 2 > /out/b; echo 2 > /out/gone");
    assert_eq!(import().1, "a\nb\ngone\n1\n");
    let there = bucket.root.join("bkt/results/st");
    std::fs::write(there.join("by-hand"), "").unwrap();
    let (_, stdout, stderr) = import();
    assert_eq!(stdout, "a\nb\ngone\n1\n");
    assert!(stderr.contains("`by-hand`: it is not in the list"), "{stderr}");
    let refused = |words: &str| {
        let (why, stdout, _) = import();
        assert!(why.contains(words) && why.contains("remove `.vessl-manifest.json`"), "{why}");
        assert_eq!(stdout, "");
    };
    // The same size, written later.
    let later = std::time::SystemTime::now() + Duration::from_secs(100);
    let a = std::fs::OpenOptions::new().write(true).open(there.join("a")).unwrap();
    (&a).write_all(b"9").unwrap();
    a.set_modified(later).unwrap();
    refused("/a` was written again");
    std::fs::write(there.join("a"), "another").unwrap();
    refused("/a` is another now");
    std::fs::remove_file(there.join("gone")).unwrap();
    std::fs::remove_file(there.join("a")).unwrap();
    refused("is gone");
    std::fs::remove_file(there.join(".vessl-manifest.json")).unwrap();
    assert_eq!(import().1, "b\nby-hand\n");
}

/// A stand-in for Hugging Face with the dataset `acme/small`, one commit and one file; it shows nothing to whoever has no token.
pub(crate) fn hugging_face() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const WEIGHTS: &str = "weights\n";

fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            head.push(line);
        }
        let path = head[0].split(' ').nth(1).unwrap_or_default().to_owned();
        let may =
            head.iter().any(|line| line.to_ascii_lowercase().trim() == "authorization: bearer hf_token");
        let oid = format!("{:x}", Sha256::digest(WEIGHTS));
        let size = WEIGHTS.len();
        let body = if !may {
            None
        } else if path.starts_with("/api/datasets/acme/small/revision/") {
            Some(format!("{{\"sha\": \"{COMMIT}\"}}"))
        } else if path.starts_with(&format!("/api/datasets/acme/small/tree/{COMMIT}")) {
            Some(format!(
                "[{{\"type\": \"file\", \"path\": \"model/w.bin\", \"size\": {size}, \"oid\": \"{COMMIT}\", \"lfs\": {{\"oid\": \"{oid}\", \"size\": {size}, \"pointerSize\": 130}}}}]"
            ))
        } else if path == format!("/datasets/acme/small/resolve/{COMMIT}/model/w.bin") {
            Some(WEIGHTS.to_owned())
        } else {
            None
        };
        let (status, body) = body.map_or(("401 Unauthorized", String::new()), |body| ("200 OK", body));
        write!(out, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        out.flush()?;
    }
}

#[test]
fn a_repository_of_hugging_face_comes_at_its_commit() {
    let test = Test::new();
    test.file("../config/vessl/server.toml", format!("hf_endpoint = \"{}\"\n", hugging_face()));
    test.vessl_with(["credential", "create", "face", "--kind", "hf"], b"hf_token\n").ok();
    let read = "import: {/i: {hf: {url: huggingface.co/datasets/acme/small, credential_name: face}}}\nrun: ['cat /i/model/w.bin']";
    for how in ["", ", nothing copied: it is here already"] {
        let id = test.wait(&file("read", read)).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, WEIGHTS);
        let said = format!("imported `/i`: commit {COMMIT}, 1 file, 8 B{how}");
        test.vessl(["run", "logs", &id]).ok().says(&[&said]);
    }
    let open = "import: {/i: hf://huggingface.co/datasets/acme/small}\nrun: ['echo never']";
    let run = test.wait(&file("open", open)).code(1).json();
    assert_eq!(run["reason_code"], "import_failed", "{run}");
}
