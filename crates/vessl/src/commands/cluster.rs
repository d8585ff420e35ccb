//! `vessl cluster …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

use super::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be asked about clusters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the clusters
    #[command(after_help = "Examples:\n  vessl cluster list\n  vessl cluster list --output json")]
    List,
    /// Show one cluster
    #[command(after_help = "Examples:\n  vessl cluster read local")]
    Read(Name),
    /// List the nodes of a cluster and what is used of them
    #[command(after_help = "Examples:\n  vessl cluster list-nodes\n  vessl cluster list-nodes local")]
    ListNodes(Nodes),
}

/// Names one cluster.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the cluster
    #[arg(add = ArgValueCandidates::new(completion::clusters))]
    name: String,
}

/// Names one cluster, or the default one.
#[derive(Args, Debug)]
pub(crate) struct Nodes {
    /// Name of the cluster; default: the default cluster
    name: Option<String>,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List => {
            session.out.list(&client.clusters().await?, views::CLUSTERS, "there are no clusters")?;
        }
        Command::Read(Name { name }) => session.out.object(&client.cluster(&name).await?, views::cluster)?,
        Command::ListNodes(Nodes { name }) => {
            let name = client.cluster_or_default(name).await?;
            session.out.list(&client.nodes(&name).await?, views::NODES, "the cluster has no nodes")?;
        }
    }
    Ok(exit::OK)
}
