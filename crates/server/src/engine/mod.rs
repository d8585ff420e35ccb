//! Engines, one for each cluster: they start an agent, say whether it is there, stop it, remove it, and say what there is room for.
//!
//! An engine never decides what happens next, never touches the store, and reads nothing of what an agent has recorded. Every verb is
//! safe to repeat, because all names derive from run id, attempt and nonce.
#[cfg(feature = "testing")]
pub(crate) mod fake;
mod images;
pub(crate) mod local;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::net::UnixStream;
use tokio::process::Child;
use vessl_core::door::{Exec, Surroundings, Target};
use vessl_core::ids::{AttemptId, ClusterName, RunId};
use vessl_core::plan::Plan;
use vessl_core::record::{MachineReport, Proof, Secrets};
use vessl_core::run::{Left, Terminate};
use vessl_core::units::Span;
use vessl_reach::Program;
use vessl_reach::door::{Dialed, DoorError};

pub(crate) use images::{Images, PullStep};

/// What an engine knows of the agent of an attempt. What the agent has recorded is in the attempt's files, and is read after this: an
/// agent that is gone has recorded all it ever will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Alive,
    /// It is not there, or not any more.
    Gone {
        /// What the attempt still has on the machine.
        left: Left,
        /// Why the last start of it was refused.
        refused: Option<String>,
    },
    /// Cannot tell.
    Unreachable {
        /// Why not.
        why: String,
    },
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

/// What places runs and has their images, by cluster.
#[derive(Debug)]
pub struct Engines {
    by_cluster: BTreeMap<ClusterName, (Engine, Images)>,
    default: ClusterName,
}

impl Engines {
    /// Of these clusters. What a cluster that the settings name no more has left was left on this machine, as everything is: the default
    /// cluster's engine looks after it.
    pub(crate) fn new(by_cluster: BTreeMap<ClusterName, (Engine, Images)>, default: ClusterName) -> Self {
        Self { by_cluster, default }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Engine> {
        self.by_cluster.values().map(|(engine, _)| engine)
    }

    /// The engine of a cluster.
    pub fn of(&self, cluster: &ClusterName) -> Result<&Engine, EngineError> {
        Ok(&self.cluster(cluster)?.0)
    }

    /// The images of a cluster.
    pub(crate) fn images(&self, cluster: &ClusterName) -> Result<&Images, EngineError> {
        Ok(&self.cluster(cluster)?.1)
    }

    fn cluster(&self, cluster: &ClusterName) -> Result<&(Engine, Images), EngineError> {
        let found = self.by_cluster.get(cluster).or_else(|| self.by_cluster.get(&self.default));
        found.ok_or_else(|| EngineError::NoCluster(cluster.clone()))
    }
}

/// What places the runs of one cluster.
#[derive(Debug)]
pub enum Engine {
    /// Agents on this machine.
    Local(local::Local),
    /// A scripted machine for tests; it starts nothing.
    #[cfg(feature = "testing")]
    Fake(fake::Fake),
}

impl Engine {
    /// Starts the agent of the plan's attempt, whose directory is there; when this is `Ok`, the agent is there or was. An attempt that
    /// an agent took before is left as it is.
    pub async fn start(&self, plan: &Plan, secrets: &Secrets) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.start(plan, secrets).await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => fake.start(plan, secrets).await,
        }
    }

    /// Starts an agent for the exports of an attempt that are not written, from the files that it left; when this is `Ok`, that agent is
    /// there or was.
    pub async fn export(&self, at: AttemptId, secrets: &Secrets) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.export(at, secrets).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Removes the files that an attempt left for its exports.
    pub async fn forget(&self, at: AttemptId) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.forget(at).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Whether the attempt has an agent now.
    pub async fn presence(&self, at: AttemptId) -> Presence {
        match self {
            Self::Local(local) => local.presence(at).await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => fake.presence(at).await,
        }
    }

    /// What became of an agent that is gone and has left no exit record. May take a while, or answer that it cannot be told yet.
    pub async fn proof(&self, at: AttemptId) -> Proof {
        match self {
            Self::Local(local) => local.proof(at).await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => fake.proof(at),
        }
    }

    /// Tells the agent to stop.
    pub async fn stop(&self, at: AttemptId, how: &Terminate) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.stop(at, how).await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => fake.stop(at, how).await,
        }
    }

    /// Tells the agent that the run may take longer.
    pub async fn extend(&self, at: AttemptId, by: Span) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.extend(at, by).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Removes what the attempt left, except record and log; when this is `Ok`, nothing is left.
    pub async fn remove(&self, at: AttemptId) -> Result<(), EngineError> {
        match self {
            Self::Local(local) => local.remove(at).await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => fake.remove(at).await,
        }
    }

    /// What a program needs that is started beside the commands of an attempt.
    pub async fn surroundings(&self, at: AttemptId) -> Result<Surroundings, DoorError> {
        match self {
            Self::Local(local) => local.surroundings(at).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Err(DoorError::NoContainer),
        }
    }

    /// Starts a program beside the commands of an attempt.
    pub async fn exec(&self, at: AttemptId, exec: Exec) -> Result<Program, DoorError> {
        match self {
            Self::Local(local) => local.exec(at, exec).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Err(DoorError::NoContainer),
        }
    }

    /// Connects to something that listens inside the container of an attempt.
    pub async fn dial(&self, at: AttemptId, to: Target) -> Result<Dialed, DoorError> {
        match self {
            Self::Local(local) => local.dial(at, to).await,
            #[cfg(feature = "testing")]
            Self::Fake(_) => Err(DoorError::NoContainer),
        }
    }

    /// Starts the process that serves a connection by SSH; it asks on the socket who may.
    pub fn serve_ssh(&self, connection: OwnedFd, ends: &str) -> Result<(Child, UnixStream), EngineError> {
        match self {
            Self::Local(local) => local.serve_ssh(connection, ends),
            #[cfg(feature = "testing")]
            Self::Fake(_) => {
                Err(EngineError::Verb { verb: "ssh", why: "nothing is started here".to_owned() })
            }
        }
    }

    /// Sets up what the first run would have to wait for.
    pub async fn warm_up(&self) {
        match self {
            // Who starts a run is told what is wrong.
            Self::Local(local) => drop(local.network().await),
            #[cfg(feature = "testing")]
            Self::Fake(_) => {}
        }
    }

    /// What the machine has.
    pub async fn machine(&self) -> Result<MachineReport, EngineError> {
        match self {
            Self::Local(local) => local.machine().await,
            #[cfg(feature = "testing")]
            Self::Fake(fake) => Ok(fake.machine()),
        }
    }
}
