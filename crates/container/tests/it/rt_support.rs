//! What the runtime tests share: a supervisor process for each test (namespaces are entered by a process, not by a
//! thread), as root and as an ordinary user with subordinate ids; a root file system of one static program; an init.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid, fork, setgroups, setresgid, setresuid};
use tempfile::TempDir;
use vessl_container::limits::{Cgroup, Limits};
use vessl_container::rootfs::{Merged, Rootfs};
use vessl_container::runtime::{self, Bundle, Container};
use vessl_container::seccomp;
use vessl_container::userns;

/// Who supervises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum As {
    Root,
    /// An ordinary user with subordinate ids.
    User,
    /// An ordinary user without any.
    LoneUser,
    /// An ordinary user with subordinate ids on a machine where `newuidmap` and `newgidmap` cannot be run.
    UserWithoutTools,
}

impl As {
    /// Whether a container of this user knows one user only.
    pub(crate) fn has_one_id(self) -> bool {
        matches!(self, Self::LoneUser | Self::UserWithoutTools)
    }
}

/// Every kind of supervisor.
pub(crate) const EVERYBODY: [As; 4] = [As::Root, As::User, As::LoneUser, As::UserWithoutTools];

/// The ordinary user; it exists only in the tests' own view of `/etc`.
const USER: u32 = 58_371;

