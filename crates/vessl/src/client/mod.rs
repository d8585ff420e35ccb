//! The client of the API `/v1`: one function per thing that can be asked. It prints nothing but the line that a server
//! was started.
mod address;
mod api;
mod events;
mod http;
mod local;
mod logs;
mod objects;
mod outgoing;
mod path;
mod reach;
mod ssh;
mod storages;
mod uploads;

pub(crate) use address::Address;
pub(crate) use api::{LogQuery, Page};
pub(crate) use events::Events;
pub(crate) use local::{Local, ServerInfo, ShutdownKind};
pub(crate) use logs::Logs;
pub(crate) use objects::{FileSource, Listed, is_missing};
pub(crate) use outgoing::Pieces;
pub(crate) use reach::Way;
pub(crate) use storages::VolumeFile;
pub(crate) use uploads::{Announced, UploadRef};

use std::time::Duration;

use ::http::{Method, Response, header};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vessl_core::secret::Secret;

use self::http::{ApiRequest, Connection};
use crate::error::{Error, Result};
use crate::output::Out;

/// Longest wait between two attempts to reach a server again.
const PAUSE: Duration = Duration::from_secs(2);
/// Most times that a request is sent.
const TRIES: u32 = 5;
/// How long a server that was lost in the middle of a request may stay away, and the pause between two looks.
const COMES_BACK: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(200);
/// How long a server may stay away before a watching client gives up.
const RETRY_LIMIT: Duration = Duration::from_mins(10);

/// Which server it is, so that it can be found again after a restart.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// Named by flags, environment or settings.
    Given {
        /// Where it listens.
        address: Address,
        /// Its token.
        token: Option<Secret>,
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
    out: Out,
    /// Whether a lost server is the caller's to find again, by [`Client::recover`].
    follows: bool,
}

impl Client {
    /// A client of that server; the server of this machine is started if it does not run.
    pub(crate) async fn connect(origin: Origin, scope: Scope, out: &Out) -> Result<Self> {
        let connection = match &origin {
            Origin::Given { address, token } => Connection::new(address.clone(), token.clone()),
            Origin::Local(local) => to_local(local, out).await?,
        };
        Ok(Self { origin, connection, scope, out: out.clone(), follows: false })
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
        let Self { origin, connection, scope, out, follows } = self;
        Self {
            origin: origin.clone(),
            connection: connection.another(),
            scope: scope.clone(),
            out: out.clone(),
            follows: *follows,
        }
    }

    /// From now on a lost server is an error, which the caller answers with [`Client::recover`]: who follows a run must not start
    /// a server that somebody stopped.
    pub(crate) fn follow(&mut self) {
        self.follows = true;
    }

    /// Finds the server again after the connection was lost: one of this machine that died is started, one that was
    /// stopped is waited for, any other is tried again for some minutes.
    pub(crate) async fn recover(&mut self, out: &Out) -> Result<()> {
        match self.origin.clone() {
            Origin::Local(local) => {
                if local.running()?.is_none() && local.shutdown_kind() == ShutdownKind::Stopped {
                    out.note("the server was stopped; the run goes on, waiting for a server to start again");
                    local.wait().await?;
                }
                let info = local.ensure(out).await?;
                self.connection = info_connection(&local, &info)?;
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
                let info = local.wait().await?;
                self.connection = info_connection(&local, &info)?;
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
                Err(e @ Error::Unreachable { .. }) if begin.elapsed() > RETRY_LIMIT => return Err(e),
                Err(Error::Unreachable { .. }) => {}
                other => return other.map(drop),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE);
        }
    }

    async fn get<T: DeserializeOwned>(&mut self, path: String) -> Result<T> {
        self.json(ApiRequest { method: Method::GET, path, body: None, headers: Vec::new() }).await
    }

