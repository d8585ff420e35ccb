//! Staying with a run until it has ended: its events, its log, and what happens when the server or the person leaves.
use std::cell::{Cell, RefCell};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use vessl_core::plan::RunId;
use vessl_core::run::Status;
use vessl_core::wire::{RunEvent, RunView};

use crate::client::{Client, LogQuery, Next, Record, Stream};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::log::{LogForm, LogPrinter, Sink};
use crate::output::progress::Bars;
use crate::output::{Format, Out, views};

/// Pause before a stream that gave nothing is asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for the rest of the log of a run that has ended.
const REST: Duration = Duration::from_secs(10);

/// Longest wait of a line of the log for the event that belongs before it: both come at once, on two ways.
const BEHIND: Duration = Duration::from_millis(BEHIND_NS / 1_000_000);
const BEHIND_NS: u64 = 250_000_000;

/// How watching ended.
#[derive(Debug)]
pub(super) enum Watched {
    /// The run has ended; the last that the log said of it, as far as it was shown.
    Ended(Box<RunView>, String),
    /// A person left; the run goes on.
    Left,
}

/// Waits for the end of a run. Says nothing, except when the server is lost.
pub(super) async fn wait(client: &mut Client, id: RunId, out: &Out) -> Result<Watched> {
    let mut silent = |_: &RunEvent| {};
    tokio::select! {
        run = ended(client, id, out, &mut silent) => Ok(Watched::Ended(Box::new(run?), String::new())),
        left = left() => left.map(|()| Watched::Left),
    }
}

/// Prints the log of a run and tells its events until it has ended.
pub(super) async fn watch(client: &mut Client, id: RunId, out: &Out) -> Result<Watched> {
    let (bars, said) = (RefCell::new(Bars::new(out)), RefCell::default());
    let mut log_client = client.another();
    let sink = if out.format() == Format::Table { Sink::Result } else { Sink::Beside };
    let form = LogForm { sink, ..LogForm::default() };
    let (known, behind) = Behind::new();
    let beside = Follow::Beside(Beside { bars: &bars, said: &said, out, form, behind });
    let log = follow(&mut log_client, id, LogQuery::default(), beside);
    let mut tell = |event: &RunEvent| {
        told(event, &bars, out);
        if event.progress.is_none() {
            known.send_modify(|known| known.take(event.at, event.run.as_ref().map(|run| run.status)));
        }
    };
    let events = ended(client, id, out, &mut tell);
    tokio::pin!(log, events);
    let mut log_is_done = false;
    let run = loop {
        tokio::select! {
            run = &mut events => break run?,
            done = &mut log, if !log_is_done => {
                done?;
                log_is_done = true;
            }
            left = left() => return left.map(|()| Watched::Left),
        }
    };
    known.send_modify(|known| known.take(Timestamp::now(), Some(run.status)));
    if !log_is_done && let Ok(done) = tokio::time::timeout(REST, log).await {
        done?;
    }
    bars.borrow_mut().clear();
    Ok(Watched::Ended(Box::new(run), said.take()))
}

/// What a person who leaves is told.
pub(super) fn goodbye(id: RunId, out: &Out) -> Exit {
    out.note(&format!(
        "run {0} goes on; `vessl run logs -f {0}` follows it, `vessl run terminate {0}` stops it",
        id.0
    ));
    exit::INTERRUPTED
}

/// Prints the log of a run until the run has ended.
pub(super) async fn follow_to_the_end(
    client: &mut Client,
    id: RunId,
    query: LogQuery,
    who: Follow<'_>,
    out: &Out,
) -> Result<()> {
    follow(client, id, query, who).await?;
    // The log is finished an instant before the run has its end on record.
    ended(client, id, out, &mut |_| {}).await.map(drop)
}

