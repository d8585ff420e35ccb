//! A scripted machine for tests: it starts nothing and obeys lines that begin with `fake ` in a run's commands. It is the machine, not
//! the server: a test keeps it while servers come and go. What its agents record they send again at every look, as a real one that is
//! elsewhere may.
//!
//! ```text
//! fake say PHASE          the next look sees this phase            fake exit CODE      the exit record appears
//! fake unreachable        no look can tell until `World::release`  fake die WORDS      proven dead, no record
//! fake hold               nothing more until `World::release`      fake deaf           ignores stop
//! fake refuse WORDS       the start is refused                     fake vanish N       N starts leave no trace
//! fake hang POINT         once: never answers there (`before start`, `after start`, `look 3`, `before stop`, …)
//! fake export PATH MANIFEST   the exit record says that PATH was exported as this tree
//! fake exported PATH MANIFEST  the next look sees the event that PATH was exported as this tree
//! ```
//! Without such lines a run says `pulling` and `running` and exits 0. Every look takes one step; one that cannot find anything new is
//! not counted.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use vessl_core::ids::{AttemptId, Nonce};
use vessl_core::plan::{ImportPlan, ImportSource, Plan};
use vessl_core::record::{
    Event, EventKind, ExitRecord, MachineReport, Phase, Proof, RECORD_VERSION, Secrets, Transfer, Usage,
};
use vessl_core::run::{EndReason, Left, Status, Terminate};
use vessl_core::secret::Secret;
use vessl_core::wire::{ImageView, Progress, ProgressKind};
use vessl_data::locked;

use super::{EngineError, Presence, PullStep};
use crate::attempt::{AttemptError, Attempts};

/// The fake engine: a door to a [`World`], whose agents record in the attempts of a server.
#[derive(Clone, Debug)]
pub struct Fake {
    world: Arc<World>,
    attempts: Attempts,
}

/// The scripted machine.
pub struct World {
    machine: MachineReport,
    now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    state: Mutex<State>,
    hung: watch::Sender<BTreeSet<String>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("machine", &self.machine).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Of the server that is there now.
    attempts: Option<Attempts>,
    actors: BTreeMap<AttemptId, Actor>,
    tally: BTreeMap<AttemptId, Tally>,
    refused: BTreeMap<AttemptId, String>,
    order: Vec<AttemptId>,
    values: BTreeMap<AttemptId, Vec<Secret>>,
}

/// How often each verb had an effect on an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Agents that came to life; never more than one.
    pub agents: u32,
    /// Starts that were asked for.
    pub starts: u32,
    /// Stops that were asked for.
    pub stops: u32,
    /// Removes that were asked for.
    pub removes: u32,
    /// Looks at an agent.
    pub looks: u32,
    /// Keys of the secrets that the agent was given, sorted.
    pub secrets: Vec<String>,
}

#[derive(Debug)]
struct Actor {
    plan: Plan,
    steps: VecDeque<Step>,
    deaf: bool,
    exports: Vec<Transfer>,
    phase: Option<Phase>,
    started_at: Option<Timestamp>,
    events: Vec<Event>,
    end: Option<Ending>,
    removed: bool,
    /// Whether the next look can find something new.
    news: bool,
}

