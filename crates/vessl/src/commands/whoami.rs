//! `vessl whoami`.
use serde::Serialize;
use vessl_core::wire::{RunQuery, WhoAmI};

use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Rows;
use crate::session::Session;

/// What the server says, and where it is.
#[derive(Serialize)]
struct Shown {
    server: String,
    #[serde(flatten)]
    who: WhoAmI,
}

/// Asks the server.
pub(crate) async fn perform(session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let mut who = client.whoami().await?;
    // What is settled here counts, whether the server has it or not.
    if let Some((organization, project)) = client.settled(&who) {
        (who.organization, who.project) = (organization, project);
        if let Err(error) = client.runs(&RunQuery { limit: Some(1), ..RunQuery::default() }).await {
            session.out.warn(&error.to_string());
        }
    }
    session.out.object(&Shown { server: client.address(), who }, rows)?;
    Ok(exit::OK)
}

fn rows(shown: &Shown) -> Rows {
    let Shown { server, who } = shown;
    vec![
        ("User", who.user.clone()),
        ("Organization", who.organization.clone()),
        ("Project", who.project.clone()),
        ("Server", server.clone()),
        ("Server version", who.server_version.clone()),
        ("Instance", who.instance.clone()),
    ]
}
