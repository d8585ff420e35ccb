//! `vessl run files`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
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
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
}

/// Lists them.
pub(crate) async fn perform(args: &Files, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let files = client.files(id).await?;
    session.out.list(&files, views::FILES, "the run has exported no files")?;
    Ok(exit::OK)
}
