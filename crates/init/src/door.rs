//! The socket on which somebody outside asks to reach in, see [`vessl_core::door`]. A connection has one ask; what is made for it leaves
//! as descriptors. Nothing here waits: a turn takes what is there.
//!
//! ```text
//! Asking ─┬─ Exec ──▶ Starting ─▶ Running ─▶ (Ended)
//!         ├─ Dial ──▶ Dialing ──▶ (Open | Refused)
//!         └─ Listen ────────────▶ (Open | Refused)
//! ```
use std::fs::File;
use std::io::{ErrorKind, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use vessl_core::door::{DoorAsk, DoorReply, MOST, Refused, Target};
use vessl_core::frame::{self, Frames};

use crate::account::Account;
use crate::dial::{self, Dial, Dialed};
use crate::exec;
use crate::refusal::Refusal;
use crate::session;

/// Number of the descriptor that the agent passes.
pub(crate) const DOOR_FD: i32 = 4;
/// Most connections, programs that run included.
const MOST_OPEN: usize = 1024;
/// Longest time from a connection to its ask.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The socket and its connections.
pub(crate) struct Door {
    listener: Option<UnixListener>,
    open: Vec<Connection>,
    own: Account,
}

struct Connection {
    socket: UnixStream,
    frames: Frames,
    state: State,
}

enum State {
    Asking {
        until: Instant,
    },
    Dialing(Dial),
    Starting {
        session: Session,
        ends: Vec<OwnedFd>,
        status: File,
        told: Vec<u8>,
    },
    Running(Session),
    /// Nothing is left to do.
    Over,
}

#[derive(Clone, Copy)]
struct Session {
    pid: Pid,
    hang_up: bool,
    /// Once it has ended.
    exit_code: Option<i32>,
}

impl Door {
    /// Takes the agent's descriptor; programs of the run will not inherit it.
    pub(crate) fn inherited(own: Account) -> Self {
        // SAFETY: called once; descriptor 4 was passed by the agent and nothing else owns it.
        #[allow(unsafe_code)]
        let listener = unsafe { UnixListener::from_raw_fd(DOOR_FD) };
        let closed = fcntl(&listener, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok();
        let usable = closed && listener.set_nonblocking(true).is_ok();
        Self { listener: usable.then_some(listener), open: Vec::new(), own }
    }

    /// What to wait for.
    pub(crate) fn watched(&self) -> impl Iterator<Item = PollFd<'_>> {
        let listener = self.listener.iter().filter(|_| self.has_room()).map(AsFd::as_fd);
        let fds = self.open.iter().flat_map(|connection| {
            let more = match &connection.state {
                State::Dialing(dial) => Some(PollFd::new(dial.as_fd(), PollFlags::POLLOUT)),
                State::Starting { status, .. } => Some(PollFd::new(status.as_fd(), PollFlags::POLLIN)),
                _ => None,
            };
            more.into_iter().chain([PollFd::new(connection.socket.as_fd(), PollFlags::POLLIN)])
        });
        listener.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).chain(fds)
    }

    /// When something has waited long enough.
    pub(crate) fn until(&self) -> Option<Instant> {
        let limits = self.open.iter().filter_map(|connection| match &connection.state {
            State::Asking { until } => Some(*until),
            State::Dialing(dial) => Some(dial.until),
            _ => None,
        });
        limits.min()
    }

    fn has_room(&self) -> bool {
        let waiting = self.open.iter().filter(|one| !matches!(one.state, State::Running(_))).count();
        waiting < MOST && self.open.len() < MOST_OPEN
    }

    /// Does what can be done now.
    pub(crate) fn turn(&mut self) {
        while self.has_room() {
            let Some(Ok((socket, _))) = self.listener.as_ref().map(UnixListener::accept) else { break };
            if socket.set_nonblocking(true).is_ok() {
                let state = State::Asking { until: Instant::now() + ASK_LIMIT };
                self.open.push(Connection { socket, frames: Frames::default(), state });
            }
        }
        for connection in &mut self.open {
            connection.turn(&self.own);
        }
        self.open.retain(|connection| !matches!(connection.state, State::Over));
    }

    /// A child of init has ended. Its number is not yet another's.
    pub(crate) fn ended(&mut self, pid: Pid, exit_code: i32) {
        for connection in &mut self.open {
            if let State::Starting { session, .. } | State::Running(session) = &mut connection.state
                && session.pid == pid
            {
                session.exit_code = Some(exit_code);
            }
        }
    }

    /// Tells every program that was started here, and those of its session, that its connection is lost.
    pub(crate) fn hang_up(&self) {
        for connection in &self.open {
            if let State::Running(session) = &connection.state {
                session::signal(session.pid, Signal::SIGHUP);
            }
        }
    }
}

