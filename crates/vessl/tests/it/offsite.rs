//! The blobs of a server in a bucket, by the real binary: pushed, off the disk, home again for a run and for a person, gone with what
//! is deleted.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::specs::{head, item};
use crate::stores::{Bucket, KEY, secret};
use crate::test::{Test, files_below, until};

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A world whose blobs are in the bucket too; everything that may leaves the disk at once.
fn world(bucket: &Bucket) -> Test {
    let test = Test::new();
    let keys = test.file("keys", format!("{KEY}\n{}\n", secret()));
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    let endpoint = format!("http://{}", bucket.address);
    test.env("VESSL_SERVER_BLOBS_BUCKET", "s3://bkt/team")
        .env("VESSL_SERVER_BLOBS_ENDPOINT", &endpoint)
        .env("VESSL_SERVER_BLOBS_KEY_FILE", keys.to_str().unwrap())
        .env("VESSL_SERVER_BLOBS_LOCAL_LIMIT", "64k")
}

/// A dataset with a file in chunks, one that is a blob by itself, and a small one.
fn dataset(test: &Test) -> Vec<u8> {
    let large = noise(1, (64 << 20) + 1);
    test.file("d/large", &large);
    test.file("d/alone", noise(2, 5 << 20));
    test.file("d/small", "small");
    test.vessl(["dataset", "create", "big"]).ok();
    test.vessl(["dataset", "upload", "big", "d/.", "/"]).ok();
    large
}

fn blobs(test: &Test) -> Vec<PathBuf> {
    let is_data = |path: &PathBuf| {
        let dir = path.parent().unwrap().file_name().unwrap();
        path.extension().is_some_and(|ending| ending == "pack") && dir == "packs" || dir.len() == 2
    };
    files_below(&test.data().join("blobs")).into_iter().filter(is_data).collect()
}

fn bytes_here(test: &Test) -> u64 {
    blobs(test).iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum()
}

fn until_away(test: &Test) {
    until("the blobs do not leave the disk", || bytes_here(test) < 64 << 10);
}

