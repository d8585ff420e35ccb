//! The server of this machine: started by whoever comes first, stopped, killed, started again.
use crate::gate::{Gate, WAIT};
use crate::specs::{endless, host};
use crate::test::Test;

#[test]
fn it_starts_says_so_once_and_stops() {
    let test = Test::new();
    test.vessl(["server", "status"]).code(4).prints(&["not running"]);
    assert!(!test.data().exists());
    test.vessl(["run", "list"]).ok().says(&["started a server in the background", "vessl server stop"]);
    let again = test.vessl(["run", "list", "--output", "json"]).ok();
    assert_eq!(again.stderr, "");
    let status = test.vessl(["server", "status", "--output", "json"]).ok().json();
    assert_eq!(
        (status["running"].as_bool(), status["version"].as_str()),
        (Some(true), Some(env!("CARGO_PKG_VERSION")))
    );
    test.vessl(["server", "stop"]).ok().says(&["stopped the server"]);
    test.vessl(["server", "stop"]).ok().says(&["no server was running"]);
    test.vessl(["server", "status"]).code(4);
}

#[test]
fn a_race_of_clients_ends_with_one_server() {
    let test = Test::new();
    let clients: Vec<_> = (0..8).map(|_| test.start(["whoami", "--output", "json"])).collect();
    let done: Vec<_> = clients.into_iter().map(|client| client.finish().ok()).collect();
    let instances: std::collections::BTreeSet<String> =
        done.iter().map(|done| done.json()["instance"].to_string()).collect();
    assert_eq!(instances.len(), 1);
    let started = done.iter().filter(|done| done.stderr.contains("started a server")).count();
    assert_eq!(started, 1);
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let first = test.server();
    let second = test.vessl(["server", "run"]);
    assert_ne!(second.code, 0);
    second.says(&[&test.data().display().to_string(), &format!("another server (process {first})")]);
    assert_eq!(test.server(), first);
    test.wait(&host("exit 3")).code(3);
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let listen = Test::new().env("VESSL_SERVER_LISTEN", "not an address");
    listen.vessl(["whoami"]).code(4).says(&[
        "error: the server did not start: `VESSL_SERVER_LISTEN`: the configuration's `listen` is wrong",
        "server.log",
    ]);
    let test = Test::new();
    let check = |text: &str, place: &str, why: &str| {
        let file = test.file("../config/vessl/server.toml", text);
        let reason = format!("config/vessl/server.toml{place}");
        let done = test.vessl(["whoami"]).code(4);
        let done = done.says(&["error: the server did not start: ", &reason, why, "server.log"]);
        assert_eq!(done.stderr.matches("error: ").count(), 1, "{}", done.stderr);
        let printed = test.vessl(["server", "run", "--print-config"]);
        assert_eq!((printed.code, printed.stdout.as_str()), (2, ""), "{text}");
        printed.says(&["error: ", &reason, why]);
        std::fs::remove_file(file).unwrap();
    };
    check(
        "[[presets]]\nname = \"tiny\"\nmemory = \"1G\"\ncpu = \"5OOm\"\n",
        ":4:1`: ",
        "`presets[0].cpu` is wrong: ",
    );
    check("grace = \"soon\"\n", ":1:1`: ", "`grace` is wrong: ");
    check("log = \"\"\nlisten = \"0.0.0.0:7300\"\n", ":2:1`: ", "`0.0.0.0:7300` is not a loopback address");
    check("hostpath_roots = [\"srv\"]\n", ":1:1`: ", "`srv` is not an absolute path");
    check("default_preset = \"huge\"\n", ":1:1`: ", "there is no preset `huge`");
    check("hostpath_root = []\n", ":1:1` ", "unknown key `hostpath_root`: did you mean `hostpath_roots`?");
    check("\nthreads = \"x\"\n", ":2:11` ", "is wrong: `threads`: invalid type");
}

#[test]
fn settings_are_printed_with_their_documentation() {
    let test = Test::new().env("VESSL_SERVER_THREADS", "3");
    test.vessl(["server", "run", "--print-config"]).ok().prints(&["threads = 3", "# "]);
}

