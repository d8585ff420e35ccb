//! The same product for an ordinary user, in a user namespace.
use crate::specs::{endless, head, host, item};
use crate::test::Test;

#[test]
fn runs_have_exit_codes_logs_and_files() {
    let test = Test::ordinary();
    let id = {
        let yaml = format!(
            "{}export: {{/o-u: vessl-artifact://}}\n{}",
            head("host://"),
            item("id -u; mkdir -p /o-u; echo x > /o-u/x; exit 4")
        );
        test.wait(&yaml).code(4).json()["id"].to_string()
    };
    assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "0\n");
    test.vessl(["run", "download", &id, "/o-u", "got"]).ok();
    assert_eq!(std::fs::read_to_string(test.path("got/x")).unwrap(), "x\n");
    test.vessl(["doctor"]).ok().prints(&["overlayfs"]);
}

#[test]
fn what_ignores_the_grace_is_killed() {
    let test = Test::ordinary();
    let id = test
        .create(&host("trap '' TERM\n(trap '' TERM; sleep 1000) &\necho ready\nwhile :; do sleep 0.1; done"));
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    assert_eq!(test.until_end(&id)["status"], "terminated");
}

#[test]
fn nothing_is_left_when_server_and_agent_are_killed() {
    let test = Test::ordinary();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    test.kill_server();
    Test::kill(agent);
    assert_eq!(test.until_end(&id)["status"], "failed");
}
