//! One git command: a clean environment, its words read while it works, killed with all its children when it must end.
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::address::Scheme;
use super::error::WithLogin;
use super::login::{Secret, SecretKind};
use super::{Address, GitError, Request, quoted, through};

/// How often the caller is asked whether to stop.
const INTERVAL: Duration = Duration::from_millis(100);
/// Name of the configuration file in the repository directory, there only while git works.
pub(super) const CONFIGURATION: &str = "vessl-config";
/// Most words of git that are kept.
const WORDS: usize = 16 * 1024;
/// Variables that reach git from our own environment: how to find programs and the way out of this network.
const KEPT: &[&str] = &[
    "PATH",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "NO_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

/// What a command prints that we want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Nothing.
    None,
    /// A short answer.
    Small,
    /// A list; at most this module's limit.
    Large,
}

impl Output {
    fn limit(self) -> usize {
        match self {
            Self::None => 0,
            Self::Small => 4096,
            Self::Large => 256 << 20,
        }
    }
}

/// git, ready to work on one repository.
pub(super) struct Git<'a> {
    request: &'a Request<'a>,
    repository: &'a Path,
    from: &'a Address,
    secret: Option<Secret>,
}

/// How `git lfs` puts content in the place of a pointer, and sees whether it is there.
const LFS: &str = "[filter \"lfs\"]\n\tclean = git-lfs clean -- %f\n\tsmudge = git-lfs smudge -- %f\n\
                   \tprocess = git-lfs filter-process\n\trequired = true\n";

impl<'a> Git<'a> {
    /// Writes the only configuration that git will read beside the repository's own. `from` is what it fetches from.
    pub(super) fn new(
        request: &'a Request<'a>,
        repository: &'a Path,
        from: &'a Address,
    ) -> Result<Self, GitError> {
        let secret = match request.login {
            Some(login) => Secret::of(login, request.address)?,
            None => None,
        };
        let git = Self { request, repository, from, secret };
        git.configure(&git.configuration())?;
        Ok(git)
    }

    fn configure(&self, text: &str) -> Result<(), GitError> {
        let path = self.configured();
        std::fs::write(&path, text).map_err(|e| GitError::write(&path, e))
    }

    /// From now on `git lfs` works, with this server alone, whatever files of the repository say.
    pub(super) fn allow_lfs(&self, server: &str) -> Result<(), GitError> {
        // It says how far it is, so that silence is a stall.
        let lfs = format!("[lfs]\n\turl = {}\n\tforceprogress = true\n", quoted(server));
        self.configure(&format!("{}{lfs}{LFS}", self.configuration()))
    }

    /// Takes that back, and removes what `git lfs` keeps in the repository directory.
    pub(super) fn forget_lfs(&self) {
        // After a failure the failure is what matters, and the directory goes with what failed.
        let _ = self.configure(&self.configuration());
        let _ = std::fs::remove_dir_all(through(self.request.dest).join(self.repository).join("lfs"));
    }

    /// What it fetches from.
    pub(super) fn from(&self) -> &Address {
        self.from
    }

    /// Our configuration. The path is good for every process of ours in every directory.
    fn configured(&self) -> PathBuf {
        through(self.request.dest).join(self.repository).join(CONFIGURATION)
    }

