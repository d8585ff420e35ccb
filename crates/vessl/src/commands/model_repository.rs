//! `vessl model-repository …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::object::ObjectKind;

use super::completion;
use super::objects::{self, Create};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::registry;
use crate::session::Session;

/// What can be done with model repositories.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a model repository, still without models
    #[command(after_help = "A run exports a model to it, which gets the next number, with
`export: {/model: vessl-model://ORGANIZATION/NAME}`.

Examples:
  vessl model-repository create classifiers -m 'what the app uses'")]
    Create(Create),
    /// List the model repositories of the organization
    #[command(after_help = "Examples:
  vessl model-repository list
  vessl model-repository list --limit 10")]
    List(List),
    /// Show one model repository with its newest model
    #[command(after_help = "Examples:\n  vessl model-repository read classifiers")]
    Read(Name),
    /// Delete a model repository with all of its models
    #[command(after_help = "Refused while a run that has not ended uses it.

Examples:
  vessl model-repository delete classifiers")]
    Delete(Name),
}

/// How many.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// At most so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Names one model repository.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the model repository; one of another organization is `ORGANIZATION/NAME`
    #[arg(add = ArgValueCandidates::new(completion::model_repositories))]
    name: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let kind = ObjectKind::ModelRepository;
    let mut client = session.client().await?;
    match command {
        Command::Create(args) => {
            let name = client.named(kind, &args.name).await?;
            let made = client.create_object(&name, args.description.as_deref()).await?;
            session.out.object(&made, registry::object)?;
        }
        Command::List(List { limit }) => {
            let mut all = client.objects(kind).await?;
            all.truncate(limit.unwrap_or(usize::MAX));
            let none = "there are no model repositories; `vessl model-repository create NAME` makes one";
            session.out.list(&all, registry::REPOSITORIES, none)?;
        }
        Command::Read(Name { name }) => {
            let name = client.named(kind, &name).await?;
            session.out.object(&objects::read(&mut client, &name).await?, registry::object)?;
        }
        Command::Delete(Name { name }) => {
            let name = client.named(kind, &name).await?;
            client.delete_object(&name).await?;
            objects::deleted("the model repository", &name.name, session)?;
        }
    }
    Ok(exit::OK)
}
