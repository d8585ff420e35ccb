//! Agents on this machine: one detached child process per attempt, which outlives the server.
//!
//! ```text
//! start     `agent supervise`, secrets through its standard input ─► its first event
//! presence  our living child, or the lock is held, or control.sock answers
//! proof     `agent proof`
//! export    `agent export`, secrets likewise ─► a line on its standard output
//! stop      control.sock, made anew by `agent listen` where it is gone
//! remove    `agent remove`, and `agent forget` for what that keeps
//! ```
//! Everything it remembers (children, refusals) is a shortcut: after a restart the run directory says the same.
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::sync::OnceCell;
use vessl_core::ids::AttemptId;
use vessl_core::network::{Network, NetworkMode, NetworkPolicy};
use vessl_core::plan::Plan;
use vessl_core::record::{Control, ControlReply, MachineReport, Proof, Secrets};
use vessl_core::run::{Left, Terminate};
use vessl_core::units::Span;
use vessl_data::locked;
use vessl_reach::agent;

use super::{EngineError, Presence};
use crate::attempt::{Attempts, RunDir, blocking};
use crate::chain;
use crate::watch::Changes;

mod program;
mod reach;

pub(crate) use program::Program;

/// Longest time a new agent may take until it has taken the run.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Longest time an agent may take to listen anew.
const LISTEN_LIMIT: Duration = Duration::from_secs(5);
/// How often in a row it is asked whether a dead agent's container is gone, and the pause between; also between two tries
/// to reach an agent that makes its socket anew.
const PROOFS: u32 = 10;
const BETWEEN_PROOFS: Duration = Duration::from_millis(50);
/// After that it is asked again at the earliest after this time.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// Bytes of the agent's own log that are quoted when it ends before it took the run.
const QUOTED: usize = 600;

/// The local engine.
#[derive(Debug)]
pub struct Local {
    /// The data directory, for the agent.
    root: PathBuf,
    attempts: Attempts,
    program: Program,
    policy: NetworkPolicy,
    /// What the runs of this cluster get, once it is known.
    network: OnceCell<Network>,
    memory: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Attempts whose agent is our child and lives.
    children: HashSet<AttemptId>,
    /// Attempts that could not be started, with the reason.
    refused: HashMap<AttemptId, String>,
    /// Attempts without an agent of which something still lives, with when that was asked.
    unproven: HashMap<AttemptId, (Instant, String)>,
}

impl Local {
    /// An engine for the attempts of the data directory `root`.
    pub(crate) fn new(root: PathBuf, attempts: Attempts, program: Program, policy: NetworkPolicy) -> Self {
        Self { root, attempts, program, policy, network: OnceCell::new(), memory: Arc::default() }
    }

