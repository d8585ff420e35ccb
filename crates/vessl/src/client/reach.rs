//! Ways into a run: connections to the server that are upgraded.
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use vessl_core::ids::RunId;
use vessl_core::wire::{JupyterOpened, PortOpen, PortOpened};
use vessl_reach::frames::{DIAL_PROTOCOL, PROTOCOL};

use super::Client;
use crate::error::Result;

/// A connection that is the caller's.
pub(crate) type Way = TokioIo<Upgraded>;

impl Client {
    /// To start a program beside the commands, see [`vessl_reach::frames`].
    pub(crate) async fn exec(&mut self, id: RunId) -> Result<Way> {
        let path = self.of_run(id, &["exec"]).await?;
        self.connection.upgrade(path.into(), PROTOCOL).await.map(TokioIo::new)
    }

    /// A link that opens a port.
    pub(crate) async fn open_port(&mut self, id: RunId, port: u16, ask: &PortOpen) -> Result<PortOpened> {
        let path = self.of_run(id, &["ports", &port.to_string(), "open"]).await?;
        self.post(path.into(), ask).await
    }

    /// How far JupyterLab is, and the link that opens it.
    pub(crate) async fn jupyter(&mut self, id: RunId) -> Result<JupyterOpened> {
        let path = self.of_run(id, &["jupyter"]).await?;
        self.get(path.into()).await
    }

    /// To a TCP port of the run's own loopback address.
    pub(crate) async fn dial(&mut self, id: RunId, port: u16) -> Result<Way> {
        let path = self.of_run(id, &["dial"]).await?.with("port", Some(port));
        self.connection.upgrade(path.into(), DIAL_PROTOCOL).await.map(TokioIo::new)
    }
}
