//! `vessl run explain`.
use clap::Args;
use vessl_core::ids::RunId;

use super::run_id;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  vessl run explain 100000000001")]
pub(crate) struct Explain {
    /// Id of the run
    #[arg(value_parser = run_id)]
    id: RunId,
}

/// Shows what the last decision about the run was and why.
pub(crate) async fn perform(args: &Explain, session: &Session) -> Result<Exit> {
    let explain = session.client().await?.explain(args.id).await?;
    session.out.object(&explain, views::explain)?;
    Ok(exit::OK)
}