    /// The network of the runs of this cluster. Set up when it is first needed; what cannot be set up is tried again with the next run,
    /// unless the machine's own network is as good.
    pub(super) async fn network(&self) -> Result<Network, EngineError> {
        let NetworkPolicy { mode, pool, reach } = self.policy;
        let known = self.network.get_or_try_init(|| async {
            match mode {
                NetworkMode::Host => Ok(Network::Host),
                NetworkMode::None => Ok(Network::None),
                NetworkMode::Nat => self.program.open_network(pool, reach).await.map(|()| Network::Nat(pool)),
                NetworkMode::Auto => Ok(match self.program.open_network(pool, reach).await {
                    Ok(()) => Network::Nat(pool),
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "runs have the network of this machine (`network` in the settings)");
                        Network::Host
                    }
                }),
            }
        });
        known.await.copied()
    }

    fn dir(&self, at: AttemptId) -> RunDir {
        self.attempts.dir(at)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    pub(super) async fn start(&self, plan: &Plan, secrets: &Secrets) -> Result<(), EngineError> {
        let at = plan.attempt_id();
        let dir = self.dir(at);
        if self.memory().children.contains(&at) || dir.was_taken() {
            return Ok(());
        }
        let started = self.start_agent(at, &dir, secrets).await;
        match &started {
            Ok(()) => self.memory().refused.remove(&at),
            Err(error) => self.memory().refused.insert(at, chain(error)),
        };
        self.attempts.signal(at);
        started
    }

    async fn start_agent(&self, at: AttemptId, dir: &RunDir, secrets: &Secrets) -> Result<(), EngineError> {
        let mut changes = self.attempts.follow(at);
        let network = self.network().await?;
        let mut child = self.program.supervise(&self.root, dir.path(), (secrets, network)).await?;
        let taken = wait_until_taken(dir, &mut child, &mut changes).await?;
        if taken == Taken::ByOurs {
            self.keep(at, child);
        }
        Ok(())
    }

    pub(super) async fn export(&self, at: AttemptId, secrets: &Secrets) -> Result<(), EngineError> {
        let dir = self.dir(at);
        if self.memory().children.contains(&at) || dir.is_locked() == Ok(true) {
            return Ok(());
        }
        let mut child = self.program.export(&self.root, dir.path(), secrets).await?;
        let taken = tokio::time::timeout(START_LIMIT, program::first_line(&mut child)).await;
        let failed = |why| EngineError::Verb { verb: "export", why };
        match taken {
            Ok(true) => {
                self.keep(at, child);
                self.attempts.signal(at);
                Ok(())
            }
            Ok(false) => {
                let status = child.wait().await;
                let status = status.map_err(|error| failed(error.to_string()))?;
                Err(failed(ended_early(&dir, status)))
            }
            Err(_) => {
                // It has not begun, so nothing is lost with it.
                let _ = child.kill().await;
                Err(failed(format!("it did not begin within {} s", START_LIMIT.as_secs())))
            }
        }
    }

    pub(super) async fn forget(&self, at: AttemptId) -> Result<(), EngineError> {
        self.program.forget(&self.root, self.dir(at).path()).await
    }

    /// Remembers a living child, and tells when it is gone.
    fn keep(&self, at: AttemptId, mut child: Child) {
        self.memory().children.insert(at);
        let (memory, attempts) = (Arc::clone(&self.memory), self.attempts.clone());
        tokio::spawn(async move {
            // Whatever the status is: what happened is in the run directory.
            let _ = child.wait().await;
            locked(&memory).children.remove(&at);
            attempts.signal(at);
        });
    }

    /// An agent that has lost its directory counts as gone, though it may live: nothing that it does can be recorded, and a removal ends
    /// it.
    pub(super) async fn presence(&self, at: AttemptId) -> Presence {
        let dir = self.dir(at);
        let gone = |left| Presence::Gone { left, refused: self.memory().refused.get(&at).cloned() };
        // One look at a name, as for every run that waits in the queue.
        if !dir.path().exists() {
            return gone(Left::Nothing);
        }
        if self.memory().children.contains(&at) {
            return Presence::Alive;
        }
        let held = move || dir.is_locked().map_err(std::io::Error::other).map(|held| (held, dir.left()));
        match blocking(held).await {
            Ok((true, _)) => Presence::Alive,
            // Somebody has removed the lock that it holds.
            Ok((false, Left::Scratch)) if answers(&self.dir(at)).await => Presence::Alive,
            Ok((false, left)) => gone(left),
            Err(error) => Presence::Unreachable { why: error.to_string() },
        }
    }

    /// The last processes of a container whose agent was killed may take a moment to go; one that does not go is asked about again
    /// only after a while, because asking is itself a change in the directory.
    pub(super) async fn proof(&self, at: AttemptId) -> Proof {
        if let Some((asked, why)) = self.memory().unproven.get(&at)
            && asked.elapsed() < ASK_AGAIN
        {
            return Proof::Alive { why: why.clone() };
        }
        let mut left = PROOFS;
        let why = loop {
            left -= 1;
            match self.program.proof(self.dir(at).path()).await {
                Ok(Proof::Alive { .. }) if left > 0 => tokio::time::sleep(BETWEEN_PROOFS).await,
                Ok(Proof::Alive { why }) => break why,
                Ok(proof) => return proof,
                Err(error) => break chain(&error),
            }
        };
        self.memory().unproven.insert(at, (Instant::now(), why.clone()));
        Proof::Alive { why }
    }

    pub(super) async fn stop(&self, at: AttemptId, how: &Terminate) -> Result<(), EngineError> {
        self.tell(at, &Control::Stop { grace_s: how.grace_s, export: how.export }).await
    }

    pub(super) async fn extend(&self, at: AttemptId, by: Span) -> Result<(), EngineError> {
        self.tell(at, &Control::Extend { millis: by.0 }).await
    }

    async fn tell(&self, at: AttemptId, ask: &Control) -> Result<(), EngineError> {
        let silent = |why: String| EngineError::Silent { run: at.run, why };
        let dir = self.dir(at);
        let asked = match agent::ask(dir.path(), ask).await {
            Err(error) if agent::is_no_socket(&error) => self.ask_anew(at, &dir, ask).await,
            asked => asked,
        };
        let reply: ControlReply = asked.map_err(|error| silent(error.to_string()))?;
        if reply.ok { Ok(()) } else { Err(silent(reply.error.unwrap_or_else(|| "it refused".to_owned()))) }
    }

    /// Asks an agent whose socket somebody has removed, once it listens anew.
    async fn ask_anew(&self, at: AttemptId, dir: &RunDir, ask: &Control) -> std::io::Result<ControlReply> {
        let mut changes = self.attempts.follow(at);
        match self.program.listen(dir.path()).await {
            Ok(true) => {}
            Ok(false) => return Err(std::io::Error::other("there is no agent")),
            Err(error) => return Err(std::io::Error::other(chain(&error))),
        }
        let again = async {
            loop {
                match agent::ask(dir.path(), ask).await {
                    // A name is told of a moment before anybody listens there.
                    Err(error) if agent::is_no_socket(&error) => {
                        let _ = tokio::time::timeout(BETWEEN_PROOFS, changes.changed()).await;
                    }
                    asked => return asked,
                }
            }
        };
        let late = || Err(std::io::Error::other("its `control.sock` is gone, and it does not make another"));
        tokio::time::timeout(LISTEN_LIMIT, again).await.unwrap_or_else(|_| late())
    }

    pub(super) async fn remove(&self, at: AttemptId) -> Result<(), EngineError> {
        // Also where the directory is gone: an agent may still work there.
        self.program.remove(&self.root, self.dir(at).path()).await?;
        let mut memory = self.memory();
        memory.refused.remove(&at);
        memory.unproven.remove(&at);
        Ok(())
    }

    pub(super) async fn machine(&self) -> Result<MachineReport, EngineError> {
        self.program.machine().await
    }
}

