//! Engines, one for each cluster: they place an agent, say what is there of it, stop it, remove it, and say what there is room for.
//!
//! An engine never decides what happens next and never touches the store. Every verb is safe to repeat, because all
//! names derive from run id, attempt and nonce.
pub(crate) mod fake;
mod images;
pub(crate) mod local;

use std::collections::BTreeMap;
use std::path::PathBuf;

use vessl_core::ids::{AttemptId, ClusterName, RunId};
use vessl_core::plan::Plan;
use vessl_core::record::{Event, MachineReport, Secrets};
use vessl_core::run::{Observation, Terminate};

pub(crate) use images::{Images, PullStep};

use crate::attempt::AttemptError;
use crate::watch::Changes;

/// What an engine sees of an attempt.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// For the rules.
    pub observed: Observation,
    /// Events of the agent after the one that was asked for, in order.
    pub events: Vec<Event>,
}

/// Why an engine could not do it. It may work the next time.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The agent program cannot be run.
    #[error("cannot run `{program}`: {source}")]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of the attempt.
    #[error(transparent)]
    Attempt(#[from] AttemptError),
    /// The settings name no such cluster any more.
    #[error("the settings of the server name no cluster `{0}`")]
    NoCluster(ClusterName),
    /// A file of the run directory.
    #[error("cannot {what} `{path}`: {source}")]
    File {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The agent program said no.
    #[error("`vessl agent {verb}` failed: {why}")]
    Verb {
        /// What it was asked.
        verb: &'static str,
        /// What it said.
        why: String,
    },
    /// The agent of an attempt does not answer.
    #[error("the agent of run {} does not answer: {why}", .run.0)]
    Silent {
        /// The run.
        run: RunId,
        /// Why.
        why: String,
    },
}

/// What places runs, a cluster each.
#[derive(Debug)]
pub struct Engines(BTreeMap<ClusterName, Engine>);

impl Engines {
    /// Of these clusters.
    pub(crate) fn new(engines: BTreeMap<ClusterName, Engine>) -> Self {
        Self(engines)
    }

    /// The engine of a cluster.
    pub fn of(&self, cluster: &ClusterName) -> Result<&Engine, EngineError> {
        self.0.get(cluster).ok_or_else(|| EngineError::NoCluster(cluster.clone()))
    }
}

/// What places the runs of one cluster.
#[derive(Debug)]
pub enum Engine {
    /// Agents on this machine.
    Local(local::Local),
    /// A scripted machine for tests and benchmarks; it starts nothing.
    Fake(fake::Fake),
}

impl Engine {
    /// Starts the agent of the plan's attempt; when this is `Ok`, a look finds the agent. An attempt that an agent took
    /// before is left as it is. Answers where that is now which stood in the way: nothing of it is this attempt's.
    pub async fn start(&self, plan: &Plan, secrets: &Secrets) -> Result<Vec<PathBuf>, EngineError> {
        match self {
            Self::Local(local) => local.start(plan, secrets).await,
            Self::Fake(fake) => fake.start(plan, secrets).await,
        }
    }

    /// What is known of the attempt now, with the agent's events after number `after`.
    pub async fn look(&self, at: AttemptId, after: u64) -> Snapshot {
        match self {
            Self::Local(local) => local.look(at, after).await,
            Self::Fake(fake) => fake.look(at, after).await,
        }
    }

    /// Tells the agent to stop.
    pub async fn stop(&self, at: AttemptId, how: &Terminate) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.stop(at, how).await,
            Self::Fake(fake) => fake.stop(at, how).await,
        }
    }

    /// Removes what the attempt left, except record and log; when this is `Ok`, nothing is left.
    pub async fn remove(&self, at: AttemptId) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.remove(at).await,
            Self::Fake(fake) => fake.remove(at).await,
        }
    }

    /// Tells when something about the attempt may have changed. Making it again for the same attempt is fine.
    pub fn watch(&self, at: AttemptId) -> Changes {
        match self {
            Self::Local(local) => local.watch(at),
            Self::Fake(fake) => fake.watch(at),
        }
    }

    /// What the machine has.
    pub async fn machine(&self) -> Result<MachineReport, EngineError> {
        match self {
            Self::Local(local) => local.machine().await,
            Self::Fake(fake) => Ok(fake.machine()),
        }
    }
}
