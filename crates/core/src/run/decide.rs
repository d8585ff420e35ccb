//! One turn of a run: what was seen → what to save and what to do. Pure and total; it never guesses that silence is death.
use jiff::{SignedDuration, Timestamp};

use super::words::exporting;
use super::{
    Action, Admission, EndReason, Inputs, Left, Observation, Placement, Retries, Run, State, Status, Turn,
    Verdict,
};
use crate::record::{ExitRecord, Phase};

/// An action whose effect is not seen is applied again after this many seconds.
const REPEAT_S: i64 = 10;
/// How often an agent is started that is never seen, before the run is given up.
const START_TRIES: u32 = 3;
/// How often an agent is asked to write what is left of the exports, before that is given up.
const EXPORT_TRIES: u32 = 3;
/// Seconds until the first retry after something could not be fetched.
const FETCH_PAUSE_S: i64 = 10;
/// Longest such pause, in seconds.
const LONGEST_PAUSE_S: i64 = 300;
/// An agent that has written its exit record may clean up for this many seconds before it is removed.
const CLEANUP_S: i64 = 60;

/// Decides one turn of `run` after `seen` at `now`.
pub fn decide(run: &Run, inputs: &Inputs, now: Timestamp) -> Turn {
    let case = Case { run, inputs, now };
    match &run.state {
        State::Queued => case.or_again(case.queued()),
        State::Pending { placement } => case.or_again(case.pending(placement)),
        State::Active { placement, phase, started_at } => {
            case.or_again(case.active(placement, *phase, *started_at))
        }
        State::Exporting { verdict, placement, started_at, before, tries } => {
            let export =
                Exporting { verdict, placement: placement.as_ref(), started_at, before, tries: *tries };
            let turn = case.exporting(&export);
            // What a person asked for once more ends with that.
            if before.is_some() { turn } else { case.or_again(turn) }
        }
        State::Retrying { verdict, placement, ended_at, .. } => {
            case.retrying(verdict, placement.as_ref(), *ended_at)
        }
        State::Ended { verdict, placement, removed, ended_at, .. } => {
            case.ended(verdict, placement.as_ref(), (*removed, *ended_at))
        }
    }
}

/// Whether another attempt may end better than one that ended for this reason. What would end the same way is left out, and so
/// is an attempt that did its work and could not bring it out.
fn is_worth_a_retry(code: EndReason) -> bool {
    match code {
        EndReason::CommandFailed
        | EndReason::OutOfMemory
        | EndReason::ScratchLimit
        | EndReason::Killed
        | EndReason::ImageFailed
        | EndReason::ImportFailed
        | EndReason::Lost => true,
        EndReason::Completed
        | EndReason::SetupFailed
        | EndReason::VersionChanged
        | EndReason::ExportFailed
        | EndReason::Terminated
        | EndReason::TimeLimit
        | EndReason::IdleLimit
        | EndReason::NeverFits
        | EndReason::StartRefused
        | EndReason::Unknown => false,
    }
}

/// What ended a run without an exit record.
struct End {
    status: Status,
    code: EndReason,
    reason: String,
    started_at: Option<Timestamp>,
    exit_code: Option<i32>,
}

/// The facts of [`State::Exporting`].
struct Exporting<'a> {
    verdict: &'a Verdict,
    placement: Option<&'a Placement>,
    started_at: &'a Option<Timestamp>,
    before: &'a Option<Timestamp>,
    tries: u32,
}

/// What an attempt that has ended still has on the machine: the turn that removes it, or goes on.
enum Leftovers {
    Some(Turn),
    None(Turn),
}

/// The arguments of one decision.
struct Case<'a> {
    run: &'a Run,
    inputs: &'a Inputs,
    now: Timestamp,
}

