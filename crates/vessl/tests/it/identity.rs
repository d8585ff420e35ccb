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
    test.vessl(["server", "restore", to]).ok().says(&["with 1 run"]);
    // What the backup knows is back, log and files and all; what is newer is on disk and not taken over.
    assert_eq!(test.vessl(["run", "logs", &first]).ok().stdout, "FIRST\n");
    test.vessl(["run", "download", &first, "/o", "back"]).ok();
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
    other.vessl(["run", "download", &id, "/o", "back"]).ok();
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
