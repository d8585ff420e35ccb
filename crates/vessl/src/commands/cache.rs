//! `vessl cache …`.
use clap::{Args, Subcommand};
use vessl_core::units::Memory;
use vessl_core::wire::CachePrune;

use super::image::OfCluster;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be done with the cache.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List what imports brought to a machine and what is kept there for the next ones
    #[command(after_help = "A second import of the same version copies nothing.

Examples:
  vessl cache list
  vessl cache list --output json | jq '.[].source'")]
    List(OfCluster),
    /// Remove what no run uses, what was used longest ago first
    #[command(after_help = "Examples:\n  vessl cache prune\n  vessl cache prune --keep 100Gi")]
    Prune(Prune),
}

/// How much is removed.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// What may stay, like `100Gi`; default: nothing
    #[arg(long, value_name = "SIZE")]
    keep: Option<String>,
    #[command(flatten)]
    of: OfCluster,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List(OfCluster { cluster }) => {
            let cluster = client.cluster_or_default(cluster).await?;
            session.out.list(&client.cache(&cluster).await?, views::CACHE, "nothing was imported yet")?;
        }
        Command::Prune(Prune { keep, of }) => {
            let keep: Memory = keep.as_deref().unwrap_or("0").parse().map_err(|error| Error::Usage {
                message: format!("`--keep`: {error}"),
                hint: "write a size like `100Gi`".to_owned(),
            })?;
            let cluster = client.cluster_or_default(of.cluster).await?;
            let freed = client.prune_cache(&cluster, &CachePrune { keep_bytes: keep.0 }).await?;
            session.out.object(&freed, views::cache_pruned)?;
        }
    }
    Ok(exit::OK)
}
