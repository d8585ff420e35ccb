//! `vessl run schema`.

use vessl_core::spec;

use crate::error::Result;
use crate::exit::{self, Exit};
use crate::session::Session;

/// Prints the schema.
pub(crate) fn perform(session: &Session) -> Result<Exit> {
    session.out.data(&spec::schema())?;
    Ok(exit::OK)
}
