//! `vessl artifact …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::wire::ArtifactView;

use super::completion;
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
    /// Delete an artifact, or one version of it
    #[command(
        after_help = "Without a version all of them are deleted. The files stay with the runs that exported them, and runs that \
were submitted still get what they import. The number of a deleted version is not given again.

Examples:
  vessl artifact delete weights@3
  vessl artifact delete default/default/weights"
    )]
    Delete(Delete),
}

/// Names what is deleted.
#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// Name of the artifact, and which version: `NAME@VERSION`
    #[arg(value_name = "NAME[@VERSION]", value_parser = versioned, add = ArgValueCandidates::new(completion::artifacts))]
    which: (String, Option<u64>),
}

fn versioned(text: &str) -> Result<(String, Option<u64>), String> {
    let Some((name, version)) = text.rsplit_once('@') else { return Ok((text.to_owned(), None)) };
    let number = version.parse().ok().filter(|number| *number > 0);
    let number = number.ok_or("a version is a number from 1 on, see `vessl artifact read NAME`")?;
    Ok((name.to_owned(), Some(number)))
}

/// Names one artifact.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the artifact; one of another project is `ORGANIZATION/PROJECT/NAME`
    #[arg(add = ArgValueCandidates::new(completion::artifacts))]
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
        Command::Delete(Delete { which: (name, version) }) => {
            client.delete_artifact(&name, version).await?;
            let shown = version.map_or_else(|| name.clone(), |number| format!("{name}@{number}"));
            session
                .out
                .outcome(&serde_json::json!({ "deleted": shown }), &format!("deleted artifact {shown}"))?;
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
