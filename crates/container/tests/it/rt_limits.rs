//! Limits: enforced, or said not to be.
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use vessl_container::limits::Limits;

use crate::rt_support::{As, EVERYBODY, Place, Started, finish};

const LIMITS: Limits = Limits { cpu_milli: Some(500), memory: Some(32 << 20), pids: Some(20) };

#[test]
fn memory_is_limited_and_the_kill_is_counted() {
    let place = Place::new(As::Root);
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        // Files in memory count too.
        let script = "head -c 100000000 /dev/zero | tail -c 90000000 | wc -c";
        let (container, output): Started = place.start(&merged, LIMITS, &["/bin/sh", "-c", script])?;
        ensure!(container.unenforced.is_empty(), "{:?}", container.unenforced);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut { output }, &mut text)?;
        crate::rt_support::reap(container.pid)?;
        ensure!(container.cgroup.oom_kills() >= 1, "{text}");
        container.cgroup.kill()?;
        Ok(container.cgroup.remove()?)
    });
    assert!(place.groups().is_empty());
}

/// Where no group can be made, the kernel counts each user's processes.
#[test]
fn processes_are_limited_for_everybody() {
    for who in EVERYBODY {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let script = "n=0; while [ $n -lt 40 ]; do sleep 1000 & n=$((n+1)); echo $n; done";
            let (container, output) = place.start(&merged, LIMITS, &["/bin/sh", "-c", script])?;
            let finished = finish(&container, output)?;
            let made = finished.1.lines().filter_map(|line| line.parse::<u64>().ok()).max();
            ensure!(made.is_some_and(|n| (10..20).contains(&n)), "{who:?}: {finished:?}");
            ensure!(finished.1.contains("can't fork"), "{who:?}: {finished:?}");
            Ok(())
        });
    }
}

#[test]
fn the_limits_can_be_read_inside() {
    let place = Place::new(As::Root);
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        let script = "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes 2>/dev/null; \
                      cat cpu.max cpu*/cpu.cfs_quota_us 2>/dev/null | head -n 1; cat pids.max pids/pids.max 2>/dev/null";
        let (container, output) = place.start(&merged, LIMITS, &["/bin/sh", "-c", script])?;
        let (_, output) = finish(&container, output)?;
        let numbers: Vec<_> = output.split_whitespace().filter(|word| *word != "100000").collect();
        ensure!(numbers == ["33554432", "50000", "20"], "{output}");
        Ok(())
    });
}

/// Prints the cores that it may run on, and what its group says of them.
const CORES: &str = "grep Cpus_allowed_list /proc/self/status | cut -f 2; \
                     cat /sys/fs/cgroup/cpuset.cpus.effective /sys/fs/cgroup/cpuset/cpuset.cpus 2>/dev/null || echo none";

#[test]
fn a_container_of_whole_cores_runs_on_cores_of_its_own() {
    let one_core = Limits { cpu_milli: Some(1000), ..Limits::default() };
    for who in [As::Root, As::LoneUser] {
        let place = Place::new(who);
        place.supervise(|| {
            let merged = place.rootfs().mount()?;
            let stay = format!("{CORES}; exec sleep 1000");
            let (first, output) = place.start(&merged, one_core.clone(), &["/bin/sh", "-c", &stay])?;
            let mut lines = BufReader::new(output).lines();
            let (allowed, group) = (lines.next().unwrap()?, lines.next().unwrap()?);
            ensure!(allowed.parse::<usize>().is_ok(), "{who:?}: {allowed}");
            // Without a group it is the affinity alone.
            ensure!(group == if who == As::Root { &*allowed } else { "none" }, "{who:?}: {group}");
            // Containers of other tests may be in the way for a while.
            let mut others = (0..50).map(|n| {
                let (second, output) = place.start_with(&merged, &["/bin/sh", "-c", CORES], |bundle| {
                    bundle.limits = one_core.clone();
                    bundle.unit = format!("{}-{n}", place.unit);
                })?;
                Ok::<_, anyhow::Error>(finish(&second, output)?.1.lines().next().map(str::to_owned))
            });
            let has_many = std::thread::available_parallelism()?.get() > 1;
            let differs = others.any(|other| other.is_ok_and(|other| other.is_some_and(|it| it != allowed)));
            ensure!(differs == has_many, "{who:?}: all on {allowed}");
            first.cgroup.kill()?;
            crate::rt_support::reap(first.pid)?;
            Ok(first.cgroup.remove()?)
        });
    }
}

