//! Exports that fail, or whose agent dies over them: the files are kept or gone on with, nothing is written twice, and the run's end is
//! what its commands made of it.
use std::path::Path;

use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::gate::{Gate, WAIT};

use crate::stores::{Bucket, KEY, file, keys, secret};
use crate::test::{Test, files_below, until};

fn export_of<'r>(run: &'r Value, path: &str) -> &'r Value {
    let exports = run["exports"].as_array().unwrap();
    let mut found = exports.iter().filter(|export| export["path"] == path);
    let first = found.next().unwrap_or_else(|| panic!("no export of {path}: {run}"));
    assert!(found.next().is_none(), "two results of {path}: {run}");
    first
}

/// A credential that the bucket does not take.
fn wrong_key(test: &Test) {
    let create = ["credential", "create", "late", "--kind", "s3", "--username", KEY];
    test.vessl_with(create, b"of-somebody-else").ok();
}

/// The same, put right.
fn right_key(test: &Test) {
    let create = ["credential", "create", "late", "--kind", "s3", "--username", KEY];
    test.vessl_with(create, secret().as_bytes()).ok();
}

#[test]
fn what_failed_is_written_again_from_the_kept_files() {
    let (test, bucket) = (Test::new(), Bucket::new());
    wrong_key(&test);
    test.vessl(["dataset", "create", "iris"]).ok();
    let seed = test.file("seed/old", "old\n").parent().unwrap().display().to_string();
    test.vessl(["dataset", "upload", "iris", &format!("{seed}/."), "/"]).ok();
    // The bucket does not take the key; what is exported is partly what was imported, and partly in the run's own layer.
    let body = format!(
        "import: {{/in-w: vessl-dataset://default/iris}}\nexport:\n  /kept: vessl-artifact://default/default/kept\n  /in-w:\n    {}\nrun: ['echo mine > /in-w/new; mkdir /kept/sub; echo k > /kept/sub/k; echo once']",
        bucket.at("later/x", "late")
    );
    let run = test.wait(&file("late", &body)).json();
    let id = run["id"].to_string();
    assert_eq!(
        (&run["status"], &run["reason_code"], &run["exit_code"]),
        (&"failed".into(), &"export_failed".into(), &0.into()),
        "{run}"
    );
    test.until_removed(&id);
    let kept = test.attempt(&id).join("kept");
    assert!(kept.is_dir(), "the files are kept");
    test.vessl(["run", "read", &id]).ok().prints(&["Kept", &format!("`vessl run export {id} --retry`")]);
    assert!(test.mounts().is_empty(), "{:?}", test.mounts());
    // The same reason is there still: it fails again, and the files stay.
    let again = test.vessl(["run", "export", &id, "--retry", "--wait", "--output", "json"]).code(1).json();
    assert_eq!((&again["status"], &again["exit_code"]), (&"failed".into(), &0.into()), "{again}");
    test.until_removed(&id);
    assert!(kept.is_dir(), "the files are still kept");
    right_key(&test);
    let done = test.vessl(["run", "export", &id, "--retry", "--wait", "--output", "json"]).ok().json();
    assert_eq!(
        (&done["status"], &done["exit_code"], &done["attempt"]),
        (&"completed".into(), &0.into(), &1.into()),
        "{done}"
    );
    let at = bucket.root.join("bkt/later/x");
    let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap();
    assert_eq!((read("old"), read("new")), ("old\n".to_owned(), "mine\n".to_owned()));
    let run = test.read(&id);
    let sent = export_of(&run, "/in-w");
    assert_eq!(
        (&sent["files"], &sent["bytes"], &sent["error"]),
        (&2.into(), &9.into(), &Value::Null),
        "{sent}"
    );
    assert!(sent["version"].is_string() && run["kept"].is_null(), "{run}");
    assert_eq!(export_of(&run, "/kept")["files"], 1);
    let artifact = test.vessl(["artifact", "read", "kept", "--output", "json"]).ok().json();
    assert_eq!(
        artifact["versions"].as_array().unwrap().len(),
        1,
        "what was written is not written again: {artifact}"
    );
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "once\n", "the commands ran once");
    test.vessl(["run", "logs", &id]).ok().says(&["the exports that failed are written again", "completed:"]);
    test.until_removed(&id);
    assert!(!kept.exists(), "nothing is kept any more");
    test.vessl(["run", "export", &id, "--retry"]).code(5).says(&["no export of run", "nothing to repeat"]);
    test.vessl(["run", "export", &id]).code(2).says(&["--retry"]);
}

