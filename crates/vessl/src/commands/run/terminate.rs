//! `vessl run terminate`.
use clap::Args;
use vessl_core::plan::RunId;
use vessl_core::wire::RunTerminate;

use super::run_id;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::{Format, views};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The commands get SIGTERM, and are killed when the grace is over. Exports are written unless
--no-export is given. Terminating a run that is being terminated or has ended is no error.

Examples:
  vessl run terminate 100000000001
  vessl run terminate 100000000001 --grace 120
  vessl run terminate 100000000001 --grace 0 --no-export"
)]
pub(crate) struct Terminate {
    /// Id of the run
    #[arg(value_parser = run_id)]
    id: RunId,
    /// Seconds between SIGTERM and the kill; default: 30, unless the server's administrator set another
    #[arg(long, value_name = "SECONDS")]
    grace: Option<u64>,
    /// Write no exports
    #[arg(long)]
    no_export: bool,
}

/// Asks for the end and shows the run as it is then; what has not ended does on its own.
pub(crate) async fn perform(args: &Terminate, session: &Session) -> Result<Exit> {
    let ask = RunTerminate { grace_s: args.grace, no_export: args.no_export };
    let run = session.client().await?.terminate(args.id, &ask).await?;
    session.out.object(&run, views::run_head)?;
    if !run.status.is_final() && session.out.format() == Format::Table {
        session.out.note(&format!("run {0} will end; `vessl run read {0}` shows when it has", run.id.0));
    }
    Ok(exit::OK)
}
