//! Blocking work beside the event loop: one thread that reports by events and can be cancelled, while the event loop keeps
//! answering. It does not know what the work is.
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};
use vessl_core::record::EventKind;
use vessl_core::wire::Progress;

/// How long a cancelled task may take to end.
pub(crate) const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// Shortest time between two tellings of progress, in milliseconds.
const PROGRESS_EVERY_MS: u64 = 100;

/// What a task tells while it works.
#[derive(Clone, Debug)]
pub(crate) enum TaskEvent {
    /// A line for the log.
    Line(String),
    /// How far it is.
    Progress(Progress),
    /// Something for the record.
    Event(EventKind),
}

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TaskError {
    /// It was cancelled and did not end.
    #[error("it could not be stopped within {} s", CANCEL_LIMIT.as_secs())]
    Stuck,
    /// A bug in it.
    #[error("it ended by a bug of this program, see `agent.log`")]
    Panicked,
    /// The machine refused a thread or a descriptor.
    #[error("the machine refuses: {0}")]
    Os(#[from] io::Error),
}

/// What comes from a task.
pub(crate) enum Message<T> {
    /// On the way.
    Event(TaskEvent),
    /// Its result, at last.
    Done(std::thread::Result<T>),
}

/// A task's way to tell.
#[derive(Clone)]
pub(crate) struct Reporter {
    send: Arc<dyn Fn(TaskEvent) + Send + Sync>,
    began: Instant,
    /// Milliseconds after `began` at which the next progress is worth telling.
    due: Arc<AtomicU64>,
}

impl Reporter {
    /// One that hands everything to `send`.
    pub(crate) fn to(send: impl Fn(TaskEvent) + Send + Sync + 'static) -> Self {
        Self { send: Arc::new(send), began: Instant::now(), due: Arc::default() }
    }

    /// Tells the event loop. An event loop that has given the task up does not hear it.
    pub(crate) fn report(&self, event: TaskEvent) {
        (self.send)(event);
    }

    /// Tells how far something is; calls that come too soon are dropped.
    pub(crate) fn progress(&self, progress: Progress) {
        if self.is_due(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)) {
            self.report(TaskEvent::Progress(progress));
        }
    }

    /// Whether the time for another progress has come, `now` milliseconds after the beginning; then it is taken.
    fn is_due(&self, now: u64) -> bool {
        let next = |due: u64| (due <= now).then(|| now.saturating_add(PROGRESS_EVERY_MS));
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

/// A running task.
pub(crate) struct Task<T> {
    thread: JoinHandle<()>,
    messages: Receiver<Message<T>>,
    bell: Arc<EventFd>,
    cancel: Arc<AtomicBool>,
}

impl<T: Send + 'static> Task<T> {
    /// Starts `work`. It should look at the flag often and end soon once it is true.
    pub(crate) fn start(
        work: impl FnOnce(&Reporter, &AtomicBool) -> T + Send + 'static,
    ) -> Result<Self, TaskError> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let bell = Arc::new(EventFd::from_flags(flags).map_err(io::Error::from)?);
        let cancel = Arc::new(AtomicBool::new(false));
        let (sender, messages) = channel();
        let (ring, flag) = (bell.clone(), cancel.clone());
        let thread = std::thread::Builder::new().name("task".to_owned()).spawn(move || {
            let report = event_sender(sender.clone(), ring.clone());
            let reporter = Reporter { send: report, began: Instant::now(), due: Arc::default() };
            let result = catch_unwind(AssertUnwindSafe(|| work(&reporter, &flag)));
            send(&sender, &ring, Message::Done(result));
        })?;
        Ok(Self { thread, messages, bell, cancel })
    }

    /// What it tells next, if there is something; its descriptor is readable when more comes.
    pub(crate) fn next(&self) -> Option<Message<T>> {
        // An empty bell is no news.
        let _ = self.bell.read();
        self.messages.try_recv().ok()
    }

    /// Asks it to end.
    pub(crate) fn cancel(&self) {
        self.cancel.store(true, Ordering::SeqCst);
    }

    /// Waits for its thread, after it has sent its result: a caller that needs to be alone in its process relies on it.
    pub(crate) fn join(self) {
        // What it sent says how it ended.
        let _ = self.thread.join();
    }
}

impl<T> AsFd for Task<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

fn event_sender<T: Send + 'static>(
    sender: Sender<Message<T>>,
    bell: Arc<EventFd>,
) -> Arc<dyn Fn(TaskEvent) + Send + Sync> {
    Arc::new(move |event| send(&sender, &bell, Message::Event(event)))
}

fn send<T>(sender: &Sender<Message<T>>, bell: &EventFd, message: Message<T>) {
    if sender.send(message).is_ok() {
        // Its counter cannot be full: the event loop empties it at every look.
        let _ = bell.write(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_at_intervals_however_often_it_comes() {
        let reporter = Reporter::to(drop);
        let told: Vec<u64> = (0..=250).filter(|now| reporter.is_due(*now)).collect();
        assert_eq!(told, [0, 100, 200]);
    }
}
