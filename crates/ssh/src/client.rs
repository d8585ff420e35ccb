//! One client as the protocol shows it: who it is, and what it opens. Whatever may take time is done beside, so that a connection that
//! waits for one thing goes on with the others.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::{HashAlg, PublicKey};
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, Disconnect, Pty};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::ask::{self, Answer, Question};
use crate::keys::{Place, is_taken};
use crate::shared::Shared;
use crate::{forward, session};

/// The one subsystem there is.
const SFTP: &str = "sftp";

/// A client that has come in.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) fingerprint: String,
    pub(crate) dir: PathBuf,
    pub(crate) handle: russh::server::Handle,
}

/// Serves one client.
pub(crate) struct Client {
    pub(crate) shared: Arc<Shared>,
    keys: Place,
    /// Where the server answers, until it has.
    server: Option<UnixStream>,
    answer: Option<(String, Answer)>,
    entered: Option<oneshot::Sender<Entered>>,
    /// Channels whose program was asked for.
    begun: HashSet<ChannelId>,
}

impl Client {
    /// A client at the other end of `ends`; `entered` is told when it has come in.
    pub(crate) fn new(
        ends: String,
        keys: Place,
        server: UnixStream,
        entered: oneshot::Sender<Entered>,
    ) -> Self {
        let (server, entered) = (Some(server), Some(entered));
        Self {
            shared: Arc::new(Shared::new(ends)),
            keys,
            server,
            answer: None,
            entered,
            begun: HashSet::new(),
        }
    }

    /// The fingerprint of a key that is good.
    fn good(&self, key: &PublicKey) -> Option<String> {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        (is_taken(&key.algorithm()) && self.keys.is_good(&fingerprint)).then_some(fingerprint)
    }

    async fn ask(&mut self, user: &str, fingerprint: &str) -> Answer {
        let no = |why: &str| Answer::No { why: why.to_owned() };
        let Some(mut server) = self.server.take() else { return no("the server was asked already") };
        let question = Question { user: user.to_owned(), fingerprint: fingerprint.to_owned() };
        let answered = async {
            ask::send(&mut server, &question).await?;
            ask::receive(&mut server).await
        };
        match answered.await {
            Ok(Some(answer)) => answer,
            _ => no("the server is being restarted: try again in a moment"),
        }
    }

    /// Whether this is the first program that is asked for on a channel; the client is told.
    fn begin(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        if self.begun.insert(channel) {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        _: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(if self.good(offer.public_key).is_some() { Auth::Accept } else { Auth::reject() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        let Some(fingerprint) = self.good(key.public_key) else { return Ok(Auth::reject()) };
        match self.ask(user, &fingerprint).await {
            Answer::Stranger => Ok(Auth::reject()),
            answer => {
                self.answer = Some((fingerprint, answer));
                Ok(Auth::Accept)
            }
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let why = match self.answer.take() {
            Some((fingerprint, Answer::Run { dir })) => {
                self.shared.is_in(dir.clone());
                let entered = Entered { fingerprint, dir, handle: session.handle() };
                match self.entered.take().map(|told| told.send(entered)) {
                    Some(Ok(())) => return Ok(()),
                    _ => "the connection is ending".to_owned(),
                }
            }
            Some((_, Answer::No { why })) => why,
            _ => "nobody knows the key".to_owned(),
        };
        // Every client shows this, whatever it wanted to open.
        session.disconnect(Disconnect::ByApplication, &why, "")
    }

    async fn channel_close(&mut self, channel: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.begun.remove(&channel);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(room) = self.shared.room() else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        };
        reply.accept().await;
        let serving = session::serve(channel, Arc::clone(&self.shared));
        let _ = session;
        tokio::spawn(async move {
            serving.await;
            drop(room);
        });
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let (shared, host) = (Arc::clone(&self.shared), host.to_owned());
        let dialing = async move { forward::dial_host(shared.dir(), &host, port).await };
        forward::open(Arc::clone(&self.shared), channel, reply, dialing).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let (shared, path) = (Arc::clone(&self.shared), path.to_owned());
        let dialing = async move { forward::dial_path(shared.dir(), path).await };
        forward::open(Arc::clone(&self.shared), channel, reply, dialing).await;
        Ok(())
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_failure(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _: &str,
        _: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.channel_success(channel)
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), Self::Error> {
        self.begin(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.begin(channel, session)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        if name == SFTP { self.begin(channel, session) } else { session.channel_failure(channel) }
    }

    async fn agent_request(&mut self, _: ChannelId, session: &mut Session) -> Result<bool, Self::Error> {
        Ok(forward::listen_for_agent(&self.shared, &session.handle()).await)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool, Self::Error> {
        match forward::listen_tcp(&self.shared, &session.handle(), address, *port).await {
            Some(listening) => {
                *port = listening;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn cancel_tcpip_forward(
        &mut self,
        address: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        Ok(self.shared.listening.end_tcp(address, port))
    }

    async fn streamlocal_forward(&mut self, path: &str, session: &mut Session) -> Result<bool, Self::Error> {
        Ok(forward::listen_unix(&self.shared, &session.handle(), path).await)
    }

    async fn cancel_streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        let Some(path) = self.shared.listening.end_unix(path) else { return Ok(false) };
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move { forward::unlink(shared.dir(), vec![path]).await });
        Ok(true)
    }
}
