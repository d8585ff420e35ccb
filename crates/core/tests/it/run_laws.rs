//! The laws of a run's life: over every pair of state and sight, and over random histories with crashes.
use jiff::Timestamp;
use proptest::prelude::*;
use vessl_core::ids::{Nonce, RunId};
use vessl_core::record::{ExitRecord, Phase};
use vessl_core::run::{
    Action, Admission, Answer, Applied, Ask, Inputs, Left, Observation, Retries, Run, State, Status,
    Terminate, Wait, decide, request,
};

use crate::run_cases::{
    active, asked, at, dead, ended, pending, placement, record, retrying, run_in, unreachable,
};

const PHASES: [Phase; 7] = [
    Phase::Pulling,
    Phase::Importing,
    Phase::Starting,
    Phase::Running,
    Phase::Idle,
    Phase::Terminating,
    Phase::Exporting,
];
const LEFT: [Left; 3] = [Left::Agent, Left::Scratch, Left::Nothing];
const FINAL: [Status; 3] = [Status::Completed, Status::Failed, Status::Terminated];

fn every_state() -> Vec<State> {
    let mut states = vec![State::Queued, pending(), retrying(false), retrying(true)];
    states.extend(PHASES.map(active));
    for status in FINAL {
        states.extend([ended(status, false), ended(status, true)]);
    }
    states
}

fn every_run() -> Vec<Run> {
    let mut runs = Vec::new();
    for state in every_state() {
        for terminate in [None, Some(asked(30, true)), Some(asked(0, false))] {
            for no_contact_since in [None, Some(at(4))] {
                for allowed in [0, 1] {
                    let retries = Retries { allowed, used: 0 };
                    let mut run = Run { no_contact_since, retries, ..run_in(state.clone()) };
                    run.asked.terminate.clone_from(&terminate);
                    runs.push(run);
                }
            }
        }
    }
    runs
}

fn every_look() -> Vec<Observation> {
    let mut looks =
        vec![Observation::Nothing, unreachable(), Observation::Refused { why: "no space".to_owned() }];
    looks.push(Observation::Alive { phase: None, started_at: None });
    looks.extend(PHASES.map(|phase| Observation::Alive { phase: Some(phase), started_at: Some(at(1)) }));
    looks.extend(LEFT.map(dead));
    let mut other = record(Status::Completed);
    other.attempt = 2;
    let records = FINAL.map(record).into_iter().chain([record(Status::Running), other]);
    for record in records {
        looks.extend(LEFT.map(|left| Observation::Exited { record: record.clone(), left }));
    }
    looks
}

fn every_admission() -> Vec<Option<Admission>> {
    let wait = Wait { why: "waits for a core".to_owned(), next: Vec::new() };
    vec![
        None,
        Some(Admission::Granted(placement())),
        Some(Admission::Waiting(wait)),
        Some(Admission::Impossible("too large".to_owned())),
    ]
}

fn every_memory() -> Vec<Applied> {
    let actions = [
        Action::Start(placement()),
        Action::Stop(asked(30, true)),
        Action::Stop(asked(0, false)),
        Action::Remove,
    ];
    let mut memories = vec![Applied::default()];
    for action in &actions {
        for times in [1, 3] {
            for when in [-100, 9] {
                let mut applied = Applied::default();
                (0..times).for_each(|_| applied.note(action, at(when)));
                memories.push(applied);
            }
        }
    }
    memories
}

fn for_every_pair(mut law: impl FnMut(&Run, &Inputs)) {
    let (looks, admissions, memories) = (every_look(), every_admission(), every_memory());
    for run in every_run() {
        for look in &looks {
            for admission in &admissions {
                for applied in &memories {
                    law(
                        &run,
                        &Inputs {
                            observed: look.clone(),
                            admission: admission.clone(),
                            applied: applied.clone(),
                            nonce: Nonce(77),
                        },
                    );
                }
            }
        }
    }
}

const NOW: i64 = 10;

/// What people see of the end; it may never change.
fn verdict(run: &Run) -> Option<(Status, String, Option<i32>, Option<Timestamp>)> {
    match &run.state {
        State::Ended { verdict, ended_at, .. } => {
            Some((verdict.status, verdict.reason.clone(), verdict.exit_code, Some(*ended_at)))
        }
        _ => None,
    }
}