#[test]
fn a_limit_that_cannot_be_enforced_is_said() {
    // An ordinary user to whom no group was delegated.
    let place = Place::new(As::User);
    place.supervise(|| {
        let merged = place.rootfs().mount()?;
        let (container, output) = place.start(&merged, LIMITS, &["/bin/true"])?;
        let said = container.unenforced.join("\n");
        for (limit, controller) in [("memory limit of 32 MiB", "memory"), ("CPU limit of 0.500 cores", "cpu")]
        {
            let sentence = format!(
                "the {limit} is not enforced: no cgroup with the `{controller}` controller can be made here"
            );
            ensure!(said.contains(&sentence), "{said}");
        }
        finish(&container, output)?;
        Ok(())
    });
}

/// A group of this test in every hierarchy, and where in it the test stands; removed at the end.
struct Nest {
    dirs: Vec<PathBuf>,
    inner: &'static str,
}

impl Nest {
    fn new(name: &str, inner: &'static str) -> Self {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let rows = text.lines().filter(|row| row.contains(" - cgroup"));
        let points = rows.map(|row| Path::new(row.split(' ').nth(4).unwrap()).to_owned());
        let wanted = |p: &PathBuf| {
            ["memory", "cpu", "pids", "unified", "cgroup", "devices"].iter().any(|n| p.ends_with(n))
        };
        let dirs: Vec<_> = points.filter(wanted).map(|point| point.join(name)).collect();
        for dir in &dirs {
            fs::create_dir_all(dir.join(inner)).unwrap();
            // As systemd does; a tree of version 1 has no such file, and one beside it hands on what it has.
            for controller in ["memory", "cpu", "pids"] {
                let _ = fs::write(dir.with_file_name("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        Self { dirs, inner }
    }

    fn enter(&self) -> std::io::Result<()> {
        self.dirs.iter().try_for_each(|dir| fs::write(dir.join(self.inner).join("cgroup.procs"), "0"))
    }

    fn give(&self, user: u32) {
        for dir in self.dirs.iter().flat_map(|dir| [dir.clone(), dir.join(self.inner)]) {
            for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "tasks"] {
                let _ = std::os::unix::fs::chown(dir.join(file), Some(user), Some(user));
            }
        }
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        for dir in &self.dirs {
            let _ = std::process::Command::new("find")
                .arg(dir)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .output();
        }
    }
}

#[test]
fn groups_are_made_near_the_own_position_and_delegation_is_used() {
    // In version 2 a group that holds processes hands nothing on: the one around it does, or, where that is not ours, the
    // processes are moved.
    for (who, inner) in [(As::Root, "inner"), (As::User, "inner"), (As::User, "")] {
        let place = Place::new(who);
        let nest = Nest::new(&format!("{}-nest", place.unit), inner);
        if who == As::User {
            nest.give(place.uid());
        }
        let run = place.spawn_in_own_mounts(
            || Ok(nest.enter()?),
            || {
                let merged = place.rootfs().mount()?;
                let (container, output) = place.start(&merged, LIMITS, &["/bin/true"])?;
                ensure!(container.unenforced.is_empty(), "{who:?} {:?}", container.unenforced);
                let groups = place.groups();
                ensure!(
                    !groups.is_empty()
                        && groups.iter().all(|dir| nest.dirs.iter().any(|n| dir.starts_with(n))),
                    "{groups:?}"
                );
                finish(&container, output)?;
                Ok(())
            },
        );
        run.join();
        assert!(place.groups().is_empty());
    }
}
