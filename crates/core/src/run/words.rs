//! How a run reads to people: its status word and its reason. It decides nothing.
use jiff::Timestamp;

use super::{Asked, Placement, Retries, Run, State, Status, Verdict};
use crate::ids::{AttemptId, Nonce, RunId};
use crate::record::Phase;

impl Phase {
    /// What the agent is doing, in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pulling => "fetching the image",
            Self::Importing => "copying the imports in",
            Self::Starting => "starting the container",
            Self::Running => "the commands run",
            Self::Idle => "the commands ended; the container is kept until the run is terminated",
            Self::Terminating => "being terminated: the commands are told to end",
            Self::Exporting => "writing the exports",
        }
    }
}

impl Run {
    /// A run that was just submitted: queued, first attempt.
    pub fn new(id: RunId, nonce: Nonce) -> Self {
        Self {
            id,
            attempt: 1,
            nonce,
            state: State::Queued,
            asked: Asked::default(),
            no_contact_since: None,
            retries: Retries::default(),
        }
    }

    /// The run at the begin of its next attempt: queued, and nothing is asked of it.
    pub(super) fn next_attempt(&self, nonce: Nonce, retries: Retries) -> Self {
        Self { attempt: self.attempt.saturating_add(1), retries, ..Self::new(self.id, nonce) }
    }

    /// The status people see. A run that is asked to end while its agent lives is `stopping`.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Queued | State::Retrying { .. } => Status::Queued,
            State::Pending { .. } => Status::Pending,
            State::Active { .. } if self.asked.terminate.is_some() => Status::Stopping,
            State::Active { phase, .. } => phase.status(),
            State::Exporting { .. } => Status::Stopping,
            State::Ended { verdict, .. } => verdict.status,
        }
    }

    /// Why the run is in its status, in words, from what is stored alone. A turn's `why` knows more.
    pub fn reason(&self) -> String {
        let words = match &self.state {
            State::Queued => "waits for its turn".to_owned(),
            State::Pending { placement } => format!("placed on `{}`, being started", placement.node),
            State::Active { phase, .. } => phase.words().to_owned(),
            State::Exporting { before, .. } => exporting(*before).to_owned(),
            State::Retrying { verdict, .. } => self.tried_again(verdict),
            State::Ended { verdict, .. } => verdict.reason.clone(),
        };
        match self.no_contact_since {
            Some(since) => format!("no contact since {since:.0}; before: {words}"),
            None => words,
        }
    }

    /// That the attempt ended like this and the next one follows, in words.
    pub(super) fn tried_again(&self, verdict: &Verdict) -> String {
        let (attempt, next) = (self.attempt, self.attempt.saturating_add(1));
        let Retries { allowed, used } = self.retries;
        let retry = used.saturating_add(1);
        format!(
            "attempt {attempt} failed: {}; attempt {next} follows (retry {retry} of {allowed})",
            verdict.reason
        )
    }

    /// How the current attempt ended, if it has.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.state {
            State::Queued | State::Pending { .. } | State::Active { .. } | State::Exporting { .. } => None,
            State::Retrying { verdict, .. } | State::Ended { verdict, .. } => Some(verdict),
        }
    }

    /// The current attempt.
    pub fn attempt_id(&self) -> AttemptId {
        AttemptId { run: self.id, number: self.attempt, nonce: self.nonce }
    }

    /// What the run holds: from its placement until nothing of its container runs any more. Exports need none: whoever
    /// waits may start meanwhile. What admission must count.
    pub fn allocation(&self) -> Option<&Placement> {
        match &self.state {
            State::Queued
            | State::Exporting { .. }
            | State::Active { phase: Phase::Exporting, .. }
            | State::Retrying { freed: true, .. }
            | State::Ended { freed: true, .. }
            | State::Ended { removed: true, .. } => None,
            State::Pending { placement } | State::Active { placement, .. } => Some(placement),
            State::Retrying { placement, .. } | State::Ended { placement, .. } => placement.as_ref(),
        }
    }

    /// Where the run is or was placed.
    pub fn placement(&self) -> Option<&Placement> {
        match &self.state {
            State::Queued => None,
            State::Pending { placement } | State::Active { placement, .. } => Some(placement),
            State::Exporting { placement, .. }
            | State::Retrying { placement, .. }
            | State::Ended { placement, .. } => placement.as_ref(),
        }
    }

    /// When the commands of the current attempt started.
    pub fn started_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Queued | State::Pending { .. } => None,
            State::Active { started_at, .. }
            | State::Exporting { started_at, .. }
            | State::Retrying { started_at, .. }
            | State::Ended { started_at, .. } => *started_at,
        }
    }

    /// When the current attempt ended.
    pub fn ended_at(&self) -> Option<Timestamp> {
        match &self.state {
            State::Queued | State::Pending { .. } | State::Active { .. } | State::Exporting { .. } => None,
            State::Retrying { ended_at, .. } | State::Ended { ended_at, .. } => Some(*ended_at),
        }
    }

    /// Whether a driver has nothing left to do: ended and removed.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Ended { removed: true, .. })
    }
}

/// What goes on while exports are written by another agent; `before` is when the attempt ended, if it had.
pub(super) fn exporting(before: Option<Timestamp>) -> &'static str {
    match before {
        Some(_) => "writing the exports again that failed",
        None => "the agent died over the exports; another one goes on with them",
    }
}
