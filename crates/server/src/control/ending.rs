//! When a run is ended by time, and how that is put off.
use std::time::Duration;

use jiff::Timestamp;
use vessl_core::access::{Action, Caller};
use vessl_core::ids::RunRef;
use vessl_core::limits::TimeLimit;
use vessl_core::plan::Plan;
use vessl_core::run::Status;
use vessl_core::units::Span;
use vessl_core::wire::{EndView, RunExtend, RunReadQuery, RunView};

use super::{Control, ControlError, Inner, Result};
use crate::store::runs::StoredRun;

/// Most hours that are added at once: a year.
const MOST_HOURS: f64 = 24.0 * 366.0;
/// Longest wait for the agent's own note of what it was told.
const NOTED: Duration = Duration::from_secs(5);

impl Control {
    /// Gives a run that runs more time.
    pub async fn extend(&self, caller: &Caller, of: &RunRef, ask: RunExtend) -> Result<RunView> {
        let by = by(ask.hours)?;
        let stored = self.0.stored(caller, Action::Run, of).await?;
        let plan = self.0.parts.store.run_texts(of.id).await?.map(|texts| texts.plan);
        let refused =
            |message: String, hint: &str| Err(ControlError::Refused { message, hint: Some(hint.to_owned()) });
        if !matches!(stored.status(), Status::Running | Status::Idle) {
            let words = format!(
                "the run is {}: only the time of one that runs can be made longer",
                stored.status().word()
            );
            return Err(ControlError::refused(words));
        }
        let Some(limit) = plan.as_ref().and_then(Plan::time_limit) else {
            return refused(
                "the run has no time limit".to_owned(),
                "it ends when somebody terminates it, or nobody uses it",
            );
        };
        let now = Span(limit.0.saturating_add(stored.doc.extended));
        let longest =
            self.0.parts.inventory.clusters.get(&stored.doc.cluster).and_then(|c| c.max_runtime_limit);
        if let Some(longest) = longest.filter(|longest| now.0.saturating_add(by.0) > longest.0) {
            let words =
                format!("the run has {now}, and {by} more is longer than any run may take here ({longest})");
            return refused(words, "`max_runtime_limit` in the settings of the server is that limit");
        }
        let at = stored.doc.run.attempt_id();
        self.0.parts.engines.of(&stored.doc.cluster)?.extend(at, by).await?;
        // The agent has it; what is shown comes from its own events.
        let noted = self.noted(caller, of, &stored, by);
        let _ = tokio::time::timeout(NOTED, noted).await;
        self.run(caller, of, RunReadQuery::default()).await
    }

    /// Waits until the record of a run has the time that was added, or it has ended.
    async fn noted(&self, caller: &Caller, of: &RunRef, before: &StoredRun, by: Span) -> Result<()> {
        let (wanted, mut seq) = (before.doc.extended.saturating_add(by.0), before.doc.seq);
        loop {
            let Some(mut events) = self.follow(of.id) else { return Ok(()) };
            let _ = events.wait_for(|known| *known > seq).await;
            let doc = self.0.stored(caller, Action::Read, of).await?.doc;
            if doc.extended >= wanted || doc.run.attempt_id() != before.doc.run.attempt_id() {
                return Ok(());
            }
            seq = doc.seq;
        }
    }
}

impl Inner {
    /// When a run that runs is ended by time, if nobody does anything.
    pub(super) async fn ends(&self, stored: &StoredRun, plan: &Plan) -> Option<EndView> {
        if !matches!(stored.status(), Status::Running | Status::Idle) {
            return None;
        }
        let began = stored.doc.run.started_at()?;
        let runtime = plan.time_limit().map(|limit| Span(limit.0.saturating_add(stored.doc.extended)));
        let runtime = runtime.and_then(|limit| later(began, limit, TimeLimit::Runtime));
        let idle =
            plan.interactive.as_ref().and_then(|session| session.idle_timeout).filter(|idle| idle.0 > 0);
        let idle = match idle {
            Some(idle) => {
                let used = self.parts.attempts.last_use(stored.doc.run.attempt_id()).await;
                later(used.map_or(began, |used| used.max(began)), idle, TimeLimit::Idle)
            }
            None => None,
        };
        [runtime, idle].into_iter().flatten().min_by_key(|end| end.at)
    }
}

fn later(from: Timestamp, by: Span, limit: TimeLimit) -> Option<EndView> {
    // An end that no calendar has is none.
    let at = from.checked_add(Duration::from_millis(by.0)).ok()?;
    Some(EndView { at, limit })
}

/// Hours as people write them.
fn by(hours: f64) -> Result<Span> {
    if !(hours > 0.0 && hours <= MOST_HOURS) {
        return Err(ControlError::Unfit(format!("`hours` must be more than 0 and at most {MOST_HOURS}")));
    }
    let millis = Duration::from_secs_f64(hours * 3600.0).as_millis();
    Ok(Span(u64::try_from(millis).unwrap_or(u64::MAX).max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_a_time() {
        for (hours, millis) in [(1.0, 3_600_000), (0.5, 1_800_000), (24.0, 86_400_000), (1e-12, 1)] {
            assert_eq!(by(hours).unwrap(), Span(millis));
        }
        for wrong in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(by(wrong).is_err(), "{wrong}");
        }
    }
}
