//! Merges the log and the events of a run into one output, in the order of their times. Each waits for the other, but not for
//! long. It fetches neither.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;
use vessl_core::logwire::Stream;
use vessl_core::run::Status;
use vessl_core::wire::{RunEvent, RunView};

use crate::log::Record;
use crate::output::Out;
use crate::output::progress::Bars;
use crate::output::views;

/// Longest wait of a line of the log for the event that belongs before it.
const LINE_WAITS: Duration = Duration::from_millis(LINE_WAITS_NS / 1_000_000);
const LINE_WAITS_NS: u64 = 250_000_000;
/// Longest wait of an event for the lines that belong before it.
const EVENT_WAITS: Duration = Duration::from_millis(500);

/// Why a run is where it is; of one that is kept also how it ends.
fn words(run: &RunView) -> String {
    let end = match run.status {
        Status::Idle => format!(" (`vessl run terminate {}`)", run.id.0),
        _ => String::new(),
    };
    format!("{}{end}", views::standing(run))
}

/// What the events said so far.
#[derive(Clone, Copy, Debug)]
struct Known {
    status: Status,
    at_ns: i128,
}

impl Known {
    fn take(&mut self, at: Timestamp, status: Option<Status>) {
        self.status = status.map_or(self.status, |status| status.max(self.status));
        // Behind the end nothing comes any more.
        let at_ns = if self.status.is_final() { i128::MAX } else { at.as_nanosecond() };
        self.at_ns = self.at_ns.max(at_ns);
    }
}

/// An event that waits for the lines before it.
struct Waiting {
    at: Timestamp,
    status: Status,
    words: String,
    /// When it waits no longer.
    due: Instant,
}

/// Prints the events of a run between the lines of its log.
pub(super) struct Interleaver<'o> {
    out: &'o Out,
    bars: RefCell<Bars>,
    known: watch::Sender<Known>,
    waiting: RefCell<VecDeque<Waiting>>,
    /// Whether the commands have said anything.
    begun: Cell<bool>,
    /// Records up to this time (nanoseconds since 1970) are not held: one just before them waited in vain.
    free_until: Cell<u64>,
}

impl<'o> Interleaver<'o> {
    pub(super) fn new(out: &'o Out) -> Self {
        Self {
            out,
            bars: RefCell::new(Bars::new(out)),
            known: watch::Sender::new(Known { status: Status::Queued, at_ns: 0 }),
            waiting: RefCell::default(),
            begun: Cell::new(false),
            free_until: Cell::new(0),
        }
    }

    /// Takes an event; it is printed after the lines that belong before it.
    pub(super) fn on_event(&self, event: &RunEvent) {
        if let Some(progress) = &event.progress {
            self.bars.borrow_mut().step(progress);
            return;
        }
        self.bars.borrow_mut().clear();
        self.take(event.at, event.run.as_ref().map(|run| (run.status, words(run))));
    }

    fn take(&self, at: Timestamp, standing: Option<(Status, String)>) {
        let status = standing.as_ref().map(|(status, _)| *status);
        if let Some((status, words)) = standing.filter(|(status, _)| !status.is_final()) {
            // Before there is an agent there are no lines.
            let waits = if status < Status::Initializing { Duration::ZERO } else { EVENT_WAITS };
            self.waiting.borrow_mut().push_back(Waiting { at, status, words, due: Instant::now() + waits });
            self.print(|event| event.due <= Instant::now());
        }
        self.known.send_modify(|known| known.take(at, status));
    }

    /// Waits until a record may be shown: a line of the product after the events up to its time, the first output of the
    /// commands after the event that they run.
    pub(super) async fn turn_of(&self, record: &Record) {
        let output = record.stream != Stream::System;
        let first = output && !self.begun.replace(true);
        if first || (!output && record.at_ns >= self.free_until.get()) {
            let may = |known: &Known| {
                if output { known.status >= Status::Running } else { known.at_ns >= record.at_ns.into() }
            };
            // An event that does not come in time does not hold the log up, nor each of the lines of one moment.
            let mut known = self.known.subscribe();
            if tokio::time::timeout(LINE_WAITS, known.wait_for(may)).await.is_err() {
                self.free_until.set(record.at_ns.saturating_add(LINE_WAITS_NS));
            }
        }
        let at_ns = i128::from(record.at_ns);
        self.print(|event| event.at.as_nanosecond() <= at_ns || (output && event.status <= Status::Running));
        self.bars.borrow_mut().clear();
    }

