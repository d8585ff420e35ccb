//! A Docker daemon of our own, with everything it has below one directory. It leaves nothing behind.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;
use crate::timing::output;

/// Longest time until it answers.
const START: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(50);
/// Where it puts things whatever it is told; removed at the end if they are empty.
const STRAY: [&str; 4] = ["/run/docker/plugins", "/run/docker", "/run/containerd/s", "/run/containerd"];

/// The daemon.
pub(crate) struct Docker {
    dir: PathBuf,
    process: Child,
    /// Control group of its containers.
    pub(crate) group: String,
}

/// Fails where a program is not installed.
pub(crate) fn require(program: &str) -> Outcome<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if found {
        return Ok(());
    }
    let packages = "apt-get install docker.io docker-registry busybox-static restic";
    Err(format!("`{program}` is not installed (Debian: `{packages}`)").into())
}

impl Docker {
    /// Starts it and waits until it answers.
    pub(crate) fn start(dir: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(dir)?;
        let group = format!("vessl-bench-{}", std::process::id());
        let log = File::create(dir.join("log"))?;
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("pid"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"])
            .args(["--cgroup-parent", &format!("/{group}"), "-H", &host(dir)])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let docker = Self { dir: dir.to_owned(), process: command.spawn()?, group };
        let began = Instant::now();
        while output(docker.command(["version"])).is_err() {
            if began.elapsed() > START {
                let said = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default();
                return Err(format!("the Docker daemon does not answer: {last}").into());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(docker)
    }

    /// A call of its client.
    pub(crate) fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).env("DOCKER_HOST", host(&self.dir)).env("DOCKER_CONFIG", self.dir.join("config"));
        command
    }

    /// The daemon and the processes below it.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.process.id()];
        let mut at = 0;
        while let Some(pid) = all.get(at).copied() {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            for task in tasks {
                let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
                all.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
            }
            at += 1;
        }
        all
    }

    fn unmount(&self) {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for path in below.filter(|path| Path::new(path).starts_with(&self.dir)) {
            let _ = umount2(path, MntFlags::MNT_DETACH);
        }
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
        self.unmount();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for hierarchy in hierarchies {
            remove_groups(&hierarchy.path().join(&self.group));
        }
        remove_groups(&Path::new("/sys/fs/cgroup").join(&self.group));
        for dir in STRAY {
            // Another daemon's are not empty.
            let _ = std::fs::remove_dir(dir);
        }
    }
}

fn host(dir: &Path) -> String {
    format!("unix://{}", dir.join("sock").display())
}

/// Removes a control group and those below it.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
