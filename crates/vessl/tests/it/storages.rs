//! Storages and volumes from the command line.
use std::os::unix::fs::symlink;

use nix::sys::signal::Signal;

use crate::test::{Test, files_below, until};

pub(crate) fn paths(test: &Test, place: &str) -> Vec<String> {
    let files = test.vessl(["storage", "list-files", place, "-r", "--output", "json"]).ok().json();
    files.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn files_go_into_a_volume_between_two_and_out() {
    let test = Test::new();
    let volume = |name: &str| {
        test.vessl(["storage", "create-volume", name, "--storage-name", "vessl-storage", "--tag", "warm"])
            .ok();
    };
    volume("one");
    volume("two");
    let listed =
        test.vessl(["storage", "list-volumes", "--storage-name", "vessl-storage", "--keyword", "on"]).ok();
    assert!(
        listed.stdout.contains("volume://vessl-storage/one") && !listed.stdout.contains("two"),
        "{listed:?}"
    );
    listed.prints(&["warm"]);
    test.file("d/a", "a\n");
    test.file("d/sub/b", "b\n");
    test.file("d/.vesslignore", "*.tmp\n");
    test.file("d/x.tmp", "x");
    symlink("a", test.path("d/link")).unwrap();
    let one = "volume://vessl-storage/one";
    let copied = test.vessl(["storage", "copy-file", "d", one]).ok();
    copied.says(&["copied 3 files, 10 B", "`d/link` was left out: it is a link", "leaves out 1 file"]);
    test.vessl(["storage", "copy-file", "d/a", &format!("{one}/sub")]).ok();
    test.vessl(["storage", "copy-file", "d/a", &format!("{one}/new/name")]).ok();
    assert_eq!(paths(&test, one), [".vesslignore", "a", "new", "new/name", "sub", "sub/a", "sub/b"]);
    let two = "volume://vessl-storage/two";
    test.vessl(["storage", "copy-file", one, &format!("{two}/all")]).ok();
    test.vessl(["storage", "copy-file", &format!("{one}/sub"), two]).ok();
    test.vessl(["storage", "copy-file", &format!("{one}/sub"), &format!("{two}/s")]).ok();
    test.vessl(["storage", "copy-file", &format!("{one}/a"), two]).ok();
    let expected = [
        "a",
        "all",
        "all/.vesslignore",
        "all/a",
        "all/new",
        "all/new/name",
        "all/sub",
        "all/sub/a",
        "all/sub/b",
        "b",
        "s",
        "s/a",
        "s/b",
    ];
    assert_eq!(paths(&test, two), expected);
    test.vessl(["storage", "copy-file", &format!("{two}/all"), "back"]).ok().prints(&["downloaded 5 files"]);
    assert_eq!(std::fs::read_to_string(test.path("back/sub/b")).unwrap(), "b\n");
    test.vessl(["storage", "copy-file", &format!("{two}/all"), "back"]).ok().prints(&["were here already"]);
    test.vessl(["storage", "copy-file", &format!("{two}/a"), "single"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("single")).unwrap(), "a\n");
    test.vessl(["storage", "delete-file", &format!("{two}/all")]).code(5).says(&["`-r` deletes a directory"]);
    test.vessl(["storage", "delete-file", "-r", &format!("{two}/all")]).ok();
    test.vessl(["storage", "delete-file", &format!("{two}/a")]).ok();
    assert_eq!(paths(&test, two), ["b", "s", "s/a", "s/b"]);
    let history = test.vessl(["storage", "volume-history", two, "--output", "json"]).ok().json();
    let what: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", change["what"], change["path"]))
        .collect();
    let expected = [r#""delete" "a""#, r#""delete" "all""#, r#""copy" "a""#, r#""copy" "s""#];
    assert_eq!(what[..4], expected, "the newest first: {history}");
    test.vessl(["storage", "volume-history", one]).ok().prints(&["put", "new/name", "2 B"]);
    test.vessl(["storage", "delete-volume", "two", "--storage-name", "vessl-storage"]).ok();
    test.vessl(["storage", "list-files", two])
        .code(5)
        .says(&["`two`", "list-volumes --storage-name vessl-storage"]);
    test.vessl(["storage", "copy-file", "d", "elsewhere"]).code(2).says(&["volume://STORAGE/VOLUME"]);
    test.vessl(["storage", "copy-file", "d", "volume://vessl-storage"])
        .code(2)
        .says(&["names no place in a volume"]);
}

#[test]
fn storages_are_named_and_forgotten() {
    let test = Test::new();
    let root = test.path("root");
    std::fs::create_dir(&root).unwrap();
    let shown = root.display().to_string();
    test.file("../config/vessl/server.toml", format!("hostpath_roots = [{shown:?}]\n"));
    test.vessl(["storage", "list"]).ok().prints(&["vessl-storage  built-in"]);
    let create = |name: &str, kind: &str, path: &str| {
        test.vessl(["storage", "create", name, "--storage-type", kind, "--path", path])
    };
    create("fast", "host-path", &shown).ok().prints(&["host-path", &shown]);
    create("fast", "host-path", &shown).code(5).says(&["`fast`"]);
    create("etc", "host-path", "/etc").code(5).says(&["`/etc`", "hostpath_roots"]);
    create("bucket", "s3", "data/volumes").ok().prints(&["s3://data/volumes"]);
    create("nas", "nfs", "nas.example.org:/export").ok();
    create("tape", "tape", "/x").code(2).says(&["host-path", "gcs"]);
    test.vessl(["storage", "create-volume", "v", "--storage-name", "fast"]).ok();
    test.file("f", "f\n");
    test.vessl(["storage", "copy-file", "f", "volume://fast/v/f"]).ok();
    assert_eq!(std::fs::read_to_string(root.join("v/f")).unwrap(), "f\n");
    test.vessl(["storage", "delete", "fast"]).code(5).says(&["has volumes"]);
    test.vessl(["storage", "create-volume", "v", "--storage-name", "nas"]).ok();
    test.vessl(["storage", "copy-file", "f", "volume://nas/v/f"]).code(5).says(&["`nas`", "NFS export"]);
    test.vessl(["storage", "delete-volume", "v", "--storage-name", "fast"]).ok();
    test.vessl(["storage", "delete", "fast"]).ok();
    assert!(root.exists());
    test.vessl(["storage", "create", "x", "--storage-type", "nfs", "--path", "h:/p", "--cluster-name", "c"])
        .code(2)
        .says(&["every cluster of this server"]);
    test.vessl(["dataset", "create", "x", "-e", "s3://b/p"])
        .code(2)
        .says(&["import: {/data: s3://BUCKET/PREFIX}"]);
}

#[test]
fn a_copy_whose_client_is_killed_leaves_no_half_of_a_file() {
    const SIZE: usize = 200_000_000;
    let test = Test::new();
    let content: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(SIZE).collect();
    let big = test.file("big", &content);
    test.vessl(["storage", "create-volume", "v", "--storage-name", "vessl-storage"]).ok();
    let place = "volume://vessl-storage/v/big";
    let grows = |dir: &std::path::Path| {
        let files = files_below(dir).into_iter().filter(|file| *file != big);
        files.filter_map(|file| file.metadata().ok()).any(|about| about.len() > 0)
    };
    let into = test.start(["storage", "copy-file", "big", place]);
    until("nothing comes", || grows(&test.data().join("volumes")));
    into.signal(Signal::SIGKILL);
    into.finish();
    let seen =
        test.vessl(["storage", "list-files", "volume://vessl-storage/v", "--output", "json"]).ok().json();
    let whole = |file: &serde_json::Value| file["size"] == SIZE;
    assert!(seen.as_array().unwrap().iter().all(whole), "half of a file is seen: {seen}");
    test.vessl(["storage", "copy-file", "big", place]).ok();
    let out = test.start(["storage", "copy-file", place, "back"]);
    let back = test.path("back");
    until("nothing comes", || grows(big.parent().unwrap()));
    out.signal(Signal::SIGKILL);
    out.finish();
    assert!(
        std::fs::metadata(&back).map_or(SIZE as u64, |about| about.len()) == SIZE as u64,
        "half of a file is seen"
    );
    test.vessl(["storage", "copy-file", place, "back"]).ok();
    assert!(std::fs::read(&back).unwrap() == content);
}

#[test]
fn links_of_a_volume_are_copied_if_they_stay_inside_and_named_otherwise() {
    let test = Test::new();
    for name in ["one", "two"] {
        test.vessl(["storage", "create-volume", name, "--storage-name", "vessl-storage"]).ok();
    }
    test.file("d/a", "a\n");
    let (one, two) = ("volume://vessl-storage/one", "volume://vessl-storage/two");
    test.vessl(["storage", "copy-file", "d", one]).ok();
    test.vessl(["storage", "copy-file", "d", &format!("{one}/sub")]).ok();
    let dir = test.data().join("volumes/default/one");
    symlink("a", dir.join("link")).unwrap();
    symlink("../a", dir.join("sub/up")).unwrap();
    symlink("/etc/hostname", dir.join("out")).unwrap();
    symlink("sub", dir.join("way")).unwrap();
    assert!(dir.join(".vessl-incoming").exists(), "what is on its way lies there");
    test.vessl(["storage", "copy-file", one, &format!("{two}/all")]).ok().says(&["`out`"]);
    let listed = test.vessl(["storage", "list-files", &format!("{two}/all"), "-r"]).ok();
    listed.prints(&["all/link -> a", "all/sub/up -> ../a", "all/way -> sub"]);
    let copied = test.data().join("volumes/default/two/all");
    assert_eq!(std::fs::read_to_string(copied.join("sub/up")).unwrap(), "a\n");
    assert!(!copied.join(".vessl-incoming").exists(), "nobody gets what is on its way");
    test.vessl(["storage", "copy-file", &format!("{one}/link"), &format!("{two}/l")])
        .code(5)
        .says(&["`link` is a symbolic link"]);
    for from in ["d/a", &format!("{one}/a"), &format!("{one}/sub")] {
        let to = format!("{one}/way/x");
        let refused = test.vessl(["storage", "copy-file", from, &to]).code(5);
        assert!(refused.stderr.contains("`way` is a symbolic link"), "{from}: {}", refused.stderr);
    }
    let read = "import: {/i: volume://vessl-storage/one}\nrun: ['ls -A /i']";
    let id = test.wait(&crate::stores::file("read", read)).ok().json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok().stdout;
    assert!(log.contains("link\n") && !log.contains(".vessl-incoming"), "{log}");
}

#[test]
fn a_change_of_a_volume_is_one_line_whatever_it_put() {
    let test = Test::new();
    test.vessl(["storage", "create-volume", "v", "--storage-name", "vessl-storage"]).ok();
    let v = "volume://vessl-storage/v";
    for n in 0..20 {
        test.file(&format!("d/{n}"), "12345");
    }
    test.vessl(["storage", "copy-file", "d", &format!("{v}/logs/today")]).ok();
    test.vessl(["storage", "copy-file", "d/1", &format!("{v}/other/f")]).ok();
    test.vessl(["storage", "delete-file", &format!("{v}/logs/today/3")]).ok();
    let history = |place: &str| {
        let all = test.vessl(["storage", "volume-history", place, "--output", "json"]).ok().json();
        let line = |change: &serde_json::Value| {
            format!(
                "{} {} {}",
                change["what"].as_str().unwrap(),
                change["path"].as_str().unwrap(),
                change["files"]
            )
        };
        all.as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let (gone, one, all) = ("delete logs/today/3 null", "put other/f 1", "put logs/today 20");
    assert_eq!(history(v), [gone, one, all]);
    assert_eq!(history(&format!("{v}/other")), [one]);
    assert_eq!(history(&format!("{v}/logs/today/3")), [gone, all]);
    let cut = test.vessl(["storage", "volume-history", v, "--limit", "2"]).ok();
    assert!(cut.stderr.contains("these are the newest 2") && !cut.stdout.contains("100 B"), "{cut:?}");
    let whole = test.vessl(["storage", "volume-history", v, "--limit", "3"]).ok();
    assert!(!whole.stderr.contains("newest") && whole.stdout.contains("100 B"), "{whole:?}");
}
