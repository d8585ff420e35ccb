//! Files of runs whose exports failed: kept for a while, so that the exports can be written again.
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use vessl_core::ids::{AttemptId, RunId};
use vessl_core::run::State;
use vessl_core::wire::KeptView;

use super::Inner;
use crate::store::runs::StoredRun;

/// How often it is looked for files that were kept long enough.
const EVERY: SignedDuration = SignedDuration::from_hours(1);

/// Frees what was kept long enough, until the server stops.
pub(super) async fn free(control: Arc<Inner>) {
    let stopping = control.stopping.clone();
    loop {
        control.free_kept().await;
        let next = control.now().checked_add(EVERY).ok();
        tokio::select! {
            () = control.parts.clock.sleep_until(next) => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Inner {
    /// The files of a run that are kept, if there are any.
    pub(super) fn kept(&self, stored: &StoredRun) -> Option<KeptView> {
        let run = &stored.doc.run;
        let State::Ended { ended_at, .. } = &run.state else { return None };
        let is_kept = self.parts.attempts.keeps(run.attempt_id());
        let is_wanted = stored.doc.exports.iter().any(|export| export.error.is_some());
        (is_kept && is_wanted).then(|| KeptView { until: self.end_of_keep(*ended_at) })
    }

    fn end_of_keep(&self, ended_at: Timestamp) -> Option<Timestamp> {
        let keep = Duration::from_millis(self.parts.inventory.keep_failed_exports?.0);
        ended_at.checked_add(SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX)).ok()
    }

    /// Removes the files that attempts of a run left for their exports, but those of `living`. What cannot be removed now is later.
    pub(super) async fn forget_kept(&self, run: RunId, living: Option<AttemptId>) {
        for at in self.parts.attempts.kept_of(run) {
            if living != Some(at) {
                self.forget(at).await;
            }
        }
    }

    async fn forget(&self, at: AttemptId) {
        let stored = self.parts.store.run(at.run).await.ok().flatten();
        let cluster = stored.map(|stored| stored.doc.cluster).unwrap_or_default();
        let forgotten = match self.parts.engines.of(&cluster) {
            Ok(engine) => engine.forget(at).await,
            Err(error) => Err(error),
        };
        if let Err(error) = forgotten {
            tracing::warn!(run = at.run.0, error = %crate::chain(&error), "files that were kept for exports stay");
        }
    }

    async fn free_kept(&self) {
        let attempts = self.parts.attempts.clone();
        let runs = tokio::task::spawn_blocking(move || attempts.runs_with_kept()).await;
        for run in runs.unwrap_or_default() {
            let Ok(stored) = self.parts.store.run(run).await else { continue };
            let is_over = match stored.as_ref().map(|stored| &stored.doc.run.state) {
                Some(State::Ended { ended_at, .. }) => {
                    self.end_of_keep(*ended_at).is_some_and(|end| end <= self.now())
                }
                // A run that nobody knows is left alone, as its directory is.
                _ => false,
            };
            if is_over {
                self.forget_kept(run, None).await;
            }
        }
    }
}
