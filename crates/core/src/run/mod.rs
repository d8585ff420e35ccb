//! A run's life: the only owner of state transitions. Pure; time enters as an argument.
//!
//! ```text
//!            place free           agent speaks              exit record | proof of death
//!   Queued ───────────▶ Pending ───────────────▶ Active ────────────────────────────────▶ Ended ──▶ Ended, removed
//!     │   save, Start      │  Start again, ≤ 3×    │ ▲ follows the phase     Remove until   ▲         (final)
//!     │                    │  while no trace       └─┘ Stop while asked      nothing is left│
//!     │ terminate,         │ terminate and no trace, start refused                          │
//!     │ can never fit      └────────────────────────────────────────────────────────────────┤
//!     └─────────────────────────────────────────────────────────────────────────────────────┘
//!
//!   exports that are not written, from the files that are left:  Active | Ended ──▶ Exporting ──▶ Ended     (an agent for them, ≤ 3×)
//!   an attempt that failed, with retries left:  … ──▶ Retrying ──▶ Queued, the next attempt     (a person's restart: Ended ──▶ Queued)
//!                                                      Remove until nothing is left
//!
//!   people see: queued → pending → initializing → running → (idle) → stopping → completed | failed | terminated
//!
//!   no contact: every state stays as it is, with the time since when; only proof or a person ends a run
//! ```
//!
//! A driver repeats `look → decide → save → apply`. Actions are repeatable, because a crash may fall between any two of
//! these steps; what keeps them from being repeated for nothing is the driver's memory, [`Applied`].
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::{Nonce, RunId};
use crate::record::{ExitRecord, Phase};

mod decide;
mod request;
mod words;

pub use crate::plan::Placement;
pub use crate::status::{EndReason, Status};
pub use decide::decide;
pub use request::request;

/// One run as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Identity.
    pub id: RunId,
    /// Number of the current attempt, from 1.
    pub attempt: u32,
    /// What makes the current attempt this one: what carries another is not believed.
    #[serde(default)]
    pub nonce: Nonce,
    /// Where it stands.
    pub state: State,
    /// What people asked for.
    pub asked: Asked,
    /// Set while the process that looks after the run cannot be reached.
    pub no_contact_since: Option<Timestamp>,
    /// New attempts that are made without anybody asking.
    #[serde(default)]
    pub retries: Retries,
}

/// How often a run is tried again by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retries {
    /// How often it may be, at most [`MAX_RETRIES`].
    pub allowed: u32,
    /// How often it was, since a person last started it.
    pub used: u32,
}

/// Where a run stands, with the facts of that state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum State {
    /// Waits for capacity.
    Queued,
    /// A place was given and the start was asked for.
    Pending {
        /// Where.
        #[serde(rename = "place")]
        placement: Placement,
    },
    /// The agent lives.
    Active {
        /// Where.
        #[serde(rename = "place")]
        placement: Placement,
        /// What the agent said last.
        phase: Phase,
        /// When the commands started.
        started_at: Option<Timestamp>,
    },
    /// The attempt failed, and the next one follows when nothing of it is left on the machine.
    Retrying {
        /// How it ended.
        verdict: Verdict,
        /// Where it was, `None` if it was never placed.
        placement: Option<Placement>,
        /// When its commands started.
        started_at: Option<Timestamp>,
        /// When it ended.
        ended_at: Timestamp,
        /// Whether nothing of its container runs any more: its place is free.
        freed: bool,
    },
    /// The attempt is over but for exports, which another agent writes from the files that it left: because the first one died
    /// over them, or because some failed and a person asked for them again.
    Exporting {
        /// How it ends if nothing comes of that.
        verdict: Verdict,
        /// Where it was.
        placement: Option<Placement>,
        /// When its commands started.
        started_at: Option<Timestamp>,
        /// When it ended before, if it has an exit record: another record says how it went this time.
        before: Option<Timestamp>,
        /// How often an agent was asked to.
        tries: u32,
    },
    /// Over; never changes again except that `removed` becomes true, that a person starts it again, or that a person wants exports again
    /// that failed.
    Ended {
        /// How.
        verdict: Verdict,
        /// Where it was, `None` if it was never placed.
        #[serde(rename = "place")]
        placement: Option<Placement>,
        /// When the commands started.
        started_at: Option<Timestamp>,
        /// When it ended.
        ended_at: Timestamp,
        /// Whether nothing of its container runs any more: its place is free.
        #[serde(default)]
        freed: bool,
        /// Whether everything that was started is gone from the machine.
        removed: bool,
    },
}

/// What people asked of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Terminate, if asked.
    pub terminate: Option<Terminate>,
}

/// A request to end a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminate {
    /// When it was asked.
    pub at: Timestamp,
    /// Seconds between SIGTERM and the kill.
    pub grace_s: u64,
    /// Whether exports are written.
    pub export: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `Completed`, `Failed` or `Terminated`.
    pub status: Status,
    /// As a code.
    #[serde(default, deserialize_with = "EndReason::stored")]
    pub reason_code: EndReason,
    /// In words.
    pub reason: String,
    /// Of the failing item or the last one; 128+n for a signal.
    pub exit_code: Option<i32>,
    /// A failure while cleaning up, which never hides the verdict.
    pub cleanup: Option<String>,
}

/// What a driver saw before a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// What the engine says of the current attempt.
    pub observed: Observation,
    /// What the queue says, asked only while the run is queued.
    pub admission: Option<Admission>,
    /// What this driver has applied with success since it started; empty after a restart of the server.
    pub applied: Applied,
    /// A new random number: what makes the next attempt this one, if it begins in this turn.
    pub nonce: Nonce,
}