#[test]
fn identity_and_wishes_are_never_touched() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        if turn.run.attempt == run.attempt {
            assert_eq!((turn.run.nonce, &turn.run.asked), (run.nonce, &run.asked));
        } else {
            let anew = (turn.run.attempt, turn.run.nonce, turn.run.state.clone(), turn.run.retries.used);
            assert_eq!(anew, (run.attempt + 1, seen.nonce, State::Queued, run.retries.used + 1));
            assert!(matches!(run.state, State::Retrying { .. }) && run.asked.terminate.is_none(), "{run:?}");
        }
        assert_eq!(turn.run.id, run.id);
        assert!(!turn.why.is_empty(), "{run:?} {seen:?}");
        assert!(
            turn.actions.is_empty() || turn.wake_at > Some(at(NOW)),
            "a failed action is tried again: {turn:?}"
        );
        assert!(turn.actions.len() <= 1, "{turn:?}");
    });
}

#[test]
fn a_finished_run_never_changes() {
    for_every_pair(|run, seen| {
        if verdict(run).is_none() {
            return;
        }
        let turn = decide(run, seen, at(NOW));
        let mut same = turn.run.clone();
        if let (State::Ended { removed, .. }, State::Ended { removed: before, .. }) =
            (&mut same.state, &run.state)
        {
            assert!(*removed >= *before, "what is removed stays removed");
            *removed = *before;
        }
        assert!(run.allocation().is_some() || same.allocation().is_none(), "what is free stays free");
        assert_eq!(&same, run);
        assert!(!turn.actions.iter().any(|action| matches!(action, Action::Start(_))), "{turn:?}");
        assert!(!run.is_settled() || turn.actions.is_empty(), "{turn:?}");
    });
}

#[test]
fn the_same_look_twice_gives_no_new_action() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        if turn.run.attempt != run.attempt {
            // It is looked at anew.
            return;
        }
        let mut again = seen.clone();
        for action in &turn.actions {
            again.applied.note(action, at(NOW));
        }
        let second = decide(&turn.run, &again, at(NOW));
        assert!(
            second.actions.is_empty() || gives_up(&second.run, &turn.run),
            "{run:?}\n{seen:?}\n{turn:?}\n{second:?}"
        );
    });
}

/// The third start without a trace was the last one: the run fails, and what may be there is removed.
fn gives_up(run: &Run, before: &Run) -> bool {
    matches!(before.state, State::Pending { .. }) && run.reason().contains("before it took the run")
}

#[test]
fn only_a_placed_run_without_a_trace_is_started() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        for action in turn.actions {
            if let Action::Start(started) = action {
                let free = seen.admission == Some(Admission::Granted(placement()));
                assert!(
                    matches!(run.state, State::Pending { .. }) || (run.state == State::Queued && free),
                    "{run:?}"
                );
                assert_eq!(
                    (&seen.observed, run.asked.terminate.is_some()),
                    (&Observation::Nothing, false),
                    "{run:?}"
                );
                assert_eq!(turn.run.state, State::Pending { placement: started });
            }
        }
    });
}

#[test]
fn a_run_ends_by_proof_alone() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        let had_ended = run.verdict().is_some();
        if had_ended || turn.run.verdict().is_none() {
            return;
        }
        let never_started = matches!(run.state, State::Queued) || run.asked.terminate.is_some();
        let proven = match &seen.observed {
            Observation::Alive { .. } => false,
            Observation::Unreachable { .. } => {
                matches!(run.state, State::Queued) && run.asked.terminate.is_some()
            }
            Observation::Nothing => {
                never_started
                    || matches!(run.state, State::Active { .. })
                    || turn.run.reason().contains("3 times")
            }
            Observation::Refused { .. } => !matches!(run.state, State::Active { .. }),
            Observation::Exited { record, .. } => record.attempt == run.attempt,
            Observation::Dead { .. } => true,
        };
        assert!(proven, "{run:?}\n{seen:?}\n{turn:?}");
    });
}

