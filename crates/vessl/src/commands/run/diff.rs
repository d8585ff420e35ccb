//! `vessl run diff`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::output::differences::Differences;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Compared are the fields of the run files by their path, image digest, commits and versions that were used, variables, \
amounts, node and result; of several attempts the last. Values of secrets are not compared: it is said which stored secret each run names, or \
which run a value was given to.

Examples:
  vessl run diff 100000000001 100000000002
  vessl run diff 100000000001 100000000002 --output json | jq .differs"
)]
pub(crate) struct Diff {
    /// Id or name of the one
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    one: RunName,
    /// Id or name of the other
    #[arg(value_parser = run_name, value_name = "OTHER", add = ArgValueCompleter::new(completion::runs))]
    other: RunName,
}

/// Fetches the two and shows what they differ in.
pub(crate) async fn perform(args: &Diff, session: &Session) -> Result<Exit> {
    let (client, out) = (&mut session.client().await?, &session.out);
    let one = find(client, &args.one).await?;
    let other = find(client, &args.other).await?;
    let runs = [client.run_with_provenance(one).await?, client.run_with_provenance(other).await?];
    let differences = Differences::of(runs);
    match out.format() {
        Format::Table => {
            out.text(&differences.text())?;
            if differences.is_none() {
                out.note("they used the same and ended alike");
            }
        }
        _ => out.data(&differences.json())?,
    }
    Ok(exit::OK)
}
