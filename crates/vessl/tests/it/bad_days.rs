//! What commands, machines and disks do on bad days: the run ends in the right state, says why, and leaves nothing.
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::gate::{Gate, WAIT};
use crate::specs::{endless, head, host, item};
use crate::stores::{Bucket, keys};
use crate::test::{Test, until};

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
    let words = "out of memory: the kernel killed a process at the limit of ";
    has(&run.code(137).json(), "failed", &[words]);
}

#[test]
fn a_run_that_forks_without_end_hurts_only_itself() {
    let test = small();
    let other = test.create(&endless());
    test.until_log(&other, "ready");
    let bomb = test.wait(&host("f() { f | f & }; f; wait; sleep 1000").replace("64Mi", "90M"));
    assert_ne!(bomb.code, 0);
    // It had no bound but its memory.
    has(&bomb.json(), "failed", &["memory"]);
    has(&test.read(&other), "running", &[]);
    test.vessl(["run", "terminate", &other, "--grace", "0"]).ok();
    has(&test.until_end(&other), "terminated", &[]);
}

#[test]
fn a_run_whose_processes_never_stay_is_terminated() {
    let test = Test::new();
    // Each process lives only until the next one does: whoever kills one by one comes too late.
    let id = test.create(&host("trap '' TERM\nf() { echo again; f & }; f; sleep 1000"));
    test.until_log(&id, "again\nagain\nagain\n");
    test.vessl(["run", "terminate", &id, "--grace", "0"]).ok();
    has(&test.until_end(&id), "terminated", &[]);
}

#[test]
fn a_gigabyte_without_a_newline_arrives_and_takes_no_memory() {
    const SIZE: u64 = 1_000_000_000;
    let test = Test::new();
    let id =
        test.wait(&host(&format!("head -c {SIZE} /dev/zero | tr '\\0' x")).replace("250m", "1")).ok().json()
            ["id"]
            .to_string();
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        &format!("{} run logs {id} | tr -d x | wc -c; {0} run logs {id} | wc -c", test.program().display()),
    ]);
    let counted = test.start_command(shell).finish().ok().stdout;
    assert_eq!(counted.split_whitespace().collect::<Vec<_>>(), ["0", &SIZE.to_string()]);
    let tail = test.vessl(["run", "logs", &id, "--tail", "1", "--only", "system"]).ok();
    assert!(tail.bytes.len() < 10_000, "{}", tail.stdout);
    let status = std::fs::read_to_string(format!("/proc/{}/status", test.server())).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < 150_000, "the server's memory grew to {peak} kB");
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

/// Makes a `docker save` archive `image.tar` in `dir` of the tree `root` that the script makes there.
pub(crate) fn save(dir: &Path, root: &str, script: &str) {
    std::fs::create_dir_all(dir).unwrap();
    let script = format!(
        "{script} && mkdir image && tar -C {root} -cf image/layer.tar . && \
         sum=$(sha256sum image/layer.tar | cut -c1-64) && arch={} && \
         printf '{{\"architecture\":\"%s\",\"os\":\"linux\",\"config\":{{}},\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:%s\"]}}}}' $arch $sum > image/config.json && \
         printf '[{{\"Config\":\"config.json\",\"RepoTags\":[\"t:1\"],\"Layers\":[\"layer.tar\"]}}]' > image/manifest.json && \
         tar -C image -cf image.tar manifest.json config.json layer.tar",
        if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
    );
    assert!(Command::new("sh").args(["-ec", &script]).current_dir(dir).status().unwrap().success());
}

