//! The real binary in a world of its own: data, settings and home directory, a server that is stopped at the end, and a
//! look around that nothing of it is left on the machine.
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

/// Longest time any single step may take.
const DEADLINE: Duration = Duration::from_mins(1);
const PROGRAM: &str = env!("CARGO_BIN_EXE_vessl");

/// One world.
pub(crate) struct Test {
    dir: tempfile::TempDir,
    data: PathBuf,
    env: Vec<(String, String)>,
    program: PathBuf,
    user: Option<u32>,
    /// Gives the user subordinate ids.
    etc: Option<PathBuf>,
    said: Said,
}

/// Everything that the commands of a world printed, one piece a stream.
type Said = Arc<Mutex<Vec<Vec<u8>>>>;

/// Starts `$3 …` as user `$2`, whose name and ids are in the directory `$1`; nobody else sees them.
const WITH_IDS: &str = r#"
set -e
for name in passwd subuid subgid; do mount --bind "$1/$name" /etc/$name; done
user=$2
shift 2
exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
"#;

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) bytes: Vec<u8>,
}

/// A command that runs.
pub(crate) struct Live {
    child: Child,
    lines: Receiver<(Pipe, Vec<u8>)>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pipe {
    Out,
    Err,
}

impl Test {
    /// An empty world.
    pub(crate) fn new() -> Self {
        // Whoever loses its parent becomes a child of the test, which can then wait for its end.
        set_child_subreaper(true).expect("the kernel lets a process adopt orphans");
        // Other users read what is made here.
        umask(Mode::from_bits_truncate(0o022));
        let dir = tempfile::Builder::new()
            .prefix("vessl-it-")
            .tempdir()
            .expect("a temporary directory can be made");
        for name in ["home", "config", "work"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory can be made");
        }
        let data = dir.path().join("data");
        let said = Said::default();
        Self { dir, data, env: Vec::new(), program: PROGRAM.into(), user: None, etc: None, said }
    }

    /// An empty world with its data elsewhere.
    pub(crate) fn at(data: &Path) -> Self {
        let mut test = Self::new();
        data.clone_into(&mut test.data);
        test
    }

    /// The world of an ordinary user; of whoever runs the test, if that is not root.
    pub(crate) fn ordinary() -> Self {
        let mut test = Self::new();
        if nix::unistd::geteuid().is_root() {
            // A number that no user of the machine has. The program must be where that user may run it.
            let user = 1_900_000_000 + std::process::id() % 100_000;
            test.program = test.dir.path().join("vessl");
            std::fs::copy(PROGRAM, &test.program).expect("the program can be copied");
            for name in ["", "home", "config", "work"] {
                let path = test.dir.path().join(name);
                std::os::unix::fs::chown(path, Some(user), Some(user))
                    .expect("root can give a directory away");
            }
            test.user = Some(user);
        }
        test
    }

    /// The world of an ordinary user with subordinate ids.
    pub(crate) fn with_ids() -> Self {
        let mut test = Self::ordinary();
        let user = test.user.expect("needs root: to give a user subordinate ids, run the tests as root");
        let etc = test.dir.path().join("etc");
        std::fs::create_dir(&etc).expect("a directory can be made");
        let passwd = format!("root:x:0:0::/root:/bin/sh\nvesslit:x:{user}:{user}::/:/bin/sh\n");
        for (name, text) in [
            ("passwd", passwd.as_str()),
            ("subuid", "vesslit:700000:65536\n"),
            ("subgid", "vesslit:700000:65536\n"),
        ] {
            std::fs::write(etc.join(name), text).expect("a file can be written");
        }
        test.etc = Some(etc);
        test
    }

    /// Sets a variable for every command of this world.
    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The data directory of its server.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The program under test.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// A path in its working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    /// Writes a file into its working directory.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("a directory can be made");
        std::fs::write(&path, text).expect("a file can be written");
        path
    }