/// Whether an agent answers in a directory.
async fn answers(dir: &RunDir) -> bool {
    let reply: std::io::Result<ControlReply> = agent::ask(dir.path(), &Control::Ping).await;
    reply.is_ok_and(|reply| reply.ok)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    ByOurs,
    /// The child found that another one has the run.
    ByAnother,
}

/// Waits until the attempt has an agent; an error if the new agent ended before it took the run.
async fn wait_until_taken(
    dir: &RunDir,
    child: &mut Child,
    changes: &mut Changes,
) -> Result<Taken, EngineError> {
    let limit = tokio::time::sleep(START_LIMIT);
    tokio::pin!(limit);
    loop {
        if dir.was_taken() {
            return Ok(Taken::ByOurs);
        }
        tokio::select! {
            () = changes.changed() => {}
            status = child.wait() => {
                return match status {
                    _ if dir.was_taken() => Ok(Taken::ByOurs),
                    _ if dir.is_locked() == Ok(true) => Ok(Taken::ByAnother),
                    Ok(status) => Err(EngineError::Verb { verb: "supervise", why: ended_early(dir, status) }),
                    Err(source) => {
                        Err(EngineError::File { what: "wait for the agent of", path: dir.path().to_owned(), source })
                    }
                };
            }
            () = &mut limit => {
                let why = format!("it did not take the run within {} s", START_LIMIT.as_secs());
                // It has not taken the run, so nothing is lost with it.
                let _ = child.kill().await;
                return Err(EngineError::Verb { verb: "supervise", why });
            }
        }
    }
}

fn ended_early(dir: &RunDir, status: std::process::ExitStatus) -> String {
    let log = std::fs::read(dir.path().join("agent.log")).unwrap_or_default();
    let tail = String::from_utf8_lossy(&log[log.len().saturating_sub(QUOTED)..]).trim().to_owned();
    let said = if tail.is_empty() { String::new() } else { format!(": {tail}") };
    format!("it ended with {status} before it took the run{said}")
}
