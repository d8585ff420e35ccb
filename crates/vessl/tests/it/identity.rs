//! No run takes over what another run left: after a lost database, a restored backup, a directory in the way.
use crate::specs::{head, host, item};
use crate::test::Test;

fn exporting(text: &str) -> String {
    format!(
        "{}export: {{/o: vessl-artifact://}}\n{}",
        head("host://"),
        item(&format!("echo {text}\necho {text} > /o/x"))
    )
}

#[test]
fn a_directory_that_is_in_the_way_is_moved_aside_and_named() {
    let test = Test::new();
    let first = test.wait(&exporting("OLD")).ok().json()["id"].as_u64().unwrap();
    let (old, id) = (first.to_string(), (first + 1).to_string());
    test.until_removed(&old);
    // The whole record of a run that ended well, where the next run will have its own.
    let run = test.data().join("runs").join(&id);
    std::fs::create_dir(&run).unwrap();
    let name = test.attempt(&old).file_name().unwrap().to_owned();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(test.attempt(&old)).arg(run.join(&name)).status();
    assert!(copied.unwrap().success());
    let done = test.wait(&host("echo NEW; exit 3")).code(3).json();
    assert_eq!((done["id"].as_u64(), &done["status"]), (Some(first + 1), &"failed".into()), "{done}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "NEW\n");
    test.vessl(["run", "files", &id]).ok().says(&["exported no files"]);
    let aside = test.data().join("set-aside").join(format!("{id}-{}", name.to_str().unwrap()));
    assert!(aside.join("exit.json").exists(), "it is there as it was");
    let events = test.vessl(["run", "read", &id, "--output", "json"]).ok().json();
    assert_eq!(events["exit_code"], 3);
    let log = std::fs::read_to_string(test.data().join("server.log")).unwrap();
    assert!(log.contains(aside.to_str().unwrap()), "{log}");
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

#[test]
fn a_lost_database_is_named_and_comes_back_from_a_backup_that_was_taken_while_a_server_worked() {
    let test = Test::new();
    let first = test.wait(&exporting("FIRST")).ok().json()["id"].to_string();
    test.vessl_with(["secret", "create", "S"], b"canary-161803").ok();
    let backup = test.path("backup");
    let to = backup.to_str().unwrap();
    test.vessl(["server", "backup", to]).ok().says(&["1 run"]);
    test.vessl(["server", "backup", to]).code(2).says(&["is there already"]);
    let later = test.wait(&exporting("LATER")).ok().json()["id"].to_string();
    let newest = test.wait(&exporting("NEWEST")).ok().json()["id"].to_string();
    test.vessl(["server", "restore", to]).code(1).says(&["another server", "vessl server stop"]);
    test.vessl(["server", "stop"]).ok();
    for file in ["vessl.db", "vessl.db-wal", "vessl.db-shm"] {
        let _ = std::fs::remove_file(test.data().join(file));
    }
    test.vessl(["run", "list"]).code(4).says(&["is empty, but", "3 runs", "vessl server restore"]);
    // A backup of nothing would take the place of a good one.
    test.vessl(["server", "backup", test.path("worthless").to_str().unwrap()]).code(2).says(&["it was lost"]);
    test.vessl(["server", "restore", to]).ok().says(&["with 1 run"]);
    // What the backup knows is back, log and files and all; what is newer is on disk and not taken over.
    assert_eq!(test.vessl(["run", "logs", &first]).ok().stdout, "FIRST\n");
    test.vessl(["run", "download", &first, "back", "--path", "/o"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("back/x")).unwrap(), "FIRST\n");
    test.vessl(["run", "read", &later]).code(5);
    let done = test.wait(&host("echo NEW; exit 3")).code(3).json();
    let id = done["id"].to_string();
    assert!(id.parse::<u64>().unwrap() > newest.parse().unwrap(), "{id} {newest}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "NEW\n");
    let with_secret = format!("{}env: {{S: {{secret: true}}}}\n{}", head("host://"), item("echo ${#S}"));
    let run = test.wait(&with_secret).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &run]).ok().stdout, "13\n", "the key came back too");
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

#[test]
fn a_backup_is_enough_for_another_machine() {
    let (test, other) = (Test::new(), Test::new());
    let id = test.wait(&exporting("MOVED")).ok().json()["id"].to_string();
    let to = test.path("backup");
    test.vessl(["server", "stop"]).ok();
    test.vessl(["server", "backup", to.to_str().unwrap()]).ok();
    other.vessl(["server", "restore", to.to_str().unwrap(), "--output", "json"]).ok();
    assert_eq!(other.vessl(["run", "logs", &id]).ok().stdout, "MOVED\n");
    other.vessl(["run", "download", &id, "back", "--path", "/o"]).ok();
    assert_eq!(std::fs::read_to_string(other.path("back/x")).unwrap(), "MOVED\n");
    for wrong in [test.data(), test.path("nothing")] {
        other
            .vessl(["server", "restore", wrong.to_str().unwrap()])
            .code(2)
            .says(&["is no backup of a server"]);
    }
    other
        .vessl(["server", "backup", other.data().join("b").to_str().unwrap()])
        .code(2)
        .says(&["to another one"]);
    Test::new().vessl(["server", "backup", "/tmp/never"]).code(2).says(&["is no server's data directory"]);
}

/// A world with a run that exported `FIRST`, and its backup.
fn saved() -> (Test, String, std::path::PathBuf) {
    let test = Test::new();
    let id = test.wait(&exporting("FIRST")).ok().json()["id"].to_string();
    test.until_removed(&id);
    let backup = test.path("backup");
    test.vessl(["server", "backup", backup.to_str().unwrap()]).ok();
    (test, id, backup)
}

#[test]
fn a_backup_is_its_owners_alone_and_no_run_sees_it() {
    use std::os::unix::fs::PermissionsExt;
    let (test, _, backup) = saved();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&backup), 0o700);
    for file in ["vessl.db", "token", "secret.key", "backup.json"].map(|name| backup.join(name)) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    let beside = test.file("beside", "to be seen\n");
    let look = format!("cat {1}; ls -A {0}; cat {0}/token", backup.display(), beside.display());
    let id = test.wait(&host(&look)).code(1).json()["id"].to_string();
    let said = test.vessl(["run", "logs", &id]).ok().stdout;
    let token = std::fs::read_to_string(backup.join("token")).unwrap();
    assert!(said.contains("to be seen"), "the run sees the machine: {said}");
    assert!(!said.contains(token.trim()) && !said.contains("vessl.db"), "{said}");
    // Also where a moved backup was brought back.
    test.until_removed(&id);
    let moved = test.path("moved");
    std::fs::rename(&backup, &moved).unwrap();
    test.vessl(["server", "stop"]).ok();
    test.vessl(["server", "restore", moved.to_str().unwrap()]).ok();
    let look = format!("cat {1}; cat {0}/token", moved.display(), beside.display());
    let id = test.wait(&host(&look)).code(1).json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout, "to be seen\n");
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