    /// Runs the program to its end.
    pub(crate) fn vessl<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Done {
        self.vessl_with(args, b"")
    }

    /// Runs the program with this standard input.
    pub(crate) fn vessl_with<S: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Done {
        let mut live = self.start_with(args, Stdio::piped());
        let mut stdin = live.child.stdin.take().expect("the standard input is a pipe");
        // A program that does not read its input closes it.
        let _ = stdin.write_all(input);
        drop(stdin);
        live.finish()
    }

    /// Starts the program.
    pub(crate) fn start<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Live {
        self.start_with(args, Stdio::null())
    }

    fn start_with<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>, stdin: Stdio) -> Live {
        let mut command = match (&self.etc, self.user) {
            (Some(etc), Some(user)) => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "sh", "-c", WITH_IDS, "sh"]).arg(etc).arg(user.to_string());
                command.arg(&self.program);
                command
            }
            _ => Command::new(&self.program),
        };
        if self.etc.is_none() {
            self.as_its_user(&mut command);
        }
        command.args(args).stdin(stdin);
        self.start_command(command)
    }

    /// Makes a command one of the user of this world.
    pub(crate) fn as_its_user(&self, command: &mut Command) {
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
    }

    /// Starts any command in this world.
    pub(crate) fn start_command(&self, mut command: Command) -> Live {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.world(&mut command).spawn().expect("the program starts");
        let (tell, lines) = channel();
        let out = child.stdout.take().expect("the standard output is a pipe");
        let err = child.stderr.take().expect("the standard error is a pipe");
        let tell_err = tell.clone();
        std::thread::spawn(move || pump(out, Pipe::Out, &tell));
        std::thread::spawn(move || pump(err, Pipe::Err, &tell_err));
        Live { child, lines, stdout: Vec::new(), stderr: Vec::new(), said: self.said.clone() }
    }

    /// Gives a command this world.
    pub(crate) fn world<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let keep = ["PATH", "LLVM_PROFILE_FILE"];
        let kept = std::env::vars_os().filter(|(name, _)| keep.iter().any(|keep| name == keep));
        command
            .env_clear()
            .envs(kept)
            .env("HOME", self.dir.path().join("home"))
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"))
            .env("VESSL_DATA", self.data())
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(self.dir.path().join("work"))
    }

    /// Submits a run file and gives its id.
    pub(crate) fn create(&self, yaml: &str) -> String {
        let done = self.vessl_with(["run", "create", "-f", "-", "--output", "json"], yaml.as_bytes()).ok();
        done.json()["id"].to_string()
    }

    /// Submits a run file and waits for its end.
    pub(crate) fn wait(&self, yaml: &str) -> Done {
        self.vessl_with(["run", "create", "-f", "-", "--wait", "--output", "json"], yaml.as_bytes())
    }

    /// One run as JSON.
    pub(crate) fn read(&self, id: &str) -> Value {
        self.vessl(["run", "read", id, "--output", "json"]).ok().json()
    }

    /// Waits until the log of a run has this text.
    pub(crate) fn until_log(&self, id: &str, text: &str) {
        let mut follower = self.start(["run", "logs", "-f", id]);
        follower.until(text);
        follower.signal(Signal::SIGKILL);
    }

    /// Waits until a run has this status.
    pub(crate) fn until_status(&self, id: &str, status: &str) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let run = self.read(id);
            if run["status"] == status {
                return;
            }
            let ended = !run["ended_at"].is_null();
            assert!(!ended && Instant::now() < deadline, "it does not become {status}: {run}");
        }
    }

    /// Waits until a run has ended, and gives it as JSON.
    pub(crate) fn until_end(&self, id: &str) -> Value {
        // The log is followed until the run has ended.
        self.vessl(["run", "logs", "-f", id]);
        self.read(id)
    }

    /// Waits until nothing of an ended run is on the machine any more; until then its server works for it.
    pub(crate) fn until_removed(&self, id: &str) {
        let run = self.data().join("runs").join(id);
        let is_there = |attempt: &String, name: &str| run.join(attempt).join(name).exists();
        let is_left = |attempt: &String| is_there(attempt, "box") || is_there(attempt, "control.sock");
        until("the run is not removed", || !names(&run).iter().any(is_left));
    }

    /// The process of the running server.
    pub(crate) fn server(&self) -> Pid {
        let text = std::fs::read(self.data().join("server.json")).expect("a server has started");
        let json: Value = serde_json::from_slice(&text).expect("server.json is JSON");
        pid(&json["pid"])
    }

    /// Kills the server and waits until it is gone.
    pub(crate) fn kill_server(&self) {
        Self::kill(self.server());
    }

    /// The directory of a run's one attempt, once there is one.
    pub(crate) fn attempt(&self, id: &str) -> PathBuf {
        let run = self.data().join("runs").join(id);
        until("the run is not placed", || !names(&run).is_empty());
        run.join(&names(&run)[0])
    }

    /// The process of the agent of a run's first attempt.
    pub(crate) fn agent(&self, id: &str) -> Pid {
        let events = std::fs::read_to_string(self.attempt(id).join("events")).expect("the agent started");
        let first: Value =
            serde_json::from_str(events.lines().next().unwrap_or_default()).expect("an event is JSON");
        pid(&first["what"]["pid"])
    }

    /// Waits until a process is gone on its own.
    pub(crate) fn until_gone(process: Pid) {
        assert!(gone(process, DEADLINE), "process {process} does not go");
    }

    /// Waits until the first run of the project is there, and gives its id.
    pub(crate) fn until_listed(&self) -> String {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            let runs = self.vessl(["run", "list", "--output", "json"]).ok().json();
            if let Some(run) = runs.as_array().and_then(|runs| runs.first()) {
                return run["id"].to_string();
            }
        }
        panic!("no run is listed");
    }

    /// Kills a process of this world and waits until it is gone.
    pub(crate) fn kill(process: Pid) {
        kill(process, Signal::SIGKILL).expect("the process is there");
        assert!(gone(process, DEADLINE), "process {process} does not go");
    }

    /// Where this text can be seen by whoever should not: in a file of the data directory, on a command line, in the
    /// environment of a process that is no command of a run, or in what the commands of this world have printed so far.
    pub(crate) fn leaks(&self, text: &str) -> Vec<String> {
        let has = |file: &Path| contains(&std::fs::read(file).unwrap_or_default(), text.as_bytes());
        let mut found: Vec<String> = files_below(&self.data())
            .into_iter()
            .filter(|file| has(file))
            .map(|file| file.display().to_string())
            .collect();
        for process in processes() {
            let about = PathBuf::from(format!("/proc/{process}"));
            if has(&about.join("cmdline")) {
                found.push(format!("command line of process {process}"));
            }
            if has(&about.join("environ")) && !is_command(process) {
                found.push(format!("environment of process {process}"));
            }
        }
        let said = self.said.lock().expect("no test goes on after a panic");
        let told = said.iter().filter(|said| contains(said, text.as_bytes()));
        found.extend(told.map(|said| format!("printed: {}", String::from_utf8_lossy(said))));
        found
    }

    fn instance(&self) -> Option<String> {
        Some(std::fs::read_to_string(self.data().join("instance")).ok()?.trim().to_owned())
    }

    /// Processes that belong to this world.
    fn processes(&self) -> Vec<Pid> {
        let data = self.data().display().to_string();
        let unit = self.instance().map(|instance| format!("vessl-{instance}-"));
        let own = |process: &i32| {
            let has = |file: &str, text: &str| {
                contains(
                    &std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default(),
                    text.as_bytes(),
                )
            };
            has("cmdline", &data)
                || has("environ", &data)
                || unit.as_ref().is_some_and(|unit| has("cgroup", unit) || has("cmdline", unit))
        };
        let me = i32::try_from(std::process::id()).expect("a process id is small");
        processes().into_iter().filter(|&process| process != me).filter(own).map(Pid::from_raw).collect()
    }

    /// Processes with this in their environment; commands of a run have what its file says.
    pub(crate) fn with_environment(text: &str) -> Vec<i32> {
        let environ = |process: &i32| std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        processes().into_iter().filter(|process| contains(&environ(process), text.as_bytes())).collect()
    }

    /// What is left of this world on the machine after its server was stopped.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for process in self.processes() {
            if !gone(process, DEADLINE) {
                let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
                left.push(format!(
                    "process {process}: {}",
                    String::from_utf8_lossy(&line).replace('\0', " ")
                ));
            }
        }
        left.extend(self.mounts());
        left.extend(self.cgroups().into_iter().map(|dir| format!("cgroup {dir}")));
        left.extend(self.stray_files());
        left
    }

    /// Control groups of its runs.
    fn cgroups(&self) -> Vec<String> {
        let unit = self.instance().map(|instance| format!("vessl-{instance}"));
        unit.map_or_else(Vec::new, |unit| cgroups(Path::new("/sys/fs/cgroup"), &unit))
    }

    /// Mounts that have to do with the data directory, whoever's they are: an agent has mounts of its own. Other containers
    /// on the host's root may show the directory itself as one of their parts.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let data = format!("{}/", self.data().display());
        let of = |process: i32| {
            let mounts = std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap_or_default();
            let here = mounts.lines().find(|line| line.contains(&data))?;
            Some(format!("mount of process {process}: {here}"))
        };
        processes().into_iter().filter_map(of).collect()
    }

    /// Files that should not outlive the runs that made them.
    fn stray_files(&self) -> Vec<String> {
        let known: BTreeSet<&str> = [
            "instance",
            "reserve",
            "backups",
            "config",
            "server.lock",
            "server.log",
            "token",
            "secret.key",
            "ssh",
            "ssh_host_key",
            "vessl.db",
            "vessl.db-wal",
            "vessl.db-shm",
            "images",
            "jupyter",
            "blobs",
            "staged",
            "ahead",
            "uploads",
            "incoming",
            "volumes",
            "bin",
            "runs",
            "server.json",
        ]
        .into();
        let mut stray = Vec::new();
        for name in names(&self.data()) {
            if !known.contains(name.as_str()) {
                stray.push(format!("file {name}"));
            }
        }
        for run in names(&self.data().join("runs")) {
            for attempt in names(&self.data().join("runs").join(&run)) {
                let dir = self.data().join("runs").join(&run).join(attempt);
                stray.extend(
                    names(&dir)
                        .into_iter()
                        .filter(|name| {
                            [
                                "box",
                                "control.sock",
                                "door.sock",
                                "spare",
                                "progress",
                                "jupyter.json",
                                "jupyter.token",
                            ]
                            .contains(&name.as_str())
                        })
                        .map(|name| format!("`{name}` of run {run}")),
                );
            }
        }
        for half in ["images/tmp", "blobs/tmp"] {
            stray.extend(
                names(&self.data().join(half)).into_iter().map(|name| format!("half of {half}: {name}")),
            );
        }
        stray
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = std::fs::read_to_string(self.data().join("server.log")).unwrap_or_default();
            eprintln!("--- server.log\n{said}---");
        } else if self.data().exists() {
            self.vessl(["server", "stop"]).ok();
        }
        let deadline = Instant::now() + DEADLINE;
        let left = if std::thread::panicking() { Vec::new() } else { self.left() };
        while let Some(&process) = self.processes().first() {
            let _ = kill(process, Signal::SIGKILL);
            if !gone(process, DEADLINE) || Instant::now() > deadline {
                break;
            }
        }
        // After a failure nobody else removes those of killed agents.
        for dir in self.cgroups() {
            let _ = std::fs::remove_dir(dir);
        }
        assert!(left.is_empty() || std::thread::panicking(), "left behind: {left:#?}");
    }
}

