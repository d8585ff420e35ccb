//! Agents on this machine: one detached child process per attempt, which outlives the server.
//!
//! ```text
//! start   plan.json (durable) ─► `agent supervise`, secrets through its standard input ─► its first event
//! look    exit.json ─► our living child ─► lock held ─► `agent proof`
//! stop    control.sock, made anew by `agent listen` where it is gone
//! remove  `agent remove`
//! ```
//! Everything it remembers (children, refusals) is a shortcut: after a restart the run directory says the same.
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::process::Child;
use vessl_core::ids::AttemptId;
use vessl_core::plan::Plan;
use vessl_core::record::{Control, ControlReply, MachineReport, Proof, Secrets};
use vessl_core::run::{Left, Observation, Terminate};
use vessl_data::locked;

use super::{EngineError, Snapshot};
use crate::attempt::{AttemptLog, Attempts, RunDir, blocking};
use crate::chain;
use crate::watch::Changes;

mod program;
mod socket;

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
    pub(crate) fn new(root: PathBuf, attempts: Attempts, program: Program) -> Self {
        Self { root, attempts, program, memory: Arc::default() }
    }

    fn dir(&self, at: AttemptId) -> RunDir {
        self.attempts.dir(at)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        locked(&self.memory)
    }

    pub(super) fn watch(&self, at: AttemptId) -> Changes {
        self.attempts.follow(at)
    }

    pub(super) async fn start(&self, plan: &Plan, secrets: &Secrets) -> Result<Vec<PathBuf>, EngineError> {
        let at = plan.attempt_id();
        let dir = self.dir(at);
        if self.memory().children.contains(&at) || dir.was_taken() {
            return Ok(Vec::new());
        }
        let started = match self.attempts.clear(at).await {
            Ok(moved) => self.start_agent(at, &dir, plan, secrets).await.map(|()| moved),
            Err(error) => Err(error.into()),
        };
        match &started {
            Ok(_) => self.memory().refused.remove(&at),
            Err(error) => self.memory().refused.insert(at, chain(error)),
        };
        self.attempts.signal(at);
        started
    }

    async fn start_agent(
        &self,
        at: AttemptId,
        dir: &RunDir,
        plan: &Plan,
        secrets: &Secrets,
    ) -> Result<(), EngineError> {
        self.attempts.begin(plan).await?;
        let mut changes = self.watch(at);
        let mut child = self.program.supervise(&self.root, dir.path(), secrets).await?;
        let taken = wait_until_taken(dir, &mut child, &mut changes).await?;
        if taken == Taken::ByOurs {
            self.keep(at, child);
        }
        Ok(())
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

    pub(super) async fn look(&self, at: AttemptId, after: u64) -> Snapshot {
        let (dir, ours) = (self.dir(at), self.memory().children.contains(&at));
        let seen = blocking(move || Ok(see(&dir, ours))).await;
        let (look, told) = match seen {
            Ok(Ok(Seen::Sure(look, told))) => (look, told),
            Ok(Ok(Seen::NoDirectory)) => (self.nothing(at), AttemptLog::default()),
            Ok(Ok(Seen::AskProof(told))) => (self.prove(at, &told).await, told),
            Ok(Err(why)) => (Observation::Unreachable { why }, AttemptLog::default()),
            Err(error) => (Observation::Unreachable { why: error.to_string() }, AttemptLog::default()),
        };
        Snapshot {
            observed: look,
            events: told.events.into_iter().filter(|event| event.seq > after).collect(),
        }
    }

    /// What a free lock without an exit record means. The last processes of a container whose agent was killed may take
    /// a moment to go; one that does not go is asked about again only after a while, because asking is itself a change
    /// in the directory.
    async fn prove(&self, at: AttemptId, told: &AttemptLog) -> Observation {
        let dir = self.dir(at);
        if let (Observation::Refused { why }, true) = (self.nothing(at), told.events.is_empty()) {
            return Observation::Refused { why };
        }
        if let Some((asked, why)) = self.memory().unproven.get(&at)
            && asked.elapsed() < ASK_AGAIN
        {
            return Observation::Unreachable { why: why.clone() };
        }
        let mut left = PROOFS;
        let proof = loop {
            left -= 1;
            match self.program.proof(dir.path()).await {
                Ok(Proof::Alive { .. }) if left > 0 => tokio::time::sleep(BETWEEN_PROOFS).await,
                proof => break proof,
            }
        };
        let why = match proof {
            // Written between our look and the proof.
            _ if matches!(dir.exit(), Ok(Some(_))) => return exited(&dir, false).unwrap_or_else(unreachable),
            Ok(Proof::NeverStarted) => return self.nothing(at),
            Ok(Proof::Dead { why }) => {
                let (started_at, exit_code) = (told.started_at, told.exit_code);
                return Observation::Dead { proof: why, started_at, exit_code, left: dir.left() };
            }
            Ok(Proof::Alive { why }) => why,
            Err(error) => chain(&error),
        };
        self.memory().unproven.insert(at, (Instant::now(), why.clone()));
        Observation::Unreachable { why }
    }

    fn nothing(&self, at: AttemptId) -> Observation {
        let refused = self.memory().refused.get(&at).cloned();
        refused.map_or(Observation::Nothing, |why| Observation::Refused { why })
    }

    pub(super) async fn stop(&self, at: AttemptId, how: &Terminate) -> Result<(), EngineError> {
        let ask = Control::Stop { grace_s: how.grace_s, export: how.export };
        let silent = |why: String| EngineError::Silent { run: at.run, why };
        let dir = self.dir(at);
        let asked = match socket::ask(dir.path(), &ask).await {
            Err(error) if is_no_socket(&error) => self.ask_anew(at, &dir, &ask).await,
            asked => asked,
        };
        let reply: ControlReply = asked.map_err(|error| silent(error.to_string()))?;
        if reply.ok { Ok(()) } else { Err(silent(reply.error.unwrap_or_else(|| "it refused".to_owned()))) }
    }

    /// Asks an agent whose socket somebody has removed, once it listens anew.
    async fn ask_anew(&self, at: AttemptId, dir: &RunDir, ask: &Control) -> std::io::Result<ControlReply> {
        let mut changes = self.watch(at);
        match self.program.listen(dir.path()).await {
            Ok(true) => {}
            Ok(false) => return Err(std::io::Error::other("there is no agent")),
            Err(error) => return Err(std::io::Error::other(chain(&error))),
        }
        let again = async {
            loop {
                match socket::ask(dir.path(), ask).await {
                    // A name is told of a moment before anybody listens there.
                    Err(error) if is_no_socket(&error) => {
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

enum Seen {
    Sure(Observation, AttemptLog),
    AskProof(AttemptLog),
    NoDirectory,
}

/// One look at the files of a run directory.
fn see(dir: &RunDir, ours: bool) -> Result<Seen, String> {
    if !dir.path().exists() {
        return Ok(Seen::NoDirectory);
    }
    let exit = dir.exit()?;
    // Read after the exit record, so that a finished run shows all of its events.
    let told = dir.log();
    if exit.is_some() {
        // The record is the last word: events that cannot be read take nothing from it.
        return Ok(Seen::Sure(exited(dir, ours)?, told.unwrap_or_default()));
    }
    let told = told?;
    if ours || dir.is_locked()? {
        let look = Observation::Alive { phase: told.phase, started_at: told.started_at };
        return Ok(Seen::Sure(look, told));
    }
    if dir.exit()?.is_some() {
        return Ok(Seen::Sure(exited(dir, ours)?, dir.log().unwrap_or_default()));
    }
    Ok(Seen::AskProof(told))
}

fn exited(dir: &RunDir, ours: bool) -> Result<Observation, String> {
    let record = dir.exit()?.ok_or("its exit record has gone")?;
    let left = if ours || dir.is_locked()? { Left::Agent } else { dir.left() };
    Ok(Observation::Exited { record: Box::new(record), left })
}

/// Whether nobody listens there.
fn is_no_socket(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

fn unreachable(why: String) -> Observation {
    Observation::Unreachable { why }
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

#[cfg(test)]
mod tests;
