//! Attempts that end by themselves.
use std::path::Path;
use std::process::Command;

use serde_json::json;
use vessl_core::plan::{EnvFrom, EnvPlan, GitParts, ImportPlan, ImportSource, MountFrom, MountPlan, Plan};
use vessl_core::record::{EventKind, Phase, Secrets};
use vessl_core::run::Status;
use vessl_data::log::Stream;

use crate::image::{Image, busybox, lone_program};
use crate::look;
use crate::plans::{export, host, image, secret};
use crate::rig::{Rig, text};

pub(crate) const CASES: &[crate::Case] = &[
    ("ends::a_run_leaves_its_record_and_nothing_else", a_run_leaves_its_record_and_nothing_else),
    ("ends::the_failing_item_gives_the_exit_code", the_failing_item_gives_the_exit_code),
    ("ends::a_signal_is_128_and_its_number", a_signal_is_128_and_its_number),
    ("ends::the_log_tells_of_an_item_before_its_output", the_log_tells_of_an_item_before_its_output),
    (
        "ends::what_runs_in_the_background_does_not_hold_the_end",
        what_runs_in_the_background_does_not_hold_the_end,
    ),
    ("ends::the_environment_has_three_layers", the_environment_has_three_layers),
    ("ends::the_images_user_and_directory_count", the_images_user_and_directory_count),
    ("ends::an_image_may_hold_one_program", an_image_may_hold_one_program),
    ("ends::what_an_image_lacks_is_named", what_an_image_lacks_is_named),
    ("ends::hostile_images_end_in_words", hostile_images_end_in_words),
    ("ends::commands_are_confined", commands_are_confined),
    ("ends::secrets_are_seen_by_the_commands_alone", secrets_are_seen_by_the_commands_alone),
    ("ends::a_long_path_is_no_obstacle", a_long_path_is_no_obstacle),
    ("ends::files_of_the_machine_in_an_export_are_said", files_of_the_machine_in_an_export_are_said),
    ("ends::a_failed_export_fails_the_run", a_failed_export_fails_the_run),
    ("ends::paths_of_the_machine_are_mounted_as_allowed", paths_of_the_machine_are_mounted_as_allowed),
];

fn a_run_leaves_its_record_and_nothing_else() {
    let mut rig = Rig::new(host(&["echo hello"]));
    let record = rig.run();
    assert_eq!((record.status, record.exit_code, record.oom), (Status::Completed, Some(0), false));
    assert_eq!(record.reason, "the command ended with exit code 0");
    assert_eq!(rig.phases(), [Phase::Starting, Phase::Running]);
    assert_eq!(look::log(&rig.dir), "hello\ncompleted: the command ended with exit code 0\n");
    assert!(look::is_finished(&rig.dir));
    let events = rig.events();
    assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(matches!(&events[0].what, EventKind::Started { unit, .. } if *unit == rig.plan.unit()));
    assert_eq!(record.started_at, Some(events[2].at));
    assert_eq!(events[3].what, EventKind::Item { n: 1, of: 1 });
}

fn files_of_the_machine_in_an_export_are_said() {
    let filled = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let plan = Plan { exports: vec![export(filled), export("/output")], ..host(&["echo x > /output/x"]) };
    let mut rig = Rig::new(plan);
    assert_eq!(rig.run().status, Status::Completed);
    let said = look::stream(&rig.dir, Stream::System);
    let words = format!("this machine has files at `{filled}`: the export will take them as well\n");
    assert!(said.contains(&words) && said.matches("this machine has files").count() == 1, "{said}");
}

fn the_failing_item_gives_the_exit_code() {
    let mut rig = Rig::new(host(&["echo one", "exit 7", "echo three"]));
    let record = rig.run();
    assert_eq!((record.status, record.exit_code), (Status::Failed, Some(7)));
    assert_eq!(record.reason, "item 2 of 3 ended with exit code 7; item 3 was not started");
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), "one\n");
}

fn a_signal_is_128_and_its_number() {
    let record = Rig::new(host(&["kill -9 $$"])).run();
    assert_eq!((record.status, record.exit_code), (Status::Failed, Some(137)));
    assert_eq!(record.reason, "the command ended with exit code 137 (SIGKILL)");
}

