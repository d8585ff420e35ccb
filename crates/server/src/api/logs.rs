//! The log of a run, straight from its segment files: framed bytes for programs, server-sent events for people.
//!
//! ```text
//! a moment on a blocking thread: Reader ─► chunk of 256 KiB ─► channel ─► response     at the end: wait for the files
//! ```
//! Memory does not grow with the log: a slow client holds its reader back, and no thread waits for it.
mod encode;

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, header};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::ids::RunRef;
use vessl_core::logwire;
use vessl_core::wire::{ErrorBody, RunReadQuery, ServerSentEvent};
use vessl_data::log::{LogError, Reader, Stream};

use super::Api;
use super::error::{Failure, Result};
use super::events::last_id;
use super::extract::{Query, RunPath, switch};
use crate::attempt::{Attempts, Begin};
use crate::control::Changes;
use crate::registry::RegistryError;
use encode::Encoder;

/// Bytes that are sent at once.
const CHUNK: usize = 64 << 10;
/// Longest wait for the last line of a run that has its exit record.
const LAST_LINE: Duration = Duration::from_secs(10);

/// Which part of the log.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct LogQuery {
    /// Position to begin at: a resume token. The header `Last-Event-ID` says the same.
    #[serde(default, deserialize_with = "vessl_core::wire::position")]
    from: Option<u64>,
    /// Only the last lines.
    #[serde(default, deserialize_with = "vessl_core::wire::position")]
    tail: Option<u64>,
    /// Only one stream; `tail` then counts its lines.
    #[param(inline)]
    stream: Option<Stream>,
    /// Stay until the log is finished.
    #[serde(default, deserialize_with = "switch")]
    follow: bool,
    /// The log of this attempt, from 1; the current one without it.
    attempt: Option<u32>,
}

/// The log of a run: framed bytes with `Accept: application/vnd.vessl.log`, else server-sent events of `LogPiece`.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/logs", tag = "runs",
    operation_id = "readLog",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), LogQuery),
    responses(
        (
            status = 200,
            description = "the log: server-sent events whose `data` is a `LogPiece` as JSON, with `event: end` at the end \
                           of a finished log; or framed bytes",
            content((ServerSentEvent = "text/event-stream"), (String = "application/vnd.vessl.log")),
        ),
        (status = 404, description = "there is no such run", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(mut query): Query<LogQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    if let (None, Some(id)) = (query.from, last_id(&headers)?) {
        (query.from, query.tail) = (Some(id), None);
    }
    let (attempt, _) = api.control.attempt(&caller, &of, query.attempt).await?;
    let (changes, follow) = (api.control.attempts().follow_log(attempt), query.follow);
    let only = query.stream;
    let begin = match (query.from, query.tail) {
        (Some(position), _) => Begin::Position(position),
        (None, Some(lines)) => Begin::Tail(lines, only),
        (None, None) => Begin::First,
    };
    let reader = api.control.attempts().open_log(attempt, begin).await?;
    let framed = wants_frames(&headers);
    let mut encoder = if framed { Encoder::frames(only) } else { Encoder::events(only) };
    // Nothing of a log is ever taken away, so one that does not begin at its first byte is damaged.
    if matches!(begin, Begin::First) && reader.position() > 0 {
        encoder.lost(0, reader.position());
    }
    let (chunks, sent) = mpsc::channel(1);
    tokio::spawn(stream_log(
        LogStream { api, caller, of, attempt: attempt.number, changes, follow, chunks },
        reader,
        encoder,
    ));
    let body = Body::from_stream(stream::unfold(sent, |mut sent| async {
        let chunk = sent.recv().await?;
        Some((Ok::<Bytes, std::convert::Infallible>(chunk), sent))
    }));
    let kind = if framed { logwire::MEDIA_TYPE } else { "text/event-stream" };
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body).into_response())
}

fn wants_frames(headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepts.is_some_and(|value| value.contains(logwire::MEDIA_TYPE))
}

/// What moves a log from the files to one client.
struct LogStream {
    api: Api,
    caller: Caller,
    of: RunRef,
    attempt: u32,
    /// Signals of the files.
    changes: Changes,
    /// Whether the client stays for what comes.
    follow: bool,
    chunks: mpsc::Sender<Bytes>,
}

