//! What every command gets: the global flags, where to print, and how to reach the server.
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use vessl_core::secret::Secret;

use crate::client::{Address, Client, Local, Origin, Scope};
use crate::error::Result;
use crate::output::{Format, Out};
use crate::settings::{Settings, variable};

/// Flags that every command has.
#[derive(Args, Clone, Debug)]
pub(crate) struct Globals {
    /// How the result, or the error, is printed
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub(crate) output: Format,
    /// Server to use, like `http://127.0.0.1:7300` or `unix:///path`; default: the one of this machine
    #[arg(
        long,
        global = true,
        env = "VESSL_SERVER",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Global options"
    )]
    pub(crate) server: Option<String>,
    /// Organization
    #[arg(
        long,
        global = true,
        env = "VESSL_ORGANIZATION",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) organization: Option<String>,
    /// Project
    #[arg(
        long,
        global = true,
        env = "VESSL_PROJECT",
        hide_env_values = true,
        value_name = "NAME",
        help_heading = "Global options"
    )]
    pub(crate) project: Option<String>,
}

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where it prints.
    pub(crate) out: Out,
    globals: Globals,
}

impl Session {
    /// A call with these global flags.
    pub(crate) fn new(globals: Globals) -> Self {
        Self { out: Out::new(globals.output), globals }
    }

    /// A call with the flags that the environment sets, and no others.
    pub(crate) fn of_environment() -> Self {
        let [server, organization, project] =
            ["VESSL_SERVER", "VESSL_ORGANIZATION", "VESSL_PROJECT"].map(variable);
        Self::new(Globals { output: Format::Table, server, organization, project })
    }

    /// A client of the server that is settled, unless that is the one of this machine and it does not run.
    pub(crate) async fn running_client(&self) -> Result<Option<Client>> {
        let settings = self.with_flags(Settings::read(&Settings::path()?)?);
        let scope = Scope { organization: settings.organization.clone(), project: settings.project.clone() };
        let origin = origin(settings)?;
        match &origin {
            Origin::Local(local) if local.running()?.is_none() => Ok(None),
            _ => Client::connect(origin, scope, &self.out).await.map(Some),
        }
    }

    /// A client of the server that flags, environment and settings name; else of the server of this machine, which is
    /// started if it does not run.
    pub(crate) async fn client(&self) -> Result<Client> {
        let settings = self.settings()?;
        let scope = Scope { organization: settings.organization.clone(), project: settings.project.clone() };
        let origin = origin(settings)?;
        Client::connect(origin, scope, &self.out).await
    }

    /// What is settled, with flags and environment above the file.
    pub(crate) fn settings(&self) -> Result<Settings> {
        let path = Settings::path()?;
        let settings = Settings::read(&path)?;
        if settings.is_exposed(&path) {
            self.out
                .warn(&format!("others can read the token in `{0}`; run `chmod 600 {0}`", path.display()));
        }
        Ok(self.with_flags(settings))
    }

    fn with_flags(&self, mut settings: Settings) -> Settings {
        let over =
            |flag: &Option<String>, file: Option<String>| flag.clone().filter(|v| !v.is_empty()).or(file);
        // A token belongs to one server: the one of the file never goes to a server that the file does not name.
        let server = over(&self.globals.server, settings.server.clone());
        let of_file = if server == settings.server { settings.token.take() } else { None };
        settings.token = variable("VESSL_TOKEN").map(Secret::from).or(of_file);
        settings.server = server;
        settings.organization = over(&self.globals.organization, settings.organization.take());
        settings.project = over(&self.globals.project, settings.project.take());
        settings
    }
}

/// The server that is settled.
fn origin(settings: Settings) -> Result<Origin> {
    match settings.server {
        None => Ok(Origin::Local(Local::of_this_machine()?)),
        Some(server) => Ok(Origin::Given {
            address: Address::parse(&server)?,
            token: settings.token.map(|token| token.expose().trim().into()),
        }),
    }
}

/// A path as people write it, `-` meaning standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl Source {
    /// Takes it from the command line, where the name of a file may have any bytes in it.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().map(|name| if name == "-" { Self::Stdin } else { Self::File(name.into()) })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}