fn the_log_tells_of_an_item_before_its_output() {
    let commands: Vec<String> = (1..=20).map(|n| format!("echo output {n}")).collect();
    let mut rig = Rig::new(host(&commands.iter().map(String::as_str).collect::<Vec<_>>()));
    rig.run();
    let mut expected: Vec<String> =
        (1..=20).flat_map(|n| [format!("item {n} of 20"), format!("output {n}")]).collect();
    expected.push("completed: all 20 items ended with exit code 0\n".to_owned());
    assert_eq!(look::log(&rig.dir), expected.join("\n"));
}

fn what_runs_in_the_background_does_not_hold_the_end() {
    let mut rig = Rig::new(host(&["sleep 1000 & setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & echo over"]));
    let record = rig.run();
    assert_eq!((record.status, record.exit_code), (Status::Completed, Some(0)));
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), "over\n");
}

fn the_environment_has_three_layers() {
    let config = json!({ "Env": ["FROM_IMAGE=1", "BOTH=image", "PATH=/bin:/opt", "VESSL_RUN_NAME=no"] });
    let layout = tempfile::tempdir().unwrap();
    busybox(config).write(layout.path());
    let mut plan = image(layout.path(), &["env"]);
    let text =
        |key: &str, value: &str| EnvPlan { key: key.to_owned(), value: EnvFrom::Text(value.to_owned()) };
    plan.env = vec![text("BOTH", "plan"), text("EXACT", "1e-4"), text("LINES", "a\nb"), text("EMPTY", "")];
    let mut rig = Rig::new(plan);
    rig.run();
    let out = look::stream(&rig.dir, Stream::Stdout);
    for line in [
        "FROM_IMAGE=1\n",
        "BOTH=plan\n",
        "EXACT=1e-4\n",
        "LINES=a\nb\n",
        "EMPTY=\n",
        "PATH=/bin:/opt\n",
        "HOME=/root\n",
        "PYTHONUNBUFFERED=1\n",
        "VESSL_RUN_ID=369367189168\n",
        "VESSL_RUN_NAME=test\n",
    ] {
        assert!(out.contains(line), "no {line:?} in {out}");
    }
}

fn the_images_user_and_directory_count() {
    let config = json!({ "User": "ml", "WorkingDir": "/srv/nowhere/../made here" });
    let layout = tempfile::tempdir().unwrap();
    busybox(config).write(layout.path());
    let repository = layout.path().join("repository");
    repository_of(&repository, "f");
    let commands = "id -u; id -g; id -G; echo $HOME; pwd; echo mine > file; echo x > /output/y; echo again > /dev/stdout; \
                    echo more >> /code/f; echo new > /code/new; cat /code/.git/HEAD > /dev/null";
    let mut plan = image(layout.path(), &[commands]);
    plan.exports = vec![export("/output")];
    let url = format!("file://{}", repository.display());
    let source = ImportSource::Git { url, reference: None, credential: None, parts: GitParts::default() };
    plan.imports = vec![ImportPlan::new("/code", source)];
    let mut rig = Rig::new(plan);
    let record = rig.run();
    assert_eq!(record.status, Status::Completed, "{}", look::log(&rig.dir));
    let expected = "1000\n1001\n1001 44\n/home/ml\n/srv/made here\nagain\n";
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), expected);
    assert!(!look::log(&rig.dir).contains("copied"), "{}", look::log(&rig.dir));
    assert_eq!((record.exports.len(), record.exports[0].files), (1, 1), "{record:?}");
}

/// Makes a git repository that holds one file.
fn repository_of(dir: &Path, file: &str) {
    std::fs::create_dir(dir).unwrap();
    std::fs::write(dir.join(file), "").unwrap();
    let who = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"];
    for args in [&["init", "-q"][..], &["add", "."], &["commit", "-q", "-m", "one"]] {
        let done = Command::new("git")
            .args(who)
            .args(args)
            .current_dir(dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .status();
        assert!(done.unwrap().success(), "git {args:?}");
    }
}

fn an_image_may_hold_one_program() {
    let layout = tempfile::tempdir().unwrap();
    lone_program().write(layout.path());
    let mut rig = Rig::new(image(layout.path(), &[]));
    let record = rig.run();
    assert_eq!((record.status, record.exit_code), (Status::Completed, Some(0)), "{record:?}");
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), "alone at last\n");
    assert_eq!(record.reason, "the image's program ended with exit code 0");
}