#[test]
fn an_image_without_a_shell_says_so() {
    let test = Test::new();
    let dir = test.path("layout");
    save(&dir, "root", "mkdir -p root/bin && cp $(command -v busybox || command -v true) root/bin/only");
    let pack = "gzip -k image.tar && zstd -q image.tar";
    assert!(Command::new("sh").args(["-ec", pack]).current_dir(&dir).status().unwrap().success());
    // As `docker save` writes it, and as people keep it.
    for name in ["image.tar", "image.tar.gz", "image.tar.zst"] {
        let yaml = format!("{}{}", head(&format!("oci://{}/{name}", dir.display())), item("echo no"));
        let run = test.wait(&yaml);
        assert_ne!(run.code, 0);
        has(&run.json(), "failed", &["shell"]);
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

/// A world whose data is on a disk of `size`, which goes with it.
pub(crate) fn on_disk(size: &str, work: impl FnOnce(&Test)) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mount(dir.path(), size);
    let test = Test::at(&disk.0.join("data"));
    work(&test);
    // The server goes before its disk.
    drop(test);
}

#[test]
fn a_disk_filled_by_an_export() {
    on_disk("24m", |test| {
        let export = format!("{}export: {{/o: vessl-artifact://}}\n", head("host://"));
        let run =
            test.wait(&format!("{export}{}", item("head -c 16000000 /dev/urandom > /o/x"))).code(1).json();
        has(&run, "failed", &["the export of `/o` failed", "disk is full"]);
        assert_eq!(run["exit_code"], 0, "the commands' own code is kept");
        assert_eq!(
            test.vessl(["run", "files", &run["id"].to_string(), "--output", "json"]).ok().json(),
            serde_json::json!([])
        );
        // The room that it took is free again when nobody wants its files any more.
        test.until_removed(&run["id"].to_string());
        test.vessl(["run", "export", &run["id"].to_string(), "--retry", "--wait"])
            .code(1)
            .prints(&["disk is full"]);
        test.until_removed(&run["id"].to_string());
        test.vessl(["run", "delete", &run["id"].to_string()]).ok();
        test.wait(&format!("{export}{}", item("head -c 4000000 /dev/urandom > /o/x"))).ok();
    });
}

#[test]
fn a_disk_filled_by_the_log() {
    on_disk("24m", |test| {
        let run = test.wait(&host("head -c 60000000 /dev/urandom\nexit 3")).code(3).json();
        has(&run, "failed", &["exit code 3"]);
        let id = run["id"].to_string();
        let lost = "of its output are lost: the log could not be written";
        has(&run, "failed", &[lost]);
        let said = test.vessl(["run", "logs", &id, "--only", "system"]).ok().stdout;
        assert!(said.contains("bytes of output are lost: the log could not be written"), "{said}");
        assert!(said.contains("failed: "), "the log has its end: {said}");
        test.vessl(["run", "delete", &id]).ok();
        test.wait(&host("true")).ok();
    });
}

#[test]
fn a_disk_that_was_full_for_long_is_used_again() {
    on_disk("24m", |test| {
        test.vessl(["whoami"]).ok();
        let fill = test.data().join("fill");
        let script = "dd if=/dev/zero of=\"$FILL\" bs=4k 2>/dev/null || true";
        let mut shell = Command::new("sh");
        assert!(shell.args(["-c", script]).env("FILL", &fill).status().unwrap().success());
        let mut refused = 0;
        // Enough words of the server about it that its own log does not fit any more either.
        for _ in 0..60 {
            let done = test.vessl_with(["run", "create", "-f", "-"], host("true").as_bytes());
            refused += usize::from(done.code == 5 && done.stderr.contains("disk is full"));
        }
        assert!(refused > 20, "only {refused} were refused because the disk is full");
        std::fs::remove_file(fill).unwrap();
        test.wait(&host("true")).ok();
    });
}

#[test]
fn a_disk_filled_by_the_commands() {
    on_disk("24m", |test| {
        let run = test.wait(&host("head -c 60000000 /dev/zero > /x || exit 9")).code(9).json();
        let id = run["id"].to_string();
        let said = test.vessl(["run", "logs", &id]).ok().stdout;
        assert!(said.contains("No space left on device"), "{said}");
        test.until_removed(&id);
        test.wait(&host("true")).ok();
    });
}

#[test]
fn a_run_that_filled_the_disk_can_be_ended_also_after_the_server_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::mount(dir.path(), "24m");
    let (test, gate) = Gate::of(Test::at(&disk.0.join("data")));
    for killed in [false, true] {
        let fill = "dd if=/dev/zero of=/x bs=4k 2>/dev/null";
        let id = test.create(&gate.host(&format!("{WAIT}\n{fill}\nsleep 1000")));
        test.until_status(&id, "running");
        gate.open();
        let free = || nix::sys::statvfs::statvfs(&test.data()).unwrap().blocks_available();
        until("the disk is full", || free() == 0);
        if killed {
            // The next one begins with the space that was set aside.
            test.kill_server();
        } else {
            let more = test.vessl_with(["run", "create", "-f", "-"], host("true").as_bytes());
            more.code(5).says(&["disk is full"]);
        }
        assert_eq!(test.read(&id)["status"], "running");
        test.vessl(["run", "terminate", &id, "--grace", "1"]).ok();
        let run = test.until_end(&id);
        has(&run, "terminated", &["terminated"]);
        test.vessl(["run", "delete", &id]).ok();
        test.wait(&host("true")).ok();
    }
    // The server goes before its disk.
    drop(test);
}

