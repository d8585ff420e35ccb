//! The first process of the script: from the order to `execve`. Everything that can go wrong before the shell runs is
//! told in words.
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid};
use vessl_core::record::{InitConfig, MARK_FD};

use crate::account::Account;
use crate::program::{self, Program, c_strings};
use crate::refusal::Refusal;

/// The script as the shell sees it; the name stands in the shell's own messages.
const SCRIPT: &str = "/.vessl/script";
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

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
            program::report(told, &refusal);
            std::process::exit(refusal.exit_code)
        }
        ForkResult::Parent { child } => {
            drop((marks, told));
            program::receive(status).map_or(Ok(child), Err)
        }
    }
}

fn program(config: &InitConfig) -> Result<Program, Refusal> {
    let Some(script) = &config.script else {
        return Program::of(&config.argv, &config.env);
    };
    let env = c_strings(&config.env)?;
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
        Ok(()) => program::execute(program),
        Err(refusal) => refusal,
    }
}

fn prepare((config, account): (&InitConfig, &Account), marks: &OwnedFd) -> Result<(), Refusal> {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    nix::unistd::setsid().map_err(|error| Refusal::os("make a session", error))?;
    // The kernel shall choose the script before init when memory is short; where it refuses, nothing is lost.
    let _ = std::fs::write("/proc/self/oom_score_adj", "100");
    program::default_signals().map_err(|error| Refusal::os("reset signals", error))?;
    program::duplicate(marks, MARK_FD).map_err(|error| Refusal::os("pass a descriptor", error))?;
    let entered = nix::unistd::chdir(config.workdir.as_str());
    account.become_it()?;
    // The directory may be open to the user alone, or to root alone: either is enough.
    entered
        .or_else(|_| nix::unistd::chdir(config.workdir.as_str()))
        .map_err(|error| Refusal::os(&format!("enter the working directory `{}`", config.workdir), error))
}