    /// Prints the events whose lines did not come in time; never ends.
    pub(super) async fn print_overdue(&self) {
        let mut known = self.known.subscribe();
        loop {
            let due = self.waiting.borrow().front().map(|event| event.due);
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                // The interleaver holds the sender, so this does not fail.
                None => drop(known.changed().await),
            }
            self.print(|event| event.due <= Instant::now());
        }
    }

    /// Lets every line come at once: the run has ended.
    pub(super) fn end(&self) {
        self.known.send_modify(|known| known.at_ns = i128::MAX);
    }

    /// Prints what is left.
    pub(super) fn print_rest(&self) {
        self.print(|_| true);
        self.bars.borrow_mut().clear();
    }

    fn print(&self, is_next: impl Fn(&Waiting) -> bool) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(event) = waiting.pop_front_if(|event| is_next(event)) {
            self.bars.borrow_mut().clear();
            self.out.dim(&format!("vessl: {}", event.words));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use jiff::SignedDuration;

    use super::*;
    use crate::output::Format;

    fn record(at_ns: u64, stream: Stream) -> Record {
        Record { next: 0, at_ns, stream, bytes: bytes::Bytes::new() }
    }

    fn take(interleaver: &Interleaver<'_>, at_ns: i64, status: Option<Status>) {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(at_ns);
        interleaver.take(at, status.map(|status| (status, String::new())));
    }

    fn waiting(interleaver: &Interleaver<'_>) -> Vec<Status> {
        interleaver.waiting.borrow().iter().map(|event| event.status).collect()
    }

    /// A record is held back until an event has come, and no longer.
    async fn is_held_until(
        interleaver: &Interleaver<'_>,
        record: Record,
        at_ns: i64,
        status: Option<Status>,
    ) {
        let mut turn = pin!(interleaver.turn_of(&record));
        assert!(futures::poll!(turn.as_mut()).is_pending(), "{record:?}");
        take(interleaver, at_ns, status);
        assert!(futures::poll!(turn.as_mut()).is_ready(), "{record:?}");
    }

    async fn is_free(interleaver: &Interleaver<'_>, record: Record) {
        let turn = pin!(interleaver.turn_of(&record));
        assert!(futures::poll!(turn).is_ready(), "{record:?}");
    }

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
    }

    #[test]
    fn a_log_stays_behind_the_events_that_belong_before_it() {
        let out = Out::new(Format::Table);
        let interleaver = Interleaver::new(&out);
        run(async {
            is_held_until(&interleaver, record(5, Stream::System), 5, None).await;
            is_held_until(&interleaver, record(6, Stream::Stdout), 7, Some(Status::Running)).await;
            assert_eq!(waiting(&interleaver), [], "the commands run before they say anything");
            for free in [record(7, Stream::System), record(9, Stream::Stdout), record(9, Stream::Stderr)] {
                is_free(&interleaver, free).await;
            }
            interleaver.turn_of(&record(8, Stream::System)).await;
            is_free(&interleaver, record(9, Stream::System)).await;
            let later = record(1_000_000_000, Stream::System);
            is_held_until(&interleaver, later, 8, Some(Status::Completed)).await;
        });
    }

    #[test]
    fn an_event_stays_behind_the_lines_that_belong_before_it() {
        let out = Out::new(Format::Table);
        let interleaver = Interleaver::new(&out);
        run(async {
            let mut overdue = pin!(interleaver.print_overdue());
            take(&interleaver, 1, Some(Status::Pending));
            assert_eq!(waiting(&interleaver), [], "there is no log yet");
            take(&interleaver, 2, Some(Status::Running));
            take(&interleaver, 5, Some(Status::Idle));
            is_free(&interleaver, record(3, Stream::Stdout)).await;
            is_free(&interleaver, record(4, Stream::Stderr)).await;
            assert_eq!(waiting(&interleaver), [Status::Idle]);
            is_free(&interleaver, record(5, Stream::System)).await;
            assert_eq!(waiting(&interleaver), []);
            take(&interleaver, 6, Some(Status::Stopping));
            assert!(futures::poll!(overdue.as_mut()).is_pending());
            assert_eq!(waiting(&interleaver), [Status::Stopping]);
            tokio::time::advance(EVENT_WAITS * 2).await;
            assert!(futures::poll!(overdue.as_mut()).is_pending());
            assert_eq!(waiting(&interleaver), [], "no line came");
            take(&interleaver, 7, Some(Status::Stopping));
            interleaver.print_rest();
            assert_eq!(waiting(&interleaver), []);
        });
    }
}