#[derive(Debug)]
enum Ending {
    Record(Box<ExitRecord>),
    Proof(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Say(Phase),
    Unreachable,
    Hold,
    Exit(i32),
    Terminated,
    Die(String),
    Exported(Transfer),
}

/// Lines of events, and the exit record.
type Record = (Vec<u8>, Option<Box<ExitRecord>>);

impl Step {
    /// Whether it stays until it is released.
    fn is_lasting(&self) -> bool {
        matches!(self, Step::Hold | Step::Unreachable)
    }
}

impl World {
    /// A machine with what `machine` says, on which it is `now()`.
    pub fn new(machine: MachineReport, now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Arc<Self> {
        let hung = watch::Sender::default();
        Arc::new(Self { machine, now: Box::new(now), state: Mutex::default(), hung })
    }

    /// How often each verb had an effect.
    pub fn tally(&self, at: AttemptId) -> Tally {
        self.lock().tally.get(&at).cloned().unwrap_or_default()
    }

    /// Attempts that have an agent or scratch on the machine.
    pub fn littered(&self) -> Vec<AttemptId> {
        self.lock().actors.iter().filter(|(_, actor)| !actor.removed).map(|(&at, _)| at).collect()
    }

    /// Lets an attempt go on after `fake hold` or `fake unreachable`.
    pub fn release(&self, at: AttemptId) {
        let mut state = self.lock();
        if let Some(actor) = state.actors.get_mut(&at)
            && actor.steps.front().is_some_and(Step::is_lasting)
        {
            actor.steps.pop_front();
        }
        state.news(at);
    }

    /// Agents in the order in which they came to life.
    pub fn order(&self) -> Vec<AttemptId> {
        self.lock().order.clone()
    }

    /// Secret values that the attempt's agent was given, by key.
    pub fn values(&self, at: AttemptId) -> Vec<Secret> {
        self.lock().values.get(&at).cloned().unwrap_or_default()
    }

    /// Versions of the trees that the attempt imports.
    pub fn imports(&self, at: AttemptId) -> Vec<String> {
        let state = self.lock();
        let imports = state.actors.get(&at).map(|actor| actor.plan.imports.as_slice()).unwrap_or_default();
        let version = |import: &ImportPlan| match &import.source {
            ImportSource::Tree { manifest, .. } => Some(manifest.clone()),
            _ => None,
        };
        imports.iter().filter_map(version).collect()
    }

    /// Waits until a server hangs at this point, e.g. `before start`.
    pub async fn hangs_at(&self, point: &str) {
        let mut hung = self.hung.subscribe();
        let _ = hung.wait_for(|points| points.contains(point)).await;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Hangs here for ever if the script says so, the first time only.
    async fn pass(&self, script: &str, point: &str) {
        let asked = directives(script).any(|line| line.strip_prefix("hang ") == Some(point));
        if asked && self.hung.send_if_modified(|points| points.insert(point.to_owned())) {
            std::future::pending::<()>().await;
        }
    }
}

impl State {
    /// One look at an attempt: what is there of its agent, and what that has recorded.
    fn look(&mut self, at: AttemptId, now: Timestamp) -> (Presence, Record) {
        let Some(actor) = self.actors.get_mut(&at) else {
            let refused = self.refused.get(&at).cloned();
            return (Presence::Gone { left: Left::Nothing, refused }, Record::default());
        };
        let presence = actor.look(now);
        let (record, more) = (actor.record(), actor.has_more());
        if more {
            self.news(at);
        }
        (presence, record)
    }

    /// There is something new of an attempt.
    fn news(&mut self, at: AttemptId) {
        let Some(actor) = self.actors.get_mut(&at) else { return };
        actor.news = true;
        if let Some(attempts) = &self.attempts {
            attempts.signal(actor.plan.attempt_id());
        }
    }

    /// The script, and how many looks at its agent there were with this one; 0 for one that finds nothing new.
    fn count_look(&mut self, at: AttemptId) -> (String, u32) {
        let text = self.script(at);
        let news = self.actors.get_mut(&at).is_some_and(|actor| std::mem::take(&mut actor.news));
        let tally = self.tally.entry(at).or_default();
        tally.looks += u32::from(news);
        (text, if news { tally.looks } else { 0 })
    }

    fn script(&self, at: AttemptId) -> String {
        self.actors.get(&at).map(|actor| script(&actor.plan)).unwrap_or_default()
    }
}

impl Fake {
    /// A door for the server that has these attempts.
    pub(crate) fn new(world: Arc<World>, attempts: Attempts) -> Self {
        world.lock().attempts = Some(attempts.clone());
        Self { world, attempts }
    }

    pub(super) async fn start(&self, plan: &Plan, secrets: &Secrets) -> Result<(), EngineError> {
        let (at, text) = (key(plan.attempt_id()), script(plan));
        self.world.pass(&text, "before start").await;
        self.start_now(at, plan, secrets)?;
        self.world.pass(&text, "after start").await;
        Ok(())
    }

    fn start_now(&self, at: AttemptId, plan: &Plan, secrets: &Secrets) -> Result<(), EngineError> {
        let mut state = self.world.lock();
        if state.actors.contains_key(&at) {
            return Ok(());
        }
        let tally = state.tally.entry(at).or_default();
        tally.starts += 1;
        tally.secrets = names(secrets);
        let starts = tally.starts;
        for line in directives(&script(plan)) {
            if let Some(why) = line.strip_prefix("refuse ") {
                state.refused.insert(at, why.to_owned());
                return Err(EngineError::Verb { verb: "supervise", why: why.to_owned() });
            }
            if line.strip_prefix("vanish ").and_then(|n| n.parse().ok()).is_some_and(|n: u32| starts <= n) {
                return Ok(());
            }
        }
        state.tally.entry(at).or_default().agents += 1;
        state.order.push(at);
        state.values.insert(at, values(secrets));
        state.actors.insert(at, Actor::new(plan.clone()));
        Ok(())
    }

    pub(super) async fn presence(&self, at: AttemptId) -> Presence {
        let (text, nth) = self.world.lock().count_look(key(at));
        self.world.pass(&text, &format!("look {nth}")).await;
        let now = (self.world.now)();
        let (presence, record) = self.world.lock().look(key(at), now);
        match self.send(at, record).await {
            Ok(()) => presence,
            Err(error) => Presence::Unreachable { why: crate::chain(&error) },
        }
    }

    /// Sends everything that the agent has recorded.
    async fn send(&self, at: AttemptId, (events, exit): Record) -> Result<(), AttemptError> {
        if !events.is_empty() {
            self.attempts.put_events(at, 0, events).await?;
        }
        match exit {
            Some(record) => self.attempts.put_exit(at, &record).await,
            None => Ok(()),
        }
    }

    pub(super) fn proof(&self, at: AttemptId) -> Proof {
        match self.world.lock().actors.get(&key(at)).map(|actor| &actor.end) {
            None => Proof::NeverStarted,
            Some(Some(Ending::Proof(why))) => Proof::Dead { why: why.clone() },
            Some(_) => Proof::Alive { why: "it works".to_owned() },
        }
    }

    pub(super) async fn stop(&self, at: AttemptId, _how: &Terminate) -> Result<(), EngineError> {
        let at = key(at);
        let text = self.world.lock().script(at);
        self.world.pass(&text, "before stop").await;
        {
            let mut state = self.world.lock();
            state.tally.entry(at).or_default().stops += 1;
            let Some(actor) = state.actors.get_mut(&at) else {
                return Err(EngineError::Silent { run: at.run, why: "there is no agent".to_owned() });
            };
            if !actor.deaf && !matches!(actor.steps.front(), Some(Step::Terminated)) {
                actor.steps = [Step::Say(Phase::Terminating), Step::Terminated].into();
            }
            state.news(at);
        }
        self.world.pass(&text, "after stop").await;
        Ok(())
    }

    pub(super) async fn remove(&self, at: AttemptId) -> Result<(), EngineError> {
        let at = key(at);
        let text = self.world.lock().script(at);
        self.world.pass(&text, "before remove").await;
        {
            let mut state = self.world.lock();
            state.tally.entry(at).or_default().removes += 1;
            state.refused.remove(&at);
            if let Some(actor) = state.actors.get_mut(&at) {
                actor.removed = true;
                actor.news = true;
                actor.end.get_or_insert_with(|| Ending::Proof("it was removed".to_owned()));
            }
        }
        self.world.pass(&text, "after remove").await;
        Ok(())
    }

    pub(super) fn machine(&self) -> MachineReport {
        self.world.machine.clone()
    }

    pub(super) fn images() -> Vec<ImageView> {
        vec![image("docker.io/library/alpine:3")]
    }

    pub(super) fn pull(reference: &str) -> mpsc::Receiver<Result<PullStep, EngineError>> {
        let (steps, received) = mpsc::channel(2);
        let progress =
            Progress { kind: ProgressKind::Image, label: reference.to_owned(), done: 1, total: Some(2) };
        // The channel has room for both.
        let _ = steps.try_send(Ok(PullStep::Progress(progress)));
        let _ = steps.try_send(Ok(PullStep::Done(image(reference))));
        received
    }
}

impl Actor {
    fn new(plan: Plan) -> Self {
        let text = script(&plan);
        let mut steps: VecDeque<Step> = directives(&text).filter_map(step).collect();
        if steps.is_empty() {
            steps = [Step::Say(Phase::Pulling), Step::Say(Phase::Running), Step::Exit(0)].into();
        }
        let deaf = directives(&text).any(|line| line == "deaf");
        let exports = directives(&text).filter_map(export).collect();
        Self {
            plan,
            steps,
            deaf,
            exports,
            phase: None,
            started_at: None,
            events: Vec::new(),
            end: None,
            removed: false,
            news: true,
        }
    }

    /// One look: takes one step.
    fn look(&mut self, now: Timestamp) -> Presence {
        if self.end.is_none() {
            match self.steps.pop_front_if(|step| !step.is_lasting()) {
                Some(step) => self.take(&step, now),
                None if self.steps.front() == Some(&Step::Unreachable) => {
                    return Presence::Unreachable { why: "the line is cut".to_owned() };
                }
                None => {}
            }
        }
        let left = if self.removed { Left::Nothing } else { Left::Scratch };
        if self.end.is_none() { Presence::Alive } else { Presence::Gone { left, refused: None } }
    }

    /// Everything that it has recorded.
    fn record(&self) -> Record {
        let mut lines = Vec::new();
        for event in &self.events {
            lines.extend(serde_json::to_vec(event).unwrap_or_default());
            lines.push(b'\n');
        }
        match &self.end {
            Some(Ending::Record(record)) => (lines, Some(record.clone())),
            _ => (lines, None),
        }
    }

    fn has_more(&self) -> bool {
        self.end.is_none() && self.steps.front().is_some_and(|step| *step != Step::Hold)
    }

    fn take(&mut self, step: &Step, now: Timestamp) {
        match step {
            Step::Say(phase) => self.say(*phase, now),
            Step::Exit(0) => self.exit(now, Status::Completed, "every command ended with status 0", Some(0)),
            Step::Exit(code) => {
                let words = format!("item 1 of 1 ended with status {code}");
                self.exit(now, Status::Failed, &words, Some(*code));
            }
            Step::Terminated => self.exit(now, Status::Terminated, "terminated by a person", Some(143)),
            Step::Die(why) => self.end = Some(Ending::Proof(why.clone())),
            Step::Exported(transfer) => self.event(EventKind::Exported(transfer.clone()), now),
            Step::Hold | Step::Unreachable => {}
        }
    }

    fn say(&mut self, phase: Phase, now: Timestamp) {
        self.phase = Some(phase);
        if phase == Phase::Running {
            self.started_at.get_or_insert(now);
        }
        self.event(EventKind::Phase { phase }, now);
    }

    fn event(&mut self, what: EventKind, at: Timestamp) {
        let seq = self.events.len() as u64 + 1;
        self.events.push(Event { v: RECORD_VERSION, seq, at, what });
    }

    fn exit(&mut self, now: Timestamp, status: Status, reason: &str, exit_code: Option<i32>) {
        self.end = Some(Ending::Record(Box::new(ExitRecord {
            v: RECORD_VERSION,
            run: self.plan.run,
            attempt: self.plan.attempt,
            nonce: self.plan.nonce,
            status,
            reason_code: match status {
                Status::Completed => EndReason::Completed,
                Status::Terminated => EndReason::Terminated,
                _ => EndReason::CommandFailed,
            },
            reason: reason.to_owned(),
            exit_code,
            oom: false,
            started_at: self.started_at,
            ended_at: now,
            imports: Vec::new(),
            exports: std::mem::take(&mut self.exports),
            usage: self.started_at.map(|_| Usage { memory_peak: Some(4096), cpu_millis: Some(7) }),
            cleanup: None,
        })));
    }
}

/// Tests know an attempt by its number.
fn key(at: AttemptId) -> AttemptId {
    AttemptId { nonce: Nonce::default(), ..at }
}

fn names(secrets: &Secrets) -> Vec<String> {
    let logins = secrets.credentials.keys().map(|credential| credential.name.to_string());
    secrets.env.keys().cloned().chain(logins).collect()
}

fn values(secrets: &Secrets) -> Vec<Secret> {
    let logins = secrets.credentials.values();
    secrets.env.values().chain(logins.map(|login| &login.password)).cloned().collect()
}

fn script(plan: &Plan) -> String {
    let commands: Vec<&str> = plan.items.iter().filter_map(|item| item.command.as_deref()).collect();
    commands.join("\n")
}

fn directives(script: &str) -> impl Iterator<Item = &str> {
    script.lines().filter_map(|line| line.trim().strip_prefix("fake ")).map(str::trim)
}

fn step(line: &str) -> Option<Step> {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    match verb {
        "say" => serde_json::from_value(rest.into()).ok().map(Step::Say),
        "unreachable" => Some(Step::Unreachable),
        "hold" => Some(Step::Hold),
        "exit" => rest.parse().ok().map(Step::Exit),
        "die" => Some(Step::Die(rest.to_owned())),
        "exported" => tree(rest).map(Step::Exported),
        _ => None,
    }
}

fn export(line: &str) -> Option<Transfer> {
    tree(line.strip_prefix("export ")?)
}

fn tree(words: &str) -> Option<Transfer> {
    let (path, manifest) = words.split_once(' ')?;
    let (path, version) = (path.to_owned(), Some(manifest.to_owned()));
    Some(Transfer { label: path.clone(), path, bytes: 3, files: 1, version, ..Transfer::default() })
}

fn image(reference: &str) -> ImageView {
    ImageView {
        id: "0123456789ab".to_owned(),
        reference: reference.to_owned(),
        digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
        size: 1024,
        pulled_at: None,
        layers: 1,
    }
}