fn what_an_image_lacks_is_named() {
    let check = |image_: Image<'_>, commands: &[&str], words: &str, exit_code: Option<i32>| {
        let layout = tempfile::tempdir().unwrap();
        image_.write(layout.path());
        let record = Rig::new(image(layout.path(), commands)).run();
        assert_eq!((record.status, record.exit_code), (Status::Failed, exit_code), "{record:?}");
        assert!(record.reason.contains(words), "{}", record.reason);
        assert_eq!(record.started_at, None);
    };
    check(lone_program(), &["true"], "no shell in the image: neither `/bin/bash` nor `/bin/sh`", Some(127));
    check(
        busybox(json!({ "User": "nobody" })),
        &["true"],
        "there is no user `nobody` in the image: its `/etc/passwd`",
        None,
    );
    check(busybox(json!({})), &[], "there is nothing to run", None);
    check(busybox(json!({ "Cmd": ["train"] })), &[], "no program `train` in the image", Some(127));
}

fn hostile_images_end_in_words() {
    let check = |files: &[(&'static str, u32, &str)], config: serde_json::Value, words: &str| {
        let layout = tempfile::tempdir().unwrap();
        let mut hostile = busybox(config);
        hostile.files.retain(|(path, ..)| !files.iter().any(|(other, ..)| other == path));
        hostile.files.extend(files.iter().map(|(path, mode, text)| (*path, *mode, text.as_bytes().to_vec())));
        hostile.write(layout.path());
        let mut rig = Rig::new(image(layout.path(), &["echo ran"]));
        let record = rig.run();
        if words.is_empty() {
            assert_eq!(record.status, Status::Completed, "{files:?}: {record:?}");
            assert_eq!(look::stream(&rig.dir, Stream::Stdout), "ran\n");
        } else {
            assert_eq!((record.status, record.started_at), (Status::Failed, None), "{files:?}: {record:?}");
            assert!(record.reason.contains(words), "{files:?} {words}: {}", record.reason);
        }
    };
    let ml = || json!({ "User": "ml" });
    check(&[("etc/passwd", 0o644, "->/dev/zero")], ml(), "`ml`");
    check(&[("etc/passwd", 0o644, "|")], ml(), "cannot read `/etc/passwd` of the image: it is not a file");
    check(&[("etc/passwd", 0o644, "->passwd")], ml(), "/etc/passwd");
    check(&[("etc/passwd", 0o644, "ml:x:4294967295:4294967295::/:/bin/sh\n")], ml(), "`ml`");
    check(&[("etc/passwd", 0o644, "ml:x:-1\nml::::::::\n\0\n:::\n")], ml(), "`ml`");
    check(&[], json!({ "User": "4294967295" }), "`4294967295`");
    check(&[], json!({ "User": "0:4294967295" }), "`4294967295`");
    check(&[("bin/sh", 0o755, "")], json!({}), "cannot run `/bin/sh`: Exec format error");
    check(&[("bin/sh", 0o755, "->/bin/sh")], json!({}), "cannot run `/bin/sh`: Too many symbolic links");
    check(&[("bin/sh", 0o644, "->/etc/passwd")], json!({}), "cannot run `/bin/sh`: Permission denied");
    check(&[("bin/sh/", 0o755, "")], json!({}), "`/bin/sh`");
    check(&[], json!({ "WorkingDir": "../../outside" }), "");
    check(&[("srv", 0o644, "->../../../../../tmp")], json!({ "WorkingDir": "/srv/deep" }), "");
    check(&[], json!({ "WorkingDir": "/bin/busybox" }), "/bin/busybox");
    check(&[("etc/resolv.conf", 0o644, "->../../../../../../etc/shadow")], json!({}), "");
    check(&[("etc/hosts/", 0o755, "")], json!({}), "/etc/hosts");
    check(&[("dev", 0o644, "->/proc"), ("proc", 0o644, "->/sys")], json!({}), "");
    check(&[("sys", 0o644, "")], json!({}), "the image has something other than a directory there");
    check(&[], json!({ "Env": ["=x", "NOVALUE", "LD_PRELOAD=/nothing"] }), "");
    check(&[], json!({ "Env": ["A=\u{0}"] }), "a NUL character, which no program can be given");
}

fn commands_are_confined() {
    let mut rig = Rig::new(host(&[]));
    let own = rig.data.path().display().to_string();
    let command = format!(
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; cat /proc/1/environ 2>/dev/null || echo closed; \
         ls -A '{own}' 2>/dev/null | wc -l; ls /proc/self/fd | wc -l; hostname; kill -0 {} 2>/dev/null || echo alone",
        std::process::id()
    );
    rig.plan.items = host(&[&command]).items;
    rig.write_plan();
    rig.run();
    let expected = "NoNewPrivs:\t1\nSeccomp:\t2\nclosed\n0\n4\nrun-369367189168\nalone\n";
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), expected);
}

