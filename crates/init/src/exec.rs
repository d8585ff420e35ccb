//! A program beside the commands, asked for from outside: its terminal or pipes, its user, a session of its own. It has what init has
//! of rights and limits, because it is init's child; nothing of the machine enters the container for it.
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Gid, Pid};
use vessl_core::account;
use vessl_core::door::{self, Exec, TerminalSize};

use crate::account::Account;
use crate::program::{self, Program};
use crate::refusal::Refusal;

/// Largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const ACCOUNTS: u64 = 4 << 20;
/// The group that may write to terminals, in every distribution.
const TTY: u32 = 5;

/// A program that is on its way to `execve`.
pub(crate) struct Started {
    /// Also its session and its process group.
    pub(crate) pid: Pid,
    /// For whoever asked.
    pub(crate) ends: Vec<OwnedFd>,
    /// Reaches its end when the program was executed; before it comes what [`program::report`] writes.
    pub(crate) status: File,
}

/// What the program has as 0, 1 and 2, and the other ends.
struct Ends {
    theirs: [OwnedFd; 3],
    ours: Vec<OwnedFd>,
    /// Whether `theirs` is a terminal.
    terminal: bool,
}

/// Starts it as `own`, unless the ask names another user.
pub(crate) fn start(exec: &Exec, own: &Account) -> Result<Started, Refusal> {
    let mut env = exec.env.clone();
    let account = match &exec.user {
        None => own.clone(),
        Some(name) => {
            let user = user(name)?;
            door::set(&mut env, "HOME", &user.home);
            Account::of_user(&user)
        }
    };
    let env: Vec<String> = env.iter().map(|variable| variable.expose().to_owned()).collect();
    let program = Program::of(&exec.argv, &env)?;
    let ends = match exec.terminal {
        Some(size) => terminal(size, &account).map_err(|error| Refusal::os("make a terminal", error))?,
        None => pipes().map_err(|error| Refusal::os("make a pipe", error))?,
    };
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|error| Refusal::os("make a pipe", error));
    let (status, told) = pipe()?;
    // SAFETY: init has one thread, so the child may do whatever a process may.
    #[allow(unsafe_code)]
    let fork = unsafe { nix::unistd::fork() }.map_err(|error| Refusal::os("start a process", error))?;
    match fork {
        ForkResult::Child => {
            let refusal = match prepare(exec, &account, &ends) {
                Ok(()) => program::execute(&program),
                Err(refusal) => refusal,
            };
            program::report(told, &refusal);
            std::process::exit(refusal.exit_code)
        }
        ForkResult::Parent { child } => {
            drop(told);
            // If that fails, init waits for the program a little longer than it should.
            let _ = fcntl(&status, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
            Ok(Started { pid: child, ends: ends.ours, status: status.into() })
        }
    }
}

fn user(name: &str) -> Result<account::User, Refusal> {
    let read = |path: &str| {
        let mut bytes = Vec::new();
        // Not there, or a pipe that nobody writes to, is as good as empty.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let _ = file.and_then(|file| file.take(ACCOUNTS).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    account::resolve(name, &read("/etc/passwd"), &read("/etc/group"))
        .map_err(|error| Refusal::new(error.to_string()))
}

fn pipes() -> nix::Result<Ends> {
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
    let ((stdin, to_stdin), (from_stdout, stdout), (from_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
    Ok(Ends {
        theirs: [stdin, stdout, stderr],
        ours: vec![to_stdin, from_stdout, from_stderr],
        terminal: false,
    })
}

/// A terminal of the container's own, which belongs to the user.
fn terminal(size: TerminalSize, account: &Account) -> nix::Result<Ends> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ours = nix::fcntl::open("/dev/ptmx", flags, Mode::empty())?;
    let unlocked: libc::c_int = 0;
    let window = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the calls read what they point to, and the descriptor is the one that was just opened.
    #[allow(unsafe_code)]
    let theirs = unsafe {
        Errno::result(libc::ioctl(ours.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked))?;
        Errno::result(libc::ioctl(ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const window))?;
        // By descriptor: whatever the run has put below /dev is not asked.
        let theirs = Errno::result(libc::ioctl(ours.as_raw_fd(), libc::TIOCGPTPEER, flags.bits()))?;
        OwnedFd::from_raw_fd(theirs)
    };
    // Where the group has no number here, the user alone has it; where the user has none, root's programs still work.
    if nix::unistd::fchown(theirs.as_fd(), Some(account.uid), Some(Gid::from_raw(TTY))).is_err() {
        let _ = nix::unistd::fchown(theirs.as_fd(), Some(account.uid), None);
    }
    nix::sys::stat::fchmod(&theirs, Mode::from_bits_truncate(0o620))?;
    let again = || theirs.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)));
    Ok(Ends { theirs: [again()?, again()?, theirs], ours: vec![ours], terminal: true })
}

/// In the child, before the program.
fn prepare(exec: &Exec, account: &Account, ends: &Ends) -> Result<(), Refusal> {
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    nix::unistd::setsid().map_err(|error| Refusal::os("make a session", error))?;
    if ends.terminal {
        // SAFETY: the descriptor is open, and the call takes a number.
        #[allow(unsafe_code)]
        let taken = unsafe { libc::ioctl(ends.theirs[0].as_raw_fd(), libc::TIOCSCTTY, 0) };
        Errno::result(taken).map_err(|error| Refusal::os("take the terminal", error))?;
    }
    let _ = std::fs::write("/proc/self/oom_score_adj", "100");
    program::default_signals().map_err(|error| Refusal::os("reset signals", error))?;
    for (number, end) in (0..).zip(&ends.theirs) {
        program::duplicate(end, number).map_err(|error| Refusal::os("pass a descriptor", error))?;
    }
    let entered = nix::unistd::chdir(exec.workdir.as_str());
    account.become_it()?;
    // The directory may be open to the user alone, or to root alone: either is enough.
    entered
        .or_else(|_| nix::unistd::chdir(exec.workdir.as_str()))
        .map_err(|error| Refusal::os(&format!("enter the directory `{}`", exec.workdir), error))
}
