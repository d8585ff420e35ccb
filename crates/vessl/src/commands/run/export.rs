//! `vessl run export`.
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
    after_help = "Exports that failed are written again from the files that the run left, without starting its commands; those that were \
written are left as they are. When all of them are written, the run is what its commands made of it: `completed` with exit code 0. \
`vessl run read` says until when the files are kept (`keep_failed_exports` of the server). What is wrong must be mended first: \
a credential, a bucket, the disk.

Examples:
  vessl run export 100000000001 --retry
  vessl run export 100000000001 --retry --wait"
)]
pub(crate) struct Export {
    /// Ids or names of the runs
    #[arg(required = true, value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    runs: Vec<RunName>,
    /// Write the exports again that failed
    #[arg(long, required = true)]
    retry: bool,
    /// Wait until they are written; the exit code is that of the first run that did not complete
    #[arg(long)]
    wait: bool,
}

/// Asks for the exports and shows the runs.
pub(crate) async fn perform(args: &Export, session: &Session) -> Result<Exit> {
    let (client, out) = (&mut session.client().await?, &session.out);
    let export = async |client: &mut Client, id| client.export(id).await;
    let (mut runs, mut exit) = each(client, &args.runs, out, export).await?;
    if args.wait {
        let Some(ended) = until_ended(client, runs, out).await? else {
            out.note("the exports go on; `vessl run list` shows the runs");
            return Ok(exit::INTERRUPTED);
        };
        runs = ended;
        exit = if exit == exit::OK { exit::of_runs(&runs) } else { exit };
    }
    show(&args.runs, &runs, out)?;
    Ok(exit)
}
