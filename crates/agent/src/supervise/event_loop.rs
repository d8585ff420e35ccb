//! The one place where a supervisor waits: control requests, signals, and whatever else it is told to watch. It keeps
//! what people asked and what was written down; it does not know what the run is doing.
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use vessl_core::door::Surroundings;
use vessl_core::record::{Control, EventKind, Transfer};

use crate::record::Sink;
use crate::record::events::{Events, eprint_line};
use crate::record::journal::Journal;
use crate::record::progress::ProgressFile;
use crate::supervise::control::ControlSocket;
use crate::task::{CANCEL_LIMIT, Message, Task, TaskError, TaskEvent};

/// What can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventSource {
    /// A child may have ended.
    Child,
    /// A task has something to tell.
    Task,
    /// The socket to init.
    Link,
    /// The commands' standard output.
    Stdout,
    /// The commands' standard error.
    Stderr,
    /// The run has written too much.
    Scratch,
}

/// What somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// When the commands are killed.
    pub(crate) kill_at: Instant,
    /// Whether exports are written.
    pub(crate) export: bool,
}

/// Where a supervisor waits and writes.
#[derive(Debug)]
pub(crate) struct EventLoop {
    epoll: Epoll,
    signals: SignalFd,
    control: ControlSocket,
    /// Time between a signal to this process and the kill of the commands.
    grace: Duration,
    progress: ProgressFile,
    /// What happened.
    pub(crate) events: Events,
    /// The run's log.
    pub(crate) log: Journal,
    /// What was imported.
    pub(crate) imports: Vec<Transfer>,
    /// What was exported.
    pub(crate) exports: Vec<Transfer>,
    /// Set by the first request to stop; later ones can only make it stricter.
    pub(crate) stop: Option<Stop>,
    /// By how much the time limit was made longer since somebody looked.
    pub(crate) extended: Duration,
}

/// A clock cannot count further than this without care, and nobody waits longer.
const LONGEST_GRACE: Duration = Duration::from_hours(365 * 24);

const SIGNALS: u64 = 0;
const FIRST_SOURCE: u64 = 1;
const SOURCES: [EventSource; 6] = [
    EventSource::Child,
    EventSource::Task,
    EventSource::Link,
    EventSource::Stdout,
    EventSource::Stderr,
    EventSource::Scratch,
];
const CONTROL: u64 = 16;

