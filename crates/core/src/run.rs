//! A run's life: the only owner of state transitions. Pure; time enters as an argument.
//!
//! ```text
//! queued → pending → initializing → running → (idle) → stopping → completed | failed | terminated
//! ```
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::plan::RunId;
use crate::record::{ExitRecord, Phase};

/// The status words of the hosted product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for capacity.
    Queued,
    /// Placed, being started.
    Pending,
    /// Image and imports.
    Initializing,
    /// Commands run, or the session is up.
    Running,
    /// Commands ended, kept by termination protection.
    Idle,
    /// Exports are written.
    Stopping,
    /// Ended well.
    Completed,
    /// Ended badly; the reason says how.
    Failed,
    /// Ended by a person.
    Terminated,
}

/// One run as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Identity.
    pub id: RunId,
    /// Number of the current attempt, from 1.
    pub attempt: u32,
    /// Where it stands.
    pub state: State,
    /// What people asked for.
    pub asked: Asked,
    /// Set while the process that looks after the run cannot be reached.
    pub no_contact_since: Option<Timestamp>,
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
        place: Place,
    },
    /// The agent lives.
    Active {
        /// Where.
        place: Place,
        /// What the agent said last.
        phase: Phase,
        /// When the commands started.
        started_at: Option<Timestamp>,
        /// What `stop` was last sent to the agent, so that the same look gives no new action.
        stop_sent: Option<StopKind>,
    },
    /// Over; never changes again except that `removed` becomes true.
    Ended {
        /// How.
        verdict: Verdict,
        /// Place still to be cleaned, `None` if the run was never placed.
        place: Option<Place>,
        /// When the commands started.
        started_at: Option<Timestamp>,
        /// When it ended.
        ended_at: Timestamp,
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

/// How strongly an agent was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// SIGTERM, grace, kill, exports.
    Gentle,
    /// The same without exports.
    NoExport,
}

/// A seat on a node: what a run holds while it is not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Place {
    /// Node name.
    pub node: String,
    /// Indices of the GPUs it holds.
    pub gpus: Vec<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `Completed`, `Failed` or `Terminated`.
    pub status: Status,
    /// In words.
    pub reason: String,
    /// Of the failing item or the last one; 128+n for a signal.
    pub exit_code: Option<i32>,
    /// A failure while cleaning up, which never hides the verdict.
    pub cleanup: Option<String>,
}

/// What a driver saw before a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What the engine says of the current attempt.
    pub look: Look,
    /// What the queue says, asked only while the run is queued.
    pub seat: Option<Seat>,
}

/// What an engine says of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// No trace: it was never started here, or it was removed.
    Nothing,
    /// The agent lives (or a started agent has not said anything yet: `phase` is `None`).
    Alive {
        /// Latest phase.
        phase: Option<Phase>,
        /// When the commands started.
        started_at: Option<Timestamp>,
    },
    /// The exit record is there; `alive` while the agent still cleans up.
    Exited {
        /// The record.
        record: Box<ExitRecord>,
    },
    /// Proven dead without an exit record.
    Dead {
        /// The proof in words.
        proof: String,
        /// When the commands had started.
        started_at: Option<Timestamp>,
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

/// What the queue says of a waiting run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seat {
    /// This place is free for it now.
    Free(Place),
    /// It waits; the words say for what.
    Waits(String),
    /// No node can ever satisfy it (the machine changed since the submit).
    Never(String),
}

/// What a driver saves (`run`) and then applies (`actions`, each of them safe to repeat).
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
}

/// What a turn asks of the engine. Idempotent: names derive from run id and attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start the agent of this attempt at this place.
    Start(Place),
    /// Tell the agent to stop.
    Stop(Terminate),
    /// Remove everything the attempt left on the machine except its record and log.
    Remove,
}
