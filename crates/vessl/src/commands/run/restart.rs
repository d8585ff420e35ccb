//! `vessl run restart`.
use clap::Args;
use vessl_core::ids::RunId;

use super::{run_id, watch};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "A new attempt of the same run: the same file, commands and settings, from the begin. The log and the end of \
every attempt are kept: `vessl run read` shows them, `vessl run logs --attempt N` prints one. What it exports \
takes the place of what the attempt before exported. A run that has not ended must be terminated first.

Examples:
  vessl run restart 100000000001
  vessl run restart 100000000001 100000000002 --wait"
)]
pub(crate) struct Restart {
    /// Ids of the runs
    #[arg(value_parser = run_id, required = true, value_name = "ID")]
    ids: Vec<RunId>,
    /// Wait until they have ended; the exit code is that of the first that did not complete
    #[arg(short, long)]
    wait: bool,
}

/// Restarts one after the other; one that is refused holds the others up.
pub(crate) async fn perform(args: &Restart, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    for id in &args.ids {
        let run = client.restart(*id).await?;
        if !args.wait {
            session.out.object(&run, views::run_head)?;
        }
    }
    if args.wait { watch::wait_for_all(&mut client, &args.ids, &session.out).await } else { Ok(exit::OK) }
}
