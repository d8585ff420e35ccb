//! Bytes in and out: git, artifacts, host paths, download.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::specs::{head, item};
use crate::test::Test;

/// A repository with one commit on `main` and one on `dev`.
pub(crate) fn repository(dir: &Path) {
    let script = "git init -q -b main . && git config user.email a@example.org && git config user.name a && \
                  echo main > where && git add . && git commit -q -m one && git checkout -q -b dev && \
                  echo dev > where && git commit -q -am two && git checkout -q main";
    std::fs::create_dir_all(dir).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(dir).env("GIT_CONFIG_GLOBAL", "/dev/null");
    assert!(shell.status().unwrap().success());
}

#[test]
fn a_repository_comes_in_and_files_go_out() {
    let test = Test::new();
    let repository_dir = test.path("repository");
    repository(&repository_dir);
    let yaml = format!(
        "{}import:\n  /work-in/code: {{git: {{url: 'file://{}', ref: dev}}}}\nexport:\n  /work-out: vessl-artifact://\n{}",
        head("host://"),
        repository_dir.display(),
        item(
            "cat /work-in/code/where\nmkdir -p /work-out/sub\ncp /work-in/code/where /work-out/sub/w\nprintf '#!/bin/sh\\n' > /work-out/tool\nchmod +x /work-out/tool"
        ),
    );
    let run = test.wait(&yaml).ok().json();
    let id = run["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "dev\n");
    assert!(run["imports"][0]["version"].as_str().unwrap().len() >= 40, "{run}");
    assert_eq!(run["commit"], run["imports"][0]["version"], "{run}");
    let files = test.vessl(["run", "files", &id, "--output", "json"]).ok().json();
    assert_eq!(files.as_array().unwrap().len(), 2, "{files}");
    let done = test.vessl(["run", "download", &id]).ok();
    assert_eq!(done.stdout, "downloaded 2 files, 14 B\n");
    assert_eq!(test.vessl(["run", "download", &id]).ok().stdout, "2 files, 14 B, were here already\n");
    assert_eq!(std::fs::read_to_string(test.path("work-out/sub/w")).unwrap(), "dev\n");
    assert!(Command::new(test.path("work-out/tool")).status().unwrap().success());
    test.vessl(["run", "download", &id, "elsewhere", "--path", "/work-out/sub"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("elsewhere/w")).unwrap(), "dev\n");
    test.vessl(["run", "download", &id, "--path", "/work-out/none"]).code(5).says(&["/work-out/none"]);
    test.vessl(["run", "download", &id, "all"]).ok().prints(&["downloaded 2 files, 14 B, to `all`\n"]);
    assert_eq!(std::fs::read_to_string(test.path("all/work-out/sub/w")).unwrap(), "dev\n");
    // As it was once written.
    let hint = format!("`vessl run download {id} DEST --path /work-out`");
    test.vessl(["run", "download", &id, "/work-out"])
        .code(2)
        .says(&["`/work-out` is a path of the run", &hint]);
    test.vessl(["run", "download", &id, "/work-out", "results"]).code(2).says(&["--path PATH"]);
}

#[test]
fn names_links_and_empty_directories_arrive_as_they_were() {
    let test = Test::new();
    let script = "mkdir -p /out-n/sub/empty\ncd /out-n\nexport LC_ALL=C\n\
                  echo first > \"$(printf 'a\\377')\"\necho second > \"$(printf 'a\\376')\"\necho third > a%FF\n\
                  ln -s ../a%FF sub/near\nln -s sub/../../x climbs\nln -s ../../x sub/above";
    let yaml = format!("{}export: {{/out-n: vessl-artifact://}}\n{}", head("host://"), item(script));
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    test.vessl(["run", "files", &id]).ok().prints(&[
        "a%FE",
        "a%FF",
        "a%25FF",
        "sub/empty/",
        "sub/near -> ../a%25FF",
    ]);
    for _ in 0..2 {
        let done = test.vessl(["run", "download", &id, "d", "--path", "/out-n"]).ok();
        done.says(&["`climbs`", "`sub/above`"]);
        let read =
            |name: &[u8]| std::fs::read_to_string(test.path("d").join(OsStr::from_bytes(name))).unwrap();
        assert_eq!([read(b"a\xff"), read(b"a\xfe"), read(b"a%FF")], ["first\n", "second\n", "third\n"]);
        assert_eq!(std::fs::read_link(test.path("d/sub/near")).unwrap(), Path::new("../a%FF"));
        assert_eq!(std::fs::read_dir(test.path("d/sub/empty")).unwrap().count(), 0);
        assert_eq!(
            std::fs::read_dir(test.path("d")).unwrap().count(),
            4,
            "the links that lead nowhere are not here"
        );
    }
    test.vessl(["run", "download", &id, "one", "--path", "/out-n/a%FE"]).ok();
    assert!(test.path("one").join(OsStr::from_bytes(b"a\xfe")).exists());
    test.vessl(["run", "download", &id, "part", "--path", "/out-n/sub"]).ok().says(&["`near`"]);
}

#[test]
fn a_download_goes_on_where_it_stopped_and_repairs_what_is_wrong() {
    let test = Test::new();
    let yaml = format!(
        "{}export: {{/out-d: vessl-artifact://}}\n{}",
        head("host://"),
        item("mkdir /out-d; head -c 3000000 /dev/urandom > /out-d/big")
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    test.vessl(["run", "download", &id, "one", "--path", "/out-d"]).ok();
    let whole = std::fs::read(test.path("one/big")).unwrap();
    assert_eq!(whole.len(), 3_000_000);
    let digest = test.vessl(["run", "files", &id, "--output", "json"]).ok().json()[0]["digest"]
        .as_str()
        .unwrap()
        .to_owned();
    test.file(&format!("two/.vessl-{}.part", &digest[..32]), &whole[..1_000_000]);
    test.vessl(["run", "download", &id, "two", "--path", "/out-d"]).ok();
    assert!(std::fs::read(test.path("two/big")).unwrap() == whole);
    let again = ["run", "download", &id, "one", "--path", "/out-d", "--output", "json"];
    let same = test.vessl(again).ok();
    assert_eq!((same.json()[0]["replaced"].clone(), same.stderr.as_str()), (false.into(), ""));
    test.file("one/big", vec![0; 3_000_000]);
    let repaired = test.vessl(again).ok().says(&["replaced 1 file that was here with other content"]).json();
    assert_eq!(repaired[0]["replaced"], true, "{repaired}");
    test.file("plain", "");
    for wrong in ["plain", "plain/below"] {
        test.vessl(["run", "download", &id, wrong, "--path", "/out-d"])
            .code(2)
            .says(&[wrong, "is not a directory"]);
    }
    assert!(std::fs::read(test.path("one/big")).unwrap() == whole);
    assert_eq!(std::fs::read_dir(test.path("two")).unwrap().count(), 1);
}

#[test]
fn an_artifact_goes_by_name_from_run_to_run() {
    let test = Test::new();
    let who = test.vessl(["whoami", "--output", "json"]).ok().json();
    let name = format!(
        "vessl-artifact://{}/{}/weights",
        who["organization"].as_str().unwrap(),
        who["project"].as_str().unwrap()
    );
    let make = format!(
        "{}export: {{/out-a: '{name}'}}\n{}",
        head("host://"),
        item("mkdir -p /out-a/deep; echo 42 > /out-a/deep/w")
    );
    test.vessl(["artifact", "list"]).ok().says(&["no artifacts"]);
    test.vessl(["artifact", "read", "weights"]).code(5).says(&["hint: a run makes one with `export: {"]);
    let made = test.wait(&make).ok().json()["id"].clone();
    test.wait(&make).ok();
    let listed = test.vessl(["artifact", "list"]).ok();
    listed.prints(&["NAME", "VERSION", "weights  2", "3 B"]);
    let read = test.vessl(["artifact", "read", "weights", "--output", "json"]).ok().json();
    assert_eq!((&read["versions"][1]["version"], &read["versions"][1]["run"]), (&1.into(), &made), "{read}");
    test.vessl(["artifact", "read", "weights"]).ok().prints(&["Versions", "1 file, 3 B", &made.to_string()]);
    test.vessl(["artifact", "read", "wieghts"]).code(5).says(&["`wieghts`"]);
    let whole = name.strip_prefix("vessl-artifact://").unwrap();
    for whole in [name.as_str(), whole] {
        test.vessl(["artifact", "read", whole, "--project", "another"]).ok().prints(&["Versions"]);
    }
    let take = format!(
        "{}import: {{/in-a: '{name}'}}\n{}",
        head("host://"),
        item("cat /in-a/deep/w; echo changed > /in-a/deep/w")
    );
    let id = test.wait(&take).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "42\n");
    let again = test.wait(&take).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &again]).ok().stdout, "42\n", "an import is a copy");
    test.vessl(["run", "read", &again]).ok().prints(&["version 2 ("]);
    // What an unfinished run has imported stays.
    let busy = test.create(&take.replace("echo changed", "sleep 1000; echo changed"));
    test.until_log(&busy, "42");
    for version in ["weights@2", "weights"] {
        let refused = test.vessl(["artifact", "delete", version]).code(5);
        refused.says(&[&busy, "has not ended", &format!("`vessl run terminate {busy}`")]);
    }
    test.vessl(["run", "terminate", &busy, "--grace", "0"]).ok();
    test.until_end(&busy);
    // A version that is deleted leaves its number and the files of its run.
    test.vessl(["artifact", "delete", "weights@9"]).code(5).says(&["no version 9 of the artifact `weights`"]);
    test.vessl(["artifact", "delete", "weights@0"]).code(2).says(&["a version is a number from 1 on"]);
    test.vessl(["artifact", "delete", "weights@2"]).ok().says(&["deleted artifact weights@2"]);
    let numbers = || -> Vec<u64> {
        let read = test.vessl(["artifact", "read", "weights", "--output", "json"]).ok().json();
        read["versions"].as_array().unwrap().iter().map(|one| one["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers(), [1]);
    test.wait(&make).ok();
    assert_eq!(numbers(), [3, 1]);
    let told = test.vessl(["artifact", "delete", &name, "--output", "json"]).ok().json();
    assert_eq!(told, serde_json::json!({ "deleted": name }));
    test.vessl(["artifact", "delete", "weights"]).code(5).says(&["there is no artifact `weights`"]);
    test.vessl(["run", "download", &made.to_string(), "kept"])
        .ok()
        .prints(&["downloaded 1 file, 3 B, to `kept`"]);
    test.vessl_with(["run", "create", "-f", "-"], take.as_bytes()).code(3).says(&["weights"]);
    test.wait(&make).ok();
    assert_eq!(numbers(), [4], "no number is given twice");
}

#[test]
fn exports_are_written_also_when_the_commands_fail() {
    let test = Test::new();
    let yaml = format!(
        "{}export: {{/out-f: vessl-artifact://}}\n{}",
        head("host://"),
        item("mkdir /out-f; echo x > /out-f/x; exit 6")
    );
    let run = test.wait(&yaml).code(6).json();
    assert_eq!(run["reason"], "the command ended with exit code 6", "{run}");
    let files = test.vessl(["run", "files", &run["id"].to_string(), "--output", "json"]).ok().json();
    assert_eq!(files[0]["path"], "x");
}

#[test]
fn a_host_path_is_shown_only_below_the_roots() {
    let test = Test::new();
    let inside = test.file("shared/inside", "seen\n");
    let root = inside.parent().unwrap().to_owned();
    let test = test.env("VESSL_SERVER_HOSTPATH_ROOTS", &root.display().to_string());
    let yaml = format!(
        "{}mount: {{/mnt-h: 'hostpath://{}'}}\n{}",
        head("host://"),
        root.display(),
        item("cat /mnt-h/inside; touch /mnt-h/new || echo refused")
    );
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    assert!(
        test.vessl(["run", "logs", &id]).ok().stdout.starts_with("seen\nrefused\n")
            || test.vessl(["run", "logs", &id]).ok().stdout.contains("refused")
    );
    let outside = yaml.replace(&root.display().to_string(), "/etc");
    test.vessl_with(["run", "create", "-f", "-"], outside.as_bytes()).code(3).says(&["/etc"]);
}

#[test]
fn a_refused_host_path_says_what_to_write_where() {
    let test = Test::new();
    let shared = test.file("shared/inside", "seen\n").parent().unwrap().display().to_string();
    let yaml = format!("{}mount: {{/m: 'hostpath://{shared}'}}\n{}", head("host://"), item("cat /m/inside"));
    let done = test.vessl_with(["run", "create", "-f", "-", "--output", "json"], yaml.as_bytes()).code(3);
    let told: serde_json::Value = serde_json::from_str(done.stderr.lines().last().unwrap()).unwrap();
    let problems = told["error"]["problems"].as_array().unwrap();
    let refusal = problems.iter().find(|problem| problem["code"] == "not-allowed").unwrap();
    let hint = refusal["hint"].as_str().unwrap();
    // What it says, done to the letter.
    let quoted: Vec<&str> = hint.split('`').skip(1).step_by(2).collect();
    let [line, file, next] = quoted.as_slice() else { panic!("{hint}") };
    std::fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
    std::fs::write(file, line).unwrap();
    test.vessl(next.split(' ').skip(1)).ok();
    test.wait(&yaml).ok();
}

/// Type, permissions, seconds of the last change and name of everything below a directory, as `find` says.
fn listed(dir: &Path) -> String {
    let form = "%y %m %T@ %P %l\n";
    let mut find = Command::new("find");
    let found = find.arg(dir).args(["-mindepth", "1", "-printf", form]).env("TZ", "UTC").output().unwrap();
    assert!(found.status.success(), "{found:?}");
    let mut lines: Vec<_> = std::str::from_utf8(&found.stdout).unwrap().lines().map(str::trim_end).collect();
    lines.sort_unstable();
    lines.join("\n") + "\n"
}

const MADE: &str = "\
mkdir -p /out-l/ckpt-5 /out-l/team/deep /else/dir
cd /out-l
echo weights > ckpt-5/model
echo secret > team/deep/secret
echo outside > /else/dir/file
ln -s /out-l/ckpt-5 latest
ln -s /else/dir/file one
ln -s ../else/dir all
ln -s / loop
ln -s /none dangling
chmod 600 team/deep/secret
chmod 2775 team
chmod 555 ckpt-5
touch -h -d '2001-02-03 04:05:06.123456789Z' latest
touch -d '1969-12-31 23:59:58.5Z' team/deep/secret
find team/deep ckpt-5 team -type d -exec touch -d '2002-02-02 02:02:02Z' {} +
touch -d '2003-03-03 03:03:03Z' /else/dir
touch -d '2004-04-04 04:04:04Z' /else/dir/file ckpt-5/model
chmod 2750 .; touch -d '2005-05-05 05:05:05Z' .";

const EXPECTED: &str = "\
d 2775 1012615322.0000000000 team
d 555 1012615322.0000000000 ckpt-5
d 755 1012615322.0000000000 team/deep
d 755 1046660583.0000000000 all
f 600 -2.5000000000 team/deep/secret
f 644 1081051444.0000000000 all/file
f 644 1081051444.0000000000 ckpt-5/model
f 644 1081051444.0000000000 one
l 777 981173106.1234567890 latest ckpt-5
";

#[test]
fn links_out_permissions_and_times_survive_export_import_and_download() {
    let test = Test::new();
    let who = test.vessl(["whoami", "--output", "json"]).ok().json();
    let name = format!(
        "vessl-artifact://{}/{}/all",
        who["organization"].as_str().unwrap(),
        who["project"].as_str().unwrap()
    );
    let yaml = format!("{}export: {{/out-l: '{name}'}}\n{}", head("host://"), item(MADE));
    let id = test.wait(&yaml).ok().json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    log.says(&[
        "`/out-l/loop` was left out: it is a link to `/`, in which it lies itself",
        "`/out-l/dangling` stays a link to `/none`: where there is nothing",
        "2 links that lead out of `/out-l` became what they lead to",
    ]);
    for _ in 0..2 {
        test.vessl(["run", "download", &id, "d", "--path", "/out-l"]).ok().says(&["`dangling`", "`/none`"]);
        assert_eq!(listed(&test.path("d")), EXPECTED);
        // The same command mends what was changed since.
        let mode = |mode| std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(test.path("d/team"), mode(0o700)).unwrap();
        std::fs::set_permissions(test.path("d/team/deep/secret"), mode(0o644)).unwrap();
    }
    let whole = |dir: &str| {
        let meta = std::fs::metadata(test.path(dir)).unwrap();
        (meta.mode() & 0o7777, meta.mtime())
    };
    test.vessl(["run", "download", &id, "whole"]).ok();
    assert_eq!(whole("whole/out-l"), (0o2750, 1_115_269_505));
    let script = "cd /in-l; stat -c '%a %Y' .; find . -mindepth 1 ! -name dangling -printf '%y %m %T@ %P %l\\n' | sed 's/ $//' | LC_ALL=C sort";
    let take = format!("{}import: {{/in-l: '{name}'}}\n{}", head("host://"), item(script));
    let id = test.wait(&take).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, format!("2750 1115269505\n{EXPECTED}"));
}

#[test]
fn a_huge_file_with_holes_goes_everywhere_by_its_data() {
    let test = Test::new();
    let who = test.vessl(["whoami", "--output", "json"]).ok().json();
    let name = format!(
        "vessl-artifact://{}/{}/huge",
        who["organization"].as_str().unwrap(),
        who["project"].as_str().unwrap()
    );
    // Nobody could move that many zeros within the time of a test.
    let make = "mkdir -p /out-h; truncate -s 1000G /out-h/huge\nprintf 12345678 | dd of=/out-h/huge bs=4096 seek=200000000 conv=notrunc status=none";
    let yaml = format!("{}export: {{/out-h: '{name}'}}\n{}", head("host://"), item(make));
    let run = test.wait(&yaml).ok().json();
    assert_eq!(run["exports"][0]["bytes"], 1000_u64 << 30, "{run}");
    let look = "stat -c '%s %b' /in-h/huge; dd if=/in-h/huge bs=4096 skip=200000000 count=1 status=none | tr -d '\\0'";
    let take = format!("{}import: {{/in-h: '{name}'}}\n{}", head("host://"), item(look));
    let id = test.wait(&take).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "1073741824000 8\n12345678");
    let id = run["id"].to_string();
    for _ in 0..2 {
        test.vessl(["run", "download", &id, "d", "--path", "/out-h"]).ok().prints(&["1 file"]);
        let meta = std::fs::metadata(test.path("d/huge")).unwrap();
        assert!(meta.len() == 1000 << 30 && meta.blocks() < 100, "{meta:?}");
        assert_eq!(std::fs::read_dir(test.path("d")).unwrap().count(), 1);
    }
    let mut bytes = [0; 8];
    let file = std::fs::File::open(test.path("d/huge")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 4096 * 200_000_000).unwrap();
    assert_eq!(&bytes, b"12345678");
}
