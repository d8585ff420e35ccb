//! `vessl upload …`: uploads that have begun and not ended.
use clap::{Args, Subcommand};

use super::objects::{deleted, with_hint};
use crate::client::UploadRef;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::registry;
use crate::session::Session;

/// What can be done with uploads.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List uploads that have begun and not ended, the oldest first
    #[command(after_help = "\
What came of an upload is kept until the upload ends, a day after anything came last, and so is everything that was stored since it began, \
also what was deleted meanwhile. The same command that began an upload goes on with it.

Examples:
  vessl upload list")]
    List,
    /// End an upload; what came of it is not kept any more
    #[command(after_help = "Examples:\n  vessl upload delete 0123456789abcdef0123456789abcdef")]
    Delete(Delete),
}

/// Names one upload.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Its id, as `vessl upload list` shows it
    id: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List => {
            let uploads = client.uploads().await?;
            session.out.list(&uploads, registry::UPLOADS, "no upload is in progress")?;
            if !uploads.is_empty() {
                session.out.note(
                    "the command that began one goes on with it; `vessl upload delete ID` frees what came",
                );
            }
        }
        Command::Delete(Delete { id }) => {
            let organization = client.organization().await?;
            let gone = client.delete_upload(&UploadRef { organization, id: id.clone() }).await;
            gone.map_err(|error| {
                with_hint(error, || "`vessl upload list` shows those there are".to_owned())
            })?;
            deleted("the upload", &id, session)?;
        }
    }
    Ok(exit::OK)
}
