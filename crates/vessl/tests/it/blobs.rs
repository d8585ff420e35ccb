//! Large files in chunks: what changed travels, all of it comes back, and damage to what is kept is named.
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::specs::{head, item};
use crate::test::{Test, files_below, until};

/// Bytes that are nowhere the same, others for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn upload(test: &Test, source: &str) -> Value {
    test.vessl(["dataset", "upload", "big", source, "/", "--output", "json"]).ok().json()
}

fn download(test: &Test, version: &str) -> Vec<u8> {
    let to = format!("back-{version}");
    test.vessl(["dataset", "download", "big", "data", &to, "--version", version]).ok();
    std::fs::read(test.path(&to)).unwrap()
}

fn fsck(test: &Test) -> Value {
    test.vessl(["server", "fsck", "--output", "json"]).ok().json()
}

fn packs(test: &Test, ending: &str) -> Vec<PathBuf> {
    let ends = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    files_below(&test.data().join("blobs/packs")).into_iter().filter(ends).collect()
}

#[test]
fn of_a_large_file_only_what_changed_travels() {
    const SIZE: usize = 200 << 20;
    let test = Test::new();
    let mut content = noise(1, SIZE);
    test.file("data", &content);
    test.vessl(["dataset", "create", "big"]).ok();
    let first = upload(&test, "data");
    assert!(first["sent"].as_u64().unwrap() >= SIZE as u64, "{first}");
    content[100 << 20..101 << 20].copy_from_slice(&noise(2, 1 << 20));
    content.splice(50 << 20..50 << 20, *b"inserted");
    test.file("data", &content);
    let said = test.vessl(["dataset", "upload", "big", "data", "/"]).ok();
    assert!(said.stdout.contains("of them sent"), "{}", said.stdout);
    let again = upload(&test, "data");
    assert_eq!((&again["new"], &again["sent"]), (&false.into(), &0.into()), "{again}");
    let stored: u64 = packs(&test, "pack").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(stored < (SIZE + (12 << 20)) as u64, "{stored}");
    assert!(download(&test, "2") == content);
    let files = test.vessl(["dataset", "list-files", "big", "--output", "json"]).ok().json();
    assert_eq!(files[0]["digest"], blake3::hash(&content).to_hex().as_str(), "{files}");
    // A run has it, and leaves one like it.
    let sum = format!("{}  /in-d/data\n", hex_md5(&test, "data"));
    let yaml = format!(
        "{}import: {{/in-d: 'vessl-dataset://default/big'}}\nexport: {{/out-d: 'vessl-artifact://default/default/out'}}\n{}",
        head("host://"),
        item("md5sum /in-d/data\ncp /in-d/data /out-d/copy\nprintf more >> /out-d/copy")
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, sum);
    let stored_now: u64 = packs(&test, "pack").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(stored_now < stored + (8 << 20), "{stored_now}: the run's file shares the chunks");
    content.extend_from_slice(b"more");
    test.vessl(["artifact", "download", "out", "copy", "copied"]).ok();
    assert!(std::fs::read(test.path("copied")).unwrap() == content);
    let here = test.path("of-run");
    test.vessl(["run", "download", &id, here.to_str().unwrap(), "--path", "/out-d"]).ok();
    assert!(std::fs::read(here.join("copy")).unwrap() == content);
    let found = fsck(&test);
    assert_eq!((&found["damage"], &found["versions"]), (&serde_json::json!([]), &4.into()), "{found}");
}

