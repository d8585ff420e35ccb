//! `vessl image …`.
use clap::{Args, Subcommand};
use vessl_core::wire::{ImagePull, ImageView};

use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::progress::Bars;
use crate::output::views;
use crate::session::Session;

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the images that a cluster has
    #[command(after_help = "Examples:\n  vessl image list\n  vessl image list --cluster local")]
    List(OfCluster),
    /// Show one image
    #[command(after_help = "Examples:\n  vessl image read 3fb1c2a09d11")]
    Read(Read),
    /// Fetch an image, so that the first run with it starts at once
    #[command(after_help = "Examples:
  vessl image pull debian:12
  vessl image pull reg.example.org/team/train:1 --credential-name team-registry
  vessl image pull oci:///srv/images/train:1")]
    Pull(Pull),
    /// Remove every image that no run uses
    #[command(after_help = "Examples:\n  vessl image prune")]
    Prune(OfCluster),
}

/// Which cluster.
#[derive(Args, Debug)]
pub(crate) struct OfCluster {
    /// Name of the cluster; default: the default cluster
    #[arg(long, value_name = "NAME")]
    pub(super) cluster: Option<String>,
}

/// Names one image.
#[derive(Args, Debug)]
pub(crate) struct Read {
    /// Id as `vessl image list` shows it
    id: String,
    #[command(flatten)]
    of: OfCluster,
}

/// What to fetch.
#[derive(Args, Debug)]
pub(crate) struct Pull {
    /// `registry/repository:tag`, `registry/repository@sha256:…` or `oci:///path[:tag]`
    reference: String,
    /// Stored registry credential to log in with
    #[arg(long, value_name = "NAME")]
    credential_name: Option<String>,
    #[command(flatten)]
    of: OfCluster,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    match command {
        Command::List(OfCluster { cluster }) => {
            let cluster = client.cluster_or_default(cluster).await?;
            session.out.list(&client.images(&cluster).await?, views::IMAGES, "there are no images yet")?;
        }
        Command::Read(Read { id, of }) => {
            let cluster = client.cluster_or_default(of.cluster).await?;
            session.out.object(&client.image(&cluster, &id).await?, views::image)?;
        }
        Command::Pull(args) => session.out.object(&pull(args, session).await?, views::image)?,
        Command::Prune(OfCluster { cluster }) => {
            let cluster = client.cluster_or_default(cluster).await?;
            session.out.object(&client.prune_images(&cluster).await?, views::pruned)?;
        }
    }
    Ok(exit::OK)
}

async fn pull(args: Pull, session: &Session) -> Result<ImageView> {
    let mut client = session.client().await?;
    let cluster = client.cluster_or_default(args.of.cluster).await?;
    let mut bars = Bars::or_lines(&session.out);
    let ask = ImagePull { reference: args.reference, credential_name: args.credential_name };
    client.pull_image(&cluster, &ask, |step| bars.step(step)).await
}
