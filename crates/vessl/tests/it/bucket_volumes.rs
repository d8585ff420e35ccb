//! Volumes that lie in buckets, from the command line: files listed, copied in, out and across, deleted; and what is said on bad days.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::storages::paths;
use crate::stores::{Bucket, KEY, file, keys};
use crate::test::{Done, Test};

/// A storage `lab` in the bucket, with the volume `v`; and the volume `here` of the machine.
fn storage(test: &Test, bucket: &Bucket, credential: Option<&str>) {
    let endpoint = format!("http://{}", bucket.address);
    let mut create = vec!["storage", "create", "lab", "--storage-type", "s3", "--path", "s3://bkt/lab"];
    create.extend(["--endpoint", &endpoint]);
    create.extend(credential.iter().flat_map(|name| ["--credential-name", name]));
    test.vessl(create).ok();
    for (volume, of) in [("v", "lab"), ("here", "vessl-storage")] {
        test.vessl(["storage", "create-volume", volume, "--storage-name", of]).ok();
    }
}

fn copy(test: &Test, from: &str, to: &str) -> Done {
    test.vessl(["storage", "copy-file", from, to])
}

const V: &str = "volume://lab/v";
const HERE: &str = "volume://vessl-storage/here";

#[test]
fn files_go_into_a_volume_in_a_bucket_across_and_out() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    storage(&test, &bucket, Some("keys"));
    assert_eq!(paths(&test, V), [""; 0]);
    test.file("d/a", "a\n");
    test.file("d/sub/b c", "b\n");
    test.file("d/empty", "");
    let big: Vec<u8> = (0_u32..).flat_map(u32::to_le_bytes).take(70 << 20).collect();
    test.file("big", &big);
    copy(&test, "d", V).ok().says(&["copied 3 files, 4 B"]);
    copy(&test, "big", &format!("{V}/deep/er/big")).ok();
    let there = bucket.root.join("bkt/lab/v");
    assert_eq!(std::fs::read_to_string(there.join("sub/b c")).unwrap(), "b\n");
    assert!(!there.join(".vessl-manifest.json").exists(), "without an export there is no list of one");
    let all = ["a", "deep", "deep/er", "deep/er/big", "empty", "sub", "sub/b c"];
    assert_eq!(paths(&test, V), all);
    test.vessl(["storage", "list-files", V]).ok().prints(&["deep/", "sub/"]);
    let one = test.vessl(["storage", "list-files", &format!("{V}/sub"), "--output", "json"]).ok().json();
    assert_eq!(
        (one.as_array().unwrap().len(), &one[0]["path"], &one[0]["size"]),
        (1, &"sub/b c".into(), &2.into())
    );
    assert!(one[0]["modified_at"].is_string(), "{one}");
    copy(&test, V, "back").ok().prints(&["downloaded 4 files"]);
    assert!(std::fs::read(test.path("back/deep/er/big")).unwrap() == big);
    copy(&test, &format!("{V}/a"), "single").ok();
    assert_eq!(std::fs::read_to_string(test.path("single")).unwrap(), "a\n");
    // From the bucket to the machine, back, and within the bucket.
    copy(&test, V, &format!("{HERE}/in")).ok().says(&["copied 4 files"]);
    assert!(std::fs::read(test.data().join("volumes/default/here/in/deep/er/big")).unwrap() == big);
    copy(&test, &format!("{HERE}/in/sub"), &format!("{V}/again")).ok();
    copy(&test, &format!("{V}/a"), &format!("{HERE}/one")).ok();
    copy(&test, &format!("{HERE}/one"), &format!("{V}/sub/")).ok();
    copy(&test, &format!("{V}/sub"), &format!("{V}/twice")).ok().says(&["copied 2 files"]);
    let more = ["again", "again/b c", "deep", "deep/er", "deep/er/big", "empty", "sub", "sub/b c", "sub/one"];
    let twice = ["twice", "twice/b c", "twice/one"];
    assert_eq!(paths(&test, V), ["a"].iter().chain(&more).chain(&twice).copied().collect::<Vec<_>>());
    // A run sees the same.
    let read = file("read", &format!("import: {{/i: {V}}}\nrun: ['cat /i/twice/one \"/i/again/b c\"']"));
    let id = test.wait(&read).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "a\nb\n");
    test.vessl(["storage", "delete-file", &format!("{V}/deep")])
        .code(5)
        .says(&["`deep` is a directory", "`-r`"]);
    test.vessl(["storage", "delete-file", "-r", &format!("{V}/deep")]).ok();
    test.vessl(["storage", "delete-file", &format!("{V}/a")]).ok();
    test.vessl(["storage", "delete-file", &format!("{V}/a")]).code(5).says(&["there is no `a`"]);
    assert!(!there.join("a").exists() && !there.join("deep/er/big").exists());
    let history = test.vessl(["storage", "volume-history", V, "--output", "json"]).ok().json();
    let what: Vec<_> =
        history.as_array().unwrap().iter().map(|change| change["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["delete", "delete", "copy", "copy", "copy", "put", "put"], "{history}");
    assert_eq!((&history[6]["files"], &history[6]["path"]), (&3.into(), &"".into()), "{history}");
    assert_eq!(std::fs::read_dir(test.data().join("incoming")).unwrap().count(), 0, "nothing is left");
}

#[test]
fn the_list_of_an_export_stays_true_when_files_come_and_go() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    storage(&test, &bucket, Some("keys"));
    let make = "mkdir /out/sub; echo 1 > /out/a; echo 2 > /out/sub/b; echo 3 > /out/c; chmod 700 /out/a";
    test.wait(&file("make", &format!("export: {{/out: {V}}}\nrun: ['{make}']"))).ok();
    assert_eq!(paths(&test, V), ["a", "c", "sub", "sub/b"], "the list itself is not shown");
    test.file("new", "new\n");
    copy(&test, "new", &format!("{V}/sub/b")).ok();
    copy(&test, "new", &format!("{V}/n")).ok();
    test.file("d/x", "x\n");
    copy(&test, "d", &format!("{HERE}/d")).ok();
    copy(&test, &format!("{HERE}/d"), &format!("{V}/d")).ok();
    test.vessl(["storage", "delete-file", &format!("{V}/c")]).ok();
    let look = "cd /i; ls -AR | tr \"\\n\" \" \"; cat sub/b n d/x; stat -c %a a";
    let id = test.wait(&file("read", &format!("import: {{/i: {V}}}\nrun: ['{look}']"))).ok().json()["id"]
        .to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(log.stdout, ".: a d n sub  ./d: x  ./sub: b new\nnew\nx\n700\n", "{}", log.stderr);
    assert!(!log.stderr.contains("not in the list"), "{}", log.stderr);
    // The next export adds to it.
    test.wait(&file("more", &format!("export: {{/out: {V}}}\nrun: ['echo 4 > /out/n']"))).ok();
    let id = test.wait(&file("read", &format!("import: {{/i: {V}}}\nrun: ['cat /i/n /i/d/x']"))).ok().json()
        ["id"]
        .to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "4\nx\n");
}

