//! The loop of PID 1: the agent's requests, the script's marks, dead children. One thread, one `poll`.
//!
//! ```text
//! order → Running → Item… → (Stop asked: until the session is empty) → Ended → exit, or stay until asked
//!       → Refused → exit
//! ```
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use vessl_core::record::{InitAsk, InitOrder, InitReport, Mark, Marks};

use crate::child::{self, Refusal};
pub(crate) use crate::link::Gone;
use crate::link::Link;
use crate::session;

/// How often the session is looked at while it is ending, in milliseconds: a process whose parent is not init ends
/// without init being told.
const ENDING_LOOK_MS: u16 = 20;

/// What init keeps of a started script.
struct Script {
    /// Also its session and its process group.
    pid: Pid,
    /// Our end of the socket on which the script tells how far it is.
    line: Option<UnixStream>,
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
    let order = link.order()?;
    let after = if order.stay { After::Stay } else { After::Exit };
    let script = if order.script.is_none() && order.argv.is_empty() && order.stay {
        None
    } else {
        match start(&order) {
            Ok(script) => Some(script),
            Err(refusal) => {
                return link.say(&InitReport::Refused { why: refusal.why, exit_code: refusal.exit_code });
            }
        }
    };
    drop(order);
    link.say(&InitReport::Running)?;
    Init { link, children, script, after, stopping: false }.serve()
}

fn start(order: &InitOrder) -> Result<Script, Refusal> {
    let refused =
        |error: std::io::Error| Refusal { why: format!("cannot make a socket: {error}"), exit_code: 126 };
    let (ours, theirs) = UnixStream::pair().map_err(refused)?;
    ours.set_nonblocking(true).map_err(refused)?;
    let pid = child::start(order, OwnedFd::from(theirs))?;
    Ok(Script { pid, line: Some(ours), marks: Marks::default(), code: None, told: false })
}

struct Init {
    link: Link,
    children: SignalFd,
    script: Option<Script>,
    after: After,
    stopping: bool,
}

impl Init {
    fn serve(mut self) -> Result<(), Gone> {
        while !self.is_over()? {
            let ready = self.wait()?;
            if ready.marks {
                self.read_marks()?;
            }
            if ready.children {
                self.reap();
            }
            if ready.asks && self.obey()? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn wait(&self) -> Result<Ready, Gone> {
        let mut fds = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        let line = self.script.as_ref().and_then(|script| script.line.as_ref());
        fds.extend(line.map(|line| PollFd::new(line.as_fd(), PollFlags::POLLIN)));
        let ending = self.stopping && self.script.as_ref().is_some_and(|script| script.code.is_some());
        let timeout = if ending { PollTimeout::from(ENDING_LOOK_MS) } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return Err(Gone),
        }
        let ready = |i: usize| fds.get(i).and_then(PollFd::any).unwrap_or(false);
        Ok(Ready { asks: ready(0), children: ready(1), marks: ready(2) })
    }

    /// Tells the end of the script once, and says whether init is done.
    fn is_over(&mut self) -> Result<bool, Gone> {
        let Some(script) = &self.script else {
            return Ok(self.stopping);
        };
        let Some(exit_code) = script.code else {
            return Ok(false);
        };
        if self.stopping && !session::is_empty(script.pid) {
            return Ok(false);
        }
        if !script.told {
            self.read_marks()?;
            self.tell_end(exit_code)?;
        }
        Ok(self.stopping || self.after == After::Exit)
    }

    fn tell_end(&mut self, exit_code: i32) -> Result<(), Gone> {
        let Some(script) = &mut self.script else {
            return Ok(());
        };
        script.told = true;
        self.link.say(&script.marks.ended(exit_code))
    }

    fn read_marks(&mut self) -> Result<(), Gone> {
        let Some(script) = &mut self.script else {
            return Ok(());
        };
        let mut bytes = [0; 4096];
        while let Some(line) = &mut script.line {
            match line.read(&mut bytes) {
                Ok(0) => script.line = None,
                Ok(n) => {
                    for mark in script.marks.feed(&bytes[..n]) {
                        if let Mark::Item(n) = mark {
                            self.link.say(&InitReport::Item { n })?;
                        }
                    }
                }
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn reap(&mut self) {
        // The signal only wakes; what has ended is asked of the kernel.
        while let Ok(Some(_)) = self.children.read_signal() {}
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(script) = self.script.as_mut().filter(|script| script.pid == pid) {
                script.code = Some(code);
            }
        }
    }

    /// Carries out the requests that have arrived; `true` to exit at once.
    fn obey(&mut self) -> Result<bool, Gone> {
        self.link.fill()?;
        while let Some(ask) = self.link.ask()? {
            match ask {
                InitAsk::Exit => return Ok(true),
                InitAsk::Go => self.go(),
                InitAsk::Stop => {
                    self.stopping = true;
                    self.signal(Signal::SIGTERM);
                }
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
        // A shell that has ended meanwhile does not read it.
        if let Some(line) = self.script.as_mut().and_then(|script| script.line.as_mut()) {
            let _ = line.write_all(b"\n");
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(script) = &self.script {
            session::signal(script.pid, signal);
        }
    }
}

struct Ready {
    asks: bool,
    children: bool,
    marks: bool,
}