#[test]
fn a_retry_follows_what_failed_and_nothing_else() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        let State::Retrying { verdict, .. } = &turn.run.state else { return };
        assert_eq!((verdict.status, turn.run.attempt), (Status::Failed, run.attempt), "{turn:?}");
        assert!(
            matches!(run.state, State::Retrying { .. })
                || (run.retries.allowed == 1 && run.asked.terminate.is_none()),
            "{run:?}\n{seen:?}"
        );
        assert!(turn.wake_at.is_some(), "{run:?}\n{seen:?}\n{turn:?}");
    });
}

#[test]
fn nothing_is_called_removed_that_may_be_there() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        if run.is_settled() || !turn.run.is_settled() {
            return;
        }
        let clean = match &seen.observed {
            Observation::Exited { left, .. } | Observation::Dead { left, .. } => *left == Left::Nothing,
            Observation::Nothing | Observation::Refused { .. } => {
                run.state == State::Queued || seen.applied.last(&Action::Remove).is_some()
            }
            Observation::Unreachable { .. } => run.state == State::Queued,
            Observation::Alive { .. } => false,
        };
        assert!(clean, "{run:?}\n{seen:?}");
    });
}

#[test]
fn an_end_that_is_not_removed_goes_on() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        if verdict(&turn.run).is_some() && !turn.run.is_settled() {
            assert!(turn.wake_at.is_some(), "{run:?}\n{seen:?}\n{turn:?}");
        }
    });
}

#[test]
fn no_contact_is_kept_and_cleared() {
    for_every_pair(|run, seen| {
        let turn = decide(run, seen, at(NOW));
        let contact = match (&run.state, &seen.observed) {
            (State::Pending { .. } | State::Active { .. }, Observation::Unreachable { .. }) => {
                assert!(turn.run.no_contact_since.is_some() && turn.run.state == run.state);
                return;
            }
            (_, Observation::Alive { .. }) => true,
            _ => false,
        };
        if contact && run.verdict().is_none() {
            assert_eq!(turn.run.no_contact_since, None);
        }
    });
}

#[test]
fn a_living_agent_hears_every_wish() {
    for_every_pair(|run, seen| {
        let (Some(asked), Observation::Alive { .. }, None) =
            (&run.asked.terminate, &seen.observed, run.verdict())
        else {
            return;
        };
        let stop = Action::Stop(asked.clone());
        let told = decide(run, seen, at(NOW)).actions.contains(&stop);
        assert!(told || seen.applied.last(&stop).is_some(), "{run:?}\n{seen:?}");
    });
}

#[test]
fn a_wish_never_moves_a_run() {
    let asks = [
        Ask::Delete,
        Ask::Terminate { grace_s: None, export: true },
        Ask::Terminate { grace_s: Some(0), export: false },
        Ask::Terminate { grace_s: Some(u64::MAX), export: false },
    ];
    for run in every_run() {
        for ask in asks {
            if let Answer::Accepted(after) = request(&run, ask, at(NOW)) {
                assert_eq!((&after.state, after.no_contact_since), (&run.state, run.no_contact_since));
                assert!(ask != Ask::Delete || run.is_settled());
                assert!(verdict(&run).is_none() || *after == run);
                assert!(!matches!(request(&after, ask, at(NOW)), Answer::Accepted(_)) || ask == Ask::Delete);
            }
        }
    }
}

/// What stands on the machine.
#[derive(Clone, Debug, PartialEq)]
enum Agent {
    /// No agent, no record.
    Absent,
    /// Holds the lock, has not taken the run yet.
    Spawned,
    /// Took the run.
    Working(usize),
    /// The record is written, the agent still removes its scratch.
    Cleaning(Box<ExitRecord>),
    /// No agent; with a record or without.
    Gone(Option<Box<ExitRecord>>),
}