#[test]
fn bad_days_of_a_volume_in_a_bucket_are_said() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    storage(&test, &bucket, Some("keys"));
    test.file("f", "f\n");
    copy(&test, "f", &format!("{V}/d/f")).ok();
    copy(&test, &format!("{V}/none"), "x").code(5).says(&["there is no `none`"]);
    copy(&test, &format!("{V}/none"), HERE).code(5).says(&["there is no `none`"]);
    test.vessl(["storage", "list-files", &format!("{V}/none")]).code(5).says(&["there is no `none`"]);
    // A file where a directory is, and the other way round: no run could import that.
    for to in ["d/f/x", "d"] {
        let change = ["storage", "copy-file", &format!("{HERE}/f"), &format!("{V}/{to}")].map(str::to_owned);
        copy(&test, "f", &format!("{HERE}/f")).ok();
        let request = test.vessl(change);
        if to == "d" {
            request.ok();
        } else {
            request.code(5).says(&["`d/f`", "a file"]);
        }
    }
    assert_eq!(paths(&test, V), ["d", "d/f"]);
    test.file("t/d/f/g", "g\n");
    copy(&test, "t", &format!("{HERE}/t")).ok();
    copy(&test, &format!("{HERE}/t"), V).code(5).says(&["`d/f`", "a file"]);
    // Keys that are wrong, not there any more, or nobody's.
    let again = |name: &str, more: &[&str]| {
        let endpoint = format!("http://{}", bucket.address);
        let mut create = vec!["storage", "create", name, "--storage-type", "s3", "--path", "s3://bkt/lab"];
        create.extend(["--endpoint", &endpoint]);
        create.extend(more);
        test.vessl(create).ok();
        test.vessl(["storage", "create-volume", "v", "--storage-name", name]).ok();
        format!("volume://{name}/v")
    };
    test.vessl_with(["credential", "create", "wrong", "--kind", "s3", "--username", KEY], b"another-one")
        .ok();
    let wrong = again("wrong", &["--credential-name", "wrong"]);
    let nobody = again("nobody", &[]);
    let gone = again("gone", &["--credential-name", "keys"]);
    for place in [&wrong, &nobody] {
        for done in [
            test.vessl(["storage", "list-files", place]),
            copy(&test, "f", &format!("{place}/f")),
            test.vessl(["storage", "delete-file", &format!("{place}/d/f")]),
        ] {
            let done = done.code(5);
            assert!(
                done.stderr.contains("s3://bkt/lab/v") && !done.stderr.contains("another-one"),
                "{}",
                done.stderr
            );
        }
    }
    test.vessl(["credential", "delete", "keys"]).ok();
    test.vessl(["storage", "list-files", &gone])
        .code(5)
        .says(&["`keys`", "vessl credential create keys --kind s3"]);
    // An NFS export is not looked into.
    let nfs = ["storage", "create", "nas", "--storage-type", "nfs", "--path", "nas.example.org:/export"];
    test.vessl(nfs).ok();
    test.vessl(["storage", "create-volume", "v", "--storage-name", "nas"]).ok();
    test.vessl(["storage", "list-files", "volume://nas/v"])
        .code(5)
        .says(&["NFS export", "the server does not mount"]);
}

