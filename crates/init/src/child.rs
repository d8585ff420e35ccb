//! The first process of the script: from the order to `execve`. Everything that can go wrong before the shell runs is
//! told in words.
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid};
use vessl_core::record::{InitConfig, MARK_FD};

use crate::account::Account;
use crate::refusal::Refusal;

/// The script as the shell sees it; the name stands in the shell's own messages.
const SCRIPT: &str = "/.vessl/script";
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];
/// What the shell says when a program is not there.
const NOT_FOUND: i32 = 127;

/// What to execute, made before the fork.
struct Program {
    /// File and arguments, tried in this order.
    candidates: Vec<(CString, Vec<CString>)>,
    env: Vec<CString>,
    /// Said when no candidate exists.
    missing: String,
}

/// Starts the script and returns when its shell was executed. `marks` becomes descriptor [`MARK_FD`] of it.
pub(crate) fn start(config: &InitConfig, account: &Account, marks: OwnedFd) -> Result<Pid, Refusal> {
    let program = program(config)?;
    open_output_to(account);
    let (status, told) =
        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| Refusal::os("make a pipe", error))?;
    // SAFETY: init has one thread, so the child may do whatever a process may.
    #[allow(unsafe_code)]
    let fork = unsafe { nix::unistd::fork() }.map_err(|error| Refusal::os("start a process", error))?;
    match fork {
        ForkResult::Child => {
            let refusal = become_script((config, account), &program, &marks);
            report(told, &refusal);
            std::process::exit(refusal.exit_code)
        }
        ForkResult::Parent { child } => {
            drop((marks, told));
            receive(status).map_or(Ok(child), Err)
        }
    }
}

fn program(config: &InitConfig) -> Result<Program, Refusal> {
    let env = c_strings(&config.env)?;
    let Some(script) = &config.script else {
        return image_program(config, env);
    };
    write_script(script).map_err(|error| Refusal::new(format!("cannot write `{SCRIPT}`: {error}")))?;
    let shell = |name: &str| {
        // Each shell is called by its own name: bash called `sh` leaves its own mode.
        let argv = c_strings(&[name.to_owned(), SCRIPT.to_owned()])?;
        Ok((argv[0].clone(), argv))
    };
    Ok(Program {
        candidates: SHELLS.into_iter().map(shell).collect::<Result<_, Refusal>>()?,
        env,
        missing: "no shell in the image: neither `/bin/bash` nor `/bin/sh` is there".to_owned(),
    })
}

fn image_program(config: &InitConfig, env: Vec<CString>) -> Result<Program, Refusal> {
    let name = config.argv.first().ok_or_else(|| Refusal::new("there is no program to run".to_owned()))?;
    let argv = c_strings(&config.argv)?;
    let files = c_strings(&search(name, &config.env))?;
    Ok(Program {
        candidates: files.into_iter().map(|file| (file, argv.clone())).collect(),
        env,
        missing: format!("no program `{name}` in the image"),
    })
}

/// Where a program may be: itself if it has a slash, else each directory of `PATH`.
fn search(name: &str, env: &[String]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = env.iter().rev().find_map(|pair| pair.strip_prefix("PATH=")).unwrap_or_default();
    path.split(':').map(|dir| format!("{}/{name}", if dir.is_empty() { "." } else { dir })).collect()
}

fn c_strings(texts: &[String]) -> Result<Vec<CString>, Refusal> {
    let convert = |text: &String| CString::new(text.as_bytes());
    texts.iter().map(convert).collect::<Result<_, _>>().map_err(|_| {
        Refusal::new(
            "a variable or an argument holds a NUL character, which no program can be given".to_owned(),
        )
    })
}

fn write_script(text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(SCRIPT)?;
    file.write_all(text.as_bytes())
}

/// Lets `/dev/stdout` and `/dev/stderr` be opened again by name: by the script's user, and for writing by every other.
fn open_output_to(account: &Account) {
    for fd in [1, 2] {
        // SAFETY: descriptors 1 and 2 were passed by the agent and stay open for the life of the process.
        #[allow(unsafe_code)]
        let output = unsafe { BorrowedFd::borrow_raw(fd) };
        // Where it is not possible (a single mapped user), the open descriptors still work.
        let _ = nix::sys::stat::fchmod(output, Mode::from_bits_truncate(0o622));
        let _ = nix::unistd::fchown(output, Some(account.uid), Some(account.gid));
    }
}