impl Done {
    /// The same, if it ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The same, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.code(0)
    }

    /// The same, if its standard error has every one of these.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "no `{text}` in stderr: {}", self.stderr);
        }
        self
    }

    /// The same, if its standard output has every one of these.
    #[track_caller]
    pub(crate) fn prints(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.stdout.contains(text),
                "no `{text}` in stdout: {}\nstderr: {}",
                self.stdout,
                self.stderr
            );
        }
        self
    }

    /// The standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

impl Live {
    /// Waits until its output, on either stream, has this text.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !contains(&self.stdout, text.as_bytes()) && !contains(&self.stderr, text.as_bytes()) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((pipe, bytes)) => self.take(pipe, &bytes),
                Err(why) => panic!(
                    "no `{text}` ({why})\nstdout: {}\nstderr: {}",
                    String::from_utf8_lossy(&self.stdout),
                    String::from_utf8_lossy(&self.stderr)
                ),
            }
        }
    }

    /// Its standard output so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(pid(&self.child.id().into()), signal).expect("the program runs");
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((pipe, bytes)) => self.take(pipe, &bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!(
                    "it does not end\nstdout: {}\nstderr: {}",
                    String::from_utf8_lossy(&self.stdout),
                    String::from_utf8_lossy(&self.stderr)
                ),
            }
        }
        let status = self.child.wait().expect("the program can be waited for");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Done {
            code,
            stdout: String::from_utf8_lossy(&self.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&self.stderr).into_owned(),
            bytes: self.stdout.clone(),
        }
    }

    fn take(&mut self, pipe: Pipe, bytes: &[u8]) {
        match pipe {
            Pipe::Out => self.stdout.extend_from_slice(bytes),
            Pipe::Err => self.stderr.extend_from_slice(bytes),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        while let Ok((pipe, bytes)) = self.lines.try_recv() {
            self.take(pipe, &bytes);
        }
        let printed = [std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr)];
        if let Ok(mut said) = self.said.lock() {
            said.extend(printed);
        }
    }
}