#[test]
fn a_disk_filled_by_an_import() {
    on_disk("24m", |test| {
        let dir = test.path("repository");
        crate::data::repository(&dir);
        let script = "head -c 20000000 /dev/urandom > big && git add big && git commit -q -m big";
        assert!(Command::new("sh").args(["-ec", script]).current_dir(&dir).status().unwrap().success());
        let import = format!(
            "{}import: {{/in/code: {{git: {{url: 'file://{}'}}}}}}\n",
            head("host://"),
            dir.display()
        );
        let run = test.wait(&format!("{import}{}", item("echo never"))).code(1).json();
        has(&run, "failed", &["/in/code", "disk is full"]);
        assert!(run["started_at"].is_null(), "{run}");
        test.until_removed(&run["id"].to_string());
        test.wait(&host("true")).ok();
    });
}

#[test]
fn a_disk_filled_by_an_import_from_a_bucket() {
    on_disk("24m", |test| {
        let bucket = Bucket::new();
        keys(test);
        let dir = bucket.root.join("bkt/big");
        std::fs::create_dir_all(&dir).unwrap();
        for name in ["one", "two", "three"] {
            std::fs::write(dir.join(name), vec![7; 10_000_000]).unwrap();
        }
        let import = format!("{}import:\n  /in/data:\n    {}\n", head("host://"), bucket.at("big", "keys"));
        let run = test.wait(&format!("{import}{}", item("echo never"))).code(1).json();
        has(&run, "failed", &["/in/data", "disk is full"]);
        assert!(run["started_at"].is_null(), "{run}");
        test.until_removed(&run["id"].to_string());
        // Nothing of it is kept, and what fits comes.
        assert_eq!(test.vessl(["cache", "list", "--output", "json"]).ok().json(), serde_json::json!([]));
        std::fs::remove_file(dir.join("one")).unwrap();
        test.wait(&format!("{import}{}", item("test $(cat /in/data/* | wc -c) = 20000000"))).ok();
    });
}

#[test]
fn a_disk_filled_by_an_upload() {
    on_disk("24m", |test| {
        test.vessl(["dataset", "create", "d"]).ok();
        test.file("big/file", vec![7; 30_000_000]);
        let mut small = vec![0; 6_000_000];
        small.iter_mut().zip(0_u32..).for_each(|(byte, n)| *byte = n.to_le_bytes()[1]);
        test.file("small/file", small);
        let from = |name: &str| test.path(name).join(".").display().to_string();
        test.vessl(["dataset", "upload", "d", &from("big"), "/"])
            .code(5)
            .says(&["the disk is full: nothing was stored", "make room"]);
        let dataset = test.vessl(["dataset", "read", "d", "--output", "json"]).ok().json();
        assert!(dataset["newest"].is_null(), "there is no half of a version: {dataset}");
        test.vessl(["storage", "create-volume", "v", "--storage-name", "vessl-storage"]).ok();
        let big = test.path("big/file").display().to_string();
        test.vessl(["storage", "copy-file", &big, "volume://vessl-storage/v/file"])
            .code(5)
            .says(&["the disk is full"]);
        let listed =
            test.vessl(["storage", "list-files", "volume://vessl-storage/v", "--output", "json"]).ok().json();
        assert_eq!(listed, serde_json::json!([]), "there is no half of a file");
        // The room that it took is free at once.
        test.vessl(["dataset", "upload", "d", &from("small"), "/"]).ok();
        test.wait(&host("true")).ok();
    });
}

#[test]
fn a_disk_filled_by_a_pull() {
    on_disk("24m", |test| {
        let dir = test.path("image");
        save(&dir, "root", "mkdir root && head -c 30000000 /dev/urandom > root/big");
        let reference = format!("oci://{}/image.tar", dir.display());
        let run = test.wait(&format!("{}{}", head(&reference), item("echo never"))).code(1).json();
        has(&run, "failed", &["no space left", "vessl image prune"]);
        test.until_removed(&run["id"].to_string());
        test.vessl(["image", "pull", &reference]).code(5).says(&["no space left", "vessl image prune"]);
        test.wait(&host("true")).ok();
    });
}