/// Sends until the log is finished, cannot go on, or the client is gone.
async fn stream_log(mut log_stream: LogStream, mut reader: Reader, mut encoder: Encoder) {
    loop {
        // Both before the files are read: what a run that has ended wrote is then all there, and no end is missed.
        let run = log_stream.api.control.follow(log_stream.of.id);
        let ended = log_stream.has_ended().await;
        // The last line is written right after the exit record: it comes, also for who does not follow.
        let last_line = ended && run.is_some() && Attempts::has_ended(&reader);
        let over = !last_line && (ended || run.is_none() || !log_stream.follow);
        let went = loop {
            let read = tokio::task::spawn_blocking(move || {
                let went = read_on(&mut reader, &mut encoder);
                (went, reader, encoder)
            });
            let Ok((went, back, kept)) = read.await else { return };
            (reader, encoder) = (back, kept);
            if encoder.len() > 0 && !log_stream.send(encoder.take()).await {
                return;
            }
            if !matches!(went, Went::Full) {
                break went;
            }
        };
        match went {
            Went::Dry if last_line => {
                if tokio::time::timeout(LAST_LINE, log_stream.wait(run)).await.is_err() {
                    return log_stream.end(&reader, &mut encoder).await;
                }
            }
            Went::Dry if !over => log_stream.wait(run).await,
            Went::Dry => {
                if ended {
                    log_stream.end(&reader, &mut encoder).await;
                }
                return;
            }
            Went::Failed => {
                encoder.note(
                    reader.position(),
                    "the log cannot be read on from here: the server's log says why",
                );
                log_stream.send(encoder.take()).await;
                return;
            }
            Went::Full | Went::Finished => return,
        }
        if log_stream.chunks.is_closed() || log_stream.api.control.stopping().is_cancelled() {
            return;
        }
    }
}

impl LogStream {
    /// Waits for the client to take what was sent before; false if there is nobody to send to.
    async fn send(&self, chunk: Bytes) -> bool {
        let stopping = self.api.control.stopping();
        tokio::select! {
            sent = self.chunks.send(chunk) => sent.is_ok(),
            () = stopping.cancelled() => false,
        }
    }

    /// Whether the run has ended, or is gone: nobody writes any more.
    async fn has_ended(&self) -> bool {
        let ended = self.api.control.attempt(&self.caller, &self.of, Some(self.attempt)).await;
        ended.map_or(true, |(_, ended)| ended)
    }

    /// Says why the log of a run that has ended has no end.
    async fn end(&self, reader: &Reader, encoder: &mut Encoder) {
        if let Some((at, words)) = self.no_end(reader).await {
            encoder.note_at(at, reader.position(), &words);
            self.send(encoder.take()).await;
        }
    }

    /// Why the log of a run that has ended has no end, and when it ended.
    async fn no_end(&self, reader: &Reader) -> Option<(Timestamp, String)> {
        let run = self.api.control.run(&self.caller, &self.of, RunReadQuery::default()).await.ok()?;
        let past = run.attempts.into_iter().find(|past| past.attempt == self.attempt);
        let (reason, ended_at) =
            past.map_or((run.reason, run.ended_at), |past| (past.reason, Some(past.ended_at)));
        let words = if Attempts::has_ended(reader) {
            format!("the rest of the log is damaged or lost: it has no end; the run ended: {reason}")
        } else if reader.dir().exists() {
            format!("the log stops here: {reason}")
        } else {
            format!("there is no log: {reason}")
        };
        Some((ended_at.unwrap_or(run.created_at), words))
    }

    /// Waits for a change of the files or of the run.
    async fn wait(&mut self, mut run: Option<watch::Receiver<u64>>) {
        let stopping = self.api.control.stopping();
        let run = async {
            match &mut run {
                Some(run) => drop(run.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.changes.changed() => {}
            () = run => {}
            () = self.chunks.closed() => {}
            () = stopping.cancelled() => {}
        }
    }
}

/// How far a reading came.
enum Went {
    /// As far as one chunk has room.
    Full,
    /// To the end of what is there.
    Dry,
    /// To the end of the log.
    Finished,
    /// To where the files cannot be read on.
    Failed,
}

/// Encodes what comes next, up to one chunk.
fn read_on(reader: &mut Reader, encoder: &mut Encoder) -> Went {
    loop {
        let before = reader.position();
        match reader.batch() {
            Ok(batch) => {
                for record in batch {
                    encoder.record(&record);
                    if encoder.len() >= CHUNK {
                        return Went::Full;
                    }
                }
            }
            Err(LogError::Damaged { from, to, .. }) => encoder.lost(from, to),
            Err(LogError::LeftOut { from, to }) => encoder.left_out(from, to),
            Err(error) => {
                tracing::warn!(error = %crate::chain(&error), "a log cannot be read on");
                return Went::Failed;
            }
        }
        if reader.is_finished() {
            encoder.end(reader.position());
            return Went::Finished;
        }
        if reader.position() == before {
            return Went::Dry;
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        RegistryError::Read(std::io::Error::other(error)).into()
    }
}
