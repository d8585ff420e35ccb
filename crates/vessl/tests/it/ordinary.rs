//! The same product for an ordinary user, in a user namespace.
use crate::specs::{head, host, item};
use crate::test::Test;

type World = fn() -> Test;

/// An ordinary user's worlds, and how many users exist in a container there.
const WORLDS: [(World, &str); 2] = [(Test::ordinary, "one"), (Test::with_ids, "many")];

#[test]
fn runs_have_exit_codes_logs_and_files() {
    for (world, users) in WORLDS {
        let test = world();
        let yaml = format!(
            "{}export: {{/o-u: vessl-artifact://}}\n{}",
            head("host://"),
            item("id -u; echo x > /o-u/x\nchown 5:5 /o-u/x 2>/dev/null && echo many || echo one\nexit 4")
        );
        let id = test.wait(&yaml).code(4).json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, format!("0\n{users}\n"));
        test.vessl(["run", "download", &id, "got", "--path", "/o-u"]).ok();
        assert_eq!(std::fs::read_to_string(test.path("got/x")).unwrap(), "x\n");
        let said = test.vessl(["doctor"]).ok().prints(&["overlayfs", "subordinate-ids"]).stdout;
        assert_eq!(said.contains("a container knows one user only"), users == "one", "{said}");
        // Whatever this host can do, the number of processes of a run is limited.
        let limits = said.lines().find(|line| line.contains(" limits ")).expect("limits are probed");
        let (held, free) =
            (limits.contains("of each run are limited"), limits.contains("not limited on this"));
        assert!(held || (free && limits.contains("number of processes)")), "{limits}");
        test.vessl(["run", "delete", &id]).ok();
    }
}

#[test]
fn what_ignores_the_grace_is_killed() {
    for (world, _) in WORLDS {
        let test = world();
        let command = "trap '' TERM\n(trap '' TERM; sleep 1000) &\necho ready\nwhile :; do sleep 0.1; done";
        let id = test.create(&host(command));
        test.until_log(&id, "ready");
        test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
        assert_eq!(test.until_end(&id)["status"], "terminated");
    }
}

#[test]
fn nothing_is_left_when_server_and_agent_are_killed() {
    for (world, _) in WORLDS {
        let test = world();
        // Where no group can be made, only init's end says that a container is empty, and that takes its time.
        let mark = format!("MARK={}", test.data().display());
        let script = "touch /mine; chown 5 /mine\nn=0; while [ $n -lt 1500 ]; do sleep 1000 & n=$((n+1)); done\n\
                      echo ready\nwait";
        let env = format!("env: {{MARK: '{}'}}\n", test.data().display());
        let id = test.create(&format!("{env}{}", host(script)));
        test.until_log(&id, "ready");
        assert!(Test::with_environment(&mark).len() > 100 && !test.mounts().is_empty());
        let agent = test.agent(&id);
        test.kill_server();
        Test::kill(agent);
        assert_eq!(test.until_end(&id)["status"], "failed");
        assert!(Test::with_environment(&mark).is_empty(), "the run is over and its commands go on");
        assert_eq!(test.mounts(), Vec::<String>::new());
    }
}

#[test]
fn the_home_of_an_ordinary_user_on_the_machines_root_is_their_own() {
    let test = Test::ordinary();
    let run = test
        .wait(&host("mkdir -p ~/.cache/x && echo yes > ~/.cache/x/y && cat ~/.cache/x/y && echo $HOME"))
        .ok();
    let log = test.vessl(["run", "logs", &run.json()["id"].to_string(), "--only", "stdout"]).ok().stdout;
    assert!(log.starts_with("yes\n") && !log.contains("/root\n"), "{log}");
    assert!(!test.path("../home/.cache/x").exists(), "it was written to the machine");
}
