//! Into a run: who may, whether it can be reached now, and what a program finds there.
use vessl_core::access::{Action, Caller};
use vessl_core::door::{self, Exec, Refused, Target};
use vessl_core::ids::{AttemptId, ClusterName, RunRef};
use vessl_core::run::Status;
use vessl_reach::Program;
use vessl_reach::door::{Dialed, DoorError};
use vessl_reach::frames::Begin;
use vessl_reach::relay::NotStarted;

use super::{Control, ControlError, Result};

/// A shell that is there, as at a login; `-` before the name of a shell says that.
const LOGIN_SHELL: [&str; 3] =
    ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi"];

/// A run that can be reached.
#[derive(Debug)]
pub struct Reachable {
    control: Control,
    cluster: ClusterName,
    at: AttemptId,
}

impl Control {
    /// The run that is meant, if it has a container now.
    pub async fn reachable(&self, caller: &Caller, of: &RunRef) -> Result<Reachable> {
        let stored = self.0.stored(caller, Action::Run, of).await?;
        match stored.status() {
            Status::Running | Status::Idle | Status::Stopping => {}
            status if status.is_final() => {
                return Err(ControlError::refused(format!("the run has ended ({})", status.word())));
            }
            status => {
                return Err(ControlError::Refused {
                    message: format!("the run is {}: its container does not run yet", status.word()),
                    hint: Some(format!("see `vessl run explain {}`", of.id.0)),
                });
            }
        }
        let at = stored.doc.run.attempt_id();
        Ok(Reachable { control: self.clone(), cluster: stored.doc.cluster, at })
    }
}

impl Reachable {
    /// The attempt that runs on this cluster.
    pub(super) fn at(control: &Control, cluster: ClusterName, at: AttemptId) -> Self {
        Self { control: control.clone(), cluster, at }
    }

    /// Connects to something inside, and says what is wrong as whoever was asked says it.
    pub(crate) async fn connect(&self, to: Target) -> std::result::Result<Dialed, DoorError> {
        let engine = self.control.0.parts.engines.of(&self.cluster).map_err(|_| DoorError::NoContainer)?;
        engine.dial(self.at, to).await
    }

    /// Starts a program beside the commands, with their environment.
    pub async fn exec(&self, begin: Begin) -> std::result::Result<Program, NotStarted> {
        let engine = self.control.0.parts.engines.of(&self.cluster);
        let engine = engine.map_err(|error| NotStarted { why: error.to_string(), exit_code: None })?;
        let surroundings = engine.surroundings(self.at).await.map_err(NotStarted::from)?;
        let mut env = surroundings.env;
        if begin.terminal.is_some() && !env.iter().any(|known| known.key() == "TERM") {
            door::set(&mut env, "TERM", "xterm-256color");
        }
        for pair in &begin.env {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            door::set(&mut env, key, value);
        }
        let argv = if begin.argv.is_empty() { LOGIN_SHELL.map(str::to_owned).to_vec() } else { begin.argv };
        let workdir = begin.workdir.unwrap_or(surroundings.workdir);
        let exec = Exec { argv, env, user: begin.user, workdir, terminal: begin.terminal, hang_up: true };
        engine.exec(self.at, exec).await.map_err(NotStarted::from)
    }

    /// Connects to something inside.
    pub async fn dial(&self, to: Target) -> Result<Dialed> {
        let engine = self.control.0.parts.engines.of(&self.cluster)?;
        engine.dial(self.at, to).await.map_err(|error| match error {
            DoorError::Refused { because: Refused::Nobody, .. } => ControlError::Refused {
                message: format!("{error} in the run"),
                hint: Some("a program that listens there may not have come that far yet".to_owned()),
            },
            error => ControlError::refused(error.to_string()),
        })
    }
}