#[test]
fn a_restore_brings_back_what_is_missing_or_cut() {
    let (test, id, backup) = saved();
    test.vessl(["server", "stop"]).ok();
    let attempt = test.attempt(&id);
    let log = std::fs::read_dir(attempt.join("log")).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(attempt.join("exit.json")).unwrap();
    std::fs::File::options().write(true).open(&log).unwrap().set_len(10).unwrap();
    // As one leaves it that was killed in the middle.
    std::fs::write(test.data().join("restoring"), backup.to_str().unwrap()).unwrap();
    test.vessl(["run", "list"]).code(4).says(&["was cut off", "vessl server restore"]);
    test.vessl(["server", "restore", backup.to_str().unwrap()]).ok().says(&["2 records"]);
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "FIRST\n");
    assert!(attempt.join("exit.json").exists());
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

#[test]
fn a_restore_waits_for_runs_that_the_backup_does_not_know() {
    let (test, _, backup) = saved();
    let id = test.create(&host("echo ready; sleep 1000"));
    test.until_log(&id, "ready");
    test.vessl(["server", "stop"]).ok();
    let to = backup.to_str().unwrap();
    let agent = test.agent(&id);
    let kill = format!("`kill {agent}` ends it");
    test.vessl(["server", "restore", to]).code(2).says(&[
        &format!("run {id} still works"),
        "terminate it",
        &kill,
    ]);
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    test.until_end(&id);
    test.until_removed(&id);
    test.vessl(["server", "stop"]).ok();
    test.vessl(["server", "restore", to]).ok();
    std::fs::remove_dir_all(test.data().join("set-aside")).unwrap();
}

/// No server starts there that could end the run.
#[test]
fn a_lost_database_beside_a_run_that_works_can_be_brought_back() {
    let (test, first, backup) = saved();
    let id = test.create(&host("echo ready; sleep 1000"));
    test.until_log(&id, "ready");
    test.vessl(["server", "stop"]).ok();
    for file in ["vessl.db", "vessl.db-wal", "vessl.db-shm"] {
        let _ = std::fs::remove_file(test.data().join(file));
    }
    test.vessl(["whoami"]).code(4).says(&["is empty", "restore"]);
    let agent = test.agent(&id);
    let to = backup.to_str().unwrap();
    test.vessl(["server", "restore", to]).code(2).says(&[&format!("`kill {agent}`")]);
    nix::sys::signal::kill(agent, nix::sys::signal::Signal::SIGTERM).unwrap();
    Test::until_gone(agent);
    test.vessl(["server", "restore", to]).ok();
    assert_eq!(test.vessl(["run", "logs", &first]).ok().stdout, "FIRST\n");
    let _ = std::fs::remove_dir_all(test.data().join("set-aside"));
}

#[test]
fn a_damaged_backup_is_none() {
    let (test, id, backup) = saved();
    test.vessl(["server", "stop"]).ok();
    let refused = |why: &str| {
        test.vessl(["server", "restore", backup.to_str().unwrap()]).code(2).says(&[why]);
    };
    let shard = std::fs::read_dir(backup.join("blobs")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&shard, backup.join("away")).unwrap();
    refused("exported files: it is not whole any more");
    std::fs::rename(backup.join("away"), &shard).unwrap();
    std::fs::rename(backup.join("runs").join(&id), backup.join("away")).unwrap();
    refused("attempts: it is not whole any more");
    std::fs::rename(backup.join("away"), backup.join("runs").join(&id)).unwrap();
    let database = std::fs::File::options().write(true).open(backup.join("vessl.db")).unwrap();
    let size = database.metadata().unwrap().len();
    database.set_len(size / 2).unwrap();
    refused("its database is damaged");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "FIRST\n", "nothing was touched");
}
