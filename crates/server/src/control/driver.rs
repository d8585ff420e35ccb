//! The driver of one run: the only one who moves it. A turn takes no input, may be repeated, and never retries inside.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use vessl_core::ids::{AttemptId, ClusterName, RunId};
use vessl_core::plan::Plan;
use vessl_core::record::{Secrets, Transfer};
use vessl_core::run::{Action, Applied, Inputs, Observation, State, Status, Turn, decide};
use vessl_core::wire::RunEventKind;

use super::home::Coming;
use super::observe::Snapshot;
use super::record::{self, RecordBuilder};
use super::submit::nonce;
use super::{ControlError, DriverHandle, Explanation, Inner, waiter};
use crate::store::StoreError;
use crate::store::runs::{Export, StoredRun};
use crate::watch::Changes;

/// Longest pause after a turn that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Drives a run until it is settled, deleted, or the server stops. `first` is dropped after the first turn.
pub(super) async fn drive(
    control: Arc<Inner>,
    id: RunId,
    handle: Arc<DriverHandle>,
    first: Option<FirstTurn>,
) {
    let applied = Applied::default();
    let driver = Driver {
        control,
        id,
        handle,
        applied,
        changes: None,
        refused: None,
        coming: None,
        failed: 0,
        shown: false,
    };
    driver.run(first).await;
}

/// Held by a driver until it has looked at its run once.
pub(super) type FirstTurn = tokio::sync::mpsc::Sender<()>;

struct Driver {
    control: Arc<Inner>,
    id: RunId,
    handle: Arc<DriverHandle>,
    applied: Applied,
    changes: Option<(AttemptId, Changes)>,
    /// Why this server cannot start the run, whatever the engine would say.
    refused: Option<String>,
    /// What the run needs and is on its way from the bucket of the blobs.
    coming: Option<Coming>,
    /// How many removals have failed one after the other.
    failed: u32,
    /// Whether its ports are offered.
    shown: bool,
}

/// What comes after a turn.
enum Next {
    Again,
    Wait(Option<Timestamp>),
    /// Like that after a removal that failed: no change of the attempt counts until then.
    Pause(Timestamp),
    Done,
}

impl Driver {
    async fn run(mut self, first: Option<FirstTurn>) {
        let mut first = first;
        let stopping = self.control.stopping.clone();
        let mut failures = 0_u32;
        while !stopping.is_cancelled() {
            let next = match self.turn().await {
                Ok(next) => {
                    failures = 0;
                    next
                }
                Err(error) => {
                    failures += 1;
                    Next::Wait(Some(self.after_failure(&error, failures)))
                }
            };
            drop(first.take());
            match next {
                Next::Again => {}
                Next::Done => return self.leave(),
                Next::Pause(until) => {
                    tokio::select! {
                        () = self.handle.wake.notified() => {}
                        () = self.control.parts.clock.sleep_until(Some(until)) => {}
                        () = stopping.cancelled() => {}
                    }
                }
                Next::Wait(until) => {
                    tokio::select! {
                        () = self.signal(until) => {}
                        () = stopping.cancelled() => {}
                    }
                }
            }
        }
    }

