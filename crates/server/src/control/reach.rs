//! Into a run: who may, whether it can be reached now, and what a program finds there.
use vessl_core::access::{Action, Caller};
use vessl_core::door::{Refused, Target};
use vessl_core::ids::{AttemptId, ClusterName, RunRef};
use vessl_core::run::Status;
use vessl_reach::Program;
use vessl_reach::door::{Dialed, DoorError};
use vessl_reach::frames::Begin;
use vessl_reach::relay::NotStarted;

use super::{Control, ControlError, Result};
use crate::store::runs::StoredRun;

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
        check_status(&stored)?;
        let at = stored.doc.run.attempt_id();
        Ok(Reachable { control: self.clone(), cluster: stored.doc.cluster, at })
    }
}

/// Refuses a run that has no container now.
pub(super) fn check_status(stored: &StoredRun) -> Result<()> {
    match stored.status() {
        Status::Running | Status::Idle | Status::Stopping => Ok(()),
        status if status.is_final() => {
            Err(ControlError::refused(format!("the run has ended ({})", status.word())))
        }
        status => Err(ControlError::Refused {
            message: format!("the run is {}: its container does not run yet", status.word()),
            hint: Some(format!("see `vessl run explain {}`", stored.id().0)),
        }),
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
        engine.exec(self.at, begin.within(surroundings)).await.map_err(NotStarted::from)
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
