//! `vessl run delete`.
use clap::Args;
use vessl_core::plan::RunId;

use super::run_id;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "A run that has not ended is refused: terminate it first.

Examples:
  vessl run delete 100000000001")]
pub(crate) struct Delete {
    /// Ids of the runs
    #[arg(required = true, value_parser = run_id, value_name = "ID")]
    ids: Vec<RunId>,
}

/// Removes them in order; stops at the first that is refused.
pub(crate) async fn perform(args: &Delete, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    for &id in &args.ids {
        client.delete_run(id).await?;
        session.out.note(&format!("removed run {}", id.0));
    }
    Ok(exit::OK)
}