/// One thing that happens in the world.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A driver's turn; it is killed at the given point.
    Turn(Crash),
    /// The server starts anew: the driver forgets what it applied.
    Restart,
    /// The agent goes one step on.
    Progress,
    /// The commands end.
    Exit(Status),
    /// The agent dies without a record; its scratch stays.
    Die,
    /// The connection breaks or comes back.
    Cut,
    /// The queue offers a place or takes it back.
    Offer,
    /// A person asks for the end.
    Terminate(u64, bool),
    /// Time passes, in seconds.
    Wait(i64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Crash {
    No,
    BeforeSave,
    BeforeApply,
    BeforeNote,
    ApplyFails,
}

fn any_event() -> impl Strategy<Value = Event> {
    let crash = prop_oneof![
        6 => Just(Crash::No),
        1 => Just(Crash::BeforeSave),
        1 => Just(Crash::BeforeApply),
        1 => Just(Crash::BeforeNote),
        1 => Just(Crash::ApplyFails)
    ];
    prop_oneof![
        8 => crash.prop_map(Event::Turn),
        1 => Just(Event::Restart),
        4 => Just(Event::Progress),
        1 => prop::sample::select(FINAL.to_vec()).prop_map(Event::Exit),
        1 => Just(Event::Die),
        1 => Just(Event::Cut),
        2 => Just(Event::Offer),
        1 => (0..60u64, any::<bool>()).prop_map(|(grace, export)| Event::Terminate(grace, export)),
        2 => (0..90i64).prop_map(Event::Wait),
    ]
}

/// A server, a machine and a person, all of them unreliable.
struct World {
    stored: Run,
    applied: Applied,
    agent: Agent,
    scratch: bool,
    connected: bool,
    offered: bool,
    now: Timestamp,
    /// How often an agent took the run.
    taken: u32,
    /// Agents that died before they took the run.
    stillborn: u32,
    /// The record as it was first written.
    record: Option<Box<ExitRecord>>,
}

impl World {
    fn new() -> Self {
        Self {
            stored: Run::new(RunId(7), Nonce(9)),
            applied: Applied::default(),
            agent: Agent::Absent,
            scratch: false,
            connected: true,
            offered: false,
            now: at(0),
            taken: 0,
            stillborn: 0,
            record: None,
        }
    }

    fn look(&self) -> Observation {
        if !self.connected {
            return unreachable();
        }
        let left = if self.scratch { Left::Scratch } else { Left::Nothing };
        match &self.agent {
            Agent::Absent => Observation::Nothing,
            Agent::Spawned => Observation::Alive { phase: None, started_at: None },
            Agent::Working(phase) => Observation::Alive { phase: Some(PHASES[*phase]), started_at: None },
            Agent::Cleaning(record) => Observation::Exited { record: record.clone(), left: Left::Agent },
            Agent::Gone(Some(record)) => Observation::Exited { record: record.clone(), left },
            Agent::Gone(None) => dead(left),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Turn(crash) => self.turn(crash),
            Event::Restart => self.applied = Applied::default(),
            Event::Progress => self.progress(),
            Event::Exit(status) => self.exit(status),
            Event::Die => self.die(),
            Event::Cut => self.connected = !self.connected,
            Event::Offer => self.offered = !self.offered,
            Event::Terminate(grace_s, export) => {
                let ask = Ask::Terminate { grace_s: Some(grace_s), export };
                if let Answer::Accepted(run) = request(&self.stored, ask, self.now) {
                    self.stored = *run;
                }
            }
            Event::Wait(seconds) => self.now += jiff::SignedDuration::from_secs(seconds),
        }
    }

    fn turn(&mut self, crash: Crash) {
        let wait = Wait { why: "waits".to_owned(), next: Vec::new() };
        let admission = if self.offered { Admission::Granted(placement()) } else { Admission::Waiting(wait) };
        let admission = (self.stored.state == State::Queued).then_some(admission);
        let seen =
            Inputs { observed: self.look(), admission, applied: self.applied.clone(), nonce: Nonce(0) };
        let turn = decide(&self.stored, &seen, self.now);
        if crash == Crash::BeforeSave {
            self.applied = Applied::default();
            return;
        }
        self.save(turn.run);
        if crash == Crash::BeforeApply {
            self.applied = Applied::default();
            return;
        }
        for action in turn.actions {
            if crash == Crash::ApplyFails || !self.apply(&action) {
                return;
            }
            if crash == Crash::BeforeNote {
                self.applied = Applied::default();
                return;
            }
            self.applied.note(&action, self.now);
        }
    }

    /// The store, with the laws that hold between two stored versions.
    fn save(&mut self, run: Run) {
        if let Some(before) = verdict(&self.stored) {
            assert_eq!(Some(before), verdict(&run), "a finished run changed");
        } else if let Some((status, reason, ..)) = verdict(&run) {
            match &self.record {
                Some(record) => assert_eq!((status, &reason), (record.status, &record.reason)),
                None => assert!(self.no_agent(), "{reason}, but the agent lives: {:?}", self.agent),
            }
        }
        if run.is_settled() {
            assert!(
                self.no_agent() && !self.scratch,
                "called removed, but there is {:?} {}",
                self.agent,
                self.scratch
            );
        }
        self.stored = run;
    }

    fn no_agent(&self) -> bool {
        matches!(self.agent, Agent::Absent | Agent::Gone(_))
    }

    /// The engine, as its contract says.
    fn apply(&mut self, action: &Action) -> bool {
        if !self.connected {
            return false;
        }
        match action {
            Action::Start(_) => {
                if self.agent == Agent::Absent {
                    (self.agent, self.scratch) = (Agent::Spawned, true);
                }
            }
            Action::Stop(Terminate { .. }) => {
                if let Agent::Working(phase) = &mut self.agent {
                    *phase = (*phase).max(5);
                }
            }
            // No agent of this world dies over its exports with its files there.
            Action::Export => {}
            Action::Remove => {
                self.agent = match std::mem::replace(&mut self.agent, Agent::Absent) {
                    Agent::Absent | Agent::Spawned => Agent::Absent,
                    Agent::Working(_) => Agent::Gone(None),
                    Agent::Cleaning(record) => Agent::Gone(Some(record)),
                    gone @ Agent::Gone(_) => gone,
                };
                self.scratch = false;
            }
        }
        true
    }

    fn progress(&mut self) {
        self.agent = match std::mem::replace(&mut self.agent, Agent::Absent) {
            Agent::Spawned => {
                self.taken += 1;
                Agent::Working(0)
            }
            Agent::Working(phase) => Agent::Working((phase + 1).min(6)),
            Agent::Cleaning(record) => {
                self.scratch = false;
                Agent::Gone(Some(record))
            }
            same => same,
        };
    }

    fn exit(&mut self, status: Status) {
        if let Agent::Working(_) = self.agent {
            let mut written = record(status);
            written.ended_at = self.now;
            self.record = Some(written.clone());
            self.agent = Agent::Cleaning(written);
        }
    }

    fn die(&mut self) {
        self.agent = match std::mem::replace(&mut self.agent, Agent::Absent) {
            Agent::Spawned => {
                self.stillborn += 1;
                Agent::Absent
            }
            Agent::Working(_) => Agent::Gone(None),
            Agent::Cleaning(record) => Agent::Gone(Some(record)),
            same => same,
        };
    }

    /// Good days: everything is reachable, there is room, the agent does its work, and the driver turns.
    fn settle(&mut self) {
        (self.connected, self.offered) = (true, true);
        for _ in 0..60 {
            self.turn(Crash::No);
            self.progress();
            if self.agent == Agent::Working(6) {
                self.exit(Status::Completed);
            }
            self.happen(Event::Wait(11));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_well(events in prop::collection::vec(any_event(), 0..120)) {
        let mut world = World::new();
        for event in events {
            world.happen(event);
            prop_assert!(world.taken <= 1, "one attempt was started twice");
        }
        world.settle();
        prop_assert!(world.taken <= 1, "one attempt was started twice");
        prop_assert!(world.stored.is_settled(), "{:?} {:?}", world.stored, world.agent);
        prop_assert!(world.no_agent() && !world.scratch);
        if let Some(record) = &world.record {
            prop_assert_eq!(world.stored.status(), record.status);
        } else {
            let status = world.stored.status();
            prop_assert_ne!(status, Status::Completed);
        }
        if world.taken == 0 && world.stillborn < 3 {
            prop_assert_eq!(world.stored.status(), Status::Terminated);
        }
    }
}