/// Whether a process is still the shell of the script, and no program that took its place.
pub(crate) fn is_shell(pid: Pid) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    SHELLS.iter().any(|shell| arguments == format!("{shell}\0{SCRIPT}\0").as_bytes())
}

/// Runs in the child; returns only if the program could not be executed.
fn become_script(who: (&InitConfig, &Account), program: &Program, marks: &OwnedFd) -> Refusal {
    match prepare(who, marks) {
        Ok(()) => execute(program),
        Err(refusal) => refusal,
    }
}

fn prepare((config, account): (&InitConfig, &Account), marks: &OwnedFd) -> Result<(), Refusal> {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    nix::unistd::setsid().map_err(|error| Refusal::os("make a session", error))?;
    // The kernel shall choose the script before init when memory is short; where it refuses, nothing is lost.
    let _ = std::fs::write("/proc/self/oom_score_adj", "100");
    default_signals().map_err(|error| Refusal::os("reset signals", error))?;
    duplicate(marks, MARK_FD).map_err(|error| Refusal::os("pass a descriptor", error))?;
    let entered = nix::unistd::chdir(config.workdir.as_str());
    account.become_it()?;
    // The directory may be open to the user alone, or to root alone: either is enough.
    entered
        .or_else(|_| nix::unistd::chdir(config.workdir.as_str()))
        .map_err(|error| Refusal::os(&format!("enter the working directory `{}`", config.workdir), error))
}

/// Undoes what the Rust runtime, init and whoever started the agent changed.
fn default_signals() -> nix::Result<()> {
    for number in Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours.
        #[allow(unsafe_code)]
        unsafe { signal(number, SigHandler::SigDfl) }?;
    }
    SigSet::empty().thread_set_mask()
}

fn duplicate(from: &OwnedFd, to: i32) -> nix::Result<()> {
    // SAFETY: plain numbers; `to` is not owned by any object of this process.
    #[allow(unsafe_code)]
    let result = unsafe { libc::dup2(from.as_raw_fd(), to) };
    Errno::result(result).map(drop)
}

fn execute(program: &Program) -> Refusal {
    let mut last = None;
    for (file, argv) in &program.candidates {
        let Err(error) = nix::unistd::execve(file, argv, &program.env);
        if !matches!(error, Errno::ENOENT | Errno::ENOTDIR) {
            last = Some((file, error));
        }
    }
    let Some((file, error)) = last else {
        return Refusal { why: program.missing.clone(), exit_code: NOT_FOUND };
    };
    Refusal::os(&format!("run `{}`", file.to_string_lossy()), error)
}

/// Sends a refusal from the child to its parent: the exit code as one byte, then the words.
fn report(pipe: OwnedFd, refusal: &Refusal) {
    let mut bytes = vec![u8::try_from(refusal.exit_code).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(refusal.why.as_bytes());
    // If it cannot be told, the exit code still says that it failed.
    let _ = File::from(pipe).write_all(&bytes);
}

/// Waits until the child has executed its program (the pipe closes) or has told why not.
fn receive(pipe: OwnedFd) -> Option<Refusal> {
    let mut bytes = Vec::new();
    let read = File::from(pipe).read_to_end(&mut bytes);
    let (code, why) = bytes.split_first()?;
    let why = String::from_utf8_lossy(why).into_owned();
    read.ok().map(|_| Refusal { why, exit_code: i32::from(*code) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, env: &[&str], expected: &[&str]) {
        let env: Vec<String> = env.iter().map(ToString::to_string).collect();
        assert_eq!(search(name, &env), expected);
    }

    #[test]
    fn programs_are_searched_in_the_path() {
        check("/bin/x", &["PATH=/a"], &["/bin/x"]);
        check("./x", &["PATH=/a"], &["./x"]);
        check("x", &["PATH=/a:/b"], &["/a/x", "/b/x"]);
        check("x", &["PATH=/a", "PATH=/b"], &["/b/x"]);
        check("x", &["PATH=:/b"], &["./x", "/b/x"]);
    }

    #[test]
    fn text_with_nul_is_refused() {
        assert!(c_strings(&["a\0b".to_owned()]).is_err());
    }

    #[test]
    fn a_refusal_crosses_the_pipe() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let refusal = Refusal { why: "no".to_owned(), exit_code: NOT_FOUND };
        report(write, &refusal);
        assert_eq!(receive(read), Some(refusal));
    }
}
