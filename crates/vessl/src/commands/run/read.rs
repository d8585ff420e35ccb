//! `vessl run read`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::{provenance, views};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  vessl run read 100000000001
  vessl run read 100000000001 --provenance
  vessl run read 100000000001 --output json | jq .status")]
pub(crate) struct Read {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Show what each of its attempts really used: image, code, data, variables, machine
    #[arg(long)]
    provenance: bool,
}

/// Shows the run.
pub(crate) async fn perform(args: &Read, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    if args.provenance {
        let run = client.run_with_provenance(id).await?;
        session.out.object(&run, provenance::rows)?;
    } else {
        let run = client.run(id).await?;
        session.out.object(&run, views::run)?;
    }
    Ok(exit::OK)
}
