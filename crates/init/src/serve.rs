//! The loop of PID 1: the agent's requests, the script's marks, dead children, whoever reaches in. One thread, one `poll`.
//!
//! ```text
//! order → Running → Item… → (Stop asked: until the session is empty) → Ended → exit, or stay until asked
//!       → Refused → exit
//! ```
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use vessl_core::record::{InitAsk, InitConfig, InitReport, Mark, Marks};

use crate::account::Account;
use crate::child;
use crate::door::Door;
use crate::line::{Line, Received};
pub(crate) use crate::link::Gone;
use crate::link::Link;
use crate::refusal::Refusal;
use crate::say;
use crate::session;
use crate::stop::Stop;

/// How often the session is looked at while it is ending, in milliseconds: a process whose parent is not init ends
/// without init being told.
const ENDING_LOOK_MS: u16 = 20;

/// So many pieces of what is written to the script's socket are looked at in a turn, so that whoever floods it keeps init from nothing
/// else.
const PIECES: usize = 16;

/// What init keeps of a started script.
struct Script {
    /// Also its session and its process group.
    pid: Pid,
    /// Our end of the socket on which the script tells how far it is; nothing once its shell has ended.
    line: Option<Line>,
    marks: Marks,
    /// Exit code, once its first process has ended.
    code: Option<i32>,
    told: bool,
}

/// Whether the container goes on after the script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Exit,
    Stay,
}

/// Runs PID 1 to its end. `Err` if the agent went away.
pub(crate) fn run() -> Result<(), Gone> {
    let mut link = Link::inherited()?;
    // The payload shall not look into this process; without it only a debugger's view is lost.
    let _ = nix::sys::prctl::set_dumpable(false);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().map_err(|_| Gone)?;
    let children =
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(|_| Gone)?;
    let config = link.config()?;
    let after = if config.stay { After::Stay } else { After::Exit };
    let account = Account::of(&config);
    let door = Door::inherited(account.clone());
    let script = if config.script.is_none() && config.argv.is_empty() && config.stay {
        None
    } else {
        match start(&config, &account) {
            Ok(script) => Some(script),
            Err(refusal) => {
                return link.report(&InitReport::Refused { why: refusal.why, exit_code: refusal.exit_code });
            }
        }
    };
    drop(config);
    link.report(&InitReport::Running)?;
    Init { link, door, children, script, account, after, stop: None }.serve()
}

fn start(config: &InitConfig, account: &Account) -> Result<Script, Refusal> {
    let refused =
        |error: std::io::Error| Refusal { why: format!("cannot make a socket: {error}"), exit_code: 126 };
    let (ours, theirs) = Line::pair().map_err(refused)?;
    let pid = child::start(config, account, theirs)?;
    Ok(Script { pid, line: Some(ours), marks: Marks::new(config.items), code: None, told: false })
}

struct Init {
    link: Link,
    door: Door,
    children: SignalFd,
    script: Option<Script>,
    account: Account,
    after: After,
    /// Once it was asked for.
    stop: Option<Stop>,
}

impl Init {
    fn serve(mut self) -> Result<(), Gone> {
        while !self.is_over()? {
            let ready = self.wait()?;
            if ready.marks {
                self.read_marks()?;
            }
            if ready.children {
                self.reap()?;
            }
            if ready.asks && self.on_request()? {
                return Ok(());
            }
            self.door.turn();
            let leader = self.leader();
            if let Some(stop) = &mut self.stop {
                stop.go_on(leader, &self.account);
            }
        }
        Ok(())
    }

    /// The first process of the script, or nobody.
    fn leader(&self) -> Pid {
        self.script.as_ref().map_or(session::NOBODY, |script| script.pid)
    }

