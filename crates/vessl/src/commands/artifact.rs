//! `vessl artifact …`.
use clap::{Args, Subcommand};
use vessl_core::wire::ArtifactView;

use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be asked about artifacts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the artifacts of the project, each with its newest version
    #[command(
        after_help = "A run makes one with `export: {/output: vessl-artifact://ORGANIZATION/PROJECT/NAME}`.

Examples:
  vessl artifact list
  vessl artifact list --output json | jq '.[].name'"
    )]
    List,
    /// Show one artifact with all its versions
    #[command(
        after_help = "Examples:\n  vessl artifact read weights\n  vessl artifact read default/default/weights"
    )]
    Read(Name),
}

/// Names one artifact.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the artifact; one of another project is `ORGANIZATION/PROJECT/NAME`
    name: String,
}

const MADE: &str = "a run makes one with `export: {/output: vessl-artifact://ORGANIZATION/PROJECT/NAME}`";

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List => {
            let none = format!("the project has no artifacts; {MADE}");
            session.out.list(&client.artifacts().await?, views::ARTIFACTS, &none)?;
        }
        Command::Read(Name { name }) => {
            session.out.object(&read(&mut client, &name).await?, views::artifact)?;
        }
    }
    Ok(exit::OK)
}

/// One artifact; where there are none at all, the error says how one comes to be.
async fn read(client: &mut Client, name: &str) -> Result<ArtifactView> {
    match client.artifact(name).await {
        Err(Error::Refused { status: 404, mut body }) => {
            if client.artifacts().await.is_ok_and(|all| all.is_empty()) {
                body.hint = Some(MADE.to_owned());
            }
            Err(Error::Refused { status: 404, body })
        }
        other => other,
    }
}
