//! `vessl whoami`.
use serde::Serialize;
use vessl_core::wire::WhoAmI;

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
    // What the other commands will use.
    who.organization = client.scope().organization.clone().unwrap_or(who.organization);
    who.project = client.scope().project.clone().unwrap_or(who.project);
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
