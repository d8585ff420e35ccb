//! The client of the API `/v1`: one function per thing that can be asked. It prints nothing but the line that a server
//! was started.
mod address;
mod api;
mod events;
mod http;
mod local;
mod logs;
mod path;

pub(crate) use address::Address;
pub(crate) use api::LogQuery;
pub(crate) use events::Events;
pub(crate) use http::Token;
pub(crate) use local::{Gone, Lead, Local};
pub(crate) use logs::{Logs, Next, Record, Stream};

use std::time::Duration;

use ::http::{Method, header};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::http::{Ask, Connection};
use crate::error::{Error, Result};
use crate::output::Out;

/// Longest wait between two attempts to reach a server again.
const PAUSE: Duration = Duration::from_secs(2);
/// How long a server may stay away before a watching client gives up.
const PATIENCE: Duration = Duration::from_mins(10);

/// Which server it is, so that it can be found again after a restart.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Named by flags, environment or settings.
    Given {
        /// Where it listens.
        address: Address,
        /// Its token.
        token: Option<Token>,
    },
    /// The one of this machine.
    Local(Local),
}

/// Organization and project; what is not named is the server's default.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    /// Organization.
    pub(crate) organization: Option<String>,
    /// Project.
    pub(crate) project: Option<String>,
}

/// A client with one kept connection.
#[derive(Debug)]
pub(crate) struct Client {
    origin: Origin,
    connection: Connection,
    scope: Scope,
}

impl Client {
    /// A client of that server; the server of this machine is started if it does not run.
    pub(crate) async fn connect(origin: Origin, scope: Scope, out: &Out) -> Result<Self> {
        let connection = match &origin {
            Origin::Given { address, token } => Connection::new(address.clone(), token.clone()),
            Origin::Local(local) => to_local(local, out).await?,
        };
        Ok(Self { origin, connection, scope })
    }

    /// Whether it is the server of this machine, which can be started again.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.origin, Origin::Local(_))
    }

    /// Where the server is, as a person writes it.
    pub(crate) fn address(&self) -> String {
        self.connection.address().to_string()
    }

    /// An error that says that a stream was cut off.
    pub(crate) fn lost(&self, reason: &str) -> Error {
        self.connection.unreachable(reason)
    }

    /// Another connection to the same server, for a second stream.
    pub(crate) fn another(&self) -> Self {
        Self { origin: self.origin.clone(), connection: self.connection.another(), scope: self.scope.clone() }
    }

    /// Finds the server again after the connection was lost: one of this machine that died is started, one that was
    /// stopped is waited for, any other is tried again for some minutes.
    pub(crate) async fn recover(&mut self, out: &Out) -> Result<()> {
        match self.origin.clone() {
            Origin::Local(local) => {
                if local.running()?.is_none() && local.gone() == Gone::Stopped {
                    out.note("the server was stopped; the run goes on, waiting for a server to start again");
                    local.wait().await?;
                }
                let lead = local.ensure(out).await?;
                self.connection = lead_connection(&local, &lead)?;
                Ok(())
            }
            Origin::Given { .. } => {
                out.note("lost the connection to the server; the run goes on, trying again");
                self.reach().await
            }
        }
    }

    /// The same without starting or saying anything, for a second stream.
    pub(crate) async fn recover_quietly(&mut self) -> Result<()> {
        match self.origin.clone() {
            Origin::Local(local) => {
                let lead = local.wait().await?;
                self.connection = lead_connection(&local, &lead)?;
                Ok(())
            }
            Origin::Given { .. } => self.reach().await,
        }
    }

    /// Tries to reach the server until it answers or patience ends.
    async fn reach(&mut self) -> Result<()> {
        let begin = tokio::time::Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            match self.whoami().await {
                Err(e @ Error::Unreachable { .. }) if begin.elapsed() > PATIENCE => return Err(e),
                Err(Error::Unreachable { .. }) => {}
                other => return other.map(drop),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    async fn get<T: DeserializeOwned>(&mut self, path: String) -> Result<T> {
        self.json(Ask { method: Method::GET, path, body: None, headers: Vec::new() }).await
    }

    async fn post<T: DeserializeOwned>(&mut self, path: String, body: &impl Serialize) -> Result<T> {
        let ask = Ask { method: Method::POST, path, body: Some(encoded(body)?), headers: Vec::new() };
        self.json(ask).await
    }

    async fn delete(&mut self, path: String) -> Result<()> {
        let ask = Ask { method: Method::DELETE, path, body: None, headers: Vec::new() };
        let answer = self.connection.send(&ask).await?;
        self.connection.body(answer).await.map(drop)
    }

    async fn json<T: DeserializeOwned>(&mut self, ask: Ask) -> Result<T> {
        let answer = self.connection.send(&ask).await?;
        let body = self.connection.body(answer).await?;
        serde_json::from_slice(&body).map_err(|e| self.connection.protocol(e))
    }

    /// Opens a stream.
    async fn stream(&mut self, path: String, accept: &str) -> Result<hyper::body::Incoming> {
        let headers = vec![(header::ACCEPT, accept.to_owned())];
        let ask = Ask { method: Method::GET, path, body: None, headers };
        Ok(self.connection.send(&ask).await?.into_body())
    }
}

/// Connects to the server of this machine. One that is just being killed still looks alive and does not listen any more;
/// the next one is started when it is gone.
async fn to_local(local: &Local, out: &Out) -> Result<Connection> {
    let mut lead = local.ensure(out).await?;
    loop {
        let mut connection = lead_connection(local, &lead)?;
        match connection.open().await {
            Err(error) if !local.outlives(&lead).await? => return Err(error),
            Err(_) => lead = local.ensure(out).await?,
            Ok(()) => {
                compare_versions(&lead, out);
                return Ok(connection);
            }
        }
    }
}

fn lead_connection(local: &Local, lead: &Lead) -> Result<Connection> {
    Ok(Connection::new(Address::parse(&lead.url)?, Some(local.token()?)))
}

fn compare_versions(lead: &Lead, out: &Out) {
    let own = env!("CARGO_PKG_VERSION");
    if let Some(version) = lead.version.as_deref().filter(|version| *version != own) {
        out.warn(&format!(
            "the running server is vessl {version}, this is vessl {own}; `vessl server stop` makes the next command \
             start this version (runs go on)"
        ));
    }
}

fn encoded(body: &impl Serialize) -> Result<Bytes> {
    let text =
        serde_json::to_vec(body).map_err(|e| Error::Bug(format!("a request has no JSON form: {e}")))?;
    Ok(text.into())
}
