//! What a run really used, and runs that are made from it: again, and exactly; what two runs differ in.
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::data::repository;
use crate::scripted::{Reply, Scripted};
use crate::specs::{head, host, item};
use crate::stores::{Bucket, keys};
use crate::test::{Done, Test};

const FIRST: &str = "0123456789abcdef0123456789abcdef01234567";
const SECOND: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A stand-in for Hugging Face with the model `acme/small`: `main` is the first of two commits until it moves on.
fn hugging_face(moved: Arc<AtomicBool>) -> Scripted {
    Scripted::start(move |request| {
        let main = if moved.load(Ordering::SeqCst) { SECOND } else { FIRST };
        let path = request.path.split('?').next().unwrap_or_default();
        let content = |commit: &str| if commit == FIRST { "first\n" } else { "second\n" };
        if let Some(revision) = path.strip_prefix("/api/models/acme/small/revision/") {
            let sha = if revision == "main" { main } else { revision };
            return Reply::ok(json!({ "sha": sha }).to_string().as_bytes());
        }
        if let Some(commit) = path.strip_prefix("/api/models/acme/small/tree/") {
            let text = content(commit);
            let lfs = json!({ "oid": format!("{:x}", Sha256::digest(text)), "size": text.len(), "pointerSize": 130 });
            let file = json!({ "type": "file", "path": "w", "size": text.len(), "oid": commit, "lfs": lfs });
            return Reply::ok(json!([file]).to_string().as_bytes());
        }
        match path.strip_prefix("/acme/small/resolve/").and_then(|rest| rest.strip_suffix("/w")) {
            Some(commit) => Reply::ok(content(commit).as_bytes()),
            None => Reply::status(404),
        }
    })
}