#[test]
fn blobs_leave_the_disk_and_come_home_when_they_are_needed() {
    let bucket = Bucket::new();
    let test = world(&bucket);
    let large = dataset(&test);
    until_away(&test);
    let status = test.vessl(["server", "status", "--output", "json"]).ok().json();
    assert_eq!(status["blobs"]["bucket"], "s3://bkt/team", "{status}");
    // A backup says what it has not, and a look at everything counts it.
    let backup = test.path("backup");
    test.vessl(["server", "backup", backup.to_str().unwrap()])
        .ok()
        .says(&["are in the bucket of the settings"]);
    let found = test.vessl(["server", "fsck", "--output", "json"]).ok().json();
    assert!(found["away"].as_u64().unwrap() > 10 && found["damage"] == serde_json::json!([]), "{found}");
    test.vessl(["server", "fsck", "--read-bucket"])
        .ok()
        .prints(&["in the bucket: nothing is damaged or missing"]);
    // Sent again, nothing travels.
    let again = test.vessl(["dataset", "upload", "big", "d/.", "/", "--output", "json"]).ok().json();
    assert_eq!((&again["new"], &again["sent"]), (&false.into(), &0.into()), "{again}");
    // A run has it.
    let yaml = format!(
        "{}import: {{/in-d: 'vessl-dataset://default/big'}}\n{}",
        head("host://"),
        item("cat /in-d/large | wc -c; cat /in-d/small")
    );
    let run = test.wait(&yaml).ok().json();
    let id = run["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, format!("{}\nsmall", large.len()));
    let log = std::fs::read_to_string(status["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("home from `s3://bkt/team`"), "{log}");
    until_away(&test);
    // A person has it.
    test.vessl(["dataset", "download", "big", "large", "back"]).ok();
    assert!(std::fs::read(test.path("back")).unwrap() == large);
    // The next server finds what nobody noted.
    test.vessl(["server", "stop"]).ok();
    until_nothing_is_noted(&test);
    test.vessl(["dataset", "download", "big", "alone", "alone"]).ok();
    assert!(std::fs::read(test.path("alone")).unwrap() == noise(2, 5 << 20));
    // What is deleted is removed there too.
    test.vessl(["dataset", "delete", "big"]).ok();
    test.vessl(["run", "delete", &id]).ok();
    let left = || {
        files_below(&bucket.root).into_iter().filter(|path| {
            let text = path.to_string_lossy();
            text.contains("/team/") && !text.contains("vessl-blobs.json")
        })
    };
    until("the bucket is not emptied", || left().count() == 0);
}

/// Removes the markers, as if the data directory came from before; the server that starts next compares first of all.
fn until_nothing_is_noted(test: &Test) {
    let noted = || files_below(&test.data().join("blobs/away"));
    let before = noted();
    for path in &before {
        std::fs::remove_file(path).unwrap();
    }
    test.vessl(["dataset", "list"]).ok();
    until("not all is noted again", || noted().len() >= before.len());
}

#[test]
fn a_bucket_that_does_not_answer_is_the_reason_of_what_fails() {
    let bucket = Bucket::new();
    let test = world(&bucket);
    dataset(&test);
    until_away(&test);
    drop(bucket);
    let import = "import: {/in-d: 'vessl-dataset://default/big'}\n";
    let id = test.create(&format!("{}{import}{}", head("host://"), item("true")));
    let explained = || test.vessl(["run", "explain", &id]).ok().stdout;
    until("it is not said what it waits for", || {
        let said = explained();
        said.contains("home from `s3://bkt/team`") || said.contains("cannot be brought home")
    });
    let run = test.until_end(&id);
    assert_eq!(run["status"], "failed", "{run}");
    let why = run["reason"].as_str().unwrap_or_default().to_owned() + &run.to_string();
    assert!(why.contains("cannot be brought home") && why.contains("s3://bkt/team"), "{why}");
    let done = test.vessl(["dataset", "download", "big", "small", "back"]);
    assert!(done.code != 0 && done.stderr.contains("s3://bkt/team"), "{}", done.stderr);
    // What is put is kept here meanwhile.
    test.file("more", "more");
    test.vessl(["dataset", "upload", "big", "more", "/more"]).ok();
    until("it is not said how the bucket stands", || {
        let status = test.vessl(["server", "status", "--output", "json"]).ok().json();
        status["blobs"]["problem"].as_str().is_some_and(|problem| problem.contains("s3://bkt/team"))
    });
    let cancelled = test.create(&format!("{}{import}{}", head("host://"), item("true")));
    test.vessl(["run", "terminate", &cancelled]).ok();
    test.until_end(&cancelled);
    // What was on its way for others is given up by itself.
    let on_the_way =
        || files_or_dirs(&test.data().join("blobs/tmp")).iter().any(|name| name.starts_with("home-"));
    until("what cannot come stays on its way", || !on_the_way());
}

fn files_or_dirs(dir: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_bucket_that_cannot_be_used_is_named() {
    let test = Test::new();
    let keys = test.file("keys", "id\nsecret\n");
    let check = |name: &str, value: &str, says: &str| {
        let test = Test::new()
            .env("VESSL_SERVER_BLOBS_BUCKET", "s3://bkt/p")
            .env("VESSL_SERVER_BLOBS_KEY_FILE", keys.to_str().unwrap())
            .env(name, value);
        let done = test.vessl(["server", "run", "--print-config"]);
        assert!(done.code != 0 && done.stderr.contains(says), "{}", done.stderr);
    };
    check("VESSL_SERVER_BLOBS_KEY_FILE", keys.to_str().unwrap(), "others may read it");
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600)).unwrap();
    check("VESSL_SERVER_BLOBS_BUCKET", "file:///x", "it is like `s3://BUCKET/PREFIX`");
    check("VESSL_SERVER_BLOBS_BUCKET", "gs://bkt", "it is not the key file of a service account");
    check("VESSL_SERVER_BLOBS_LOCAL_LIMIT", "much", "blobs_local_limit");
    check("VESSL_SERVER_BLOBS_ENDPOINT", "ftp://x", "the endpoint must be like");
}
