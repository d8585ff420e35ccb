//! `vessl run update`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::wire::RunUpdate;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true)
    .args(["text", "description", "name", "tag", "no_tags"]))]
#[command(override_usage = "vessl run update [OPTIONS] <ID> [DESCRIPTION]")]
#[command(after_help = "Examples:
  vessl run update 100000000001 \"baseline, do not delete\"
  vessl run update 100000000001 --name baseline --tag keep --tag vision
  vessl run update 100000000001 --no-tags")]
pub(crate) struct Update {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// New description
    #[arg(value_name = "DESCRIPTION", conflicts_with = "description")]
    text: Option<String>,
    /// New description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// New name
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// New tags instead of the old ones; may be given more than once
    #[arg(long, value_name = "TEXT")]
    tag: Vec<String>,
    /// Remove all tags
    #[arg(long, conflicts_with = "tag")]
    no_tags: bool,
}

/// Changes what was given and shows the run.
pub(crate) async fn perform(args: Update, session: &Session) -> Result<Exit> {
    let tags = if args.tag.is_empty() && !args.no_tags { None } else { Some(args.tag) };
    let ask = RunUpdate { name: args.name, description: args.text.or(args.description), tags };
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let run = client.update(id, &ask).await?;
    session.out.object(&run, views::run_head)?;
    Ok(exit::OK)
}
