//! A run depends on its file and on the settings of the server, not on who started the server, and from where.
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::bad_days::save;
use crate::specs::{head, host, item};
use crate::test::Test;

/// Everything that a process inherits and that a run could notice.
const FACTS: &str = r"ulimit -S -a; ulimit -H -a; umask
cat /proc/self/timerslack_ns /proc/self/personality
ionice; chrt -p $$ | sed 's/.* //'; nice
grep -E '^(Cpus_allowed|Mems_allowed|Sig(Blk|Ign)|THP_enabled)' /proc/self/status
ps -o tty= -p $$; env | grep -v '^VESSL_RUN_ID=\|^HOSTNAME=\|^HOME=' | sort
nproc";

/// Starts the client, and with it the server, with everything set that can be; `$1` are the limits.
const ODD: &str = r#"trap '' HUP USR1 TERM
umask 077
eval "$1"
export ODD=1 MALLOC_ARENA_MAX=1 PYTHONUNBUFFERED=
echo 12345 > /proc/self/timerslack_ns
program=$2; shift 2
exec ionice -c 3 chrt -b 0 taskset 1 setarch -R $program run create -f run.yaml --wait --output json"#;

fn facts(test: &Test, id: &serde_json::Value) -> String {
    test.vessl(["run", "logs", &id.to_string(), "--only", "stdout"]).ok().stdout
}

fn check(make: fn() -> Test, limits: &str) {
    let plain = make();
    let plain = facts(&plain, &plain.wait(&host(FACTS)).ok().json()["id"]);
    let test = make();
    test.file("run.yaml", host(FACTS));
    let mut command = Command::new("sh");
    command.args(["-c", ODD, "sh", limits]).arg(test.program());
    test.as_its_user(&mut command);
    let done = test.start_command(command).finish().ok();
    assert_eq!(facts(&test, &done.json()["id"]), plain);
    assert!(plain.contains("\n50000\n00000000\n"), "{plain}");
}

#[test]
fn a_run_has_the_same_limits_whoever_started_the_server() {
    // A root that cannot raise a hard limit again has the soft ones taken back alone.
    let limits = "if (ulimit -n 299 && ulimit -n 300) 2>/dev/null; then how=; else how=S; fi
        for limit in 'n 300' 's 1024' 'l 64' 'c 1000'; do ulimit -$how$limit; done; renice -n 7 $$ >/dev/null";
    check(Test::new, limits);
}

#[test]
fn what_an_ordinary_user_can_take_back_is_taken_back() {
    // Nobody but root raises a hard limit or a priority again.
    check(Test::ordinary, "ulimit -Sn 300; ulimit -Ss 1024");
}

#[test]
fn every_user_of_a_container_can_open_its_output() {
    let test = Test::new();
    let other = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c";
    let script = format!("{other} 'echo out > /dev/stdout; echo err > /dev/stderr'");
    let id = test.wait(&host(&script)).ok().json()["id"].to_string();
    assert_eq!(test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout, "out\n");
    assert_eq!(test.vessl(["run", "logs", &id, "--only", "stderr"]).ok().stdout, "err\n");
}

#[test]
fn a_run_of_whole_cores_sees_so_many() {
    for (test, has_cpuset) in [(Test::new(), nix::unistd::geteuid().is_root()), (Test::ordinary(), false)] {
        let script = "nproc; python3 -c 'import os; print(len(os.sched_getaffinity(0)))'\n\
                      python3 -c 'import os; os.sched_setaffinity(0, range(64)); print(len(os.sched_getaffinity(0)))'";
        let yaml = host(script).replace("250m", "'1'");
        let id = test.wait(&yaml).ok().json()["id"].to_string();
        let said = test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout;
        // Where there is a group with a cpuset, it cannot be left.
        let expected = if has_cpuset { "1\n1\n1\n" } else { "1\n1\n" };
        assert!(said.starts_with(expected), "{said}");
    }
}

/// Says as whom it runs.
const WHO: &str = "#include <stdio.h>\n#include <unistd.h>\nint main(void) { printf(\"%d\\n\", geteuid()); }";

#[test]
fn set_user_id_programs_of_an_image_work_unless_they_are_forbidden() {
    let check = |test: Test, expected: &str| {
        let build = format!(
            "mkdir -p root/bin && cp $(command -v busybox) root/bin/busybox && ln -s busybox root/bin/sh && \
             ln -s busybox root/bin/su && echo 'root:x:0:0::/:/bin/sh\nml:x:1000:1000::/:/bin/sh' > root/passwd && \
             mkdir root/etc && mv root/passwd root/etc/passwd && printf '%s' '{WHO}' > who.c && \
             cc -static -o root/bin/says who.c && chmod 4755 root/bin/says"
        );
        let dir = test.path("image");
        save(&dir, "root", &build);
        let yaml = format!(
            "{}{}",
            head(&format!("oci://{}/image.tar", dir.display())),
            item("su ml -c 'busybox id -u; says'; says")
        );
        let id = test.wait(&yaml).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout, expected);
    };
    check(Test::new(), "1000\n0\n0\n");
    check(Test::new().env("VESSL_SERVER_NO_NEW_PRIVS", "true"), "1000\n1000\n0\n");
    check(Test::with_ids(), "1000\n0\n0\n");
    check(Test::with_ids().env("VESSL_SERVER_NO_NEW_PRIVS", "true"), "1000\n1000\n0\n");
}

#[test]
fn the_machines_own_set_user_id_programs_give_nothing() {
    let mut builder = tempfile::Builder::new();
    let dir = builder.permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = dir.path().join("says");
    let build =
        format!("printf '%s' '{WHO}' | cc -static -x c -o \"$1\" - && chown 0 \"$1\" && chmod 4755 \"$1\"");
    assert!(Command::new("sh").args(["-c", &build, "sh"]).arg(&program).status().unwrap().success());
    let as_other = format!("setpriv --reuid 65534 --regid 65534 --clear-groups {}", program.display());
    let outside = Command::new("sh").args(["-c", &as_other]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&outside.stdout),
        "0\n",
        "outside of a run it gives its owner's rights"
    );
    let check = |test: Test, script: &str, expected: &str| {
        let id = test.wait(&host(script)).ok().json()["id"].to_string();
        assert_eq!(test.vessl(["run", "logs", &id, "--only", "stdout"]).ok().stdout, expected);
    };
    check(Test::new(), &format!("{as_other}; grep NoNewPrivs /proc/self/status"), "65534\nNoNewPrivs:\t1\n");
    // As root of its own user namespace, the user is nobody more than before.
    let id = "id -u > before; PROGRAM > after; cmp before after && echo same";
    check(Test::ordinary(), &id.replace("PROGRAM", &program.display().to_string()), "same\n");
}