    async fn post<T: DeserializeOwned>(&mut self, path: String, body: &impl Serialize) -> Result<T> {
        let request =
            ApiRequest { method: Method::POST, path, body: Some(encoded(body)?), headers: Vec::new() };
        self.json(request).await
    }

    async fn delete(&mut self, path: String) -> Result<()> {
        let request = ApiRequest { method: Method::DELETE, path, body: None, headers: Vec::new() };
        match self.answer(&request).await {
            // What is gone after a try without an answer was removed by that.
            (tries, Err(Error::Refused { status: 404, .. })) if tries > 1 => Ok(()),
            (_, answer) => answer.map(drop),
        }
    }

    async fn json<T: DeserializeOwned>(&mut self, request: ApiRequest) -> Result<T> {
        let answer = self.answer(&request).await.1?;
        self.read(answer.body())
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|e| self.connection.protocol(e))
    }

    /// Sends a request, and again if the server was lost before its answer was whole: everything that is asked this way may
    /// be asked twice, a submit by its key. Gives the number of tries and the answer.
    async fn answer(&mut self, request: &ApiRequest) -> (u32, Result<Response<Bytes>>) {
        for tries in 1..TRIES {
            match self.answer_once(request).await {
                Err(Error::Unreachable { .. }) if self.connection.was_open() && !self.follows => {
                    if let Err(error) = self.find_again().await {
                        return (tries, Err(error));
                    }
                }
                answer => return (tries, answer),
            }
        }
        (TRIES, self.answer_once(request).await)
    }

    async fn answer_once(&mut self, request: &ApiRequest) -> Result<Response<Bytes>> {
        let (head, body) = self.connection.send(request).await?.into_parts();
        let body = self.connection.body(body).await?;
        Ok(Response::from_parts(head, body))
    }

    /// Connects anew: the server of this machine is started if it is gone, any other gets a moment to come back.
    pub(crate) async fn find_again(&mut self) -> Result<()> {
        match &self.origin {
            Origin::Local(local) => self.connection = to_local(local, &self.out).await?,
            Origin::Given { .. } => {
                let begin = tokio::time::Instant::now();
                while let Err(error) = self.connection.open().await {
                    if begin.elapsed() > COMES_BACK || !matches!(error, Error::Unreachable { .. }) {
                        return Err(error);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
        Ok(())
    }

    /// Opens a stream.
    async fn stream(&mut self, path: String, accept: &str) -> Result<hyper::body::Incoming> {
        let headers = vec![(header::ACCEPT, accept.to_owned())];
        let request = ApiRequest { method: Method::GET, path, body: None, headers };
        Ok(self.begin(&request).await?.into_body())
    }

    /// The begin of an answer that goes on, from the server that is found again if it was lost.
    async fn begin(&mut self, request: &ApiRequest) -> Result<Response<hyper::body::Incoming>> {
        match self.connection.send(request).await {
            Err(Error::Unreachable { .. }) if self.connection.was_open() && !self.follows => {
                self.find_again().await?;
                self.connection.send(request).await
            }
            answer => answer,
        }
    }
}

/// Connects to the server of this machine. One that is just being killed still looks alive and does not listen any more;
/// the next one is started when it is gone.
async fn to_local(local: &Local, out: &Out) -> Result<Connection> {
    let mut info = local.ensure(out).await?;
    loop {
        let mut connection = info_connection(local, &info)?;
        match connection.open().await {
            Err(error) if !local.wait_until_gone(&info).await? => return Err(error),
            Err(_) => info = local.ensure(out).await?,
            Ok(()) => {
                compare_versions(&info, out);
                return Ok(connection);
            }
        }
    }
}

fn info_connection(local: &Local, info: &ServerInfo) -> Result<Connection> {
    Ok(Connection::new(Address::parse(&info.url)?, Some(local.token()?)))
}

fn compare_versions(info: &ServerInfo, out: &Out) {
    let own = env!("CARGO_PKG_VERSION");
    if let Some(version) = info.version.as_deref().filter(|version| *version != own) {
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