fn git(dir: &Path, args: &[&str]) -> String {
    let mut git = Command::new("git");
    let done = git.arg("-C").arg(dir).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Everything that the run of these tests imports, and that moves on.
struct Sources {
    test: Test,
    bucket: Bucket,
    _face: Scripted,
    moved: Arc<AtomicBool>,
}

impl Sources {
    fn new() -> Self {
        let (test, bucket) = (Test::new(), Bucket::new());
        let moved = Arc::new(AtomicBool::new(false));
        let face = hugging_face(Arc::clone(&moved));
        let settings = format!("hf_endpoint = \"http://{}\"\n", face.address());
        test.file("../config/vessl/server.toml", settings);
        keys(&test);
        repository(&test.path("repository"));
        test.vessl(["dataset", "create", "iris"]).ok();
        test.vessl(["storage", "create-volume", "team", "--storage-name", "vessl-storage"]).ok();
        let sources = Self { test, bucket, _face: face, moved };
        sources.fill("first");
        std::fs::create_dir_all(sources.bucket.root.join("bkt/in")).unwrap();
        sources.object("first");
        sources
    }

    /// A new version of dataset and artifact, and other files in the volume.
    fn fill(&self, text: &str) {
        self.test.file("files/a", format!("{text}\n"));
        self.test.vessl(["dataset", "upload", "iris", "./files/.", "/"]).ok();
        self.test.vessl(["artifact", "upload", "base", "./files/.", "/"]).ok();
        let volume = "volume://vessl-storage/team/a";
        self.test.vessl(["storage", "copy-file", "files/a", volume]).ok();
    }

    /// An object, which has no tag in listings of this server: the time of its last change stands for it.
    fn object(&self, text: &str) {
        let path = self.bucket.root.join("bkt/in/a");
        std::fs::write(&path, format!("{text}\n")).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_hours(if text == "first" { 1 } else { 2 });
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    }

    /// Lets all but the bucket move on.
    fn move_on(&self) {
        self.fill("second");
        self.moved.store(true, Ordering::SeqCst);
        let dir = self.test.path("repository");
        std::fs::write(dir.join("where"), "second\n").unwrap();
        git(&dir, &["commit", "-qam", "second"]);
    }

    fn file(&self) -> String {
        let imports = format!(
            "import:\n  /i/c: {{git: {{url: 'file://{}', ref: main}}}}\n  /i/d: vessl-dataset://default/iris\n  \
             /i/r: vessl-artifact://default/default/base\n  /i/h: hf://huggingface.co/acme/small\n  /i/v: volume://vessl-storage/team\n  \
             /i/s:\n    {}\nmount: {{/i/m: vessl-dataset://default/iris}}\n",
            self.test.path("repository").display(),
            self.bucket.at("in", "keys")
        );
        let env = "env:\n  LR: '1'\n  TOKEN: {source: inject, secret: true}\n  STORED: {secret: stored}\n";
        let show = "cat /i/c/where /i/d/a /i/m/a /i/r/a /i/h/w /i/s/a /i/v/a | tr '\\n' ' '; echo $LR $MORE ${#TOKEN}";
        format!("{}{imports}{env}{}", head("host://"), item(show))
    }

    fn log(&self, id: &str) -> String {
        self.test.vessl(["run", "logs", id]).ok().stdout
    }

    fn from(&self, id: &str, more: &[&str]) -> Done {
        let create = ["run", "create", "--from", id, "--wait", "--output", "json"];
        self.test.vessl(create.iter().chain(more))
    }
}

fn id(run: &Value) -> String {
    run["id"].to_string()
}

#[test]
fn a_run_is_made_again_and_exactly() {
    let sources = Sources::new();
    let test = &sources.test;
    test.vessl_with(["secret", "create", "stored"], b"hush-stored-1").ok();
    test.file("run.yaml", sources.file());
    test.file("vars", "MORE=more\nTOKEN=hush-given-1\n");
    let create =
        ["run", "create", "-f", "run.yaml", "--env-file", "vars", "-e", "LR=2", "--strict", "--wait"];
    let settings = ["--retries", "1", "--max-runtime", "1h", "--tag", "t", "--output", "json"];
    let first = id(&test.vessl(create.iter().chain(&settings)).ok().json());
    assert_eq!(sources.log(&first), "main first first first first first first 2 more 12\n");
    let commit = git(&test.path("repository"), &["rev-parse", "HEAD"]);
    provenance(test, &first, &commit);

    sources.move_on();
    test.vessl_with(["secret", "create", "stored"], b"hush-stored-2").ok();
    let again = sources.from(&first, &[]).ok().json();
    assert_eq!(sources.log(&id(&again)), "second second second second second first second 2 more 12\n");
    let exact = sources.from(&first, &["--exact", "--name", "exact"]).ok();
    exact.clone().says(&[
        "note[live]: `volume://vessl-storage/team` has no versions",
        "note[live]: the machine's own file system has no versions",
        "note[secret-changed]: the secret `stored` was stored again since",
        &format!("run {first}:"),
    ]);
    let exact = exact.json();
    assert_eq!(sources.log(&id(&exact)), "main first first first first first second 2 more 12\n");
    assert_eq!(exact["from"], json!({ "run": first.parse::<u64>().unwrap(), "exact": true }));
    for key in ["tags", "retries", "resources"] {
        assert_eq!(exact[key], test.read(&first)[key], "{key}");
    }
    test.vessl(["run", "read", &id(&exact)]).ok().prints(&["From", &format!("run {first}, exactly")]);
    let listed = test.vessl(["run", "list", "--columns", "id,from", "--name", "exact"]).ok().stdout;
    assert!(listed.contains(&format!("run {first}, exactly")), "{listed}");
    // What an exact re-run is made from counts, not what the names of its file mean: again, and anew.
    let twice = sources.from(&id(&exact), &["--exact", "-e", "LR=3"]).ok().json();
    assert_eq!(sources.log(&id(&twice)), "main first first first first first second 3 more 12\n");
    let anew = sources.from(&id(&exact), &[]).ok().json();
    assert_eq!(sources.log(&id(&anew)), "second second second second second first second 2 more 12\n");

    differences(test, &first, &id(&again), &id(&exact));
    refusals(&sources, &first);
    for hush in ["hush-stored-1", "hush-stored-2", "hush-given-1"] {
        let leaks = test.leaks(hush);
        // The file that the test wrote itself lies beside the data.
        assert_eq!(leaks, [""; 0], "{hush}");
    }
}

/// What the first run used, as programs and as people see it.
fn provenance(test: &Test, first: &str, commit: &str) {
    let read = ["run", "read", first, "--provenance"];
    let run = test.vessl(read.iter().chain(&["--output", "json"])).ok().json();
    let used = &run["provenance"];
    let number = first.parse::<u64>().unwrap();
    let env = json!({
        "LR": { "text": "2" }, "MORE": { "text": "more" }, "STORED": { "secret": "stored" }, "TOKEN": { "given": number }
    });
    assert_eq!((&used["env"], &used["strict"], &used["max_runtime"]), (&env, &json!(true), &json!("1h")));
    let attempt = &used["attempts"][0];
    assert_eq!((&attempt["attempt"], &attempt["node"]), (&json!(1), &run["node"]), "{attempt}");
    assert_eq!(attempt["image"], json!({ "reference": "host://", "digest": null, "live": true }));
    let kinds: Vec<String> = attempt["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one["path"], one["kind"], one["number"]).replace('"', ""))
        .collect();
    let expected = [
        "/i/c commit null",
        "/i/d manifest 1",
        "/i/h commit null",
        "/i/r manifest 1",
        "/i/s picture null",
        "/i/v live null",
        "/i/m manifest 1",
    ];
    assert_eq!(kinds, expected);
    let versions = |n: usize| attempt["sources"][n]["version"].as_str().unwrap_or("none").to_owned();
    assert_eq!((versions(0).as_str(), versions(2).as_str(), versions(5).as_str()), (commit, FIRST, "none"));
    assert_eq!(run["yaml"].as_str().map(|yaml| yaml.contains("ref: main")), Some(true), "{run}");
    assert!(test.read(first).get("provenance").is_none(), "only for who asks");
    test.vessl(read).ok().prints(&[
        &format!("/i/c  imported  file://{} (`main`)  commit {commit}", test.path("repository").display()),
        "version 1, manifest ",
        "keys and ETags ",
        "live: as it was at that time",
        "STORED  (secret `stored`)",
        &format!("TOKEN  (secret value given to run {first})"),
    ]);
}

/// What the first run, the one that was made again and the exact one differ in.
fn differences(test: &Test, first: &str, again: &str, exact: &str) {
    let rows = |one: &str, two: &str| -> Vec<(String, String, Value)> {
        let told = test.vessl(["run", "diff", one, two, "--output", "json"]).ok().json();
        let rows = told["differs"].as_array().unwrap().clone();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = rows.into_iter().map(|row| (text(&row["of"]), text(&row["what"]), row["values"].clone()));
        rows.filter(|(_, what, _)| what != "time").collect()
    };
    let found = rows(first, again);
    let names: Vec<&str> = found.iter().map(|(_, what, _)| what.as_str()).collect();
    assert_eq!(
        names,
        ["import./i/c", "import./i/d", "import./i/h", "import./i/r", "mount./i/m"],
        "{found:?}"
    );
    assert!(found.iter().all(|(of, ..)| of == "used"), "{found:?}");
    assert_eq!(found[2].2, json!([format!("commit {FIRST}"), format!("commit {SECOND}")]));
    assert!(found[1].2[1].as_str().unwrap().starts_with("version 2, manifest "), "{found:?}");
    assert_eq!(rows(first, exact), [("file".to_owned(), "name".to_owned(), json!(["test", "exact"]))]);
    let shown = test.vessl(["run", "diff", first, again]).ok().stdout;
    for line in
        ["used\n", "  import./i/h\n", &format!("    - commit {FIRST}\n"), &format!("    + commit {SECOND}\n")]
    {
        assert!(shown.contains(line), "no `{line}` in {shown}");
    }
    test.vessl(["run", "diff", first, first]).ok().says(&["they used the same and ended alike"]);
    test.vessl(["run", "diff", first, "7"]).code(5).says(&["`7`"]);
}

/// What cannot be exact any more.
fn refusals(sources: &Sources, first: &str) {
    let test = &sources.test;
    sources.object("second");
    let run = sources.from(first, &["--exact"]).code(1).json();
    assert_eq!((&run["reason_code"], &run["started_at"]), (&json!("version_changed"), &Value::Null), "{run}");
    assert_eq!(
        (&run["retries"], &run["attempt"]),
        (&json!(1), &json!(1)),
        "another attempt finds the same: {run}"
    );
    let why = run["reason"].as_str().unwrap();
    for word in ["`/i/s`", "s3://bkt/in", "what the bucket holds there is another now", "without `--exact`"] {
        assert!(why.contains(word), "no `{word}` in {why}");
    }
    sources.object("first");
    let back = sources.from(first, &["--exact"]).ok().json();
    assert_eq!(sources.log(&id(&back)), "main first first first first first second 2 more 12\n", "as it was");
    // A run that never got so far.
    let bad = sources.file().replace("ref: main", "ref: nothing");
    let bad = id(&test.wait(&bad.replace("{source: inject, secret: true}", "x")).code(1).json());
    test.vessl(["run", "create", "--from", &bad, "--exact"]).code(3).says(&[
        &format!("error[not-pinned]: run {bad} could not get it: `file://"),
        "did not get as far as `hf://",
        "make the run without `--exact`",
        &format!("--> run {bad}:"),
    ]);
    test.vessl(["artifact", "delete", "base@1"]).ok();
    test.vessl(["run", "create", "--from", first, "--exact"]).code(3).says(&[
        "error[not-pinned]: the version of `vessl-artifact://default/default/base` that run ",
        "has been deleted",
        "artifact:",
    ]);
    test.vessl(["dataset", "delete", "iris"]).ok();
    sources.from(first, &["--exact"]).code(3).says(&["there is no dataset `default/iris`"]);
}

#[test]
fn runs_of_a_sweep_are_made_again_and_swept_again() {
    let test = Test::new();
    let file = format!("{}env: {{LR: '0'}}\n", host("echo $LR-$BS"));
    test.file("run.yaml", &file);
    let sweep =
        ["run", "create", "-f", "run.yaml", "--sweep", "-e", "LR=1,2", "-e", "BS=8", "--parallel", "1"];
    let runs = test.vessl(sweep.iter().chain(&["--wait", "--output", "json"])).ok().json();
    let (one, name) = (id(&runs[0]), runs[0]["name"].as_str().unwrap().to_owned());
    let again =
        test.vessl(["run", "create", "--from", &one, "--exact", "--wait", "--output", "json"]).ok().json();
    assert_eq!(test.vessl(["run", "logs", &id(&again)]).ok().stdout, "1-8\n");
    assert_eq!((again["name"].as_str(), &again["tags"]), (Some(name.as_str()), &runs[0]["tags"]));
    test.vessl(["run", "diff", &one, &id(&again)]).ok().says(&["they used the same and ended alike"]);
    let swept = ["run", "create", "--from", &one, "--sweep", "-e", "LR=3,4", "--wait", "--output", "json"];
    let swept = test.vessl(swept).ok().json();
    let logs: Vec<String> = swept
        .as_array()
        .unwrap()
        .iter()
        .map(|run| test.vessl(["run", "logs", &id(run)]).ok().stdout)
        .collect();
    assert_eq!(logs, ["3-8\n", "4-8\n"], "what is not swept is as it was");
    let told = test.vessl(["run", "diff", &one, &id(&swept[0])]).ok().stdout;
    assert!(told.contains("variables\n  LR\n    - 1\n    + 3\n"), "{told}");
}

#[test]
fn an_image_of_the_machine_that_was_made_anew_is_refused() {
    let test = Test::new();
    let dir = test.path("image");
    std::fs::create_dir(&dir).unwrap();
    let make = |word: &str| {
        let script = format!(
            r#"mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && for n in sh cat; do ln -sf busybox root/bin/$n; done
            echo {word} > root/word && rm -rf image && mkdir image && tar --sort=name -C root -cf image/layer.tar .
            sum=$(sha256sum image/layer.tar | cut -c1-64)
            printf '{{"architecture":"%s","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:%s"]}}}}' "$(dpkg --print-architecture)" $sum > image/config.json
            printf '[{{"Config":"config.json","RepoTags":["t:1"],"Layers":["layer.tar"]}}]' > image/manifest.json
            tar -C image -cf image.tar ."#
        );
        let mut shell = Command::new("sh");
        let done = shell.args(["-ec", &script]).current_dir(&dir).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    make("first");
    let file = format!("{}{}", head(&format!("oci://{}/image.tar", dir.display())), item("cat /word"));
    let first = id(&test.wait(&file).ok().json());
    let exact = ["run", "create", "--from", &first, "--exact", "--wait", "--output", "json"];
    let same = id(&test.vessl(exact).ok().json());
    assert_eq!(test.vessl(["run", "logs", &same]).ok().stdout, "first\n");
    make("second");
    let run = test.vessl(exact).code(1).json();
    assert_eq!(run["reason_code"], "version_changed", "{run}");
    let why = run["reason"].as_str().unwrap();
    assert!(why.contains("image.tar") && why.contains("is another now"), "{why}");
    let anew = id(&test.vessl(["run", "create", "--from", &first, "--wait", "--output", "json"]).ok().json());
    assert_eq!(test.vessl(["run", "logs", &anew]).ok().stdout, "second\n");
    let told = test.vessl(["run", "diff", &first, &anew]).ok().stdout;
    assert!(told.contains("used\n  image\n    - sha256:"), "{told}");
    test.vessl(["run", "create", "--from", &first, "-f", "x"]).code(2).says(&["cannot be used with"]);
    test.vessl(["run", "create", "--exact"]).code(2);
    test.vessl(["run", "create", "--from", "nobody"]).code(5).says(&["there is no run `nobody`"]);
}