    pub(super) fn request(&self) -> &Request<'a> {
        self.request
    }

    fn configuration(&self) -> String {
        let stall = self.request.stall.as_secs().max(1);
        let text = format!(
            "[core]\n\thooksPath = /dev/null\n\tfsmonitor = false\n\tattributesFile = /dev/null\n\
             \tprotectHFS = true\n\tprotectNTFS = true\n[safe]\n\tdirectory = *\n[gc]\n\tauto = 0\n\
             [maintenance]\n\tauto = false\n[fetch]\n\trecurseSubmodules = false\n\
             [submodule]\n\trecurse = false\n[advice]\n\tdetachedHead = false\n[http]\n\
             \tlowSpeedLimit = 1\n\tlowSpeedTime = {stall}\n"
        );
        match self.secret_of(SecretKind::Password) {
            Some(secret) => {
                let helper = format!("!f() {{ test \\\"$1\\\" = get && cat {secret}; }}; f");
                let origin = self.request.address.origin();
                format!("{text}[credential \"{origin}\"]\n\thelper = \"{helper}\"\n")
            }
            None => text,
        }
    }

    fn secret_of(&self, kind: SecretKind) -> Option<String> {
        self.secret.as_ref().filter(|secret| secret.kind == kind).map(Secret::path)
    }

    fn ssh(&self) -> String {
        let seconds = self.request.stall.as_secs().clamp(1, 30);
        let text = format!(
            "ssh -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout={seconds} \
             -o ServerAliveInterval={seconds} -o ServerAliveCountMax=3"
        );
        match self.secret_of(SecretKind::Key) {
            Some(key) => format!("{text} -o IdentitiesOnly=yes -o IdentityAgent=none -i {key}"),
            None => text,
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let allowed = match self.request.address.scheme() {
            Scheme::Https => "https",
            Scheme::Http => "http:https",
            Scheme::Ssh => "ssh",
            Scheme::File => "file",
        };
        let mut command = Command::new("git");
        command
            .args(args)
            .env_clear()
            .envs(KEPT.iter().filter_map(|key| Some((key, std::env::var_os(key)?))))
            .env("LC_ALL", "C.UTF-8")
            .env("LANGUAGE", "")
            .env("HOME", "/nonexistent")
            .env("GIT_DIR", self.repository)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.configured())
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", allowed)
            .env("GIT_SSH_COMMAND", self.ssh())
            .current_dir(through(self.request.dest))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        (self.request.prepare)(&mut command);
        command
    }

    /// Runs a command that prints nothing of interest.
    pub(super) fn quiet(&self, args: &[&str]) -> Result<(), GitError> {
        self.run(args, Output::None).map(drop)
    }

    /// Runs a command to its end and returns what it printed; fails if it failed.
    pub(super) fn run(&self, args: &[&str], output: Output) -> Result<Vec<u8>, GitError> {
        self.attempt(args, output)?.map_err(|words| self.failure(&words))
    }

    /// Like [`Git::run`], but a command that ended by itself with an error is an inner `Err` with its words.
    pub(super) fn attempt(&self, args: &[&str], output: Output) -> Result<Result<Vec<u8>, String>, GitError> {
        let child = self.command(args).spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => GitError::NoGit,
            _ => GitError::Start { what: "git", source },
        })?;
        let mut work = RunningGit::new(child, output.limit());
        let status = work.finish(self.request)?;
        let words = String::from_utf8_lossy(&work.words).into_owned();
        if status.success() {
            return Ok(Ok(std::mem::take(&mut work.printed)));
        }
        if let Some(number) = status.signal() {
            let signal =
                Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |s| s.to_string());
            let said = format!("git was ended by {signal}; the machine's own log may say why (`dmesg`)");
            return Err(GitError::Other { url: self.request.address.to_string(), said });
        }
        if words.contains("Operation too slow") {
            return Err(self.stalled());
        }
        Ok(Err(words))
    }

    fn stalled(&self) -> GitError {
        GitError::Stalled { url: self.request.address.to_string(), after: self.request.stall }
    }

    /// What git's words mean.
    pub(super) fn failure(&self, words: &str) -> GitError {
        let with_login = if self.secret.is_some() { WithLogin::Yes } else { WithLogin::No };
        GitError::from_words(self.request.address, with_login, words)
    }
}

/// A running git and what it said so far.
struct RunningGit {
    child: Child,
    ended: bool,
    limit: usize,
    printed: Vec<u8>,
    words: Vec<u8>,
    /// Bytes received, as the last progress line says.
    received: u64,
    heard_at: Instant,
}

impl RunningGit {
    fn new(child: Child, limit: usize) -> Self {
        let (printed, words) = (Vec::new(), Vec::new());
        Self { child, ended: false, limit, printed, words, received: 0, heard_at: Instant::now() }
    }