/// A driver's memory of the actions it applied with success. Never stored: a driver that starts anew has an empty one
/// and so applies again what may have been lost between a save and a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied(Vec<(Action, Timestamp, u32)>);

impl Applied {
    /// Notes that the engine accepted `action` at `now`.
    pub fn note(&mut self, action: &Action, now: Timestamp) {
        match self.0.iter_mut().find(|(known, ..)| known == action) {
            Some((_, at, times)) => {
                *at = now;
                *times = times.saturating_add(1);
            }
            None => self.0.push((action.clone(), now, 1)),
        }
    }

    /// When `action` was last applied and how often.
    pub fn last(&self, action: &Action) -> Option<(Timestamp, u32)> {
        self.0.iter().find(|(known, ..)| known == action).map(|&(_, at, times)| (at, times))
    }
}

/// What an engine says of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    /// No trace of an agent: it was never started here, or it ended before it took the run, or everything was removed
    /// together with the record. After a successful [`Action::Start`] an engine says this only when it is sure that no
    /// agent of the attempt lives (locally: the lock of the run directory is free).
    Nothing,
    /// The agent lives (or a started agent has not said anything yet: `phase` is `None`).
    Alive {
        /// Latest phase.
        phase: Option<Phase>,
        /// When the commands started.
        started_at: Option<Timestamp>,
    },
    /// The exit record is there. It stays there until the run is deleted; `left` says what else there is.
    Exited {
        /// The record.
        record: Box<ExitRecord>,
        /// What the attempt still has on the machine.
        left: Left,
    },
    /// Proven dead without an exit record.
    Dead {
        /// The proof in words.
        proof: String,
        /// When the commands had started.
        started_at: Option<Timestamp>,
        /// Exit status of the commands, if they had ended.
        exit_code: Option<i32>,
        /// Whether it died over its exports, and what it needed for them is still there.
        exporting: bool,
        /// What the attempt still has on the machine.
        left: Left,
    },
    /// Cannot tell. Never a reason to end a run.
    Unreachable {
        /// Why not.
        why: String,
    },
    /// The start itself was refused by the machine (no room for the directory, program missing).
    Refused {
        /// Why.
        why: String,
    },
}

/// What an ended attempt still has on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The agent's process: it is still cleaning up by itself.
    Agent,
    /// Mounts, cgroups or scratch (`box/`), and no agent to remove them.
    Scratch,
    /// The record and the log alone.
    Nothing,
}

/// What the queue says of a waiting run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// This is free for it now, and taken by this answer.
    Granted(Placement),
    /// It waits.
    Waiting(Wait),
    /// No node can ever satisfy it (the machine changed since the submit); the words say why.
    Impossible(String),
}

/// Why a run waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The binding constraint and who holds it.
    pub why: String,
    /// What would start the run, one line each.
    pub next: Vec<String>,
}

/// What a driver saves (`run`) and then applies (`actions`, each of them safe to repeat).
///
/// A driver that applied all actions notes them in its [`Applied`] and turns again at once. When one of them failed, and
/// when there were none, it turns again on a signal or at `wake_at`, whichever comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The run after this turn.
    pub run: Run,
    /// To be applied after the save.
    pub actions: Vec<Action>,
    /// Look again at this time at the latest, if nothing signals before.
    pub wake_at: Option<Timestamp>,
    /// Why the run is where it is, in words: the text of `vessl run explain`.
    pub why: String,
    /// What would let it go on, one line each.
    pub next: Vec<String>,
}

/// What a turn asks of the engine. Idempotent: names derive from run id and attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the agent of this attempt at this place. Succeeds only when from now on a look finds the agent (locally:
    /// it holds the lock); an attempt that has an agent or was ever taken by one is left as it is.
    Start(Placement),
    /// Tell the agent to stop.
    Stop(Terminate),
    /// Let an agent write the exports of this attempt that are not written, from the files that it left. Succeeds only when from now on
    /// a look finds that agent.
    Export,
    /// Remove everything the attempt left on the machine except its record and log, and the files of exports that failed; an agent that still lives is killed
    /// first, with its container. Succeeds only when nothing is left.
    Remove,
}

/// What a person asks of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// End it.
    Terminate {
        /// Seconds between SIGTERM and the kill, at most [`MAX_GRACE_S`]; `None` is [`DEFAULT_GRACE_S`].
        grace_s: Option<u64>,
        /// Whether exports are written.
        export: bool,
    },
    /// Begin a new attempt of a run that has ended.
    Restart {
        /// What makes the attempt this one.
        nonce: Nonce,
    },
    /// Write the exports again that failed.
    Export {
        /// How many of its exports failed.
        failed: usize,
        /// Whether its files are still there.
        kept: bool,
    },
    /// Forget it.
    Delete,
}

/// What the rules answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Save this run, then wake its driver (terminate) or remove its rows and directory (delete).
    Accepted(Box<Run>),
    /// Nothing to do; the words say why.
    AlreadySo(String),
    /// No; the words say why and what to do.
    Denied(String),
}

/// Seconds between SIGTERM and the kill when nobody says otherwise.
pub const DEFAULT_GRACE_S: u64 = 30;
/// Most retries that can be asked for.
pub const MAX_RETRIES: u32 = 100;
/// Longest grace that can be asked for, in seconds: one day.
pub const MAX_GRACE_S: u64 = 86_400;