    fn wait(&self) -> Result<Ready, Gone> {
        let mut fds = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let line = self.script.as_ref().and_then(|script| script.line.as_ref());
        fds.extend(line.map(|line| PollFd::new(line.as_fd(), PollFlags::POLLIN)));
        let has_line = line.is_some();
        fds.extend(self.door.watched());
        match poll(&mut fds, self.longest_wait()) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Err(Gone),
        }
        let ready = |i: usize| fds.get(i).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready { asks: ready(0), children: ready(1), marks: has_line && ready(2) })
    }

    fn longest_wait(&self) -> PollTimeout {
        let ending = self.stop.is_some().then_some(ENDING_LOOK_MS);
        let door = self.door.until().map(|until| {
            // Rounded up, so that the time is over then.
            let millis = until.saturating_duration_since(Instant::now()).as_millis() + 1;
            u16::try_from(millis).unwrap_or(u16::MAX)
        });
        ending.into_iter().chain(door).min().map_or(PollTimeout::NONE, PollTimeout::from)
    }

    /// Tells the end of the script once, and says whether init is done.
    fn is_over(&mut self) -> Result<bool, Gone> {
        let Some(script) = &self.script else {
            return Ok(self.stop.is_some() && session::everybody(session::NOBODY).is_empty());
        };
        let Some(exit_code) = script.code else {
            return Ok(false);
        };
        if self.stop.is_some() && !session::everybody(script.pid).is_empty() {
            return Ok(false);
        }
        if !script.told {
            self.report_end(exit_code)?;
        }
        Ok(self.stop.is_some() || self.after == After::Exit)
    }

    fn report_end(&mut self, exit_code: i32) -> Result<(), Gone> {
        let Some(script) = &mut self.script else {
            return Ok(());
        };
        script.told = true;
        self.link.report(&script.marks.ended(exit_code))
    }

    fn read_marks(&mut self) -> Result<(), Gone> {
        for _ in 0..PIECES {
            if !self.read_mark()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads one piece of what was written to the script's socket, and tells of the items that begin in it. Whether there may be
    /// more.
    fn read_mark(&mut self) -> Result<bool, Gone> {
        let Some(script) = &mut self.script else { return Ok(false) };
        let Some(line) = &script.line else { return Ok(false) };
        match line.receive(script.pid) {
            Received::Nothing => return Ok(false),
            Received::End => script.line = None,
            Received::Others => {}
            Received::Shell(bytes) => {
                for mark in script.marks.feed(&bytes) {
                    if let Mark::Item(n) = mark {
                        self.link.report(&InitReport::Item { n })?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// Reads what the shell has written to its end. This comes before its number is given back: afterwards it could be another's.
    fn read_last_marks(&mut self) -> Result<(), Gone> {
        if let Some(line) = self.script.as_ref().and_then(|script| script.line.as_ref()) {
            line.close();
        }
        while self.read_mark()? {}
        Ok(())
    }

    fn reap(&mut self) -> Result<(), Gone> {
        // The signal only wakes; what has ended is asked of the kernel.
        while let Ok(Some(_)) = self.children.read_signal() {}
        while let Some((pid, code)) = first_to_reap() {
            if let Some(script) = self.script.as_mut().filter(|script| script.pid == pid) {
                script.code = Some(code);
                self.read_last_marks()?;
            }
            self.door.ended(pid, code);
            // Its status is known.
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
        Ok(())
    }

    /// Carries out the requests that have arrived; `true` to exit at once.
    fn on_request(&mut self) -> Result<bool, Gone> {
        self.link.fill()?;
        while let Some(ask) = self.link.ask()? {
            match ask {
                InitAsk::Exit => return Ok(true),
                InitAsk::Go => self.go(),
                InitAsk::Stop => self.stop(),
                InitAsk::StopRest => {
                    let leader = self.leader();
                    if let Some(stop) = &mut self.stop {
                        stop.tell_the_rest(leader);
                    }
                }
                InitAsk::Say { words } => say::on_terminals(&words),
                InitAsk::Signal { signal } => {
                    if let Ok(signal) = Signal::try_from(signal) {
                        self.signal(signal);
                    }
                }
            }
        }
        Ok(false)
    }

    fn go(&mut self) {
        if let Some(script) = &mut self.script
            && let Some(line) = &mut script.line
        {
            script.marks.expect(line.leave());
        }
    }

    fn stop(&mut self) {
        if self.stop.is_none() {
            self.door.hang_up();
            self.stop = Some(Stop::begin(self.leader(), &self.account));
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(script) = &self.script {
            session::signal(script.pid, signal);
        }
    }
}

/// A child that has ended, and its exit code (128+n for a signal). It keeps its number until it is reaped.
fn first_to_reap() -> Option<(Pid, i32)> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all zero is a valid `siginfo_t`, which the kernel fills in; of an ended child it has a number and a status.
    #[allow(unsafe_code)]
    let (pid, why, status) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        match libc::waitid(libc::P_ALL, 0, &raw mut info, options) {
            0 => (info.si_pid(), info.si_code, info.si_status()),
            _ => return None,
        }
    };
    let code = if why == libc::CLD_EXITED { status } else { 128 + status };
    (pid > 0).then_some((Pid::from_raw(pid), code))
}

struct Ready {
    asks: bool,
    children: bool,
    marks: bool,
}
