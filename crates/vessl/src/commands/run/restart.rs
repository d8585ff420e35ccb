//! `vessl run restart`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::several::{RunName, each, run_name, show, until_ended};
use crate::client::Client;
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "A new attempt of the same run: the same file, commands and settings, from the begin. A branch of a \
repository and the tag of an image are looked up anew: `vessl run read` shows the commit of each attempt. The \
log and the end of every attempt are kept: `vessl run read` shows them, `vessl run logs --attempt N` prints one. What it exports \
takes the place of what the attempt before exported. A run that has not ended must be terminated first; if \
one of several is refused the others are restarted all the same, and the exit code is 5.

Examples:
  vessl run restart 100000000001
  vessl run restart 100000000001 100000000002 --wait"
)]
pub(crate) struct Restart {
    /// Ids or names of the runs
    #[arg(required = true, value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    runs: Vec<RunName>,
    /// Wait until they have ended; the exit code is that of the first that did not complete
    #[arg(long)]
    wait: bool,
}

/// Begins the attempts and shows the runs.
pub(crate) async fn perform(args: &Restart, session: &Session) -> Result<Exit> {
    let (client, out) = (&mut session.client().await?, &session.out);
    let restart = async |client: &mut Client, id| client.restart(id).await;
    let (mut runs, mut exit) = each(client, &args.runs, out, restart).await?;
    if args.wait {
        let Some(ended) = until_ended(client, runs, out).await? else {
            out.note("the runs go on; `vessl run list` shows them");
            return Ok(exit::INTERRUPTED);
        };
        runs = ended;
        exit = if exit == exit::OK { exit::of_runs(&runs) } else { exit };
    }
    show(&args.runs, &runs, out)?;
    Ok(exit)
}