impl Connection {
    fn turn(&mut self, own: &Account) {
        let hung_up = self.read(own).is_err();
        self.state = match std::mem::replace(&mut self.state, State::Over) {
            State::Asking { until } if !hung_up && Instant::now() < until => State::Asking { until },
            State::Dialing(dial) if !hung_up => self.dialed(dial.go_on()),
            State::Starting { session, ends, status, told } => self.starting(session, ends, status, told),
            State::Running(session) => self.running(session, hung_up),
            State::Asking { .. } | State::Dialing(_) | State::Over => State::Over,
        };
    }

    /// Takes in what was asked. `Err` if the other side has closed the connection or speaks something else.
    fn read(&mut self, own: &Account) -> Result<(), ()> {
        let mut bytes = [0; 8192];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(()),
                Ok(n) => self.frames.push(&bytes[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
            while let Some(ask) = self.frames.pop().map_err(|_| ())? {
                self.on_ask(ask, own);
            }
        }
    }

    fn on_ask(&mut self, ask: DoorAsk, own: &Account) {
        match (ask, &self.state) {
            (DoorAsk::Exec(exec), State::Asking { .. }) => {
                self.state = match exec::start(&exec, own) {
                    Ok(exec::Started { pid, ends, status }) => {
                        let session = Session { pid, hang_up: exec.hang_up, exit_code: None };
                        State::Starting { session, ends, status, told: Vec::new() }
                    }
                    Err(refusal) => self.not_started(refusal),
                };
            }
            (DoorAsk::Dial { to }, State::Asking { .. }) => self.state = self.dialed(dial::dial(to, own)),
            (DoorAsk::Listen { at }, State::Asking { .. }) => self.state = self.listens(&at, own),
            (DoorAsk::Signal { signal }, State::Running(session)) => {
                if let Ok(signal) = Signal::try_from(signal) {
                    session::signal(session.pid, signal);
                }
            }
            _ => {}
        }
    }

    fn dialed(&mut self, dialed: Dialed) -> State {
        match dialed {
            Dialed::Waits(dial) => return State::Dialing(dial),
            Dialed::Open(socket) => self.send(&DoorReply::Open, &[socket]),
            Dialed::Refused((why, because)) => self.send(&DoorReply::Refused { why, because }, &[]),
        };
        State::Over
    }

    fn listens(&mut self, at: &Target, own: &Account) -> State {
        match dial::listen(at, own) {
            Ok(listener) => self.send(&DoorReply::Open, &[listener]),
            Err((why, because)) => self.send(&DoorReply::Refused { why, because }, &[]),
        };
        State::Over
    }

    fn not_started(&mut self, Refusal { why, exit_code }: Refusal) -> State {
        self.send(&DoorReply::Refused { why, because: Refused::Program(exit_code) }, &[]);
        State::Over
    }

    /// A program is there once its status has come to the end without a word.
    fn starting(
        &mut self,
        session: Session,
        ends: Vec<OwnedFd>,
        mut status: File,
        mut told: Vec<u8>,
    ) -> State {
        match status.read_to_end(&mut told) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return State::Starting { session, ends, status, told };
            }
            _ => {}
        }
        match crate::program::parse(&told) {
            Some(refusal) => self.not_started(refusal),
            None if self.send(&DoorReply::Open, &ends) => self.running(session, false),
            None => self.running(session, true),
        }
    }

    fn running(&mut self, session: Session, hung_up: bool) -> State {
        if let Some(exit_code) = session.exit_code {
            self.send(&DoorReply::Ended { exit_code }, &[]);
            return State::Over;
        }
        if !hung_up {
            return State::Running(session);
        }
        if session.hang_up {
            session::signal(session.pid, Signal::SIGHUP);
        }
        State::Over
    }

    /// Whether it was sent: all or nothing, and nobody waits for a reader.
    fn send(&self, reply: &DoorReply, ends: &[OwnedFd]) -> bool {
        let Ok(bytes) = frame::encode(reply) else { return false };
        let raw: Vec<RawFd> = ends.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let with = if raw.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        let sent = sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(&bytes)], with, flags, None);
        sent.is_ok_and(|sent| sent == bytes.len())
    }
}