#[test]
fn an_empty_volume_in_a_bucket_is_an_empty_directory() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    storage(&test, &bucket, Some("keys"));
    let read = |from: &str| {
        let text = format!("import:\n  /i:\n    {from}\nrun: ['ls -A /i; echo read']");
        test.wait(&file("read", &text)).json()
    };
    let run = read(&format!("volume: {}", V.trim_start_matches("volume://")));
    assert_eq!(run["status"], "completed", "{run}");
    let log = test.vessl(["run", "logs", &run["id"].to_string()]).ok().says(&["nothing is there yet"]);
    assert_eq!(log.stdout, "read\n");
    let run = read(&bucket.at("lab/v", "keys"));
    assert_eq!((&run["status"], &run["reason_code"]), (&"failed".into(), &"import_failed".into()), "{run}");
    // What comes later is seen.
    test.file("f", "f\n");
    copy(&test, "f", &format!("{V}/f")).ok();
    let run = read(&format!("volume: {}", V.trim_start_matches("volume://")));
    assert_eq!(test.vessl(["run", "logs", &run["id"].to_string()]).ok().stdout, "f\nread\n");
}

/// The emulator of Google Cloud Storage with the bucket `bkt`.
struct Google {
    child: Child,
    address: String,
}

impl Google {
    fn new() -> Self {
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../buckets/python/bin/python3");
        assert!(program.exists(), "`{}` is missing; `.ci/tools test` installs it", program.display());
        let text = "import sys\n\
            from gcp_storage_emulator import server as emulator\n\
            read = emulator._read_data\n\
            emulator._read_data = lambda *asked: b'' if (got := read(*asked)) is None else got\n\
            server = emulator.create_server('127.0.0.1', 0, in_memory=True, default_bucket='bkt')\n\
            server.start()\n\
            print('http://127.0.0.1:%d' % server._api._httpd.server_address[1], flush=True)\n\
            sys.stdin.read()\n\
            server.stop()\n";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(["-u", "-c", text]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (found, address) = mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = found.send(line);
            }
        });
        let address = address.recv_timeout(Duration::from_mins(1)).expect("the emulator did not start");
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Google {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_volume_in_a_bucket_of_google_is_listed_and_written() {
    let (test, google) = (Test::new(), Google::new());
    let create = ["storage", "create", "lab", "--storage-type", "gcs", "--path", "gs://bkt/lab"];
    test.vessl(create.into_iter().chain(["--endpoint", &google.address])).ok();
    test.vessl(["storage", "create-volume", "v", "--storage-name", "lab"]).ok();
    test.file("d/a", "a\n");
    test.file("d/sub/b", "b\n");
    copy(&test, "d", V).ok();
    assert_eq!(paths(&test, V), ["a", "sub", "sub/b"]);
    test.vessl(["storage", "list-files", V]).ok().prints(&["sub/"]);
    copy(&test, &format!("{V}/sub/b"), "b").ok();
    assert_eq!(std::fs::read_to_string(test.path("b")).unwrap(), "b\n");
    copy(&test, V, &format!("{V}/all")).code(5);
    copy(&test, &format!("{V}/sub"), &format!("{V}/again")).ok();
    test.vessl(["storage", "delete-file", "-r", &format!("{V}/sub")]).ok();
    test.vessl(["storage", "delete-file", &format!("{V}/none")]).code(5).says(&["there is no `none`"]);
    assert_eq!(paths(&test, V), ["a", "again", "again/b"]);
}