impl EventLoop {
    /// Blocks the signals that end a process, and listens.
    pub(crate) fn open(sink: &Sink, events: Events, log: Journal, grace: Duration) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
        let control = ControlSocket::listen(sink.dir(), &epoll, CONTROL)?;
        let progress = sink.progress();
        Ok(Self {
            epoll,
            signals,
            control,
            grace,
            progress,
            events,
            log,
            imports: Vec::new(),
            exports: Vec::new(),
            stop: None,
            extended: Duration::ZERO,
        })
    }

    /// Watches `fd` as `source`.
    pub(crate) fn watch(&self, source: EventSource, fd: impl AsFd) -> io::Result<()> {
        let position = SOURCES.iter().position(|known| *known == source).unwrap_or_default() as u64;
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, FIRST_SOURCE + position))?)
    }

    /// From now on a program can be started beside the commands, with this; or no more.
    pub(crate) fn set_surroundings(&mut self, surroundings: Option<Surroundings>) {
        self.control.surroundings = surroundings;
    }

    /// The run directory, for who looks at what others write there.
    pub(crate) fn run_dir(&self) -> Option<OwnedFd> {
        self.control.dir().ok()
    }

    /// Watches `fd` no more.
    pub(crate) fn leave(&self, fd: impl AsFd) {
        // What is not watched needs no leave.
        let _ = self.epoll.delete(fd);
    }

    /// Waits until something is ready or `until` is there; control requests are served on the way. The kernel lists
    /// sources in the order in which they became ready, and so does this: it is the order of the log.
    pub(crate) fn wait(&mut self, until: Option<Instant>) -> io::Result<Vec<EventSource>> {
        let mut events = [EpollEvent::empty(); 16];
        let count = match self.epoll.wait(&mut events, timeout(until)) {
            Err(Errno::EINTR) => 0,
            other => other?,
        };
        let mut ready = Vec::with_capacity(count);
        for token in events[..count].iter().map(EpollEvent::data) {
            match token {
                SIGNALS => self.take_signals(),
                CONTROL => self.control.accept(&self.epoll),
                token if token > CONTROL => self.serve(token),
                token => ready.push(SOURCES[usize::try_from(token - FIRST_SOURCE).unwrap_or_default()]),
            }
        }
        Ok(ready)
    }

    /// Waits for a task. `limit` is asked after everything that happens: from that moment on the task is cancelled.
    pub(crate) fn attend<T: Send + 'static>(
        &mut self,
        task: Task<T>,
        mut limit: impl FnMut(&mut Self) -> Option<Instant>,
    ) -> Result<T, TaskError> {
        self.watch(EventSource::Task, &task)?;
        let result = self.until_done(&task, &mut limit);
        self.leave(&task);
        self.progress.over();
        let result = result?;
        task.join();
        result.map_err(|_| TaskError::Panicked)
    }

    fn until_done<T: Send + 'static>(
        &mut self,
        task: &Task<T>,
        limit: &mut impl FnMut(&mut Self) -> Option<Instant>,
    ) -> Result<std::thread::Result<T>, TaskError> {
        let mut give_up = None;
        loop {
            while let Some(message) = task.next() {
                match message {
                    Message::Event(event) => self.on_task_event(event),
                    Message::Done(result) => return Ok(result),
                }
            }
            let limit = limit(self);
            let now = Instant::now();
            if give_up.is_some_and(|at| at <= now) {
                return Err(TaskError::Stuck);
            }
            if give_up.is_none() && limit.is_some_and(|at| at <= now) {
                task.cancel();
                give_up = Some(now + CANCEL_LIMIT);
            }
            self.wait(give_up.or(limit))?;
        }
    }

    /// Passes on what a task tells.
    pub(crate) fn on_task_event(&mut self, event: TaskEvent) {
        match event {
            TaskEvent::Line(line) => self.log.report(&line),
            TaskEvent::Event(what) => self.record(what),
            TaskEvent::Progress(progress) => {
                if let Some(line) = self.progress.update(&progress) {
                    self.log.report(&line);
                }
            }
        }
    }

    fn record(&mut self, mut what: EventKind) {
        match &mut what {
            EventKind::Imported(transfer) => self.imports.push(masked(&self.log, transfer)),
            EventKind::Exported(transfer) => self.exports.push(masked(&self.log, transfer)),
            _ => {}
        }
        self.events.add(what);
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGHUP as u32 {
                self.ask_stop(Stop { kill_at: after(self.grace), export: true });
            } else if let Err(error) = self.control.renew(&self.epoll) {
                eprint_line(&format!("cannot listen anew on `control.sock`: {error}"));
            }
        }
    }

    fn serve(&mut self, token: u64) {
        for request in self.control.serve(token) {
            match request {
                Control::Ping | Control::Surroundings => {}
                Control::Note { line } => self.log.report(&line),
                Control::Extend { millis } => {
                    self.events.add(EventKind::Extended { millis });
                    self.extended = self.extended.saturating_add(Duration::from_millis(millis));
                }
                Control::Stop { grace_s, export } => {
                    self.ask_stop(Stop { kill_at: after(Duration::from_secs(grace_s)), export });
                }
            }
        }
    }

    fn ask_stop(&mut self, asked: Stop) {
        self.stop = Some(match self.stop {
            None => asked,
            Some(before) => {
                Stop { kill_at: before.kill_at.min(asked.kill_at), export: before.export && asked.export }
            }
        });
    }
}

fn after(grace: Duration) -> Instant {
    Instant::now() + grace.min(LONGEST_GRACE)
}

/// Hides secret values in the words of a transfer.
fn masked(log: &Journal, transfer: &mut Transfer) -> Transfer {
    transfer.label = log.masked(&transfer.label);
    transfer.error = transfer.error.as_ref().map(|error| log.masked(error));
    transfer.missing.iter_mut().for_each(|missing| *missing = log.masked(missing));
    transfer.clone()
}

/// Rounded up, so that nobody wakes before the time.
fn timeout(until: Option<Instant>) -> EpollTimeout {
    let Some(until) = until else {
        return EpollTimeout::NONE;
    };
    let millis = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    EpollTimeout::try_from(u32::try_from(millis).unwrap_or(u32::MAX).min(i32::MAX as u32))
        .unwrap_or(EpollTimeout::NONE)
}
