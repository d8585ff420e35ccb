//! `vessl run explain`.
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
#[command(after_help = "Examples:\n  vessl run explain 100000000001")]
pub(crate) struct Explain {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
}

/// Shows what the last decision about the run was and why.
pub(crate) async fn perform(args: &Explain, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let explain = client.explain(id).await?;
    session.out.object(&explain, views::explain)?;
    Ok(exit::OK)
}
