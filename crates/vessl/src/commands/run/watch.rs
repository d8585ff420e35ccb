//! Follows a run to its end: its events, its log, and what to do when the server or the person goes away.
use std::cell::RefCell;
use std::time::Duration;

use vessl_core::ids::RunId;
use vessl_core::logwire::Stream;
use vessl_core::run::Status;
use vessl_core::wire::{RunEvent, RunView};

use super::interleaver::Interleaver;
use crate::client::{Client, LogQuery};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::log::Next;
use crate::output::log::{LogForm, LogPrinter, Sink};
use crate::output::{Format, Out};

/// Pause before a stream that gave nothing is asked for again.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for the rest of the log of a run that has ended.
const REST: Duration = Duration::from_secs(10);

/// How watching ended.
#[derive(Debug)]
pub(super) enum WatchResult {
    /// The run has ended; the last that the log said of it, as far as it was shown.
    Ended(Box<RunView>, String),
    /// A person left; the run goes on.
    Left,
}

/// Waits for the end of a run. Says nothing, except when the server is lost.
pub(super) async fn wait(client: &mut Client, id: RunId, out: &Out) -> Result<WatchResult> {
    let mut silent = |_: &RunEvent| {};
    tokio::select! {
        run = ended(client, id, out, &mut silent) => Ok(WatchResult::Ended(Box::new(run?), String::new())),
        left = left() => left.map(|()| WatchResult::Left),
    }
}

/// Prints the log of a run and tells its events until it has ended.
pub(super) async fn watch(client: &mut Client, id: RunId, out: &Out) -> Result<WatchResult> {
    let (interleaver, said) = (Interleaver::new(out), RefCell::default());
    let mut log_client = client.another();
    let sink = if out.format() == Format::Table { Sink::Result } else { Sink::Beside };
    let form = LogForm { sink, ..LogForm::default() };
    let beside = Follow::Beside(Beside { interleaver: &interleaver, said: &said, out, form });
    let log = follow(&mut log_client, id, LogQuery::default(), beside);
    let mut tell = |event: &RunEvent| interleaver.on_event(event);
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
            left = left() => return left.map(|()| WatchResult::Left),
            () = interleaver.print_overdue() => {}
        }
    };
    interleaver.end();
    if !log_is_done && let Ok(done) = tokio::time::timeout(REST, log).await {
        done?;
    }
    interleaver.print_rest();
    Ok(WatchResult::Ended(Box::new(run), said.take()))
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
    interleaver: &'a Interleaver<'a>,
    /// The last line of the product in the log.
    said: &'a RefCell<String>,
    out: &'a Out,
    form: LogForm,
}

/// Prints a log; one that is followed until it is finished, whatever happens to the server.
pub(super) async fn follow(client: &mut Client, id: RunId, query: LogQuery, who: Follow<'_>) -> Result<()> {
    let (out, form) = match &who {
        Follow::Alone(out, form) | Follow::Beside(Beside { out, form, .. }) => (*out, *form),
    };
    let follow = query.follow || matches!(who, Follow::Beside(..));
    if follow {
        client.follow();
    }
    let mut query = LogQuery { follow, ..query };
    let mut printer = LogPrinter::new(out, form);
    // A position belongs to one attempt.
    let first = if follow && query.attempt.is_none() { first_attempt(client, id, &who).await? } else { None };
    query.attempt = query.attempt.or(first);
    loop {
        let before = query.from;
        match pump(client, id, &mut query, &mut printer, &who).await {
            Ok(Next::NoMore) if !follow => break,
            Ok(Next::NoMore) if client.run(id).await.is_ok_and(|run| run.status.is_final()) => break,
            Ok(Next::Finished) if first.is_none() => break,
            Ok(Next::NoMore) if first.is_none() || !has_ended(client, id, &query).await => {}
            Ok(Next::Record(_)) => {}
            Ok(Next::Finished | Next::NoMore) => match next_attempt(client, id, query.attempt).await {
                Ok(None) => break,
                Ok(next) => query = LogQuery { attempt: next, from: None, tail: None, ..query },
                Err(Error::Unreachable { .. }) => {}
                Err(e) => return Err(e),
            },
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

/// The attempt that a log which is followed begins with; `None` for a run that is never tried again by itself.
async fn first_attempt(client: &mut Client, id: RunId, who: &Follow<'_>) -> Result<Option<u32>> {
    let run = loop {
        match client.run(id).await {
            Err(Error::Unreachable { .. }) if matches!(who, Follow::Beside(..)) => {
                client.recover_quietly().await?;
            }
            run => break run?,
        }
    };
    let first = if matches!(who, Follow::Beside(..)) { 1 } else { run.attempt };
    Ok(Some(first).filter(|_| run.retries > 0))
}

/// Whether the attempt whose log this is has ended without an end of its log.
async fn has_ended(client: &mut Client, id: RunId, query: &LogQuery) -> bool {
    let is_over = |run: RunView| query.attempt < Some(run.attempt) || run.status == Status::Queued;
    query.from.is_some() && client.run(id).await.is_ok_and(is_over)
}

/// The attempt after this one, as soon as there is one; `None` when the run has ended.
async fn next_attempt(client: &mut Client, id: RunId, attempt: Option<u32>) -> Result<Option<u32>> {
    loop {
        let run = client.run(id).await?;
        let next = attempt.map(|attempt| attempt.saturating_add(1));
        if next.is_none_or(|next| next <= run.attempt) {
            return Ok(next);
        }
        if run.status.is_final() {
            return Ok(None);
        }
        tokio::time::sleep(PAUSE).await;
    }
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
                if let Follow::Beside(Beside { interleaver, said, .. }) = who {
                    interleaver.turn_of(&record).await;
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
    on_event: &mut dyn FnMut(&RunEvent),
) -> Result<RunView> {
    client.follow();
    let mut after = 0;
    loop {
        let before = after;
        match read_events(client, id, &mut after, on_event).await {
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

/// Reads one stream of events to its end.
async fn read_events(
    client: &mut Client,
    id: RunId,
    after: &mut u64,
    on_event: &mut dyn FnMut(&RunEvent),
) -> Result<Option<RunView>> {
    let mut events = client.events(id, *after).await?;
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                *after = event.seq.max(*after);
                on_event(&event);
                if let Some(run) = event.run.filter(|run| run.status.is_final()) {
                    // Another attempt may have followed, or exports were written again. This connection still carries the events.
                    let now = client.another().run(id).await?;
                    match now.status.is_final() {
                        true if run.attempt > 1 => return Ok(Some(now)),
                        true if now.status == run.status => return Ok(Some(*run)),
                        _ => {}
                    }
                }
            }
            Ok(None) => return Ok(Some(client.run(id).await?).filter(|run| run.status.is_final())),
            Err(reason) => return Err(client.lost(&reason)),
        }
    }
}

/// Ends when a person presses Ctrl-C or the terminal goes away.
async fn left() -> Result<()> {
    tokio::signal::ctrl_c().await.map_err(Error::os("wait for Ctrl-C"))
}
