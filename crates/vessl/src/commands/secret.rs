//! `vessl secret …`.
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::wire::{SecretCreate, SecretKind};

use super::{completion, value};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be done with secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store a secret; its value is typed without showing it, or comes from the standard input
    #[command(
        after_help = "A run uses it with `env: {HF_TOKEN: {secret: hf-token}}`. Nobody can read it back. \
One of the same name is replaced.

Examples:
  vessl secret create hf-token
  vessl secret create hf-token < token.txt"
    )]
    Create(Name),
    /// List the names of the secrets
    #[command(after_help = "Examples:\n  vessl secret list")]
    List,
    /// Remove a secret
    #[command(after_help = "Examples:\n  vessl secret delete hf-token")]
    Delete(Name),
}

/// Names one secret.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the secret
    #[arg(add = ArgValueCandidates::new(completion::secrets))]
    name: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    if let Command::Create(Name { name }) = &command {
        value::stands_apart(name, "vessl secret create")?;
    }
    let mut client = session.client().await?;
    match command {
        Command::Create(Name { name }) => {
            let value = value::read(&format!("value of the secret `{name}`"))?;
            let ask = SecretCreate { name, kind: SecretKind::Secret, value };
            session.out.object(&client.create_secret(&ask).await?, views::secret)?;
        }
        Command::List => {
            session.out.list(&client.secrets().await?, views::SECRETS, "there are no secrets")?;
        }
        Command::Delete(Name { name }) => {
            client.delete_secret(&name).await?;
            let words = format!("removed the secret `{name}`");
            session.out.outcome(&serde_json::json!({ "deleted": [name] }), &words)?;
        }
    }
    Ok(exit::OK)
}
