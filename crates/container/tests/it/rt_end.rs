//! The end: of a script, of a supervisor, of a container that resists; and what is left of it.
use std::fs;
use std::io::{BufRead, BufReader, Read};

use anyhow::ensure;
use nix::sys::signal::{Signal, kill};
use vessl_container::limits::{Cgroup, Limits};
use vessl_container::runtime;

use crate::rt_support::{As, EVERYBODY, Place, eventually, reap};

/// Starts a script that says when it is ready, in a supervisor that then waits for ever.
fn supervisor_of(place: &Place, script: &str) -> crate::rt_support::Supervisor {
    let ready = place.path("box/ready");
    let supervisor = place.spawn_in_own_mounts(
        || Ok(()),
        || {
            let merged = place.rootfs().mount()?;
            let (container, output) = place.start(&merged, Limits::default(), &["/bin/sh", "-c", script])?;
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line)?;
            fs::write(&ready, container.pid.to_string())?;
            reap(container.pid)?;
            Ok(())
        },
    );
    eventually("the container is ready", || fs::metadata(&ready).is_ok_and(|m| m.len() > 0));
    supervisor
}

const RESISTS: &str =
    "trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & (sleep 1000 & sleep 1000) & echo ready; sleep 1000";

#[test]
fn a_container_dies_with_its_supervisor() {
    for who in EVERYBODY {
        let place = Place::new(who);
        let supervisor = supervisor_of(&place, RESISTS);
        assert!(!place.cgroup().is_empty(), "{who:?}");
        kill(supervisor.pid, Signal::SIGKILL).unwrap();
        supervisor.reap();
        eventually("every process is gone", || place.cgroup().is_empty());
        // By another process of the same user, and again.
        for _ in 0..2 {
            place.as_user(|| Ok(runtime::remove(&place.unit, &place.path("box"))?));
            assert!(place.groups().is_empty() && !place.path("box").exists(), "{:?}", place.groups());
        }
    }
}

#[test]
fn a_supervisor_killed_during_the_start_leaves_no_process() {
    // Killed at different moments of the start; whatever had begun must end.
    for moment in 0..40u64 {
        let place = Place::new(As::Root);
        let begun = place.path("box/begun");
        let supervisor = place.spawn_in_own_mounts(
            || Ok(()),
            || {
                let merged = place.rootfs().mount()?;
                fs::write(&begun, "")?;
                let (container, _output) =
                    place.start(&merged, Limits::default(), &["/bin/sleep", "1000"])?;
                reap(container.pid)?;
                Ok(())
            },
        );
        eventually("the start has begun", || begun.exists());
        let until = std::time::Instant::now() + std::time::Duration::from_micros(moment * 150);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        kill(supervisor.pid, Signal::SIGKILL).unwrap();
        supervisor.reap();
        eventually("every process is gone", || place.cgroup().is_empty() && place.processes().is_empty());
    }
}

#[test]
fn kill_ends_a_container_that_resists() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let (container, output) = place.start(&merged, Limits::default(), &["/bin/sh", "-c", RESISTS])?;
            let mut output = BufReader::new(output);
            output.read_line(&mut String::new())?;
            container.cgroup.kill()?;
            output.read_to_string(&mut String::new())?;
            ensure!(reap(container.pid)? == 137 && container.cgroup.is_empty());
            container.cgroup.remove()?;
            Ok(())
        });
        assert!(place.groups().is_empty());
    }
}

#[test]
fn kill_ends_a_container_that_forks_without_end() {
    for who in [As::Root, As::User] {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let limits = Limits { pids: Some(200), ..Limits::default() };
            // The first process makes one fork only: a shell that cannot fork ends.
            let bomb = "echo ready; f() { while :; do f & done; }; f 2>/dev/null & while :; do :; done";
            let (container, output) = place.start(&merged, limits, &["/bin/sh", "-c", bomb])?;
            let mut output = BufReader::new(output);
            output.read_line(&mut String::new())?;
            container.cgroup.kill()?;
            ensure!(reap(container.pid)? == 137 && container.cgroup.is_empty());
            container.cgroup.remove()?;
            Ok(())
        });
    }
}

#[test]
fn what_is_not_there_is_empty_and_removed_already() {
    let group = Cgroup::named("vessl-test-never-was");
    assert!(group.is_empty() && group.oom_kills() == 0);
    group.kill().unwrap();
    group.remove().unwrap();
    assert!(Cgroup::named("../x").is_empty());
}
