//! `vessl run delete`.
use clap::Args;
use vessl_core::plan::RunId;

use super::run_id;
use crate::error::{Kind, Result};
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "A run that has not ended is refused: terminate it first. The others that are named are removed all the \
same, and the exit code is 5.

Examples:
  vessl run delete 100000000001
  vessl run delete 100000000001 100000000002 --output json"
)]
pub(crate) struct Delete {
    /// Ids of the runs
    #[arg(required = true, value_parser = run_id, value_name = "ID")]
    ids: Vec<RunId>,
}

/// Removes them in order, and says which were.
pub(crate) async fn perform(args: &Delete, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let (mut removed, mut exit) = (Vec::new(), exit::OK);
    for &id in &args.ids {
        match client.delete_run(id).await {
            Ok(()) => {
                removed.push(id);
                if session.out.format() == Format::Table {
                    session.out.note(&format!("removed run {}", id.0));
                }
            }
            Err(refused) if refused.kind() == Kind::Refused => {
                exit = exit::of_error(&refused);
                session.out.error(&refused);
            }
            Err(e) => return Err(e),
        }
    }
    if session.out.format() != Format::Table {
        session.out.data(&serde_json::json!({ "deleted": removed }))?;
    }
    Ok(exit)
}
