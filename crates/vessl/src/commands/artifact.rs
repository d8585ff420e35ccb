//! `vessl artifact …`.
use clap::{Args, Subcommand};

use crate::error::Result;
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
    #[command(after_help = "Examples:\n  vessl artifact read weights")]
    Read(Name),
}

/// Names one artifact.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the artifact
    name: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List => {
            let none = "the project has no artifacts; a run makes one with `export`";
            session.out.list(&client.artifacts().await?, views::ARTIFACTS, none)?;
        }
        Command::Read(Name { name }) => {
            session.out.object(&client.artifact(&name).await?, views::artifact)?;
        }
    }
    Ok(exit::OK)
}