    /// Waits for whatever may change the next turn.
    async fn signal(&mut self, until: Option<Timestamp>) {
        let changes = async {
            match &mut self.changes {
                Some((_, changes)) => changes.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.handle.wake.notified() => {}
            () = changes => {}
            () = self.control.parts.clock.sleep_until(until) => {}
        }
    }

    fn after_failure(&self, error: &ControlError, failures: u32) -> Timestamp {
        let pause = Duration::from_secs(1 << failures.min(5)).min(LONGEST_PAUSE);
        tracing::warn!(run = self.id.0, error = %crate::chain(error), "a turn failed; tried again in {pause:?}");
        let now = self.control.now();
        let why = format!("the last turn failed: {error}");
        self.handle.explain(Explanation { status: None, why, next: Vec::new(), at: now });
        now.checked_add(SignedDuration::try_from(pause).unwrap_or_default()).unwrap_or(Timestamp::MAX)
    }

    /// The run needs no driver any more.
    fn leave(self) {
        self.control.allocator.release(self.id);
        self.control.handles().remove(&self.id);
        self.control.withdraw_ports(self.id);
    }

    async fn turn(&mut self) -> Result<Next, ControlError> {
        let Some(stored) = self.control.parts.store.run(self.id).await? else { return Ok(Next::Done) };
        let at = stored.doc.run.attempt_id();
        let cluster = stored.doc.cluster.clone();
        self.watch(at, &stored.doc.run.state);
        let snapshot = self.control.observe(at, &stored).await;
        let now = self.control.now();
        let seen = self.seen(&stored, &snapshot)?;
        let turn = decide(&stored.doc.run, &seen, now);
        let status = match self.save(stored, &snapshot, &turn, now).await {
            Ok(status) => status,
            Err(ControlError::Store(StoreError::Stale(_) | StoreError::Moved(_))) => return Ok(Next::Again),
            Err(error) => return Err(error),
        };
        self.show_ports(status).await?;
        self.handle.explain(Explanation {
            status: Some(status),
            why: turn.why.clone(),
            next: turn.next.clone(),
            at: now,
        });
        if turn.run.is_settled() {
            return Ok(Next::Done);
        }
        if turn.run.attempt != at.number {
            self.next_attempt(&cluster).await?;
            return Ok(Next::Again);
        }
        Ok(self.apply((at, &cluster), turn).await)
    }

    /// Offers the ports of the run while its container runs.
    async fn show_ports(&mut self, status: Status) -> Result<(), ControlError> {
        let runs = matches!(status, Status::Running | Status::Idle | Status::Stopping);
        if runs != self.shown {
            if runs {
                let plan = self.plan().await?;
                self.control.offer_tcp_ports(self.id, &plan.ports);
            } else {
                self.control.withdraw_ports(self.id);
            }
            self.shown = runs;
        }
        Ok(())
    }

    /// Forgets the attempt that is over and takes a place in the queue for the next one.
    async fn next_attempt(&mut self, cluster: &ClusterName) -> Result<(), ControlError> {
        (self.applied, self.changes, self.refused, self.failed) = (Applied::default(), None, None, 0);
        if let Some(stored) = self.control.parts.store.run(self.id).await? {
            self.control.allocator.queue(cluster, waiter(&stored, &self.handle.wake));
        }
        Ok(())
    }

    /// Watches an attempt before it is looked at, so that no change is missed. What waits in the queue is not watched.
    fn watch(&mut self, at: AttemptId, state: &State) {
        if matches!(state, State::Queued) {
            self.changes = None;
        } else if self.changes.as_ref().is_none_or(|(known, _)| *known != at) {
            self.changes = Some((at, self.control.parts.attempts.follow(at)));
        }
    }

    fn seen(&self, stored: &StoredRun, snapshot: &Snapshot) -> Result<Inputs, ControlError> {
        let admission = matches!(stored.doc.run.state, State::Queued)
            .then(|| self.control.allocator.admission(self.id))
            .flatten();
        let look = match (&snapshot.observed, &self.refused) {
            (Observation::Nothing, Some(why)) => Observation::Refused { why: why.clone() },
            (look, _) => look.clone(),
        };
        Ok(Inputs { observed: look, admission, applied: self.applied.clone(), nonce: nonce()? })
    }

    /// Stores what has changed; the status that the run then has.
    async fn save(
        &self,
        stored: StoredRun,
        snapshot: &Snapshot,
        turn: &Turn,
        now: Timestamp,
    ) -> Result<Status, ControlError> {
        let status = stored.status();
        let held = stored.doc.run.allocation().is_some();
        let attempt = stored.doc.run.attempt_id();
        let verdict = record::is_verdict(&stored.doc.run, &turn.run);
        let mut builder = RecordBuilder::of(stored);
        builder.on_events(&snapshot.events);
        if let (true, Observation::Exited { record, .. }) = (verdict, &snapshot.observed) {
            builder.ended(record);
        }
        let exports = self.exports(attempt, builder.exported()).await?;
        builder.decided(turn.run.clone(), &turn.why, now);
        let Some(save) = builder.save(exports) else { return Ok(status) };
        let (seq, status) = (save.stored.doc.seq, save.stored.status());
        self.control.parts.store.save_run(save).await?;
        if turn.run.allocation().is_none() && (held || turn.run.is_settled()) {
            // What it held is free before anybody hears of it.
            self.control.allocator.release(self.id);
        } else if verdict {
            self.control.allocator.ended(self.id);
        }
        self.control.publish(self.id, seq);
        Ok(status)
    }

    async fn exports(&self, of: AttemptId, finished: &[Transfer]) -> Result<Vec<Export>, ControlError> {
        if finished.is_empty() {
            return Ok(Vec::new());
        }
        let mut exports = record::exports(of, finished, &self.plan().await?);
        for export in &mut exports {
            self.control.merge(export).await?;
        }
        Ok(exports)
    }

    async fn plan(&self) -> Result<Plan, ControlError> {
        let texts = self.control.parts.store.run_texts(self.id).await?;
        texts
            .map(|texts| texts.plan)
            .ok_or_else(|| ControlError::not_found("run", &self.id.0.to_string(), &[]))
    }

    /// Applies the actions of a saved turn.
    async fn apply(&mut self, of: (AttemptId, &ClusterName), turn: Turn) -> Next {
        if !turn.actions.iter().any(|action| matches!(action, Action::Start(_))) {
            // Nobody waits for it any more.
            self.coming = None;
        }
        if turn.actions.is_empty() {
            return Next::Wait(turn.wake_at);
        }
        for action in &turn.actions {
            if let Err(error) = self.act(of, action).await {
                if let ControlError::Coming(why) = error {
                    let (status, at) = (Some(turn.run.status()), self.control.now());
                    self.handle.explain(Explanation { status, why, next: turn.next.clone(), at });
                    return Next::Wait(turn.wake_at);
                }
                let error = crate::chain(&error);
                tracing::warn!(run = self.id.0, error, "an action failed");
                let why = format!("{}; that failed and is tried again: {error}", turn.why);
                let at = self.control.now();
                self.handle.explain(Explanation {
                    status: Some(turn.run.status()),
                    why,
                    next: turn.next.clone(),
                    at,
                });
                return match action {
                    _ if self.refused.is_some() => Next::Again,
                    Action::Remove => Next::Pause(self.pause(turn.wake_at)),
                    _ => Next::Wait(turn.wake_at),
                };
            }
            self.failed = 0;
            self.applied.note(action, self.control.now());
        }
        Next::Again
    }

    /// How long a removal that failed is left alone: longer each time, and at most until the turn is due. What changes in the directory
    /// of the attempt is no reason to try sooner: it is the removal itself that changes it.
    fn pause(&mut self, due: Option<Timestamp>) -> Timestamp {
        let pause = Duration::from_secs(1 << self.failed.min(5)).min(LONGEST_PAUSE);
        self.failed = self.failed.saturating_add(1);
        let now = self.control.now();
        let later = now.checked_add(SignedDuration::try_from(pause).unwrap_or_default());
        let later = later.unwrap_or(Timestamp::MAX);
        due.filter(|due| *due > now).map_or(later, |due| due.min(later))
    }

    async fn act(
        &mut self,
        (at, cluster): (AttemptId, &ClusterName),
        action: &Action,
    ) -> Result<(), ControlError> {
        let control = Arc::clone(&self.control);
        let engine = control.parts.engines.of(cluster)?;
        match action {
            Action::Start(placement) => {
                let secrets = self.secrets().await?;
                let mut plan = self.plan().await?;
                (plan.attempt, plan.nonce) = (at.number, at.nonce);
                plan.placement = Some(placement.clone());
                let home = control.come_home(self.id, &plan, &mut self.coming, &self.handle).await;
                if let Err(error @ ControlError::Away(_)) = &home {
                    self.refused = Some(error.to_string());
                }
                home?;
                // Watched from before the start, so that not even its first event is missed.
                self.watch(at, &State::Pending { placement: placement.clone() });
                self.begin(&plan).await?;
                // Only the exports of the last attempt can be written again.
                control.forget_kept(at.run, Some(at)).await;
                Ok(engine.start(&plan, &secrets).await?)
            }
            Action::Stop(how) => Ok(engine.stop(at, how).await?),
            Action::Export => {
                let secrets = self.secrets().await?;
                Ok(engine.export(at, &secrets).await?)
            }
            Action::Remove => Ok(engine.remove(at).await?),
        }
    }

    /// Makes the directory of the attempt, and says what was found where it is. Without a directory the run can never be started.
    async fn begin(&mut self, plan: &Plan) -> Result<(), ControlError> {
        let begun = self.control.parts.attempts.begin(plan).await;
        let moved: Vec<PathBuf> = begun.inspect_err(|error| self.refused = Some(crate::chain(error)))?;
        for path in moved {
            let words = format!(
                "files of another run were in the way; nothing of them counts, and they are `{}` now",
                path.display()
            );
            self.control.note(self.id, RunEventKind::SetAside, &words).await?;
        }
        Ok(())
    }

    /// The secret values of the run. One that is gone means that the run can never be started.
    async fn secrets(&mut self) -> Result<Secrets, ControlError> {
        match self.control.run_secrets(self.id).await {
            Err(error @ (ControlError::NotFound { .. } | ControlError::Secret(_))) => {
                self.refused = Some(error.to_string());
                Err(error)
            }
            other => other,
        }
    }
}
