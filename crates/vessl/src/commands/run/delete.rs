//! `vessl run delete`.
use clap::Args;
use vessl_core::ids::RunId;

use super::run_id;
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::exit::{self, Exit};
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
    /// Ids of the runs
    #[arg(required = true, value_parser = run_id, value_name = "ID")]
    ids: Vec<RunId>,
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
    let mut client = session.client().await?;
    let (mut removed, mut exit) = (Vec::new(), exit::OK);
    for &id in &args.ids {
        match remove(&mut client, id, session).await {
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