    fn finish(&mut self, request: &Request<'_>) -> Result<ExitStatus, GitError> {
        let failed = |source| GitError::Start { what: "git", source };
        let mut out = self.child.stdout.take();
        let mut err = self.child.stderr.take();
        for fd in out.iter().map(AsFd::as_fd).chain(err.iter().map(AsFd::as_fd)) {
            fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| failed(e.into()))?;
        }
        while out.is_some() || err.is_some() {
            wait(&[out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)]).map_err(failed)?;
            if let Some(pipe) = &mut out
                && self.read_available(pipe, Self::take_printed).map_err(failed)?
            {
                out = None;
            }
            if let Some(pipe) = &mut err
                && self.read_available(pipe, Self::take_words).map_err(failed)?
            {
                err = None;
            }
            self.report_progress(request);
            self.check_limits(request)?;
        }
        self.wait_exit(request)
    }

    /// Its pipes are closed, so it ends now; if not, the same limits hold.
    fn wait_exit(&mut self, request: &Request<'_>) -> Result<ExitStatus, GitError> {
        loop {
            if let Some(status) =
                self.child.try_wait().map_err(|source| GitError::Start { what: "git", source })?
            {
                self.ended = true;
                return Ok(status);
            }
            self.check_limits(request)?;
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Reads what is there; true at the end of the pipe.
    fn read_available(&mut self, pipe: &mut impl Read, take: fn(&mut Self, &[u8])) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(n) => {
                    self.heard_at = Instant::now();
                    take(self, &buffer[..n]);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn take_printed(&mut self, bytes: &[u8]) {
        let room = self.limit.saturating_sub(self.printed.len());
        self.printed.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take_words(&mut self, bytes: &[u8]) {
        self.words.extend_from_slice(bytes);
        if self.words.len() > 2 * WORDS {
            self.words.drain(..self.words.len() - WORDS);
        }
    }

    fn report_progress(&mut self, request: &Request<'_>) {
        let Some(received) = received(&self.words) else { return };
        if received > self.received {
            (request.watch.progress)(received - self.received, None);
            self.received = received;
        }
    }

    fn check_limits(&self, request: &Request<'_>) -> Result<(), GitError> {
        if (request.watch.stop)() {
            return Err(GitError::Stopped);
        }
        if self.heard_at.elapsed() > request.stall {
            return Err(GitError::Stalled { url: request.address.to_string(), after: request.stall });
        }
        Ok(())
    }
}

impl Drop for RunningGit {
    /// Whatever the reason, nothing of it goes on.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // It is gone already if this fails.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until one of the pipes has something, not longer than [`INTERVAL`].
fn wait(pipes: &[Option<std::os::fd::BorrowedFd<'_>>]) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> =
        pipes.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(INTERVAL).unwrap_or(PollTimeout::ZERO);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// The bytes in the last `Receiving objects:  12% (1/8), 1.20 MiB | 500 KiB/s`; of few objects git says `Unpacking`.
fn received(words: &[u8]) -> Option<u64> {
    let said = |what: &str| memchr::memmem::rfind(words, what.as_bytes());
    let from = said("Receiving objects:").max(said("Unpacking objects:"))?;
    let line = words[from..].split(|b| matches!(b, b'\r' | b'\n')).next()?;
    let text = std::str::from_utf8(line).ok()?;
    let amount = text.split("), ").nth(1)?.split(" | ").next()?.trim_end_matches(", done.");
    let (number, unit) = amount.trim().split_once(' ')?;
    let factor: u64 = match unit {
        "bytes" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let hundredths = format!("{fraction:0<2}").get(..2)?.parse::<u64>().ok()?;
    Some(whole.parse::<u64>().ok()?.checked_mul(factor)? + hundredths * factor / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_lines() {
        let check = |text: &str, expected| assert_eq!(received(text.as_bytes()), expected, "{text}");
        check("Receiving objects:  12% (1/8), 1.20 MiB | 500.00 KiB/s\r", Some(1_258_291));
        check("Receiving objects:   1% (1/8)\r", None);
        check("Receiving objects: 100% (8/8), 640 bytes | 640.00 KiB/s, done.\n", Some(640));
        check("Receiving objects: 100% (8/8), 2.00 GiB | 1.00 MiB/s, done.\nResolving deltas", Some(2 << 30));
        check("Unpacking objects:  50% (4/8), 1.00 KiB | 1.00 MiB/s\r", Some(1024));
        check("Receiving objects: 99% (8/8), lots", None);
        check("", None);
    }
}
