//! `vessl resource …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be asked about presets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the presets of a cluster
    #[command(after_help = "Examples:\n  vessl resource list\n  vessl resource list local")]
    List(List),
    /// Show one preset
    #[command(
        after_help = "Examples:\n  vessl resource read cpu-small\n  vessl resource read local cpu-small"
    )]
    Read(Read),
}

/// Arguments of `list`.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// Name of the cluster; default: the default cluster
    cluster: Option<String>,
}

/// Arguments of `read`.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub(crate) struct Read {
    /// Name of the cluster; default: the default cluster
    #[arg(add = ArgValueCandidates::new(|| [completion::presets(), completion::clusters()].into_iter().flatten().collect()))]
    cluster: Option<String>,
    /// Name of the preset
    #[arg(add = ArgValueCandidates::new(completion::presets))]
    name: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List(List { cluster }) => {
            let cluster = client.cluster_or_default(cluster).await?;
            session.out.list(
                &client.presets(&cluster).await?,
                views::PRESETS,
                "the cluster has no presets",
            )?;
        }
        Command::Read(Read { cluster, name }) => {
            let cluster = client.cluster_or_default(cluster).await?;
            session.out.object(&client.preset(&cluster, &name).await?, views::preset)?;
        }
    }
    Ok(exit::OK)
}