/// Waits until something is so, or says that `otherwise`.
#[track_caller]
pub(crate) fn until(otherwise: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{otherwise}");
        std::thread::yield_now();
    }
}

/// Every file below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

fn pump(pipe: impl Read, name: Pipe, tell: &std::sync::mpsc::Sender<(Pipe, Vec<u8>)>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let bytes = match pipe.fill_buf() {
            Ok([]) | Err(_) => return,
            Ok(bytes) => bytes.to_vec(),
        };
        pipe.consume(bytes.len());
        if tell.send((name, bytes)).is_err() {
            return;
        }
    }
}

/// Waits until a process is gone; one that became a child of the test is buried.
fn gone(process: Pid, limit: Duration) -> bool {
    let Some(id) = rustix::process::Pid::from_raw(process.as_raw()) else { return true };
    let Ok(handle) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()) else {
        return true;
    };
    let limit = Timespec::try_from(limit).expect("a limit is short");
    let ended = poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0);
    let _ = waitpid(process, Some(WaitPidFlag::WNOHANG));
    ended
}

fn pid(value: &Value) -> Pid {
    Pid::from_raw(value.as_i64().and_then(|n| n.try_into().ok()).expect("a process id is a number"))
}

pub(crate) fn processes() -> Vec<i32> {
    names(Path::new("/proc")).iter().filter_map(|name| name.parse().ok()).collect()
}

/// Whether a process is a command of a container: any but its first, which is the product's own.
fn is_command(process: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    matches!(numbers.as_slice(), [_, .., inside] if *inside != "1")
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn cgroups(dir: &Path, unit: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(unit) {
                found.push(entry.path().display().to_string());
            }
            found.extend(cgroups(&entry.path(), unit));
        }
    }
    found
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(bytes, text).is_some()
}
