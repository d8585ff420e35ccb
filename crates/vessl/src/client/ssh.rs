//! SSH into runs: the keys of people, and a connection through the API.
use hyper_util::rt::TokioIo;
use vessl_core::ids::RunId;
use vessl_core::wire::{SshKeyCreate, SshKeyView};
use vessl_reach::frames::SSH_PROTOCOL;

use super::path::Path;
use super::{Client, Way};
use crate::error::Result;

impl Client {
    /// All keys.
    pub(crate) async fn ssh_keys(&mut self) -> Result<Vec<SshKeyView>> {
        self.get(Path::of(&["ssh-keys"]).into()).await
    }

    /// Adds one; one that is there already stays as it is.
    pub(crate) async fn add_ssh_key(&mut self, new: &SshKeyCreate) -> Result<SshKeyView> {
        self.post(Path::of(&["ssh-keys"]).into(), new).await
    }

    /// Deletes one by its name or fingerprint.
    pub(crate) async fn delete_ssh_key(&mut self, which: &str) -> Result<()> {
        self.delete(Path::of(&["ssh-keys", which]).into()).await
    }

    /// To the server's own end of SSH, for a run.
    pub(crate) async fn ssh(&mut self, id: RunId) -> Result<Way> {
        let path = self.of_run(id, &["ssh"]).await?;
        self.connection.upgrade(path.into(), SSH_PROTOCOL).await.map(TokioIo::new)
    }
}
