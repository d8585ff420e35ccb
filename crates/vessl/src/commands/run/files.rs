//! `vessl run files`.
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
  vessl run files 100000000001
  vessl run files 100000000001 --output json

Links and empty directories are listed too. What is not UTF-8 in a name is written as `%FF`.")]
pub(crate) struct Files {
    /// Id of the run
    #[arg(value_parser = run_id)]
    id: RunId,
}

/// Lists them.
pub(crate) async fn perform(args: &Files, session: &Session) -> Result<Exit> {
    let files = session.client().await?.files(args.id).await?;
    session.out.list(&files, views::FILES, "the run has exported no files")?;
    Ok(exit::OK)
}