/// Who reads a log, and how.
pub(super) enum Follow<'a> {
    /// Alone: what is said about a lost server is said here.
    Alone(&'a Out, LogForm),
    /// Beside the events of the run, which look after the server.
    Beside(Beside<'a>),
}

/// The place of a log beside the events of its run.
pub(super) struct Beside<'a> {
    bars: &'a RefCell<Bars>,
    /// The last line of the product in the log.
    said: &'a RefCell<String>,
    out: &'a Out,
    form: LogForm,
    behind: Behind,
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

/// Keeps a log behind the events that belong before it.
struct Behind {
    known: watch::Receiver<Known>,
    /// Whether the commands have said anything.
    begun: Cell<bool>,
    /// Records up to this time (nanoseconds since 1970) are not held: one just before them waited in vain.
    free_until: Cell<u64>,
}

impl Behind {
    fn new() -> (watch::Sender<Known>, Self) {
        let (sender, known) = watch::channel(Known { status: Status::Queued, at_ns: 0 });
        (sender, Self { known, begun: Cell::new(false), free_until: Cell::new(0) })
    }

    /// Waits until a record may be shown: a line of the product after the events up to its time, the first output of the
    /// commands after the event that they run.
    async fn turn_of(&self, record: &Record) {
        let output = record.stream != Stream::System;
        if (output && self.begun.replace(true)) || record.at_ns < self.free_until.get() {
            return;
        }
        let may = |known: &Known| {
            if output { known.status >= Status::Running } else { known.at_ns >= record.at_ns.into() }
        };
        let mut known = self.known.clone();
        // An event that does not come in time does not hold the log up, nor each of the lines of one moment.
        if tokio::time::timeout(BEHIND, known.wait_for(may)).await.is_err() {
            self.free_until.set(record.at_ns.saturating_add(BEHIND_NS));
        }
    }
}

/// Prints a log; one that is followed until it is finished, whatever happens to the server.
pub(super) async fn follow(client: &mut Client, id: RunId, query: LogQuery, who: Follow<'_>) -> Result<()> {
    let (out, form) = match &who {
        Follow::Alone(out, form) | Follow::Beside(Beside { out, form, .. }) => (*out, *form),
    };
    let follow = query.follow || matches!(who, Follow::Beside(..));
    let mut query = LogQuery { follow, ..query };
    let mut printer = LogPrinter::new(out, form);
    loop {
        let before = query.from;
        match pump(client, id, &mut query, &mut printer, &who).await {
            Ok(Next::NoMore) if !follow => break,
            Ok(Next::NoMore) if client.run(id).await.is_ok_and(|run| run.status.is_final()) => break,
            Ok(Next::NoMore | Next::Record(_)) => {}
            Ok(Next::Finished) => break,
            Err(e @ Error::Unreachable { .. }) if !follow => return Err(e),
            Err(Error::Unreachable { .. }) => match who {
                Follow::Alone(..) => client.recover(out).await?,
                Follow::Beside(..) => client.recover_quietly().await?,
            },
            Err(e) => return Err(e),
        }
        if query.from == before {
            tokio::time::sleep(PAUSE).await;
        }
    }
    printer.finish()
}

/// Prints one answer of the server; `query` is moved on, so that the next one continues.
async fn pump(
    client: &mut Client,
    id: RunId,
    query: &mut LogQuery,
    printer: &mut LogPrinter<'_>,
    who: &Follow<'_>,
) -> Result<Next> {
    let mut logs = client.logs(id, *query).await?;
    loop {
        match logs.next().await {
            Ok(Next::Record(record)) => {
                if let Follow::Beside(Beside { bars, behind, said, .. }) = who {
                    behind.turn_of(&record).await;
                    bars.borrow_mut().clear();
                    if record.stream == Stream::System {
                        said.replace(String::from_utf8_lossy(&record.bytes).trim_end().to_owned());
                    }
                }
                printer.record(&record)?;
                (query.from, query.tail) = (Some(record.next), None);
            }
            Ok(end) => return Ok(end),
            Err(reason) => return Err(client.lost(&reason)),
        }
    }
}

/// Follows the events of a run until one says that it has ended.
async fn ended(
    client: &mut Client,
    id: RunId,
    out: &Out,
    tell: &mut dyn FnMut(&RunEvent),
) -> Result<RunView> {
    let mut after = 0;
    loop {
        let before = after;
        match hear(client, id, &mut after, tell).await {
            Ok(Some(run)) => return Ok(run),
            Ok(None) => {}
            Err(Error::Unreachable { .. }) => client.recover(out).await?,
            Err(e) => return Err(e),
        }
        if after == before {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Hears one stream of events to its end.
async fn hear(
    client: &mut Client,
    id: RunId,
    after: &mut u64,
    tell: &mut dyn FnMut(&RunEvent),
) -> Result<Option<RunView>> {
    let mut events = client.events(id, *after).await?;
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                *after = event.seq.max(*after);
                tell(&event);
                if let Some(run) = event.run.filter(|run| run.status.is_final()) {
                    return Ok(Some(*run));
                }
            }
            Ok(None) => return Ok(Some(client.run(id).await?).filter(|run| run.status.is_final())),
            Err(reason) => return Err(client.lost(&reason)),
        }
    }
}

fn told(event: &RunEvent, bars: &RefCell<Bars>, out: &Out) {
    let mut bars = bars.borrow_mut();
    match (&event.progress, &event.run) {
        (Some(progress), _) => bars.step(progress),
        (None, Some(run)) => {
            bars.clear();
            if !run.status.is_final() {
                out.dim(&format!("vessl: {}", views::standing(run)));
            }
        }
        (None, None) => bars.clear(),
    }
}

/// Ends when a person presses Ctrl-C or the terminal goes away.
async fn left() -> Result<()> {
    tokio::signal::ctrl_c().await.map_err(Error::os("wait for Ctrl-C"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use jiff::SignedDuration;

    use super::*;

    fn record(at_ns: u64, stream: Stream) -> Record {
        Record { next: 0, at_ns, stream, bytes: bytes::Bytes::new() }
    }

    type Told = (i64, Option<Status>);

    /// A record is held back until an event has been told, and no longer.
    async fn is_held_until(behind: &Behind, known: &watch::Sender<Known>, record: Record, told: Told) {
        let (at, status) = told;
        let mut turn = pin!(behind.turn_of(&record));
        assert!(futures::poll!(turn.as_mut()).is_pending(), "{record:?}");
        known.send_modify(|known| known.take(Timestamp::UNIX_EPOCH + SignedDuration::from_nanos(at), status));
        assert!(futures::poll!(turn.as_mut()).is_ready(), "{record:?}");
    }

    #[test]
    fn a_log_stays_behind_the_events_that_belong_before_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let (known, behind) = Behind::new();
            is_held_until(&behind, &known, record(5, Stream::System), (5, None)).await;
            is_held_until(&behind, &known, record(6, Stream::Stdout), (7, Some(Status::Running))).await;
            for free in [record(7, Stream::System), record(9, Stream::Stdout), record(9, Stream::Stderr)] {
                assert!(futures::poll!(pin!(behind.turn_of(&free))).is_ready(), "{free:?}");
            }
            behind.turn_of(&record(8, Stream::System)).await;
            assert!(futures::poll!(pin!(behind.turn_of(&record(9, Stream::System)))).is_ready());
            let later = record(1_000_000_000, Stream::System);
            is_held_until(&behind, &known, later, (8, Some(Status::Completed))).await;
        });
    }
}