impl Case<'_> {
    fn queued(&self) -> Turn {
        match &self.inputs.observed {
            // The store is older than the machine (it was restored from a copy): what the machine shows counts.
            Observation::Alive { phase, started_at } => {
                self.alive(&self.unknown_place(), *phase, *started_at)
            }
            Observation::Exited { record, left } => self.exited(None, record, *left),
            Observation::Dead { proof, started_at, exit_code, left, .. } => {
                self.dead(None, proof, (*started_at, *exit_code), *left)
            }
            Observation::Refused { why } => self.refused(None, why),
            Observation::Nothing | Observation::Unreachable { .. } if self.terminating() => {
                self.over(None, End::terminated("before it was placed"), true)
            }
            Observation::Unreachable { why } => {
                self.stay(format!("waits: the cluster cannot be reached: {why}")).wake(self.after(REPEAT_S))
            }
            Observation::Nothing => self.placed(),
        }
    }

    /// A queued run without any trace, by what the queue says.
    fn placed(&self) -> Turn {
        match &self.inputs.admission {
            None => self.stay("waits for its turn in the queue".to_owned()),
            Some(Admission::Waiting(wait)) => self.stay(wait.why.clone()).next(wait.next.clone()),
            Some(Admission::Impossible(why)) => self.over(
                None,
                End::failed(EndReason::NeverFits, format!("can never be placed: {why}"), None),
                true,
            ),
            Some(Admission::Granted(placement)) => {
                let turn = self.go(
                    State::Pending { placement: placement.clone() },
                    format!("placed on `{}`, being started", placement.node),
                );
                self.want(turn, Action::Start(placement.clone()))
            }
        }
    }

    fn pending(&self, placement: &Placement) -> Turn {
        match &self.inputs.observed {
            Observation::Nothing if self.terminating() => {
                let turn = self.over(Some(placement), End::terminated("before it was started"), false);
                self.want(turn, Action::Remove)
            }
            Observation::Nothing => self.start(placement),
            Observation::Alive { phase, started_at } => self.alive(placement, *phase, *started_at),
            Observation::Exited { record, left } => self.exited(Some(placement), record, *left),
            Observation::Dead { proof, started_at, exit_code, left, .. } => {
                self.dead(Some(placement), proof, (*started_at, *exit_code), *left)
            }
            Observation::Unreachable { why } => self.unreachable(why),
            Observation::Refused { why } => self.refused(Some(placement), why),
        }
    }

    /// Starts the agent, again if its start left no trace, but not for ever.
    fn start(&self, placement: &Placement) -> Turn {
        let start = Action::Start(placement.clone());
        let tries = self.inputs.applied.last(&start).map_or(0, |(_, times)| times);
        if tries >= START_TRIES {
            let reason = format!(
                "the agent ended {tries} times on `{}` before it took the run; `agent.log` in the run directory may say why",
                placement.node
            );
            let turn = self.over(Some(placement), End::failed(EndReason::StartRefused, reason, None), false);
            return self.want(turn, Action::Remove);
        }
        let why = match tries {
            0 => format!("placed on `{}`, being started", placement.node),
            _ => format!("started on `{}`, but the agent left no trace; it is started again", placement.node),
        };
        self.want(self.stay(why), start)
    }

    fn active(&self, placement: &Placement, phase: Phase, started_at: Option<Timestamp>) -> Turn {
        match &self.inputs.observed {
            Observation::Nothing => {
                let reason = format!(
                    "the record of attempt {} is gone from `{}`: nothing shows that it runs or how it ended",
                    self.run.attempt, placement.node
                );
                let turn =
                    self.over(Some(placement), End::failed(EndReason::Lost, reason, started_at), false);
                self.want(turn, Action::Remove)
            }
            Observation::Alive { phase: said, started_at: said_at } => {
                self.alive(placement, Some(said.unwrap_or(phase)), said_at.or(started_at))
            }
            Observation::Exited { record, left } => self.exited(Some(placement), record, *left),
            Observation::Dead { proof, started_at: said_at, exit_code, exporting, left } => {
                let commands = (said_at.or(started_at), *exit_code);
                let turn = self.dead(Some(placement), proof, commands, *left);
                if *exporting && *left == Left::Scratch { self.go_on(turn) } else { turn }
            }
            Observation::Unreachable { why } => self.unreachable(why),
            // A start that is refused says nothing about the agent that took the run before.
            Observation::Refused { why } => self
                .stay(format!("{}; a second start was refused: {why}", phase.words()))
                .wake(self.after(REPEAT_S)),
        }
    }

    /// The agent lives: follow it, and pass on what was asked.
    fn alive(&self, placement: &Placement, phase: Option<Phase>, started_at: Option<Timestamp>) -> Turn {
        let Some(phase) = phase else {
            let why = format!("started on `{}`, the agent has not said anything yet", placement.node);
            let turn = self.go(State::Pending { placement: placement.clone() }, why);
            return self.stop(turn, None);
        };
        let state = State::Active { placement: placement.clone(), phase, started_at };
        let words = match &self.run.asked.terminate {
            Some(_) if phase < Phase::Terminating => format!("asked to end; now: {}", phase.words()),
            _ => phase.words().to_owned(),
        };
        self.stop(self.go(state, words), Some(phase))
    }

    /// Sends the asked terminate until the agent is seen to act on it.
    fn stop(&self, turn: Turn, phase: Option<Phase>) -> Turn {
        let Some(asked) = &self.run.asked.terminate else { return turn };
        let stop = Action::Stop(asked.clone());
        let heard = phase >= Some(Phase::Terminating) && self.inputs.applied.last(&stop).is_some();
        if heard { turn } else { self.want(turn, stop) }
    }

    /// The exit record decides.
    fn exited(&self, placement: Option<&Placement>, record: &ExitRecord, left: Left) -> Turn {
        let found = (record.run, record.attempt, record.nonce);
        if found != (self.run.id, self.run.attempt, self.run.nonce) {
            let why = format!(
                "the exit record found is of run {} attempt {} ({}), not of this one; it is left alone",
                record.run.0, record.attempt, record.nonce
            );
            return self.stay(why).wake(self.after(REPEAT_S));
        }
        let state = State::Ended {
            verdict: verdict(record),
            placement: placement.cloned(),
            started_at: record.started_at.or(self.run.started_at()),
            ended_at: record.ended_at,
            // The record is written after the end of the container.
            freed: true,
            removed: left == Left::Nothing,
        };
        self.clean(self.go(state, record.reason.clone()), left, record.ended_at)
    }

    /// `commands` is when they started and how they ended, as far as they did.
    fn dead(
        &self,
        placement: Option<&Placement>,
        proof: &str,
        commands: (Option<Timestamp>, Option<i32>),
        left: Left,
    ) -> Turn {
        let (started_at, exit_code) = commands;
        let asked = if self.terminating() { " while it was being terminated" } else { "" };
        let after = exit_code
            .map_or(String::new(), |code| format!(" after its commands had ended with exit status {code}"));
        let reason = format!("the run was lost{asked}{after}: {proof}");
        let end = End { exit_code, ..End::failed(EndReason::Lost, reason, started_at) };
        let mut turn = self.over(placement, end, left == Left::Nothing);
        // The proof says that its container is empty.
        if let State::Ended { freed, .. } = &mut turn.run.state {
            *freed = true;
        }
        if left == Left::Nothing { turn } else { self.want(turn, Action::Remove) }
    }

    /// An agent that died over its exports has left what another one needs to go on with them.
    fn go_on(&self, lost: Turn) -> Turn {
        let State::Ended { verdict, placement, started_at, .. } = lost.run.state else { return lost };
        let why = exporting(None).to_owned();
        self.go(State::Exporting { verdict, placement, started_at, before: None, tries: 0 }, why)
            .wake(self.now)
    }

    /// Exports are written by another agent. Its record is the one that was not there before.
    fn exporting(&self, export: &Exporting<'_>) -> Turn {
        let why = exporting(*export.before).to_owned();
        match &self.inputs.observed {
            Observation::Exited { record, left } if Some(record.ended_at) != *export.before => {
                self.exited(export.placement, record, *left)
            }
            Observation::Alive { .. } | Observation::Exited { left: Left::Agent, .. } => {
                self.limit(self.go_here(why))
            }
            Observation::Unreachable { why } => self.unreachable(why),
            Observation::Nothing
            | Observation::Exited { .. }
            | Observation::Dead { .. }
            | Observation::Refused { .. } => {
                let unwanted = self.run.asked.terminate.as_ref().is_some_and(|asked| !asked.export);
                if unwanted || export.tries >= EXPORT_TRIES {
                    return self.given_up(export);
                }
                let mut turn = self.want(self.go_here(why), Action::Export);
                if let (State::Exporting { tries, .. }, false) =
                    (&mut turn.run.state, turn.actions.is_empty())
                {
                    *tries += 1;
                }
                turn
            }
        }
    }

    /// The same state, with contact.
    fn go_here(&self, why: String) -> Turn {
        self.go(self.run.state.clone(), why)
    }

    /// Passes a terminate on to the agent that writes the exports, which an earlier one of the attempt may have heard.
    fn limit(&self, turn: Turn) -> Turn {
        let Some(asked) = &self.run.asked.terminate else { return turn };
        let (stop, applied) = (Action::Stop(asked.clone()), &self.inputs.applied);
        let heard = applied.last(&stop).map(|(at, _)| at);
        let is_heard = heard.is_some() && heard >= applied.last(&Action::Export).map(|(at, _)| at);
        if is_heard { turn } else { self.want(turn, stop) }
    }

    fn given_up(&self, export: &Exporting<'_>) -> Turn {
        let verdict = export.verdict.clone();
        let why = verdict.reason.clone();
        let state = State::Ended {
            verdict,
            placement: export.placement.cloned(),
            started_at: *export.started_at,
            ended_at: export.before.unwrap_or(self.now),
            freed: true,
            removed: false,
        };
        self.want(self.go(state, why), Action::Remove)
    }

    fn refused(&self, placement: Option<&Placement>, why: &str) -> Turn {
        let end = if self.terminating() {
            End::terminated("before it was started")
        } else {
            let on = placement.map(|placement| format!(" on `{}`", placement.node)).unwrap_or_default();
            End::failed(EndReason::StartRefused, format!("could not be started{on}: {why}"), None)
        };
        self.want(self.over(placement, end, false), Action::Remove)
    }

    /// Silence is not death: the status is kept.
    fn unreachable(&self, why: &str) -> Turn {
        let mut turn = self.stay(format!("no contact: {why}"));
        turn.run.no_contact_since = self.run.no_contact_since.or(Some(self.now));
        turn.next = vec!["contact with the agent, or proof that it is gone".to_owned()];
        if self.terminating() {
            turn.next.push(
                "the terminate that was asked for is carried out as soon as there is contact".to_owned(),
            );
        }
        turn.wake(self.after(REPEAT_S))
    }

    /// A turn that ends the run, unless another attempt follows.
    fn or_again(&self, mut turn: Turn) -> Turn {
        let State::Ended { verdict, placement, started_at, ended_at, freed, .. } = &turn.run.state else {
            return turn;
        };
        let Retries { allowed, used } = self.run.retries;
        let is_final = verdict.status != Status::Failed || !is_worth_a_retry(verdict.reason_code);
        if used >= allowed || self.terminating() || is_final {
            return turn;
        }
        turn.why = self.run.tried_again(verdict);
        turn.run.state = State::Retrying {
            verdict: verdict.clone(),
            placement: placement.clone(),
            started_at: *started_at,
            ended_at: *ended_at,
            freed: *freed,
        };
        if turn.actions.is_empty() { turn.wake(self.now) } else { turn }
    }

    /// Between two attempts: the next one begins when nothing of the last one is left.
    fn retrying(&self, verdict: &Verdict, placement: Option<&Placement>, ended_at: Timestamp) -> Turn {
        if self.terminating() {
            let over = self.over(placement, End::terminated("before its next attempt"), false);
            return match self.leftovers(over, placement, ended_at) {
                Leftovers::Some(turn) => turn,
                Leftovers::None(turn) => removed_now(turn),
            };
        }
        match self.leftovers(self.stay(self.run.tried_again(verdict)), placement, ended_at) {
            Leftovers::Some(turn) => turn,
            Leftovers::None(turn) if self.now < self.retry_at(verdict, ended_at) => {
                let at = self.retry_at(verdict, ended_at);
                turn.next(vec![format!(
                    "the time {at:.0}: what could not be fetched is given time to come back"
                )])
                .wake(at)
            }
            Leftovers::None(turn) => {
                let retries = Retries { used: self.run.retries.used.saturating_add(1), ..self.run.retries };
                let run = self.run.next_attempt(self.inputs.nonce, retries);
                Turn { why: format!("waits for its turn; {}", turn.why), run, ..turn }.wake(self.now)
            }
        }
    }

    /// When the next attempt may begin. What could not be fetched is not there again at once: twice as late each time.
    fn retry_at(&self, verdict: &Verdict, ended_at: Timestamp) -> Timestamp {
        let is_fetch = matches!(verdict.reason_code, EndReason::ImageFailed | EndReason::ImportFailed);
        let doubled = FETCH_PAUSE_S.saturating_mul(1 << self.run.retries.used.min(10));
        plus(ended_at, if is_fetch { doubled.min(LONGEST_PAUSE_S) } else { 0 })
    }

    /// Over: only what was started is still removed.
    fn ended(
        &self,
        verdict: &Verdict,
        placement: Option<&Placement>,
        (removed, ended_at): (bool, Timestamp),
    ) -> Turn {
        let turn = self.stay(verdict.reason.clone());
        if removed {
            return turn;
        }
        match self.leftovers(turn, placement, ended_at) {
            Leftovers::Some(turn) => turn,
            Leftovers::None(turn) => removed_now(turn),
        }
    }

    /// Removes what an attempt that has ended left on the machine.
    fn leftovers(&self, turn: Turn, placement: Option<&Placement>, ended_at: Timestamp) -> Leftovers {
        match &self.inputs.observed {
            Observation::Exited { left: Left::Nothing, .. }
            | Observation::Dead { left: Left::Nothing, .. } => Leftovers::None(turn),
            Observation::Exited { left, .. } => Leftovers::Some(self.clean(turn, *left, ended_at)),
            Observation::Nothing | Observation::Refused { .. }
                if self.inputs.applied.last(&Action::Remove).is_some() =>
            {
                Leftovers::None(turn)
            }
            Observation::Nothing
            | Observation::Refused { .. }
            | Observation::Dead { .. }
            | Observation::Alive { .. } => Leftovers::Some(self.want(turn, Action::Remove)),
            Observation::Unreachable { why } => {
                let on = placement.map(|placement| format!(" on `{}`", placement.node)).unwrap_or_default();
                let next = format!("what it left{on} is removed as soon as there is contact: {why}");
                Leftovers::Some(turn.next(vec![next]).wake(self.after(REPEAT_S)))
            }
        }
    }

    /// Removes what an ended attempt left; an agent that cleans up by itself is given time.
    fn clean(&self, turn: Turn, left: Left, ended_at: Timestamp) -> Turn {
        let limit = plus(ended_at, CLEANUP_S);
        match left {
            Left::Nothing => removed_now(turn),
            Left::Agent if self.now < limit => turn.wake(limit),
            Left::Agent | Left::Scratch => self.want(turn, Action::Remove),
        }
    }

    /// Adds an action unless this driver applied it a moment ago.
    fn want(&self, mut turn: Turn, action: Action) -> Turn {
        if let Some((at, _)) = self.inputs.applied.last(&action) {
            let due = plus(at, REPEAT_S);
            if at <= self.now && self.now < due {
                return turn.wake(due);
            }
        }
        turn.actions.push(action);
        turn.wake(self.after(REPEAT_S))
    }

    fn over(&self, placement: Option<&Placement>, end: End, removed: bool) -> Turn {
        let reason = end.reason.clone();
        let verdict = Verdict {
            status: end.status,
            reason_code: end.code,
            reason: end.reason,
            exit_code: end.exit_code,
            cleanup: None,
        };
        let (placement, started_at, ended_at) = (placement.cloned(), end.started_at, self.now);
        let freed = removed || self.run.allocation().is_none();
        self.go(State::Ended { verdict, placement, started_at, ended_at, freed, removed }, reason)
    }

    /// A turn to `state`, with contact.
    fn go(&self, state: State, why: String) -> Turn {
        let run = Run { state, no_contact_since: None, ..self.run.clone() };
        Turn { run, actions: Vec::new(), wake_at: None, why, next: Vec::new() }
    }

    /// A turn that changes nothing.
    fn stay(&self, why: String) -> Turn {
        Turn { run: self.run.clone(), actions: Vec::new(), wake_at: None, why, next: Vec::new() }
    }

    fn unknown_place(&self) -> Placement {
        match &self.inputs.admission {
            Some(Admission::Granted(placement)) => placement.clone(),
            _ => Placement::default(),
        }
    }

    fn terminating(&self) -> bool {
        self.run.asked.terminate.is_some()
    }

    fn after(&self, seconds: i64) -> Timestamp {
        plus(self.now, seconds)
    }
}