/// The program that stands for init: starts its arguments, passes SIGTERM on, reaps, and ends as the first child ended.
const INIT: &str = r"
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int argc, char **argv) {
    (void)argc;
    pid_t first = fork();
    if (first == 0) { execv(argv[1], argv + 1); _exit(126); }
    for (;;) {
        int status;
        pid_t done = wait(&status);
        if (done == first) _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
}
";

/// Begins a program that loads the filter of its container and prints the errno of calls, a line each.
const FILTERED: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#define TRY(name, ...) do { errno = 0; long r = syscall(__VA_ARGS__); printf("%s %d\n", name, r < 0 ? errno : 0); fflush(stdout); } while (0)
static int filter(void) {
    static struct sock_filter steps[4096];
    FILE *in = fopen("/filter", "r");
    size_t count = fread(steps, sizeof steps[0], 4096, in);
    fclose(in);
    struct sock_fprog program = { (unsigned short)count, steps };
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
"#;

/// Builds the init of the tests.
pub(crate) fn build_init(program: &Path) {
    let source = program.with_extension("c");
    fs::write(&source, INIT).unwrap();
    let built = Command::new("cc").args(["-static", "-O1", "-o"]).arg(program).arg(&source).status().unwrap();
    assert!(built.success(), "a C compiler builds the test's init");
}

/// A directory for one test that every user may enter; removed with everything in it.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) unit: String,
    pub(crate) who: As,
}

/// Places made by this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

impl Place {
    pub(crate) fn new(who: As) -> Self {
        assert!(
            Uid::effective().is_root(),
            "needs root: to make namespaces as several users, run the tests as root"
        );
        // Other users read what is made here.
        umask(Mode::from_bits_truncate(0o022));
        let dir = tempfile::Builder::new().prefix("vessl-rt-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let unit = format!("vessl-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let place = Self { dir, unit, who };
        fs::create_dir(place.path("box")).unwrap();
        place.image();
        build_init(&place.path("init"));
        if who != As::Root {
            lchown(place.dir.path(), Some(USER), Some(USER)).unwrap();
            own(&place.path("box"), USER);
            own(&place.path("layer"), USER);
        }
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One layer with busybox and nothing else.
    fn image(&self) {
        let bin = self.path("layer/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in [
            "sh", "cat", "ls", "id", "sleep", "mount", "mkdir", "rm", "touch", "mknod", "hostname", "seq",
            "dd", "chown", "stat", "head", "grep", "true", "kill", "ps", "wc", "test", "readlink", "ln",
            "umount", "chroot", "su", "tail", "cut",
        ] {
            symlink("busybox", bin.join(name)).unwrap();
        }
        fs::create_dir_all(self.path("layer/tmp")).unwrap();
    }

    /// Puts the program `/calls` into the image, which has this `main` and may call `filter` in it.
    pub(crate) fn calls(&self, main: &str) {
        fs::write(self.path("layer/filter"), seccomp::default_filter()).unwrap();
        self.program("calls", &format!("{FILTERED}{main}"));
    }

    /// Puts a program in C into the image.
    pub(crate) fn program(&self, name: &str, source: &str) {
        let file = self.path(&format!("{name}.c"));
        fs::write(&file, source).unwrap();
        let program = self.path("layer").join(name);
        let built = Command::new("cc").args(["-static", "-o"]).args([program, file]).status().unwrap();
        assert!(built.success(), "a C compiler builds `{name}`");
    }

    pub(crate) fn rootfs(&self) -> Rootfs {
        Rootfs {
            layers: vec![self.path("layer")],
            scratch: self.path("box"),
            hidden: Vec::new(),
            host: false,
            written: Vec::new(),
        }
    }

    pub(crate) fn host(&self, hidden: &[PathBuf]) -> Rootfs {
        let (layers, written) = (vec!["/".into()], vec![self.dir.path().to_owned()]);
        Rootfs { layers, hidden: hidden.to_vec(), host: true, written, ..self.rootfs() }
    }

    /// Runs `test` in a process that has one thread and has isolated itself, as the user of this place.
    pub(crate) fn supervise(&self, test: impl FnOnce() -> Result<(), anyhow::Error>) {
        self.spawn_in_own_mounts(|| Ok(()), test).join();
    }

    /// The user's id.
    pub(crate) fn uid(&self) -> u32 {
        if self.who == As::Root { 0 } else { USER }
    }

    /// Gives a file or tree of the place to the user.
    pub(crate) fn give(&self, name: &str) {
        own(&self.path(name), self.uid());
    }

    /// Processes of the host whose command line names this place's unit.
    pub(crate) fn processes(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/proc").unwrap().flatten().map(|e| e.path());
        entries
            .filter(|dir| {
                fs::read(dir.join("cmdline")).is_ok_and(|c| String::from_utf8_lossy(&c).contains(&self.unit))
            })
            .collect()
    }

    /// Runs `test` as the user, outside of any namespace of its own.
    pub(crate) fn as_user(&self, test: impl FnOnce() -> Result<(), anyhow::Error>) {
        let run = Supervisor::spawn(|| {
            own_mounts()?;
            self.become_user()?;
            test()
        });
        run.join();
    }

    /// A supervisor that does not wait: `before` runs as root in a mount namespace of its own, `test` as the user.
    pub(crate) fn spawn_in_own_mounts(
        &self,
        before: impl FnOnce() -> Result<(), anyhow::Error>,
        test: impl FnOnce() -> Result<(), anyhow::Error>,
    ) -> Supervisor {
        Supervisor::spawn(|| {
            own_mounts()?;
            before()?;
            self.become_user()?;
            userns::isolate()?;
            test()
        })
    }

    /// Gives the process its own `/etc/passwd`, `/etc/subuid` and `/etc/subgid` and makes it the ordinary user.
    fn become_user(&self) -> Result<(), anyhow::Error> {
        if self.who == As::Root {
            return Ok(());
        }
        unshare(CloneFlags::CLONE_NEWNS)?;
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        let range = if self.who == As::LoneUser { "" } else { "vessltest:700000:65536\n" };
        for (name, text) in [
            ("passwd", format!("root:x:0:0::/:/bin/sh\nvessltest:x:{USER}:{USER}::/:/bin/sh\n")),
            ("subuid", range.to_owned()),
            ("subgid", range.to_owned()),
        ] {
            let copy = self.path(&format!("etc-{name}"));
            fs::write(&copy, text)?;
            let target = Path::new("/etc").join(name);
            nix::mount::mount(Some(&copy), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        }
        if self.who == As::UserWithoutTools {
            for tool in ["newuidmap", "newgidmap"] {
                let tool = Path::new("/usr/bin").join(tool);
                anyhow::ensure!(
                    tool.exists(),
                    "`{}` is missing: install the package `uidmap`",
                    tool.display()
                );
                nix::mount::mount(Some("/dev/null"), &tool, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
            }
        }
        setgroups(&[])?;
        setresgid(Gid::from_raw(USER), Gid::from_raw(USER), Gid::from_raw(USER))?;
        setresuid(Uid::from_raw(USER), Uid::from_raw(USER), Uid::from_raw(USER))?;
        // A change of user makes a process undumpable, which a real user's process is not.
        nix::sys::prctl::set_dumpable(true)?;
        Ok(())
    }

    /// Starts `command` in `merged` with standard output and error going to the returned reader.
    pub(crate) fn start(
        &self,
        merged: &Merged,
        limits: Limits,
        command: &[&str],
    ) -> Result<Started, anyhow::Error> {
        self.start_with(merged, command, |bundle| bundle.limits = limits)
    }

    /// The same, after `change`.
    pub(crate) fn start_with(
        &self,
        merged: &Merged,
        command: &[&str],
        change: impl FnOnce(&mut Bundle),
    ) -> Result<Started, anyhow::Error> {
        let (reader, writer) = io::pipe()?;
        let null: OwnedFd = File::open("/dev/null")?.into();
        let mut bundle = Bundle {
            unit: self.unit.clone(),
            merged: merged.path.clone(),
            hostname: "testbox".to_owned(),
            limits: Limits::default(),
            no_new_privs: true,
            seccomp: Vec::new(),
            network: None,
            devices: Vec::new(),
            init: self.path("init"),
            beside_init: Vec::new(),
            init_args: command.iter().map(|&c| c.to_owned()).collect(),
            fds: [
                null,
                writer.try_clone()?.into(),
                writer.into(),
                File::open("/dev/zero")?.into(),
                File::open("/dev/zero")?.into(),
            ],
        };
        change(&mut bundle);
        Ok((runtime::start(bundle)?, reader))
    }

    /// Runs a shell script to its end: exit status and output.
    pub(crate) fn run(&self, merged: &Merged, script: &str) -> Result<(i32, String), anyhow::Error> {
        let (container, output) = self.start(merged, Limits::default(), &["/bin/sh", "-c", script])?;
        finish(&container, output)
    }

    /// What is left of the container's group on this machine.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let found = Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name", &self.unit])
            .output()
            .unwrap();
        String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
    }

    /// The container's group, as seen by anybody.
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::named(&self.unit)
    }
}

/// Waits for the end of a container and removes its group: exit status and output.
pub(crate) fn finish(
    container: &Container,
    mut output: io::PipeReader,
) -> Result<(i32, String), anyhow::Error> {
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    let status = reap(container.pid)?;
    container.cgroup.kill()?;
    container.cgroup.remove()?;
    Ok((status, text))
}

fn own(path: &Path, user: u32) {
    lchown(path, Some(user), Some(user)).unwrap();
    if fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), user);
        }
    }
}