#[test]
fn kept_files_go_with_their_run_and_after_their_time() {
    let (test, bucket) = (Test::new(), Bucket::new());
    wrong_key(&test);
    let body = format!("export:\n  /o:\n    {}\nrun: ['echo 1 > /o/a; exit 3']", bucket.at("x", "late"));
    let fail = || {
        let run = test.wait(&file("fails", &body)).json();
        // What the commands ended with is the reason that counts; the export is named all the same.
        assert_eq!((&run["reason_code"], &run["exit_code"]), (&"command_failed".into(), &3.into()), "{run}");
        assert!(run["reason"].as_str().unwrap().contains("the export of `/o` failed"), "{run}");
        let id = run["id"].to_string();
        test.until_removed(&id);
        (test.attempt(&id), id)
    };
    let (first, id) = fail();
    assert!(first.join("kept").is_dir());
    test.vessl(["run", "delete", &id]).ok();
    assert!(!first.exists(), "a deleted run keeps nothing");
    // A run whose commands failed stays failed, whatever becomes of its exports.
    let (second, id) = fail();
    right_key(&test);
    let done = test.vessl(["run", "export", &id, "--retry", "--wait", "--output", "json"]).code(3).json();
    assert_eq!(
        (&done["status"], &done["reason_code"], &done["exit_code"]),
        (&"failed".into(), &"command_failed".into(), &3.into()),
        "{done}"
    );
    assert!(export_of(&test.read(&id), "/o")["error"].is_null(), "{done}");
    test.until_removed(&id);
    assert!(!second.join("kept").exists());
    wrong_key(&test);
    let (third, id) = fail();
    test.vessl(["server", "stop"]).ok();
    test.file("../config/vessl/server.toml", "keep_failed_exports = \"1ms\"\n");
    test.vessl(["whoami"]).ok();
    until("what was kept long enough is removed", || !third.join("kept").exists());
    test.vessl(["run", "export", &id, "--retry"])
        .code(5)
        .says(&["are not there any more", "vessl run restart"]);
}

/// A run that sends three files in parts to a bucket, and one to a named artifact after it.
fn sends(bucket: &Bucket, prefix: &str) -> String {
    let body = format!(
        "export:\n  /a:\n    {}\n  /z: vessl-artifact://default/default/{prefix}\nrun: ['for n in 1 2 3; do head -c 40000000 /dev/urandom > /a/$n; done; cp /a/1 /z/one; echo once']",
        bucket.at(prefix, "keys")
    );
    file("sends", &body).replace("host://", "host://\nresources: {cpu: 250m, memory: 256Mi}")
}

/// Waits until the journal of the export has this text, or the attempt has its end.
fn journal_says(attempt: &Path, text: &str) {
    let says = || {
        let files = std::fs::read_dir(attempt).into_iter().flatten().flatten();
        let mut journals = files.filter(|file| file.file_name().to_string_lossy().starts_with("export-"));
        journals.any(|file| std::fs::read_to_string(file.path()).is_ok_and(|said| said.contains(text)))
    };
    until("the export does not get there", || says() || attempt.join("exit.json").exists());
}

