//! Into the container of an attempt on this machine: its agent says what a program needs there, and its init lets in.
use vessl_core::door::{Exec, Surroundings, Target};
use vessl_core::ids::AttemptId;
use vessl_core::record::{Control, ControlReply};
use vessl_reach::door::{self, Dialed, DoorError};
use vessl_reach::{Program, control};

use super::{Local, is_no_socket};

impl Local {
    pub(in crate::engine) async fn surroundings(&self, at: AttemptId) -> Result<Surroundings, DoorError> {
        let reply: std::io::Result<ControlReply> =
            control::ask(self.dir(at).path(), &Control::Surroundings).await;
        match reply {
            Ok(reply) => reply.surroundings.ok_or(DoorError::NoContainer),
            Err(error) if is_no_socket(&error) => Err(DoorError::NoContainer),
            Err(error) => Err(error.into()),
        }
    }

    pub(in crate::engine) async fn exec(&self, at: AttemptId, exec: Exec) -> Result<Program, DoorError> {
        vessl_reach::exec(self.dir(at).path(), exec).await
    }

    pub(in crate::engine) async fn dial(&self, at: AttemptId, to: Target) -> Result<Dialed, DoorError> {
        door::dial(self.dir(at).path(), to).await
    }
}
