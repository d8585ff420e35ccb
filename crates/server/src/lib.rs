//! The server: an HTTP API over a durable store, one driver per unfinished run, engines that place agents.
//!
//! ```text
//! api ─► control ─► engine ─► `vessl agent …` (a child process that outlives us)
//!  │        │
//!  └► registry ─► store        nothing points back at api; engine never touches the store
//! ```
//! It holds no rule about runs (those are in `vessl_core`) and does no work inside a run (that is the agent's).
mod api;
mod attempt;
pub mod backup;
pub mod challenge;
pub mod config;
mod control;
mod engine;
pub mod fsck;
mod lock;
mod needs;
pub mod offsite;
mod open;
mod paths;
mod proxy;
mod registry;
mod reserve;
mod secrets;
mod serve;
mod ssh;
mod store;
pub mod watch;

use std::fmt::Display;
use std::path::PathBuf;

use vessl_core::text::chain;

pub use api::openapi;
pub use config::Config;

/// What a server is run with.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Settings.
    pub config: Config,
    /// Data directory.
    pub data: PathBuf,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another server has the data directory.
    #[error(
        "another server{} has the data directory `{}`: stop it with `VESSL_DATA={} vessl server stop`, or set VESSL_DATA to another directory",
        .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), .data.display(), .data.display()
    )]
    Taken {
        /// The directory.
        data: PathBuf,
        /// Who has it.
        pid: Option<u32>,
    },
    /// `listen` is not an address.
    #[error(
        "the configuration's `listen` is wrong: `{0}` is neither empty nor `127.0.0.1:PORT` nor `unix:/absolute/path`"
    )]
    Address(String),
    /// `listen` is an address that others could reach.
    #[error("the configuration's `listen` is wrong: `{0}` is not a loopback address")]
    NotLoopback(String),
    /// `ports_listen` is no address for ports of runs.
    #[error(
        "the configuration's `ports_listen` is wrong: `{0}` is neither empty nor a loopback address with a port, like `127.0.0.1:7381`; another address needs `ports_certificate`"
    )]
    PortsAddress(String),
    /// `ssh_listen` is no address to be reached by SSH.
    #[error(
        "the configuration's `ssh_listen` is wrong: `{0}` is neither empty nor an address with a port, like `127.0.0.1:7322`"
    )]
    SshAddress(String),
    /// The socket cannot be opened.
    #[error("cannot listen on `{wanted}`: {source}")]
    Listen {
        /// As configured.
        wanted: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be used.
    #[error("cannot {what} `{path}`: {source}")]
    File {
        /// The step.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
    /// The filter of the log is not one.
    #[error("the configuration's `log` is wrong: {0}")]
    Log(String),
    /// The database is gone, and what it knew is not.
    #[error(
        "the database `{}` is empty, but `{}` has {count} run{}: bring the database back (`vessl server restore BACKUP`), or, to begin anew without these runs, move `{}` away",
        .database.display(), .runs.display(), if *.count == 1 { "" } else { "s" }, .runs.display()
    )]
    LostDatabase {
        /// The empty database.
        database: PathBuf,
        /// The directories of runs.
        runs: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// A restore was cut off.
    #[error(
        "a restore of `{}` from `{from}` was cut off: repeat it (`vessl server restore {from}`)",
        .data.display()
    )]
    HalfRestored {
        /// The data directory.
        data: PathBuf,
        /// The backup.
        from: String,
    },
    /// The work was cut off.
    #[error("the server was interrupted while it started")]
    Interrupted,
    /// The database.
    #[error("{}", chain(.0))]
    Store(#[from] store::StoreError),
    /// The key of the secrets.
    #[error(transparent)]
    Secret(#[from] secrets::SecretError),
    /// The machine.
    #[error("cannot ask what this machine has: {}", chain(.0))]
    Engine(#[from] engine::EngineError),
    /// The configuration.
    #[error(transparent)]
    Inventory(#[from] control::InventoryError),
    /// The content-addressed store.
    #[error("{}", chain(.0))]
    Registry(#[from] registry::RegistryError),
    /// The bucket of the blobs.
    #[error(transparent)]
    Offsite(#[from] offsite::SettingError),
    /// The keys of SSH.
    #[error(transparent)]
    Ssh(#[from] vessl_ssh::keys::KeyError),
    /// The control loop.
    #[error("{}", chain(.0))]
    Control(#[from] control::ControlError),
}

impl ServerError {
    /// The setting that is to blame, such as `presets[0].cpu`, if one is.
    pub fn setting(&self) -> Option<&str> {
        match self {
            Self::Address(_) | Self::NotLoopback(_) => Some("listen"),
            Self::PortsAddress(_) => Some("ports_listen"),
            Self::SshAddress(_) => Some("ssh_listen"),
            Self::Log(_) => Some("log"),
            Self::Inventory(error) => Some(error.key()),
            Self::Offsite(error) => Some(error.key),
            _ => None,
        }
    }

    fn file(what: &'static str, path: impl Display, source: std::io::Error) -> Self {
        Self::File { what, path: path.to_string(), source }
    }
}

/// Runs a server until SIGTERM, SIGINT or `POST /v1/shutdown`. Makes its own runtime; logs to standard error.
pub fn run(options: ServerOptions) -> Result<(), ServerError> {
    start_log(&options.config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.config.threads.max(1))
        .max_blocking_threads(32)
        .thread_name("server")
        .enable_all()
        .build()
        .map_err(|source| ServerError::file("start", "threads", source))?;
    let setup = open::Setup {
        config: options.config,
        data: options.data,
        machine: open::Machine::Local,
        others: std::collections::BTreeMap::new(),
        clock: control::Clock::System,
    };
    let ended = runtime.block_on(serve::until_stopped(setup));
    // Whatever still hangs on a disk or a child is left behind: it is repeated after the next start.
    runtime.shutdown_background();
    ended
}

/// Refuses the settings that [`run`] refuses, and opens nothing.
pub fn check(config: &Config) -> Result<(), ServerError> {
    log_filter(&config.log)?;
    serve::listen_address(&config.listen)?;
    serve::ports_address(config)?;
    serve::ssh_address(&config.ssh_listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ServerError::file("start", "threads", source))?;
    runtime.block_on(open::check(config))
}

fn log_filter(filter: &str) -> Result<tracing_subscriber::EnvFilter, ServerError> {
    tracing_subscriber::EnvFilter::try_new(filter).map_err(|error| ServerError::Log(error.to_string()))
}

fn start_log(filter: &str) -> Result<(), ServerError> {
    let filter = log_filter(filter)?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Somebody who embeds the server may have set up a log of his own.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Unfailing(std::io::stderr()))
        .with_ansi(colours)
        .try_init();
    Ok(())
}

/// A place for log lines that takes each of them, also when the disk below is full: a line that is lost must not end the
/// thread that had something to say.
struct Unfailing<W>(W);

impl<W: std::io::Write> std::io::Write for Unfailing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Bytes as lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to memory cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The server's inside for this crate's own tests: a scripted machine, a clock set by hand.
#[doc(hidden)]
pub mod testing {
    pub use crate::api::{About, Api, Auth};
    pub use crate::challenge::Entrance;
    pub use crate::control::{Clock, Control};
    #[cfg(feature = "testing")]
    pub use crate::engine::fake::{Tally, World};
    pub use crate::open::{Machine, Opened, Setup, open};
    pub use crate::serve::{Running, start};
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_log_that_cannot_be_written_is_no_failure() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log = Unfailing(full);
        log.write_all(b"a line\n").unwrap();
        log.flush().unwrap();
    }
}
