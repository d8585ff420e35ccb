//! `vessl whoami`.
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Asks the server.
pub(crate) async fn perform(session: &Session) -> Result<Exit> {
    let who = session.client().await?.whoami().await?;
    session.out.object(&who, views::whoami)?;
    Ok(exit::OK)
}
