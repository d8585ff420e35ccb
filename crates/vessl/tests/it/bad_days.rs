//! What commands, machines and disks do on bad days: the run ends in the right state, says why, and leaves nothing.
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::specs::{endless, head, host, item};
use crate::test::Test;

/// A server with one small preset.
fn small() -> Test {
    let test = Test::new();
    let preset = "[[presets]]\nname = \"small\"\ncpu = \"1\"\nmemory = \"100M\"\n";
    test.file("../config/vessl/server.toml", format!("default_preset = \"small\"\n{preset}"));
    test
}

fn has(run: &Value, status: &str, words: &[&str]) {
    assert_eq!(run["status"], status, "{run}");
    for word in words {
        assert!(run["reason"].as_str().is_some_and(|reason| reason.contains(word)), "no `{word}` in {run}");
    }
}

#[test]
fn a_run_that_fills_its_memory_is_told_so() {
    let test = small();
    let run = test.wait(&host("python3 -c 'x = bytearray(300 * 1024 * 1024)'").replace("64Mi", "90M"));
    assert_ne!(run.code, 0);
    has(&run.json(), "failed", &["memory"]);
}

#[test]
fn a_run_that_forks_without_end_hurts_only_itself() {
    let test = small();
    let id = test.create(&host("echo ready\nf() { f | f & }; f; wait; sleep 1000").replace("64Mi", "90M"));
    test.until_log(&id, "ready");
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    let run = test.until_end(&id);
    assert!(matches!(run["status"].as_str(), Some("terminated" | "failed")), "{run}");
}

#[test]
fn hundreds_of_megabytes_without_a_newline_arrive() {
    let test = Test::new();
    let id = test.wait(&host("head -c 200000000 /dev/zero | tr '\\0' x")).ok().json()["id"].to_string();
    let log = test.vessl(["run", "logs", &id]).ok();
    assert_eq!(log.bytes.len(), 200_000_000);
    let tail = test.vessl(["run", "logs", &id, "--tail", "1", "--only", "stdout"]).ok();
    assert!(tail.bytes.len() <= 200_000_000);
}

#[test]
fn a_command_that_closes_its_output_still_ends_with_its_code() {
    let test = Test::new();
    let run = test.wait(&host("echo before; exec >&- 2>&-; sleep 0.2; exit 12")).code(12).json();
    assert_eq!(test.vessl(["run", "logs", &run["id"].to_string()]).ok().stdout, "before\n");
}

#[test]
fn a_daemon_that_is_left_behind_dies_with_the_run() {
    let test = Test::new();
    let run = test.wait(&host("setsid sleep 1000 >/dev/null 2>&1 < /dev/null &\necho started")).ok().json();
    assert_eq!(run["status"], "completed");
}

#[test]
fn a_daemon_that_keeps_the_output_open_does_not_hold_the_run() {
    let test = Test::new();
    test.wait(&host("setsid sleep 1000 &\necho started")).ok();
}

#[test]
fn an_image_without_a_shell_says_so() {
    let test = Test::new();
    let dir = test.path("layout");
    std::fs::create_dir_all(&dir).unwrap();
    // One file that is no shell, as a docker-save archive.
    let script = "mkdir -p root/bin image && cp $(command -v busybox || command -v true) root/bin/only && \
                  tar -C root -cf image/layer.tar . && sum=$(sha256sum image/layer.tar | cut -c1-64) && \
                  printf '{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}' $sum > image/config.json && \
                  printf '[{\"Config\":\"config.json\",\"RepoTags\":[\"t:1\"],\"Layers\":[\"layer.tar\"]}]' > image/manifest.json && \
                  tar -C image -cf image.tar manifest.json config.json layer.tar";
    assert!(Command::new("sh").args(["-ec", script]).current_dir(&dir).status().unwrap().success());
    let yaml = format!("{}{}", head(&format!("oci://{}/image.tar", dir.display())), item("echo no"));
    let run = test.wait(&yaml);
    assert_ne!(run.code, 0);
    has(&run.json(), "failed", &["shell"]);
}

#[test]
fn a_reboot_ends_the_run_with_proof() {
    let test = Test::new();
    let id = test.create(&endless());
    test.until_log(&id, "ready");
    let agent = test.agent(&id);
    test.kill_server();
    Test::kill(agent);
    // What the agent noted of the boot it started in is now of another one.
    let file = test.data().join(format!("runs/{id}/1/events"));
    let events = std::fs::read_to_string(&file).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(events.contains(boot.trim()));
    std::fs::write(&file, events.replace(boot.trim(), "00000000-0000-0000-0000-000000000000")).unwrap();
    has(&test.until_end(&id), "failed", &["started again"]);
}

#[test]
fn an_agent_killed_before_it_takes_the_run_changes_nothing() {
    let test = Test::new();
    // Many runs at once and a server that dies again and again: each runs exactly once.
    let ids: Vec<String> = (0..6).map(|_| test.create(&host("echo once"))).collect();
    for _ in 0..3 {
        test.kill_server();
        test.vessl(["run", "list"]).ok();
    }
    for id in ids {
        let run = test.until_end(&id);
        assert_eq!((run["status"].as_str(), run["attempt"].as_u64()), (Some("completed"), Some(1)), "{run}");
        assert_eq!(test.vessl(["run", "logs", &id]).ok().stdout, "once\n");
    }
}

/// A small file system that is gone with the test.
struct Disk<'t>(&'t Path);

impl<'t> Disk<'t> {
    fn mount(dir: &'t Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let options = format!("size={size},mode=0700");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "vessl-it"]).arg(dir).status();
        assert!(done.unwrap().success());
        Self(dir)
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("-l").arg(self.0).status().unwrap().success());
    }
}

#[test]
fn a_full_disk_is_named_and_the_run_ends() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mount(dir.path(), "24m");
    {
        let test = Test::at(&disk.0.join("data"));
        let export = format!("{}export: {{/o: vessl-artifact://}}\n", head("host://"));
        let yaml = format!("{export}{}", item("mkdir /o; head -c 16000000 /dev/urandom > /o/x"));
        let run = test.wait(&yaml);
        assert_ne!(run.code, 0);
        has(&run.json(), "failed", &["/o"]);
        let log = test.wait(&host("head -c 60000000 /dev/urandom; echo survived >&2"));
        assert!(log.json()["status"].as_str().is_some_and(|status| status != "running"));
    }
}
