//! `vessl run read`.
use clap::Args;
use vessl_core::ids::RunId;

use super::run_id;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  vessl run read 100000000001
  vessl run read 100000000001 --output json | jq .status")]
pub(crate) struct Read {
    /// Id of the run
    #[arg(value_parser = run_id)]
    id: RunId,
}

/// Shows the run.
pub(crate) async fn perform(args: &Read, session: &Session) -> Result<Exit> {
    let run = session.client().await?.run(args.id).await?;
    session.out.object(&run, views::run)?;
    Ok(exit::OK)
}