fn own_mounts() -> Result<(), anyhow::Error> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?)
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever the test left: processes, groups; mounts went with the supervisor. Files of other owners are root's to
        // remove.
        let _ = runtime::remove(&self.unit, &self.path("box"));
    }
}

/// A running container and what it prints.
pub(crate) type Started = (Container, io::PipeReader);

/// A running supervisor process.
pub(crate) struct Supervisor {
    pub(crate) pid: Pid,
    reader: io::PipeReader,
}

impl Supervisor {
    /// Runs `test` in a process of its own.
    fn spawn(test: impl FnOnce() -> Result<(), anyhow::Error>) -> Self {
        let (reader, mut writer) = io::pipe().unwrap();
        // SAFETY: the other threads of the test process only wait; the child goes on alone.
        #[allow(unsafe_code)]
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self { pid: child, reader },
            ForkResult::Child => {
                drop(reader);
                let outcome = catch_unwind(AssertUnwindSafe(test));
                let text = match outcome {
                    Ok(Ok(())) => String::new(),
                    Ok(Err(error)) => format!("{error:#}"),
                    Err(panic) => panic_text(panic.as_ref()),
                };
                let _ = writer.write_all(text.as_bytes());
                // SAFETY: ends this process without running the test harness's exit code.
                #[allow(unsafe_code)]
                unsafe {
                    libc::_exit(i32::from(!text.is_empty()))
                }
            }
        }
    }

    /// Waits for the end, whatever it is.
    pub(crate) fn reap(self) {
        waitpid(self.pid, None).unwrap();
    }

    /// Waits for the end and fails the test with the supervisor's words.
    pub(crate) fn join(mut self) {
        let mut text = String::new();
        self.reader.read_to_string(&mut text).unwrap();
        let status = waitpid(self.pid, None).unwrap();
        assert!(text.is_empty() && status == WaitStatus::Exited(self.pid, 0), "{text} ({status:?})");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

/// Waits for a child: its exit code, 128+n for a signal.
pub(crate) fn reap(pid: i32) -> Result<i32, anyhow::Error> {
    match waitpid(Pid::from_raw(pid), None)? {
        WaitStatus::Exited(_, code) => Ok(code),
        WaitStatus::Signaled(_, signal, _) => Ok(128 + signal as i32),
        other => anyhow::bail!("unexpected {other:?}"),
    }
}

/// Waits until `done`, or fails with `what` after a minute.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(1);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        // Leaves the core to what is waited for.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says as whom it runs; with an argument, what that says to user 1000 who starts it.
pub(crate) const WHO: &str = r#"
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 1 && !setgid(1000) && !setuid(1000)) return execl(argv[1], argv[1], (char *)0);
    return printf("%d %d\n", geteuid(), getegid()) < 0;
}
"#;
