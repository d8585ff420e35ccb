//! `vessl credential …`.
use std::path::PathBuf;

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
       vessl credential create <NAME> --kind git [--username <USER>]
       vessl credential create <NAME> --kind s3 --username <KEY_ID>
       vessl credential create <NAME> --kind gcs
       vessl credential create <NAME> --kind hf",
        after_help = "A run uses it with `credential_name` of its image, import or export. Nobody can read it back. \
One of the same name is replaced.

Examples:
  vessl credential create team-registry --kind registry --username robot
  vessl credential create team-git --kind git --username x-access-token < token
  vessl credential create team-s3 --kind s3 --username AKIAEXAMPLE < secret-key
  vessl credential create team-gcs --kind gcs < service-account.json
  vessl credential create team-hf --kind hf < token"
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
    /// User name, of the kind `s3` the id of the key; must be given for those and for a registry
    #[arg(long, value_name = "USER", required_if_eq_any([("kind", "registry"), ("kind", "s3")]))]
    username: Option<String>,
    /// File with the token of the session that the keys of the kind `s3` are for
    #[arg(long, value_name = "FILE")]
    session_token_file: Option<PathBuf>,
}

/// All kinds.
fn kinds() -> impl TypedValueParser<Value = CredentialKind> {
    let value = |kind: CredentialKind| PossibleValue::new(kind.word()).help(kind.what());
    PossibleValuesParser::new(CredentialKind::ALL.map(value)).try_map(|word| word.parse::<CredentialKind>())
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
            let what = match args.kind {
                CredentialKind::S3 => "secret key",
                CredentialKind::Gcs => "JSON of the service account",
                CredentialKind::Hf => "token",
                CredentialKind::Registry | CredentialKind::Git => "password or token",
            };
            let session_token = args.session_token_file.as_deref().map(value::of_file).transpose()?;
            let value = value::read(&format!("{what} of `{}`", args.name))?;
            let Create { name, kind, username, .. } = args;
            let ask = CredentialCreate { name, kind, username, value, session_token };
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