#[test]
fn a_stopped_server_leaves_runs_running() {
    let test = Test::new();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    test.vessl(["server", "stop"]).ok();
    assert!(std::path::Path::new(&format!("/proc/{}", test.agent(&id))).exists(), "the agent is gone");
    let run = test.read(&id);
    assert_eq!(run["status"], "running");
    test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
    assert_eq!(test.until_end(&id)["status"], "terminated");
}

#[test]
fn killed_while_a_run_runs_and_the_run_ends_meanwhile() {
    let (test, gate) = Gate::new();
    let id = test.create(&gate.host(&format!("echo ready\n{WAIT}\necho alone\nexit 7")));
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    test.kill_server();
    gate.open();
    Test::until_gone(agent);
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["exit_code"].as_i64()), (Some("failed"), Some(7)), "{run}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "ready\nalone\n");
}

#[test]
fn killed_at_once_after_the_submit() {
    let test = Test::new();
    let id = test.create(&host("echo done"));
    test.kill_server();
    let run = test.until_end(&id);
    assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(1)), "{run}");
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "done\n");
}

#[test]
fn killed_while_a_run_is_queued() {
    let test = Test::new();
    let nodes = test.vessl(["cluster", "list-nodes", "local", "--output", "json"]).ok().json();
    let all = format!("{}m", nodes[0]["cpu_milli"]);
    let first = test.create(&endless().replace("250m", &all));
    test.until_log(&first, "ready");
    let second = test.create(&host("echo after").replace("250m", &all));
    test.kill_server();
    assert_eq!(test.read(&second)["status"], "queued");
    test.vessl(["run", "terminate", &first, "--grace", "0"]).ok();
    assert_eq!(test.until_end(&second)["status"], "completed");
    test.until_end(&first);
}

#[test]
fn killed_after_the_end() {
    let test = Test::new();
    let id = test.wait(&host("exit 9")).code(9).json()["id"].to_string();
    let before = test.read(&id);
    test.kill_server();
    assert_eq!(test.read(&id), before);
}

#[test]
fn a_watcher_survives_the_death_of_the_server() {
    let (test, gate) = Gate::new();
    test.file("run.yaml", gate.host(&format!("echo ready\n{WAIT}\necho end; exit 5")));
    let mut live = test.start(["run", "create", "-f", "run.yaml", "--strict", "--watch"]);
    live.until("ready");
    test.kill_server();
    gate.open();
    let done = live.finish().code(5);
    assert_eq!(done.stdout, "ready\nend\n");
}

#[test]
fn a_server_that_is_started_again_has_the_settings_of_the_last_one() {
    let test = Test::new();
    let file = test.file("fence.toml", "allow_host_image = false\n");
    let mut live = test.start(["server", "run", "--config", file.to_str().unwrap()]);
    live.until("listening");
    test.vessl(["server", "stop"]).ok();
    live.finish().ok();
    let refused = |test: &Test| {
        test.file("run.yaml", host("true"));
        test.vessl(["run", "create", "-f", "run.yaml"]).code(3).says(&["not-allowed"]);
    };
    refused(&test);
    test.kill_server();
    refused(&test);
    // Without the file there is no server, rather than one with other rules.
    test.vessl(["server", "stop"]).ok();
    std::fs::rename(&file, test.path("away.toml")).unwrap();
    test.vessl(["run", "list"]).code(4).says(&["fence.toml"]);
}

#[test]
fn a_watcher_waits_for_a_server_that_was_stopped_on_purpose() {
    let (test, gate) = Gate::new();
    test.file("run.yaml", gate.host(&format!("echo ready\n{WAIT}\necho end; exit 5")));
    let mut live = test.start(["run", "create", "-f", "run.yaml", "--strict", "--watch"]);
    live.until("ready");
    test.vessl(["server", "stop"]).ok();
    live.until("waiting for a server to start again");
    assert!(!test.data().join("server.json").exists(), "nobody has started one");
    gate.open();
    test.vessl(["whoami"]).ok();
    assert_eq!(live.finish().code(5).stdout, "ready\nend\n");
}

