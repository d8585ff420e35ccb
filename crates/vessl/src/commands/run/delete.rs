//! `vessl run delete`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::ids::RunId;

use super::several::{RunName, each, run_name};
use crate::client::Client;
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::output::Format;
use crate::session::Session;

/// How often a removal is asked for; the server waits most of a minute each time.
const WAITS: u32 = 20;

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
    /// Ids or names of the runs
    #[arg(required = true, value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    runs: Vec<RunName>,
}

/// Removes a run; what one that has ended left is waited for.
async fn remove(client: &mut Client, id: RunId, session: &Session) -> Result<()> {
    for tries in 1..WAITS {
        match client.delete_run(id).await {
            Err(Error::Refused { body, .. }) if body.code == "cleaning_up" => {
                if tries == 1 {
                    session.out.note(&format!("run {} is still being cleaned up; waiting", id.0));
                }
            }
            done => return done,
        }
    }
    client.delete_run(id).await
}

/// Removes them in order, and says which were.
pub(crate) async fn perform(args: &Delete, session: &Session) -> Result<Exit> {
    let (client, out) = (&mut session.client().await?, &session.out);
    let one = async |client: &mut Client, id: RunId| {
        remove(client, id, session).await?;
        if out.format() == Format::Table {
            out.note(&format!("removed run {}", id.0));
        }
        Ok(id)
    };
    let (removed, exit) = each(client, &args.runs, out, one).await?;
    if out.format() != Format::Table {
        out.data(&serde_json::json!({ "deleted": removed }))?;
    }
    Ok(exit)
}
