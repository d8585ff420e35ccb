//! Keeps the log and the events of a run, which come on two ways, in the order of their times. It fetches neither.
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

/// What the events have told so far.
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
struct Untold {
    at: Timestamp,
    status: Status,
    words: String,
    /// When it waits no longer.
    due: Instant,
}

/// The order of what is shown of a run, and the place where it is shown.
pub(super) struct Order<'o> {
    out: &'o Out,
    bars: RefCell<Bars>,
    known: watch::Sender<Known>,
    untold: RefCell<VecDeque<Untold>>,
    /// Whether the commands have said anything.
    begun: Cell<bool>,
    /// Records up to this time (nanoseconds since 1970) are not held: one just before them waited in vain.
    free_until: Cell<u64>,
}

impl<'o> Order<'o> {
    pub(super) fn new(out: &'o Out) -> Self {
        Self {
            out,
            bars: RefCell::new(Bars::new(out)),
            known: watch::Sender::new(Known { status: Status::Queued, at_ns: 0 }),
            untold: RefCell::default(),
            begun: Cell::new(false),
            free_until: Cell::new(0),
        }
    }

    /// Takes an event; it is told when the lines before it have been.
    pub(super) fn hear(&self, event: &RunEvent) {
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
            self.untold.borrow_mut().push_back(Untold { at, status, words, due: Instant::now() + waits });
            self.tell(|event| event.due <= Instant::now());
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
        self.tell(|event| event.at.as_nanosecond() <= at_ns || (output && event.status <= Status::Running));
        self.bars.borrow_mut().clear();
    }

    /// Tells the events whose lines did not come in time; never ends.
    pub(super) async fn tell_overdue(&self) {
        let mut known = self.known.subscribe();
        loop {
            let due = self.untold.borrow().front().map(|event| event.due);
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                // The order holds the sender, so this does not fail.
                None => drop(known.changed().await),
            }
            self.tell(|event| event.due <= Instant::now());
        }
    }

    /// Lets every line come at once: the run has ended.
    pub(super) fn end(&self) {
        self.known.send_modify(|known| known.at_ns = i128::MAX);
    }

    /// Tells what is left.
    pub(super) fn tell_rest(&self) {
        self.tell(|_| true);
        self.bars.borrow_mut().clear();
    }

    fn tell(&self, is_next: impl Fn(&Untold) -> bool) {
        let mut untold = self.untold.borrow_mut();
        while let Some(event) = untold.pop_front_if(|event| is_next(event)) {
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

    fn take(order: &Order<'_>, at_ns: i64, status: Option<Status>) {
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(at_ns);
        order.take(at, status.map(|status| (status, String::new())));
    }

    fn untold(order: &Order<'_>) -> Vec<Status> {
        order.untold.borrow().iter().map(|event| event.status).collect()
    }

    /// A record is held back until an event has come, and no longer.
    async fn is_held_until(order: &Order<'_>, record: Record, at_ns: i64, status: Option<Status>) {
        let mut turn = pin!(order.turn_of(&record));
        assert!(futures::poll!(turn.as_mut()).is_pending(), "{record:?}");
        take(order, at_ns, status);
        assert!(futures::poll!(turn.as_mut()).is_ready(), "{record:?}");
    }

    async fn is_free(order: &Order<'_>, record: Record) {
        let turn = pin!(order.turn_of(&record));
        assert!(futures::poll!(turn).is_ready(), "{record:?}");
    }

    fn run(test: impl Future<Output = ()>) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
    }

    #[test]
    fn a_log_stays_behind_the_events_that_belong_before_it() {
        let out = Out::new(Format::Table);
        let order = Order::new(&out);
        run(async {
            is_held_until(&order, record(5, Stream::System), 5, None).await;
            is_held_until(&order, record(6, Stream::Stdout), 7, Some(Status::Running)).await;
            assert_eq!(untold(&order), [], "the commands run before they say anything");
            for free in [record(7, Stream::System), record(9, Stream::Stdout), record(9, Stream::Stderr)] {
                is_free(&order, free).await;
            }
            order.turn_of(&record(8, Stream::System)).await;
            is_free(&order, record(9, Stream::System)).await;
            let later = record(1_000_000_000, Stream::System);
            is_held_until(&order, later, 8, Some(Status::Completed)).await;
        });
    }

    #[test]
    fn an_event_stays_behind_the_lines_that_belong_before_it() {
        let out = Out::new(Format::Table);
        let order = Order::new(&out);
        run(async {
            let mut overdue = pin!(order.tell_overdue());
            take(&order, 1, Some(Status::Pending));
            assert_eq!(untold(&order), [], "there is no log yet");
            take(&order, 2, Some(Status::Running));
            take(&order, 5, Some(Status::Idle));
            is_free(&order, record(3, Stream::Stdout)).await;
            is_free(&order, record(4, Stream::Stderr)).await;
            assert_eq!(untold(&order), [Status::Idle]);
            is_free(&order, record(5, Stream::System)).await;
            assert_eq!(untold(&order), []);
            take(&order, 6, Some(Status::Stopping));
            assert!(futures::poll!(overdue.as_mut()).is_pending());
            assert_eq!(untold(&order), [Status::Stopping]);
            tokio::time::advance(EVENT_WAITS * 2).await;
            assert!(futures::poll!(overdue.as_mut()).is_pending());
            assert_eq!(untold(&order), [], "no line came");
            take(&order, 7, Some(Status::Stopping));
            order.tell_rest();
            assert_eq!(untold(&order), []);
        });
    }
}