#[test]
fn a_server_on_a_unix_socket_works_the_same() {
    let test = Test::new();
    let socket = test.path("s.sock").display().to_string();
    let test = test.env("VESSL_SERVER_LISTEN", &format!("unix:{socket}"));
    test.vessl(["whoami"]).ok().says(&["started a server"]);
    assert_eq!(test.wait(&host("exit 3")).code, 3);
    let token = std::fs::read_to_string(test.data().join("token")).unwrap();
    let test = test.env("VESSL_TOKEN", token.trim());
    test.vessl(["--server", &format!("unix://{socket}"), "run", "list"]).ok().prints(&["failed"]);
}

#[test]
fn a_named_server_wants_its_token() {
    let test = Test::new().env("VESSL_SERVER_LISTEN", "127.0.0.1:0");
    test.vessl(["whoami"]).ok();
    let url =
        test.vessl(["server", "status", "--output", "json"]).ok().json()["url"].as_str().unwrap().to_owned();
    let step = format!("`vessl configure server {url} < token`");
    test.vessl(["--server", &url, "whoami"]).code(5).says(&[
        "the file `token`",
        "`vessl server status`",
        &step,
    ]);
    let token = std::fs::read(test.data().join("token")).unwrap();
    test.vessl_with(["configure", "server", &url], &token).ok();
    test.vessl(["whoami"]).ok();
    let wrong = test.env("VESSL_TOKEN", "wrong");
    wrong.vessl(["whoami"]).code(5).says(&["token"]);
    // The help says what is so: it is no token of this machine's own server.
    wrong.vessl(["configure", "reset"]).ok();
    wrong.vessl(["whoami"]).ok();
    for (args, words) in [
        (vec!["--help"], "this machine's has its own"),
        (vec!["configure", "--help"], "A token counts only for a server that is named there"),
    ] {
        let help = wrong.vessl(args).ok().stdout;
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{help}");
    }
    wrong.vessl_with(["configure", "server", &url], &token).ok();
    // The token of the settings is for the server of the settings.
    let other = wrong.env("VESSL_TOKEN", "");
    other.vessl(["--server", &url.replace("127.0.0.1", "localhost"), "whoami"]).code(5).says(&["token"]);
}

#[test]
fn a_server_whose_announcement_is_lost_can_be_stopped() {
    let test = Test::new();
    let file = test.data().join("server.json");
    for harm in ["", "garbage"] {
        test.vessl(["whoami"]).ok();
        let server = test.server();
        std::fs::remove_file(&file).unwrap();
        if !harm.is_empty() {
            std::fs::write(&file, harm).unwrap();
        }
        test.vessl(["server", "status"]).code(4).says(&["`server.json` is lost", "vessl server stop"]);
        let stopped = test.vessl(["server", "stop", "--output", "json"]).ok().json();
        assert_eq!(stopped["stopped"], server.as_raw(), "{stopped}");
    }
    test.vessl(["whoami"]).ok();
}

#[test]
fn another_version_of_the_server_is_mentioned() {
    let test = Test::new();
    test.vessl(["whoami"]).ok();
    let file = test.data().join("server.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(env!("CARGO_PKG_VERSION"), "0.0.7")).unwrap();
    test.vessl(["whoami"]).ok().says(&["0.0.7", "vessl server stop"]);
}

#[test]
fn the_log_of_a_run_that_does_not_exist() {
    let test = Test::new();
    for args in
        [["run", "logs", "7"], ["run", "files", "7"], ["run", "explain", "7"], ["run", "download", "7"]]
    {
        test.vessl(args).code(5).says(&["`7`"]);
    }
    test.vessl(["run", "logs", "-f", "7"]).code(5).says(&["`7`"]);
}

#[test]
fn the_server_keeps_nothing_of_its_caller_open() {
    let test = Test::new();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &format!("{} whoami 9>&1 >/dev/null 2>/dev/null", env!("CARGO_BIN_EXE_vessl"))]);
    // The output ends with the client, though the server goes on.
    test.start_command(shell).finish().ok();
    test.vessl(["server", "status"]).ok();
}