fn secrets_are_seen_by_the_commands_alone() {
    let value = "s3cr3t-\u{e9}-value";
    let commands = "printf '%s' \"$TOKEN\" | cut -c1-5 | tr -d '\\n'; printf '%s' \"$TOKEN\" | cut -c6-; \
                    echo \"$TOKEN\" >&2; [ ${#TOKEN} -gt 10 ] && echo known; echo ${PIN}; exit 3";
    let mut plan = host(&[commands]);
    plan.env = vec![secret("TOKEN"), secret("PIN")];
    let mut rig = Rig::new(plan);
    let env = [("TOKEN", value), ("PIN", "123")];
    let env = env.map(|(key, value)| (key.to_owned(), value.into())).into();
    rig.start_with(&serde_json::to_vec(&Secrets { env, ..Secrets::default() }).unwrap());
    let record = rig.end();
    assert_eq!(record.exit_code, Some(3));
    let out = look::stream(&rig.dir, Stream::Stdout);
    assert_eq!(
        (out.as_str(), look::stream(&rig.dir, Stream::Stderr).as_str()),
        ("***\nknown\n123\n", "***\n")
    );
    let system = look::stream(&rig.dir, Stream::System);
    assert!(system.contains("the secret `PIN` has fewer than 4 characters"), "{system}");
    for file in ["events", "exit.json", "agent.log", "plan.json"] {
        assert!(!text(&rig.dir.join(file)).contains(value), "{file}");
    }

    let mut rig = Rig::new(rig.plan.clone());
    let record = rig.run();
    assert_eq!(record.reason, "the value of the secret variable `TOKEN` did not reach the agent");
}

fn a_long_path_is_no_obstacle() {
    let below = format!("runs/{}/{}", "d".repeat(120), "e".repeat(120));
    let mut rig = Rig::in_dir(host(&["echo deep; sleep 1000"]), &below);
    rig.start();
    rig.until_log("deep");
    rig.stop(5);
    assert_eq!(rig.end().status, Status::Terminated);
}

fn a_failed_export_fails_the_run() {
    let mut plan = host(&["echo 1 > /output/a"]);
    plan.exports = vec![export("/output")];
    let mut rig = Rig::new(plan);
    std::fs::write(rig.path("blobs"), "in the way").unwrap();
    let record = rig.run();
    assert_eq!((record.status, record.exit_code), (Status::Failed, Some(0)));
    assert!(record.reason.starts_with("the export of `/output` failed: "), "{}", record.reason);
    assert!(record.exports[0].error.is_some());
}

fn paths_of_the_machine_are_mounted_as_allowed() {
    let shared = tempfile::tempdir().unwrap();
    std::fs::write(shared.path().join("file"), "theirs\n").unwrap();
    let mount = |path: &str, readonly, roots: &[&str]| {
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        let source = MountFrom::Hostpath { path: shared.path().display().to_string(), roots };
        MountPlan { path: path.to_owned(), source, readonly }
    };
    let root = shared.path().to_str().unwrap();
    let mut plan = host(&["cat /ro/file; echo x > /ro/no || echo refused; echo ours > /rw/new"]);
    plan.mounts = vec![mount("/ro", true, &[root]), mount("/rw", false, &[root])];
    let mut rig = Rig::new(plan);
    let record = rig.run();
    assert_eq!(record.status, Status::Completed, "{}", look::log(&rig.dir));
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), "theirs\nrefused\n");
    assert_eq!(text(&shared.path().join("new")), "ours\n");
    assert!(!shared.path().join("no").exists());

    let mut plan = host(&["echo never"]);
    plan.mounts = vec![mount("/ro", true, &["/srv"])];
    let record = Rig::new(plan).run();
    assert_eq!((record.status, record.started_at), (Status::Failed, None));
    assert!(
        record.reason.contains("not below a directory that the administrator allowed"),
        "{}",
        record.reason
    );
}
