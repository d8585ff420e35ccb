//! Engines: they place an agent, look at it, stop it, remove it, and say what there is room for.
//!
//! An engine never decides what happens next and never touches the store. Every verb is safe to repeat, because all
//! names derive from run id, attempt and nonce.
pub(crate) mod fake;
pub(crate) mod local;
mod record;

use std::path::PathBuf;

use vessl_core::ids::{AttemptId, RunId};
use vessl_core::plan::Plan;
use vessl_core::record::{Event, Login, MachineReport, Secrets};
use vessl_core::run::{Observation, Terminate};
use vessl_core::wire::{ImageView, Progress, Pruned};

use crate::watch::Changes;

/// What an engine sees of an attempt.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// For the rules.
    pub look: Observation,
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

/// One line of a pull.
#[derive(Debug)]
pub enum PullStep {
    /// On the way.
    Progress(Progress),
    /// The image is here.
    Done(ImageView),
}

/// Where runs are placed.
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

    /// Images that are here.
    pub async fn images(&self) -> Result<Vec<ImageView>, EngineError> {
        match self {
            Self::Local(local) => local.images().await,
            Self::Fake(_) => Ok(fake::Fake::images()),
        }
    }

    /// Removes images and layers that no run uses.
    pub async fn prune(&self) -> Result<Pruned, EngineError> {
        match self {
            Self::Local(local) => local.prune().await,
            Self::Fake(_) => Ok(Pruned::default()),
        }
    }

    /// Pulls an image; the steps arrive on the receiver, the last one is [`PullStep::Done`] or an error.
    pub async fn pull(
        &self,
        reference: String,
        login: Option<Login>,
    ) -> Result<tokio::sync::mpsc::Receiver<Result<PullStep, EngineError>>, EngineError> {
        match self {
            Self::Local(local) => local.pull(reference, login).await,
            Self::Fake(_) => Ok(fake::Fake::pull(&reference)),
        }
    }
}
