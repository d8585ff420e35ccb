//! Commands and disks that behave badly.
use std::path::{Path, PathBuf};

use vessl_core::plan::Plan;
use vessl_core::record::Phase;
use vessl_core::run::Status;
use vessl_data::log::Stream;

use crate::look;
use crate::plans::host;
use crate::rig::{Rig, text};

pub(crate) const CASES: &[crate::Case] = &[
    ("bad::memory_without_end", memory_without_end),
    ("bad::forks_without_end", forks_without_end),
    ("bad::a_line_without_end", a_line_without_end),
    ("bad::output_that_is_closed", output_that_is_closed),
    ("bad::a_disk_filled_by_the_log", a_disk_filled_by_the_log),
];

fn memory_without_end() {
    let mut plan = host(&["tail /dev/zero"]);
    plan.resources.memory = 64 << 20;
    let record = Rig::new(plan).run();
    assert_eq!(
        (record.status, record.exit_code, record.oom),
        (Status::Failed, Some(137), true),
        "{record:?}"
    );
    let words = "out of memory: the kernel killed a process at the limit of 64.0 MiB; ";
    assert!(record.reason.starts_with(words), "{}", record.reason);
}

fn forks_without_end() {
    // The limit of memory must not end it first, and from `ready` on the shell itself forks no more: a fork that fails
    // would end it.
    let mut plan = host(&["f() { f | f & }; f; echo ready; exec sleep 1000"]);
    plan.resources.memory = 8 << 30;
    let mut rig = Rig::new(plan);
    rig.start();
    rig.until_log("ready");
    rig.stop(0);
    let record = rig.end();
    assert_eq!(record.status, Status::Terminated, "{record:?}");
}

fn a_line_without_end() {
    const BYTES: usize = 200_000_000;
    let command = format!("head -c {BYTES} /dev/zero | tr '\\0' x");
    let mut rig = Rig::new(Plan { termination_protection: true, ..host(&[&command]) });
    rig.start();
    rig.until_phase(Phase::Idle);
    let status = text(Path::new(&format!("/proc/{}/status", rig.pid())));
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 48 * 1024, "the agent's memory grew to {peak} kB");
    rig.stop(0);
    rig.end();
    let mut count = 0;
    look::each(&rig.dir, |stream, bytes| {
        if stream == Stream::Stdout {
            assert!(bytes.iter().all(|byte| *byte == b'x'));
            count += bytes.len();
        }
    });
    assert_eq!(count, BYTES);
}

fn output_that_is_closed() {
    let mut rig = Rig::new(host(&["echo before; exec >&- 2>&-; sleep 0.2; exit 12"]));
    let record = rig.run();
    assert_eq!(record.exit_code, Some(12));
    assert_eq!(look::stream(&rig.dir, Stream::Stdout), "before\n");
}

/// A small file system that goes away with this.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn new(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("none"), &path, Some("tmpfs"), flags, Some(size)).unwrap();
        Self(path)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

fn a_disk_filled_by_the_log() {
    let place = tempfile::tempdir().unwrap();
    let small = Tmpfs::new(place.path().join("small"), "size=8m");
    let dir = small.0.join("1");
    std::fs::create_dir(&dir).unwrap();
    let command = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); echo 'a line of the output that is forty bytes'; \
                   done; echo the end";
    let mut rig = Rig::at(host(&[command]), &dir);
    rig.write_plan();
    let record = rig.run();
    assert_eq!((record.status, record.exit_code), (Status::Completed, Some(0)), "{record:?}");
    assert!(record.reason.contains("of its output are lost: the log could not be written"), "{record:?}");
    assert!(look::is_finished(&dir));
    let system = look::stream(&dir, Stream::System);
    assert!(system.contains("bytes of output are lost: the log could not be written"), "{system}");
    assert!(system.contains("completed"), "{system}");
    let out = look::stream(&dir, Stream::Stdout);
    assert!(out.starts_with("a line of the output that is forty bytes\n") && out.len() > 4_000_000);
    drop(rig);
}
