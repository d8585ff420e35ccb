//! Into the container of an attempt on this machine: its agent says what a program needs there, and its init lets in.
use std::os::fd::OwnedFd;

use tokio::net::UnixStream;
use tokio::process::Child;
use vessl_core::door::{Exec, Surroundings, Target};
use vessl_core::ids::AttemptId;
use vessl_reach::door::{self, Dialed, DoorError};
use vessl_reach::{Program, agent};

use super::super::EngineError;
use super::Local;

impl Local {
    pub(in crate::engine) async fn surroundings(&self, at: AttemptId) -> Result<Surroundings, DoorError> {
        agent::surroundings(self.dir(at).path()).await
    }

    pub(in crate::engine) async fn exec(&self, at: AttemptId, exec: Exec) -> Result<Program, DoorError> {
        vessl_reach::exec(self.dir(at).path(), exec).await
    }

    pub(in crate::engine) async fn dial(&self, at: AttemptId, to: Target) -> Result<Dialed, DoorError> {
        door::dial(self.dir(at).path(), to).await
    }

    pub(in crate::engine) fn serve_ssh(
        &self,
        connection: OwnedFd,
        ends: &str,
    ) -> Result<(Child, UnixStream), EngineError> {
        self.program.ssh(&self.root, connection, ends)
    }
}
