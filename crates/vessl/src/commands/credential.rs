//! `vessl credential …`.
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::credential::CredentialKind;
use vessl_core::wire::CredentialCreate;

use super::{completion, value};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// What can be done with credentials.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Store a login; its password or token is typed without showing it, or comes from the standard input
    #[command(
        override_usage = "vessl credential create <NAME> --kind registry --username <USER>
       vessl credential create <NAME> --kind git [--username <USER>]",
        after_help = "A run uses it with `credential_name` of its image or git import. Nobody can read it back. \
One of the same name is replaced.

Examples:
  vessl credential create team-registry --kind registry --username robot
  vessl credential create team-git --kind git --username x-access-token < token"
    )]
    Create(Create),
    /// List the credentials
    #[command(after_help = "Examples:\n  vessl credential list")]
    List,
    /// Remove a credential
    #[command(after_help = "Examples:\n  vessl credential delete team-registry")]
    Delete(Name),
}

/// What to store.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Name of the credential
    name: String,
    /// What it logs in to
    #[arg(long, value_parser = kinds())]
    kind: CredentialKind,
    /// User name; must be given for a registry, may be left out for a bare git token
    #[arg(long, value_name = "USER", required_if_eq("kind", "registry"))]
    username: Option<String>,
}

/// The kinds that a run can use.
fn kinds() -> impl TypedValueParser<Value = CredentialKind> {
    let value = |kind: CredentialKind| PossibleValue::new(kind.word()).help(kind.what());
    PossibleValuesParser::new(CredentialKind::USABLE.map(value))
        .try_map(|word| word.parse::<CredentialKind>())
}

/// Names one credential.
#[derive(Args, Debug)]
pub(crate) struct Name {
    /// Name of the credential
    #[arg(add = ArgValueCandidates::new(completion::credentials))]
    name: String,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    if let Command::Create(Create { name, .. }) = &command {
        value::stands_apart(name, "vessl credential create … --kind KIND")?;
    }
    let mut client = session.client().await?;
    match command {
        Command::Create(args) => {
            let value = value::read(&format!("password or token of `{}`", args.name))?;
            let ask = CredentialCreate { name: args.name, kind: args.kind, username: args.username, value };
            session.out.object(&client.create_credential(&ask).await?, views::secret)?;
        }
        Command::List => {
            session.out.list(&client.credentials().await?, views::CREDENTIALS, "there are no credentials")?;
        }
        Command::Delete(Name { name }) => {
            client.delete_credential(&name).await?;
            let words = format!("removed the credential `{name}`");
            session.out.outcome(&serde_json::json!({ "deleted": [name] }), &words)?;
        }
    }
    Ok(exit::OK)
}
