//! `vessl configure`: what is kept in the settings file.
use clap::{Args, Subcommand};
use serde::Serialize;

use super::value;
use crate::client::Address;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Rows;
use crate::session::Session;
use crate::settings::Settings;

/// What to settle. Without a subcommand: asks for everything on a terminal, shows everything in a pipe.
#[derive(Args, Debug)]
#[command(
    after_help = "The settings are kept in ~/.config/vessl/config.toml, readable for you alone. Flags and the \
environment (VESSL_SERVER, VESSL_TOKEN, VESSL_ORGANIZATION, VESSL_PROJECT) win over them. A token counts only for a \
server that is named there: for the server of this machine, its own token is read from its data directory.

Examples:
  vessl configure                                   asks for everything
  vessl configure server https://vessl.example.org  asks for its token too
  vessl configure token < token.txt                 takes it from standard input
  vessl configure project vision
  vessl configure reset                             uses this machine's again"
)]
pub(crate) struct Configure {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show what is set
    #[command(after_help = "Examples:\n  vessl configure list")]
    List,
    /// Use a server from now on; its token is typed without showing it, or comes from the standard input
    #[command(
        after_help = "Examples:\n  vessl configure server https://vessl.example.org\n  vessl configure server http://10.0.0.5:7300 < token.txt"
    )]
    Server {
        /// Address, like `https://vessl.example.org`, `http://127.0.0.1:7300` or `unix:///path`
        url: String,
    },
    /// Set the token of the server, typed without showing it or from the standard input
    #[command(after_help = "Examples:\n  vessl configure token < token.txt")]
    Token,
    /// Set the default organization
    #[command(after_help = "Examples:\n  vessl configure organization team")]
    Organization {
        /// Name
        name: String,
    },
    /// Set the default project
    #[command(after_help = "Examples:\n  vessl configure project vision")]
    Project {
        /// Name
        name: String,
    },
    /// Forget everything: the server of this machine is used again
    #[command(after_help = "Examples:\n  vessl configure reset")]
    Reset,
}

/// What is settled, without the token.
#[derive(Serialize)]
struct Shown {
    file: String,
    server: Option<String>,
    token_is_set: bool,
    organization: Option<String>,
    project: Option<String>,
}

/// Changes the settings file, then shows what is in it.
pub(crate) fn perform(args: Configure, session: &Session) -> Result<Exit> {
    let path = Settings::path()?;
    let before = Settings::read(&path)?;
    let after = match args.what {
        None if session.out.can_ask() => asked(before.clone(), session)?,
        None => before.clone(),
        Some(what) => changed(what, before.clone())?,
    };
    if after != before {
        after.write(&path)?;
    }
    let shown = Shown {
        file: path.display().to_string(),
        server: after.server,
        token_is_set: after.token.is_some(),
        organization: after.organization,
        project: after.project,
    };
    session.out.object(&shown, rows)?;
    Ok(exit::OK)
}

fn changed(what: What, mut settings: Settings) -> Result<Settings> {
    match what {
        What::List => {}
        What::Server { url } => {
            Address::parse(&url)?;
            settings.token = Some(value::read("token of the server")?.expose().trim().into());
            settings.server = Some(url);
        }
        What::Token => settings.token = Some(value::read("token of the server")?.expose().trim().into()),
        What::Organization { name } => settings.organization = Some(name),
        What::Project { name } => settings.project = Some(name),
        What::Reset => settings = Settings::default(),
    }
    Ok(settings)
}

/// Asks for everything; an empty answer keeps what is set.
fn asked(mut settings: Settings, session: &Session) -> Result<Settings> {
    let server = session.out.ask("server (empty: the one of this machine)", settings.server.as_deref())?;
    if let Some(url) = &server {
        Address::parse(url)?;
    }
    if server != settings.server {
        settings.token = None;
    }
    if server.is_some() && settings.token.is_none() {
        settings.token = Some(value::read("token of the server")?.expose().trim().into());
    }
    settings.server = server;
    settings.organization = session.out.ask("default organization", settings.organization.as_deref())?;
    settings.project = session.out.ask("default project", settings.project.as_deref())?;
    Ok(settings)
}

fn rows(shown: &Shown) -> Rows {
    vec![
        ("File", shown.file.clone()),
        ("Server", shown.server.clone().unwrap_or_else(|| "the one of this machine".to_owned())),
        ("Token", if shown.token_is_set { "set".to_owned() } else { String::new() }),
        ("Organization", shown.organization.clone().unwrap_or_default()),
        ("Project", shown.project.clone().unwrap_or_default()),
    ]
}