fn hex_md5(test: &Test, file: &str) -> String {
    let out = std::process::Command::new("md5sum").arg(test.path(file)).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn a_backup_has_what_is_in_packs() {
    let test = Test::new();
    let content = noise(3, (64 << 20) + 1);
    test.file("d/data", &content);
    test.file("d/small", "small");
    test.vessl(["dataset", "create", "big"]).ok();
    upload(&test, "d/.");
    let backup = test.path("backup");
    test.vessl(["server", "backup", backup.to_str().unwrap()]).ok();
    test.vessl(["server", "stop"]).ok();
    std::fs::remove_dir_all(test.data()).unwrap();
    test.vessl(["server", "restore", backup.to_str().unwrap()]).ok();
    assert_eq!(fsck(&test)["damage"], serde_json::json!([]));
    assert!(download(&test, "1") == content);
}

/// A dataset with a loose blob, a file in chunks, and small ones in a pack.
fn kept() -> Test {
    let test = Test::new();
    test.file("d/data", noise(4, (64 << 20) + 1));
    test.file("d/alone", noise(5, 2 << 20));
    test.file("d/small", "small");
    test.vessl(["dataset", "create", "big"]).ok();
    upload(&test, "d/.");
    test
}

/// The blobs that have a file of their own.
fn loose(test: &Test) -> Vec<PathBuf> {
    let shard = |path: &Path| path.parent().unwrap().file_name().unwrap().len() == 2;
    files_below(&test.data().join("blobs")).into_iter().filter(|path| shard(path)).collect()
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// What `fsck` says, each as `object version path`, and the files that it names.
fn damage(test: &Test) -> (Vec<String>, Vec<String>) {
    let found = test.vessl(["server", "fsck", "--output", "json"]).code(1).json();
    let all = found["damage"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let named =
        all.iter().map(|one| format!("{} {} {}", text(&one["object"]), one["version"], text(&one["path"])));
    let mut named: Vec<String> = named.collect();
    named.dedup();
    let mut files: Vec<String> =
        all.iter().filter(|one| one["file"].is_string()).map(|one| text(&one["file"])).collect();
    files.dedup();
    (named, files)
}

#[test]
fn damage_is_found_and_named() {
    const SET: &str = "vessl-dataset://default/big 1";
    let test = kept();
    let clean = test.vessl(["server", "fsck"]).ok();
    assert!(clean.stdout.ends_with(": nothing is damaged or missing\n"), "{}", clean.stdout);
    test.vessl(["server", "stop"]).ok();
    fsck(&test);
    let shown = |path: &Path| path.to_str().unwrap().to_owned();
    // Beside a server and without one it says the same.
    test.vessl(["dataset", "list"]).ok();
    let large = |path: &&PathBuf| path.metadata().unwrap().len() == 2 << 20;
    let alone = loose(&test).iter().find(large).unwrap().clone();
    flip(&alone, 1_000_000);
    assert_eq!(damage(&test), (vec![format!("{SET} alone")], vec![shown(&alone)]));
    test.vessl(["server", "stop"]).ok();
    test.vessl(["server", "fsck"]).code(1).prints(&[
        SET_IN_WORDS,
        "`alone`",
        &shown(&alone),
        "1 thing is damaged",
    ]);
    std::fs::remove_file(&alone).unwrap();
    assert_eq!(damage(&test), (vec![format!("{SET} alone")], vec![]));
    // What is sent again is there again.
    test.vessl(["dataset", "upload", "big", "d/alone", "copy"]).ok();
    assert_eq!(fsck(&test)["damage"], serde_json::json!([]));
    let pack = packs(&test, "pack").into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    flip(&pack, 5_000_000);
    let (named, files) = damage(&test);
    assert_eq!((&named[0], files), (&format!("{SET} data"), vec![shown(&pack)]), "{named:?}");
    test.vessl(["dataset", "download", "big", "data", "back"])
        .code(4)
        .says(&["stopped after", "server fsck"]);
    flip(&pack, 5_000_000);
    fsck(&test);
    let index = pack.with_extension("idx");
    let text = std::fs::read(&index).unwrap();
    std::fs::write(&index, &text[..text.len() - 7]).unwrap();
    let (named, files) = damage(&test);
    assert!(named.contains(&format!("{SET} data")) && files.contains(&shown(&index)), "{named:?} {files:?}");
    std::fs::write(&index, &text).unwrap();
    fsck(&test);
    std::fs::rename(&pack, test.path("away")).unwrap();
    let (named, files) = damage(&test);
    assert!(named.contains(&format!("{SET} data")) && files.contains(&shown(&pack)), "{named:?} {files:?}");
    std::fs::rename(test.path("away"), &pack).unwrap();
    test.vessl(["server", "stop"]).ok();
    // The lists of files are the rest.
    for path in loose(&test) {
        if path.metadata().unwrap().len() < 1 << 20 {
            flip(&path, 3);
        }
    }
    let (named, _) = damage(&test);
    assert_eq!(named, [format!("{SET} -"), "vessl-dataset://default/big 2 -".to_owned()]);
    let none = test.path("none");
    test.vessl(["server", "fsck", "--data-dir", none.to_str().unwrap()]).code(2).says(&["no server's data"]);
}

const SET_IN_WORDS: &str = "vessl-dataset://default/big version 1";

/// An upload whose server is killed again and again ends with everything there.
#[test]
fn an_upload_whose_server_is_killed_is_whole_in_the_end() {
    const SIZE: usize = 160 << 20;
    let test = Test::new();
    let content = noise(6, SIZE);
    test.file("data", &content);
    test.vessl(["dataset", "create", "big"]).ok();
    let indexes = || packs(&test, "idx").len();
    for more in 1..4 {
        let before = indexes();
        let live = test.start(["dataset", "upload", "big", "data", "/"]);
        until("no pack comes", || indexes() >= before + more);
        test.kill_server();
        live.signal(Signal::SIGINT);
        live.finish();
        // Whoever comes next starts another one.
        test.vessl(["dataset", "list"]).ok();
        assert_eq!(fsck(&test)["damage"], serde_json::json!([]));
    }
    upload(&test, "data");
    assert!(download(&test, "1") == content);
    assert_eq!(fsck(&test)["damage"], serde_json::json!([]));
    test.vessl(["dataset", "delete", "big"]).ok();
    until("what nobody needs stays", || packs(&test, "pack").is_empty() && packs(&test, "idx").is_empty());
}
