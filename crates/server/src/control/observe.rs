//! What is known of an attempt: whether its agent is there, by the engine, and what the agent has recorded, by the attempt's files. The
//! rules decide about nothing else.
use vessl_core::ids::AttemptId;
use vessl_core::record::{Event, Phase, Proof};
use vessl_core::run::{Left, Observation, Status};

use super::Inner;
use crate::attempt::{AttemptLog, Attempts, Recorded};
use crate::engine::{Engine, Presence};
use crate::store::runs::StoredRun;

/// What is known of an attempt.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// For the rules.
    pub(super) observed: Observation,
    /// Events of the agent after the one that was asked for, in order.
    pub(super) events: Vec<Event>,
}

impl Inner {
    /// What is known of the current attempt of a run, with the agent's events that were not taken in yet.
    pub(super) async fn observe(&self, at: AttemptId, stored: &StoredRun) -> Snapshot {
        let observed = match self.parts.engines.of(&stored.doc.cluster) {
            Ok(engine) => return observe(engine, &self.parts.attempts, at, stored.doc.agent_seq).await,
            Err(_) if stored.status() == Status::Queued => Observation::Nothing,
            Err(error) => Observation::Unreachable { why: error.to_string() },
        };
        Snapshot { observed, events: Vec::new() }
    }
}

/// The engine is asked first: what an agent has recorded is complete once it is gone.
async fn observe(engine: &Engine, attempts: &Attempts, at: AttemptId, after: u64) -> Snapshot {
    let presence = engine.presence(at).await;
    let mut recorded = match attempts.recorded(at).await {
        Ok(recorded) => recorded,
        Err(why) => return Snapshot { observed: Observation::Unreachable { why }, events: Vec::new() },
    };
    let mut observed = known(&presence, &recorded);
    if observed.is_none() {
        let proof = engine.proof(at).await;
        // It may have been written before the proof.
        if let Ok(now @ Recorded { exit: Some(_), .. }) = attempts.recorded(at).await {
            recorded = now;
            observed = known(&presence, &recorded);
        }
        observed.get_or_insert_with(|| proven(proof, left(&presence), &recorded.log));
    }
    Snapshot {
        observed: observed.unwrap_or(Observation::Nothing),
        events: recorded.log.events.into_iter().filter(|event| event.seq > after).collect(),
    }
}

/// What presence and records say; `None` for an agent that is gone without a last word.
fn known(presence: &Presence, recorded: &Recorded) -> Option<Observation> {
    let log = &recorded.log;
    Some(match (presence, &recorded.exit) {
        (_, Some(record)) => Observation::Exited { record: Box::new(record.clone()), left: left(presence) },
        (Presence::Unreachable { why }, None) => Observation::Unreachable { why: why.clone() },
        (Presence::Alive, None) => Observation::Alive { phase: log.phase, started_at: log.started_at },
        (Presence::Gone { refused: Some(why), .. }, None) if log.events.is_empty() => {
            Observation::Refused { why: why.clone() }
        }
        (Presence::Gone { .. }, None) if !recorded.begun => Observation::Nothing,
        (Presence::Gone { .. }, None) => return None,
    })
}

/// What the attempt still has on the machine; an agent that cannot be seen may be there.
fn left(presence: &Presence) -> Left {
    match presence {
        Presence::Gone { left, .. } => *left,
        Presence::Alive | Presence::Unreachable { .. } => Left::Agent,
    }
}

fn proven(proof: Proof, left: Left, log: &AttemptLog) -> Observation {
    match proof {
        Proof::NeverStarted => Observation::Nothing,
        Proof::Dead { why: proof } => {
            let (started_at, exit_code) = (log.started_at, log.exit_code);
            let exporting = log.phase == Some(Phase::Exporting) && log.can_export;
            Observation::Dead { proof, started_at, exit_code, exporting, left }
        }
        Proof::Alive { why } => Observation::Unreachable { why },
    }
}

#[cfg(test)]
mod tests;
