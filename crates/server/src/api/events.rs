//! The events of a run as server-sent events, from any number on, until the run has ended.
use std::fmt::Write as _;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, header};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::ids::{AttemptId, RunRef};
use vessl_core::wire::{ErrorBody, RunEvent, RunEventKind, ServerSentEvent};

use super::Api;
use super::error::{Failure, Result};
use super::extract::{Query, RunPath};
use crate::control::Changes;

/// Where to begin.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct After {
    /// Only events after this number; the header `Last-Event-ID` says the same.
    #[serde(default, deserialize_with = "vessl_core::wire::position")]
    after: Option<u64>,
}

/// Events of a run as they happen; the stream ends when the run has ended.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/events", tag = "runs",
    operation_id = "streamRunEvents",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), After),
    responses(
        (
            status = 200, body = ServerSentEvent, content_type = "text/event-stream",
            description = "server-sent events: `id` is the number, `event` the kind, `data` a `RunEvent` as JSON",
        ),
        (status = 404, description = "there is no such run", body = ErrorBody),
    )
)]
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Result<Response> {
    let after = match query.after {
        Some(after) => after,
        None => last_id(&headers)?.unwrap_or(0),
    };
    let changes = api.control.follow(of.id);
    // Asked once before the answer begins, so that an unknown run is an error and not an empty stream.
    let (attempt, ended) = api.control.attempt(&caller, &of, None).await?;
    let progress = (!ended).then(|| api.control.attempts().follow_progress(attempt));
    let follower = Follower { api, caller, of, attempt, after, changes, progress, ended: false };
    let parts = stream::unfold(follower, |mut follower| async {
        let part = follower.next().await?;
        Some((Ok::<_, std::convert::Infallible>(part), follower))
    });
    let kind = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::from_stream(parts)).into_response())
}

struct Follower {
    api: Api,
    caller: Caller,
    of: RunRef,
    attempt: AttemptId,
    after: u64,
    changes: Option<watch::Receiver<u64>>,
    progress: Option<Changes>,
    ended: bool,
}

/// What a wait brought.
enum Woke {
    Changed,
    Progressed,
}

impl Follower {
    /// The next events as text; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            if let Some(changes) = &mut self.changes {
                changes.mark_unchanged();
            }
            let (events, more) = self.api.control.events(&self.caller, &self.of, self.after).await.ok()?;
            self.ended = !more;
            if let Some(last) = events.last() {
                self.after = last.seq;
                self.follow_attempt().await;
                return Some(text(&events));
            }
            while let (false, Woke::Progressed) = (self.ended, self.wait().await) {
                if let Some(event) = self.progress_event().await {
                    return Some(text(&[event]));
                }
            }
        }
        None
    }

    /// Looks at the files of the next attempt once that is the current one.
    async fn follow_attempt(&mut self) {
        let now = self.api.control.attempt(&self.caller, &self.of, None).await;
        if let Some((attempt, _)) = now.ok().filter(|(attempt, _)| *attempt != self.attempt) {
            self.attempt = attempt;
            self.progress = Some(self.api.control.attempts().follow_progress(attempt));
        }
    }

    /// Waits for more; notes when there can be none because nobody works for the run any more.
    async fn wait(&mut self) -> Woke {
        let stopping = self.api.control.stopping();
        let Some(changes) = &mut self.changes else {
            self.ended = true;
            return Woke::Changed;
        };
        let progress = async {
            match &mut self.progress {
                Some(progress) => progress.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { self.changes = None },
            () = progress => return Woke::Progressed,
            () = stopping.cancelled() => self.ended = true,
        }
        Woke::Changed
    }

    /// How far something is. It is not kept, so it carries the number of the last event that is.
    async fn progress_event(&self) -> Option<RunEvent> {
        let progress = self.api.control.attempts().progress(self.attempt).await?;
        Some(RunEvent {
            seq: self.after,
            at: self.api.control.now(),
            kind: RunEventKind::Progress,
            message: format!("{} `{}`", progress.kind, progress.label),
            run: None,
            progress: Some(progress),
        })
    }
}

/// The number that a reconnecting client had seen last.
pub(super) fn last_id(headers: &HeaderMap) -> Result<Option<u64>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| Failure::malformed("`Last-Event-ID` is not a number of ours"))
}

fn text(events: &[RunEvent]) -> Bytes {
    let mut text = String::new();
    for event in events {
        let data = serde_json::to_string(event).unwrap_or_default();
        // Writing to memory cannot fail.
        let _ = write!(text, "id: {}\nevent: {}\ndata: {data}\n\n", event.seq, event.kind);
    }
    text.into()
}
