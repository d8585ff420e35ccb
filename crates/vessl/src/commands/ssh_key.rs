//! `vessl ssh-key …`.
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::wire::SshKeyCreate;

use super::{completion, ssh};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::{Session, Source};

/// Longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;
/// Files that people have, the usual one first.
const USUAL: [&str; 4] = ["id_ed25519.pub", "id_ecdsa.pub", "id_ed25519_sk.pub", "id_ecdsa_sk.pub"];

/// What can be done with public keys.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add a public key, which lets its owner into runs at once
    #[command(
        after_help = "Taken are keys of the kinds Ed25519 and ECDSA, also on a security key; `ssh-keygen -t ed25519` makes one. \
One that is there already stays as it is.

Examples:
  vessl ssh-key add
  vessl ssh-key add -p ~/.ssh/work.pub --name laptop
  ssh-add -L | head -n 1 | vessl ssh-key add -p -"
    )]
    Add(Add),
    /// List the public keys
    #[command(after_help = "Examples:\n  vessl ssh-key list")]
    List,
    /// Delete a public key; connections that it opened end
    #[command(after_help = "Examples:\n  vessl ssh-key delete laptop\n  vessl ssh-key delete SHA256:…")]
    Delete {
        /// Name or fingerprint of the key
        #[arg(value_name = "KEY", add = ArgValueCandidates::new(completion::ssh_keys))]
        key: String,
    },
}

/// Arguments.
#[derive(Args, Debug)]
pub(crate) struct Add {
    /// File of the public key, `-` for standard input [default: the one in ~/.ssh]
    #[arg(short, long, value_name = "FILE", value_parser = Source::parser())]
    path: Option<Source>,
    /// What it is called [default: the comment in the file]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Add(Add { path, name }) => {
            let key = read(path)?;
            let mut client = session.client().await?;
            let view = client.add_ssh_key(&SshKeyCreate { key, name }).await?;
            session.out.object(&view, views::ssh_key)?;
        }
        Command::List => {
            let mut client = session.client().await?;
            let keys = client.ssh_keys().await?;
            session.out.list(&keys, views::SSH_KEYS, "there are no keys: `vessl ssh-key add` adds one")?;
        }
        Command::Delete { key } => {
            let mut client = session.client().await?;
            client.delete_ssh_key(&key).await?;
            let words = format!("deleted the key `{key}`; connections that it opened end");
            session.out.outcome(&serde_json::json!({ "deleted": [key] }), &words)?;
        }
    }
    Ok(exit::OK)
}

fn read(from: Option<Source>) -> Result<String> {
    let path = match from {
        Some(Source::Stdin) => return text(std::io::stdin().lock(), Path::new("standard input")),
        Some(Source::File(path)) => path,
        None => usual()?,
    };
    let failed = |source| Error::Unreadable { path: path.clone(), source };
    text(std::fs::File::open(&path).map_err(failed)?, &path)
}

fn text(from: impl Read, path: &Path) -> Result<String> {
    let mut text = String::new();
    let failed = |source| Error::Unreadable { path: path.to_owned(), source };
    from.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// The public key of this person.
fn usual() -> Result<PathBuf> {
    let dir = ssh::own_dir()?;
    USUAL.into_iter().map(|name| dir.join(name)).find(|path| path.exists()).ok_or_else(|| Error::Usage {
        message: format!("there is no public key in `{}` that can be used", dir.display()),
        hint: "make one with `ssh-keygen -t ed25519`, or name the file with `-p`".to_owned(),
    })
}