#[test]
fn another_agent_goes_on_with_the_exports_of_a_killed_one() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    let mut gone_on = 0;
    let points = ["", "\"who\"", "\"begun\"", "\"part\"", "\"done\"", "artifact"];
    for (nth, point) in points.into_iter().enumerate() {
        let prefix = format!("p{nth}");
        let id = test.create(&sends(&bucket, &prefix));
        test.until_status(&id, "stopping");
        match point {
            "" => {}
            "artifact" => test.until_log(&id, "exporting `/z`"),
            text => journal_says(&test.attempt(&id), text),
        }
        let agent = test.agent(&id);
        // Every second time the server is dead as well.
        if nth % 2 == 1 {
            test.kill_server();
        }
        // It may have ended at this very moment.
        let _ = nix::sys::signal::kill(agent, Signal::SIGKILL);
        Test::until_gone(agent);
        let run = test.until_end(&id);
        assert_eq!(
            (&run["status"], &run["exit_code"], &run["attempt"]),
            (&"completed".into(), &0.into(), &1.into()),
            "{point}: {run}"
        );
        let sent = export_of(&run, "/a");
        assert_eq!((&sent["files"], &sent["bytes"]), (&3.into(), &120_000_000.into()), "{point}: {run}");
        let at = bucket.root.join("bkt").join(&prefix);
        let sizes: Vec<u64> =
            ["1", "2", "3"].iter().map(|name| std::fs::metadata(at.join(name)).unwrap().len()).collect();
        assert_eq!(sizes, [40_000_000; 3], "{point}");
        let artifact = test.vessl(["artifact", "read", &prefix, "--output", "json"]).ok().json();
        assert_eq!(artifact["versions"].as_array().unwrap().len(), 1, "{point}: {artifact}");
        let back = format!("back-{nth}");
        test.vessl(["artifact", "download", &prefix, "one", &back]).ok();
        assert_eq!(std::fs::read(test.path(&back)).unwrap(), std::fs::read(at.join("1")).unwrap(), "{point}");
        let log = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
        gone_on += usize::from(log.contains("the agent died over the exports"));
        assert_eq!(log.matches("completed: ").count(), 1, "{point}: {log}");
        test.until_removed(&id);
    }
    assert!(gone_on >= 3, "most kills come before the end: {gone_on}");
    let parts =
        files_below(&bucket.root).into_iter().filter(|path| path.to_string_lossy().contains(".upload"));
    assert_eq!(parts.collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new(), "no upload is left");
}

/// Kills a process as its first thread begins to wait for a whole file system to be on disk; `ready` is called when it cannot miss that.
fn kill_at_syncfs(process: Pid, ready: impl FnOnce()) {
    ptrace::seize(process, Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL).unwrap();
    ptrace::interrupt(process).unwrap();
    let next = || waitpid(process, Some(WaitPidFlag::__WALL)).unwrap();
    assert!(matches!(next(), WaitStatus::PtraceEvent(..)));
    ptrace::syscall(process, None).unwrap();
    ready();
    loop {
        let signal = match next() {
            WaitStatus::PtraceSyscall(_) => {
                let call = std::fs::read_to_string(format!("/proc/{process}/syscall")).unwrap();
                if call.split(' ').next() == Some(&libc::SYS_syncfs.to_string()) {
                    nix::sys::signal::kill(process, Signal::SIGKILL).unwrap();
                    // A killed one is gone for its parent when its tracer has heard of it.
                    while !matches!(next(), WaitStatus::Signaled(..)) {}
                    return;
                }
                None
            }
            WaitStatus::Stopped(_, signal) => Some(signal),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => panic!("it never waited for the disk"),
            _ => None,
        };
        ptrace::syscall(process, signal).unwrap();
    }
}

