//! Datasets, models and artifacts from the command line: files go up as they are, come back as they were, and only what is missing
//! travels.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::test::{Test, files_below, until};

/// The paths that a dataset has.
fn paths(test: &Test, name: &str, version: &str) -> Vec<String> {
    let args = ["dataset", "list-files", name, "-r", "--version", version, "--output", "json"];
    let files = test.vessl(args).ok().json();
    files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

fn upload(test: &Test, name: &str, source: &str, dest: &str) -> Value {
    test.vessl(["dataset", "upload", name, source, dest, "--output", "json"]).ok().json()
}

#[test]
fn a_dataset_grows_by_versions_and_comes_back() {
    let test = Test::new();
    test.vessl(["dataset", "list"]).ok().says(&["`vessl dataset create NAME` makes one"]);
    test.vessl(["dataset", "read", "cats"]).code(5).says(&["`cats`", "`vessl dataset create cats`"]);
    test.vessl(["dataset", "create", "cats", "-m", "all cats"])
        .ok()
        .prints(&["vessl-dataset://default/cats"]);
    test.vessl(["dataset", "create", "cats"]).code(5).says(&["`cats`"]);
    test.vessl(["dataset", "create", "no/name"]).code(5);
    test.vessl(["dataset", "download", "cats", "/", "out"])
        .code(5)
        .says(&["vessl dataset upload cats SOURCE DEST"]);
    test.file("images/one.txt", "one\n");
    test.file("images/sub/two.txt", "two\n");
    let said = test.vessl(["dataset", "upload", "cats", "images", "/"]).ok();
    assert_eq!(said.stdout, "uploaded 2 files, 8 B: version 1 of vessl-dataset://default/cats\n");
    let again = test.vessl(["dataset", "upload", "cats", "images", "/"]).ok();
    assert_eq!(
        again.stdout,
        "2 files, 8 B: all of it is in version 1 of vessl-dataset://default/cats already\n"
    );
    let second = upload(&test, "cats", "images/.", "/flat");
    assert_eq!((&second["version"], &second["sent"], &second["new"]), (&2.into(), &0.into(), &true.into()));
    test.file("images/one.txt", "ONE\n");
    test.vessl(["dataset", "upload", "cats", "images/one.txt", "/images/"]).ok().prints(&["version 3"]);
    test.vessl(["dataset", "upload", "cats", "images/one.txt", "renamed"]).ok();
    let all =
        ["flat", "flat/one.txt", "flat/sub", "flat/sub/two.txt", "images", "images/one.txt", "images/sub"];
    assert_eq!(paths(&test, "cats", "4"), [&all[..], &["images/sub/two.txt", "renamed"]].concat());
    test.vessl(["dataset", "upload", "cats", "images", "renamed"])
        .code(2)
        .says(&["`renamed` is a file there"]);
    let diff = test.vessl(["dataset", "diff", "cats", "2", "latest", "--output", "json"]).ok().json();
    let changes: Vec<_> = diff.as_array().unwrap().iter().map(|one| (&one["path"], &one["change"])).collect();
    assert_eq!(
        changes,
        [(&"images/one.txt".into(), &"changed".into()), (&"renamed".into(), &"added".into())]
    );
    test.vessl(["dataset", "diff", "cats", "1", "9"]).code(5).says(&["`9`", "the newest one is 4"]);
    test.vessl(["dataset", "copy", "cats", "flat", "images/copy"]).ok().says(&["made version 5"]);
    test.vessl(["dataset", "delete-file", "cats", "flat"]).ok().says(&["made version 6"]);
    test.vessl(["dataset", "delete-file", "cats", "flat"]).code(5).says(&["`flat`"]);
    test.vessl(["dataset", "versions", "cats"]).ok().prints(&["VERSION", "\n6 ", "\n1 "]);
    test.vessl(["dataset", "download", "cats", "images", "out"])
        .ok()
        .prints(&["downloaded 4 files, 16 B, to `out`"]);
    assert_eq!(std::fs::read_to_string(test.path("out/images/copy/sub/two.txt")).unwrap(), "two\n");
    test.vessl(["dataset", "download", "cats", "images/.", "flat", "--version", "1"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("flat/one.txt")).unwrap(), "one\n");
    test.vessl(["dataset", "download", "cats", "renamed", "here.txt"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("here.txt")).unwrap(), "ONE\n");
    test.vessl(["dataset", "download", "cats", "/", "all", "--version", "9"])
        .code(5)
        .says(&["the newest one is 6"]);
    test.vessl(["dataset", "download", "cats", "none", "x"]).code(5).says(&["`none`", "hint: "]);
    test.vessl(["dataset", "list"]).ok().prints(&["cats  6", "all cats"]);
    test.vessl(["dataset", "delete", "cats"]).ok().says(&["deleted the dataset `cats`"]);
    test.vessl(["dataset", "read", "cats"]).code(5);
}

#[test]
fn files_come_back_as_they_were_whatever_they_are_called() {
    let test = Test::new();
    let names: [&[u8]; 8] =
        [b"a\xff", b"a%FF", b"new\nline", b"-rf", b"..x", b"\xed\x95\x9c", b" blank ", b"\x1b[31mred"];
    let dir = test.path("odd");
    std::fs::create_dir_all(dir.join("empty")).unwrap();
    for name in names {
        std::fs::write(dir.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(b"data", 1 << 39).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let tool = std::fs::File::create(dir.join("tool")).unwrap();
    tool.set_permissions(std::fs::Permissions::from_mode(0o751)).unwrap();
    tool.set_modified(old).unwrap();
    symlink("tool", dir.join("near")).unwrap();
    test.file("outside", "outside\n");
    symlink("../outside", dir.join("far")).unwrap();
    nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::set_permissions(dir.join("empty"), std::fs::Permissions::from_mode(0o1770)).unwrap();
    test.vessl(["dataset", "create", "odd"]).ok();
    test.vessl(["dataset", "upload", "odd", "odd/.", "/"])
        .ok()
        .says(&["pipe` was left out: it is a socket, pipe or device"]);
    let listed = test.vessl(["dataset", "list-files", "odd"]).ok();
    assert!(!listed.stdout.contains('\x1b') && listed.stdout.contains("a%25FF"), "{}", listed.stdout);
    test.vessl(["dataset", "download", "odd", "/", "back"]).ok();
    let back = test.path("back");
    for name in names {
        assert_eq!(std::fs::read(back.join(OsStr::from_bytes(name))).unwrap(), name);
    }
    let meta = std::fs::metadata(back.join("sparse")).unwrap();
    assert!(meta.len() == 1 << 40 && meta.blocks() < 1000, "{meta:?}");
    let meta = std::fs::metadata(back.join("tool")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.modified().unwrap()), (0o751, old));
    assert_eq!(std::fs::metadata(back.join("empty")).unwrap().mode() & 0o7777, 0o1770);
    assert_eq!(std::fs::read_link(back.join("near")).unwrap(), Path::new("tool"));
    assert_eq!(std::fs::read_to_string(back.join("far")).unwrap(), "outside\n");
    assert!(!back.join("pipe").exists());
    test.vessl(["dataset", "upload", "odd", "odd/pipe", "/"])
        .code(2)
        .says(&["neither a file nor a directory"]);
    test.vessl(["dataset", "upload", "odd", "none", "/"]).code(1).says(&["`none`", "no such file"]);
    test.vessl(["dataset", "upload", "odd", "outside", "../up"]).code(2).says(&["`..`"]);
}

#[test]
fn what_is_ignored_stays_here() {
    let test = Test::new();
    test.file(".vesslignore", "*.log\n");
    test.file("d/.vesslignore", "*.tmp\n/build/\n!keep.tmp\n");
    test.file("d/sub/.vesslignore", "!*.tmp\n");
    for name in ["a", "a.tmp", "keep.tmp", "a.log", "build/out", "sub/build/out", "sub/b.tmp"] {
        test.file(&format!("d/{name}"), name);
    }
    test.vessl(["dataset", "create", "d"]).ok();
    let said = test.vessl(["dataset", "upload", "d", "d/.", "/"]).ok();
    assert!(said.stderr.contains("`.vesslignore` leaves out 3 files and directories"), "{}", said.stderr);
    let expected = [
        ".vesslignore",
        "a",
        "keep.tmp",
        "sub",
        "sub/.vesslignore",
        "sub/b.tmp",
        "sub/build",
        "sub/build/out",
    ];
    assert_eq!(paths(&test, "d", "latest"), expected);
    test.file("d/.vesslignore", "[z-a]\n");
    test.vessl(["dataset", "upload", "d", "d", "/"])
        .code(2)
        .says(&["line 1 of `", ".vesslignore` is no pattern"]);
}

/// The size of the large file of [`killed`].
const LARGE: usize = 192 << 20;

/// A dataset `big` to which an upload of the directory `big` was begun whose client was killed when some of it had come; and the
/// content of its large file.
fn killed(test: &Test) -> Vec<u8> {
    // No two pieces of it are the same.
    let mut content = vec![0; LARGE];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    test.file("big/data", &content);
    test.file("big/small", "small");
    test.vessl(["dataset", "create", "big"]).ok();
    let sizes = |dir: &str| {
        let files = files_below(&test.data().join(dir)).into_iter();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).collect::<Vec<_>>()
    };
    let live = test.start(["dataset", "upload", "big", "big", "/"]);
    until("nothing comes", || sizes("blobs/packs").iter().filter(|size| **size > 4 << 20).count() > 1);
    live.signal(Signal::SIGKILL);
    live.finish().code(128 + 9);
    test.vessl(["dataset", "versions", "big"]).ok().says(&["no files yet"]);
    content
}

/// What is remembered of uploads that have not ended.
fn notes(test: &Test) -> Vec<PathBuf> {
    files_below(&test.path("../home/.local/state/vessl/uploads"))
}

/// What came of an upload before its client was killed is not sent again.
#[test]
fn a_killed_upload_goes_on() {
    let test = Test::new();
    let content = killed(&test);
    assert_eq!(notes(&test).len(), 1);
    let uploads = || test.vessl(["upload", "list", "--output", "json"]).ok().json();
    let begun = uploads();
    assert_eq!(
        (begun.as_array().unwrap().len(), &begun[0]["object"]),
        (1, &"vessl-dataset://default/big".into())
    );
    assert!(begun[0]["bytes"].as_u64().unwrap() > 0 && begun[0]["created_by"].is_string(), "{begun}");
    test.vessl(["upload", "list"]).ok().prints(&["vessl-dataset://default/big"]).says(&["goes on with it"]);
    let done = upload(&test, "big", "big", "/");
    assert_eq!((&done["version"], &done["new"]), (&1.into(), &true.into()), "{done}");
    assert!(done["sent"].as_u64().unwrap() <= (LARGE - (4 << 20)) as u64, "{done}");
    test.vessl(["dataset", "download", "big", "big/data", "back"]).ok();
    assert!(std::fs::read(test.path("back")).unwrap() == content);
    assert_eq!(notes(&test).len(), 0, "nothing is remembered of an upload that has ended");
    assert_eq!(uploads(), serde_json::json!([]));
}

#[test]
fn an_upload_that_is_given_up_keeps_nothing() {
    let test = Test::new();
    killed(&test);
    let begun = test.vessl(["upload", "list", "--output", "json"]).ok().json();
    let id = begun[0]["id"].as_str().unwrap();
    test.vessl(["upload", "delete", id]).ok().says(&[id]);
    test.vessl(["upload", "list"]).ok().says(&["no upload is in progress"]);
    assert!(!test.data().join("uploads").join(id).exists());
    test.vessl(["upload", "delete", id]).code(5).says(&["there is no upload", "vessl upload list"]);
}

/// What is remembered may have ended meanwhile, or may be no note at all: then the upload is begun again.
#[test]
fn an_upload_that_is_gone_is_begun_again() {
    for note in ["{\"v\":1,\"upload\":\"nothing\"}", "no note"] {
        let test = Test::new();
        let content = killed(&test);
        for file in notes(&test) {
            std::fs::write(file, note).unwrap();
        }
        assert_eq!(upload(&test, "big", "big", "/")["version"], 1, "{note}");
        test.vessl(["dataset", "download", "big", "big/data", "back"]).ok();
        assert!(std::fs::read(test.path("back")).unwrap() == content, "{note}");
        assert_eq!(notes(&test).len(), 0, "{note}");
    }
}

#[test]
fn models_have_numbers_that_never_change() {
    let test = Test::new();
    test.file("ckpt/weights", "w1");
    test.file("ckpt/conf/a", "a");
    let created = ["model", "create", "cls", "--source", "ckpt", "--model-name", "first"];
    test.vessl(created)
        .ok()
        .says(&["made the model repository `cls`"])
        .prints(&["version 1 of vessl-model://default/cls"]);
    test.file("README", "read\n");
    let args = [
        "model",
        "create",
        "cls",
        "--source",
        "README",
        "--source",
        "ckpt/conf",
        "--path",
        "deep",
        "--output",
        "json",
    ];
    assert_eq!(test.vessl(args).ok().json()["files"], 2);
    let files = |number: &str| {
        let files = test.vessl(["model", "list-files", "cls", number, "-r", "--output", "json"]).ok().json();
        let files = files.as_array().unwrap().clone();
        files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(files("1"), ["conf", "conf/a", "weights"]);
    assert_eq!(files("latest"), ["deep", "deep/README", "deep/a"]);
    test.vessl(["model", "upload", "cls", "1", "README", "/"])
        .ok()
        .says(&["number 1 stays as it was; number 3"]);
    assert_eq!(files("1"), ["conf", "conf/a", "weights"]);
    assert_eq!(files("3"), ["README", "conf", "conf/a", "weights"]);
    test.vessl(["model", "delete-file", "cls", "3", "conf"])
        .ok()
        .says(&["made number 4", "number 3 without `conf`"]);
    assert_eq!(files("4"), ["README", "weights"]);
    test.vessl(["model", "read", "cls", "3"]).ok().prints(&["Number", "first"]);
    test.vessl(["model", "list", "cls"]).ok().prints(&["NUMBER", "\n4 ", "first"]);
    test.vessl(["model", "download", "cls", "1", "/", "m"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("m/weights")).unwrap(), "w1");
    test.vessl(["model", "delete", "cls", "4"]).ok();
    test.vessl(["model", "read", "cls", "4"]).code(5).says(&["`4`", "the newest one is 3"]);
    test.vessl(["model", "create", "cls", "--source", "local", "--output", "json"])
        .ok()
        .prints(&["\"version\": 5"]);
    test.vessl(["model-repository", "list", "--limit", "1"]).ok().prints(&["cls"]);
    test.vessl(["model-repository", "delete", "cls"]).ok();
    test.vessl(["model", "list", "cls"]).code(5).says(&["`vessl model-repository create cls`"]);
}

#[test]
fn an_artifact_is_sent_and_brought_by_hand() {
    let test = Test::new();
    test.file("out/w", "weights\n");
    test.vessl(["artifact", "upload", "w", "out/.", "/"])
        .ok()
        .prints(&["version 1 of vessl-artifact://default/default/w"]);
    test.file("more/x", "x\n");
    test.vessl(["artifact", "upload", "default/default/w", "more/.", "/"]).ok();
    let files = test.vessl(["artifact", "list-files", "w", "--output", "json"]).ok().json();
    assert_eq!((files[0]["path"].as_str(), files[1].as_object()), (Some("x"), None), "a version is whole");
    test.vessl(["artifact", "diff", "w", "1", "2"]).ok().prints(&["removed", "added"]);
    test.vessl(["artifact", "download", "w", "w", "old", "--version", "1"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("old")).unwrap(), "weights\n");
    test.vessl(["artifact", "versions", "w"]).ok().prints(&["\n2 ", "\n1 "]);
    test.vessl(["artifact", "versions", "v"]).code(5).says(&["`vessl artifact upload v SOURCE /`"]);
}

/// More files than one small request can tell of.
#[test]
fn many_files_make_one_version() {
    let test = Test::new();
    let long = "a-long-name".repeat(20);
    let long = format!("many/{long}/{long}/{long}");
    for dir in 0..10 {
        let dir = test.path(&format!("{long}/{dir}"));
        std::fs::create_dir_all(&dir).unwrap();
        for file in 0..1000 {
            // Few contents, so that few are sent.
            std::fs::write(dir.join(format!("{file}.txt")), [u8::try_from(file % 7).unwrap()]).unwrap();
        }
    }
    test.vessl(["dataset", "create", "many"]).ok();
    let done = upload(&test, "many", "many", "/");
    assert_eq!((&done["files"], &done["sent"]), (&10_000.into(), &7.into()));
    let one = format!("{long}/7");
    test.vessl(["dataset", "download", "many", &one, "back"]).ok().prints(&["downloaded 1000 files, 1000 B"]);
}