impl End {
    fn failed(code: EndReason, reason: String, started_at: Option<Timestamp>) -> Self {
        Self { status: Status::Failed, code, reason, started_at, exit_code: None }
    }

    fn terminated(when: &str) -> Self {
        let reason = format!("terminated {when}");
        let (status, code) = (Status::Terminated, EndReason::Terminated);
        Self { status, code, reason, started_at: None, exit_code: None }
    }
}

impl Turn {
    fn wake(mut self, at: Timestamp) -> Self {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
        self
    }

    fn next(mut self, next: Vec<String>) -> Self {
        self.next = next;
        self
    }
}

fn removed_now(mut turn: Turn) -> Turn {
    if let State::Ended { removed, .. } = &mut turn.run.state {
        *removed = true;
    }
    turn
}

fn verdict(record: &ExitRecord) -> Verdict {
    let (status, reason) = if record.status.is_final() {
        (record.status, record.reason.clone())
    } else {
        let words = format!(
            "the exit record says `{}`, which is not an end: {}",
            record.status.word(),
            record.reason
        );
        (Status::Failed, words)
    };
    Verdict {
        status,
        reason_code: record.reason_code,
        reason,
        exit_code: record.exit_code,
        cleanup: record.cleanup.clone(),
    }
}

fn plus(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}