/// The longest wait between the commands and the exports is the one for the disk.
#[test]
fn a_run_whose_agent_dies_between_its_commands_and_its_exports_is_not_lost() {
    let ((test, gate), bucket) = (Gate::new(), Bucket::new());
    keys(&test);
    let export = format!("export:\n  /o:\n    {}\n", bucket.at("between", "keys"));
    let id = test.create(&gate.host_with(&export, &format!("echo mine > /o/a; echo once; {WAIT}")));
    test.until_log(&id, "once");
    let agent = test.agent(&id);
    kill_at_syncfs(agent, || gate.open());
    Test::until_gone(agent);
    let run = test.until_end(&id);
    assert_eq!((&run["status"], &run["attempt"]), (&"completed".into(), &1.into()), "{run}");
    assert_eq!(export_of(&run, "/o")["files"], 1, "{run}");
    assert_eq!(std::fs::read_to_string(bucket.root.join("bkt/between/a")).unwrap(), "mine\n");
    let logs = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(logs.stdout, "once\n", "the commands ran once");
    logs.says(&["the agent died over the exports; they go on with another one"]);
}

#[test]
fn how_many_links_became_what_they_lead_to_is_said_of_a_bucket_too() {
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    let links = "mkdir /x-l; echo 1 > /x-l/a; echo 2 > /x-l/b; ln -s /x-l/a /o/a; ln -s /x-l/b /o/b; echo 3 > /o/c; ln -s c /o/near";
    let body = format!("export:\n  /o:\n    {}\nrun: ['{links}']", bucket.at("links", "keys"));
    let id = test.wait(&file("links", &body)).ok().json()["id"].to_string();
    test.vessl(["run", "logs", &id]).ok().says(&["2 links that lead out of `/o` became what they lead to"]);
    assert_eq!(std::fs::read_to_string(bucket.root.join("bkt/links/b")).unwrap(), "2\n");
}

/// A bucket has no holes: they are sent as zeros, and come back as what the file is.
#[test]
fn a_file_of_holes_is_sent_to_a_bucket_as_zeros_and_comes_back() {
    const SIZE: u64 = 1_000_000_000;
    let (test, bucket) = (Test::new(), Bucket::new());
    keys(&test);
    let text = |prefix: &str, size: u64| {
        let export = format!("export:\n  /o:\n    {}", bucket.at(prefix, "keys"));
        file("sparse", &format!("{export}\nrun: ['truncate -s {size} /o/f; echo end >> /o/f']"))
    };
    let run = test.wait(&text("sparse", SIZE)).ok().json();
    assert_eq!(export_of(&run, "/o")["bytes"], SIZE + 4, "{run}");
    assert_eq!(std::fs::metadata(bucket.root.join("bkt/sparse/f")).unwrap().len(), SIZE + 4);
    let read = format!(
        "import:\n  /i:\n    {}\nrun: ['stat -c %s /i/f; tail -c 4 /i/f']",
        bucket.at("sparse", "keys")
    );
    let id = test.wait(&file("back", &read)).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, format!("{}\nend\n", SIZE + 4));
}

#[test]
fn an_ordinary_user_keeps_files_and_writes_them_again() {
    for world in [Test::ordinary, Test::with_ids] {
        let (test, bucket) = (world(), Bucket::new());
        wrong_key(&test);
        let body = format!(
            "export:\n  /out-r:\n    {}\nrun: ['echo 1 > /out-r/a; mkdir /out-r/sub; echo 2 > /out-r/sub/b; chown 5 /out-r/sub 2>/dev/null; echo 3 > /tmp/other']",
            bucket.at("later/x", "late")
        );
        let fail = || {
            let run = test.wait(&file("late", &body)).code(1).json();
            assert_eq!(run["reason_code"], "export_failed", "{run}");
            let id = run["id"].to_string();
            test.until_removed(&id);
            assert!(test.attempt(&id).join("kept").is_dir());
            id
        };
        let (first, second) = (fail(), fail());
        right_key(&test);
        test.vessl(["run", "export", &first, "--retry", "--wait"]).ok();
        assert_eq!(std::fs::read_to_string(bucket.root.join("bkt/later/x/sub/b")).unwrap(), "2\n");
        test.until_removed(&first);
        assert!(!test.attempt(&first).join("kept").exists());
        let directory = test.attempt(&second);
        test.vessl(["run", "delete", &second]).ok();
        assert!(!directory.exists());
    }
}
