//! Connections into the run and out of it: `-L`, `-D`, `-R`, unix sockets, the client's agent. They are made inside the run, by its first
//! process, so whatever may reach what is the run's own network's business.
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};
use vessl_core::door::Target;
use vessl_reach::agent;
use vessl_reach::door::{self, Dialed, DoorError, Listener};
use vessl_reach::frames::Begin;

use crate::intake::{Intake, intake};
use crate::listening::{At, Ear};
use crate::names;
use crate::shared::{INIT, PIECE, Shared};

/// Longest time to look a name up.
const LOOK_UP: Duration = Duration::from_secs(5);
/// Longest time to remove what a connection leaves in the run.
const UNLINK: Duration = Duration::from_secs(3);
/// Longest time for what a client sent before it closed a channel.
const LINGER: Duration = Duration::from_secs(30);
/// Pause after the system gave no connection.
const BREATH: Duration = Duration::from_millis(100);

/// Removes sockets that were made in the run.
pub(crate) async fn unlink(dir: &Path, paths: Vec<String>) {
    let argv = [INIT.to_owned(), "unlink".to_owned()].into_iter().chain(paths).collect();
    let removed = async {
        let surroundings = agent::surroundings(dir).await?;
        let begin = Begin { argv, ..Begin::default() };
        vessl_reach::exec(dir, begin.within(surroundings)).await?.door.ended().await
    };
    // A run that has ended has no sockets either.
    let _ = tokio::time::timeout(UNLINK, removed).await;
}

/// Connects to a host and port as they are seen in the run. A name is looked up here, and connected to from there.
pub(crate) async fn dial_host(dir: &Path, host: &str, port: u32) -> Result<Dialed, DoorError> {
    let port = u16::try_from(port).map_err(io::Error::other)?;
    if let Some(to) = names::dialled(host, port) {
        return door::dial(dir, to).await;
    }
    let found = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host((host, port))).await;
    let found: Vec<_> = found.map_err(io::Error::other)??.collect();
    let mut last = DoorError::Io(io::ErrorKind::NotFound.into());
    for address in found {
        match door::dial(dir, Target::Address(address)).await {
            Err(error) => last = error,
            dialed => return dialed,
        }
    }
    Err(last)
}

/// Connects to a unix socket of the run.
pub(crate) async fn dial_path(dir: &Path, path: String) -> Result<Dialed, DoorError> {
    door::dial(dir, Target::Path(path)).await
}

/// Answers a client that wants to connect to something, once it is known whether that can be.
pub(crate) async fn open(
    shared: Arc<Shared>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    dialing: impl Future<Output = Result<Dialed, DoorError>> + Send + 'static,
) {
    let Some(room) = shared.room() else { return reply.reject(ChannelOpenFailure::ResourceShortage).await };
    tokio::spawn(async move {
        match dialing.await {
            Ok(dialed) => {
                reply.accept().await;
                match dialed {
                    Dialed::Tcp(inside) => join(channel, inside, &shared.memory).await,
                    Dialed::Unix(inside) => join(channel, inside, &shared.memory).await,
                }
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        drop(room);
    });
}

/// Listens at a port of the run for the client: the port that it became, if it could be.
pub(crate) async fn listen_tcp(
    shared: &Arc<Shared>,
    handle: &Handle,
    address: &str,
    port: u32,
) -> Option<u32> {
    let wanted = u16::try_from(port).ok()?;
    if !shared.listening.has_room(&At::Tcp(address.to_owned(), port)) {
        return None;
    }
    let at = names::listened(address, wanted);
    let Ok(Listener::Tcp(listener)) = door::listen(shared.dir(), at).await else { return None };
    let port = u32::from(listener.local_addr().ok()?.port());
    let (shared, handle, named) = (Arc::clone(shared), handle.clone(), address.to_owned());
    let keeper = Arc::clone(&shared);
    let accepting = tokio::spawn(async move {
        loop {
            let Some((stream, from)) = rested(listener.accept().await).await else { continue };
            let (handle, named) = (handle.clone(), named.clone());
            pass_on(&shared, stream, async move {
                let (from, of) = (from.ip().to_string(), u32::from(from.port()));
                handle.channel_open_forwarded_tcpip(named, port, from, of).await
            });
        }
    });
    let ear = Ear::new(&accepting, None);
    keeper.listening.keep(At::Tcp(address.to_owned(), port), ear);
    Some(port)
}

/// Listens at a unix socket of the run for the client.
pub(crate) async fn listen_unix(shared: &Arc<Shared>, handle: &Handle, path: &str) -> bool {
    let (handle, named) = (handle.clone(), path.to_owned());
    let opening = move || {
        let (handle, named) = (handle.clone(), named.clone());
        async move { handle.channel_open_forwarded_streamlocal(named).await }
    };
    listen_path(shared, At::Unix(path.to_owned()), path.to_owned(), opening).await
}

/// Makes a socket in the run that leads to the client's agent.
pub(crate) async fn listen_for_agent(shared: &Arc<Shared>, handle: &Handle) -> bool {
    if shared.listening.agent_socket().is_some() {
        return true;
    }
    let mut random = [0; 8];
    if getrandom::fill(&mut random).is_err() {
        return false;
    }
    let path = format!("/tmp/vessl-ssh-{:016x}/agent", u64::from_le_bytes(random));
    let handle = handle.clone();
    let opening = move || {
        let handle = handle.clone();
        async move { handle.channel_open_agent().await }
    };
    listen_path(shared, At::Agent, path, opening).await
}

async fn listen_path<F>(
    shared: &Arc<Shared>,
    at: At,
    path: String,
    opening: impl Fn() -> F + Send + 'static,
) -> bool
where
    F: Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
{
    if !shared.listening.has_room(&at) {
        return false;
    }
    let target = Target::Path(path.clone());
    let Ok(Listener::Unix(listener)) = door::listen(shared.dir(), target).await else { return false };
    let of = Arc::clone(shared);
    let accepting = tokio::spawn(async move {
        loop {
            let Some((stream, _)) = rested(listener.accept().await).await else { continue };
            pass_on(&of, stream, opening());
        }
    });
    let ear = Ear::new(&accepting, Some(path));
    shared.listening.keep(at, ear);
    true
}

/// What was accepted; after a failure nothing, and a pause.
async fn rested<T>(accepted: io::Result<T>) -> Option<T> {
    if accepted.is_err() {
        tokio::time::sleep(BREATH).await;
    }
    accepted.ok()
}

/// Leads a connection out of the run to the client. Without room it is closed.
fn pass_on<S>(
    shared: &Arc<Shared>,
    stream: S,
    opening: impl Future<Output = Result<Channel<Msg>, russh::Error>> + Send + 'static,
) where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Some(room) = shared.room() else { return };
    let memory = Arc::clone(&shared.memory);
    tokio::spawn(async move {
        if let Ok(channel) = opening.await {
            join(channel, stream, &memory).await;
        }
        drop(room);
    });
}

/// Joins a channel with a connection, until both directions have ended. A client that closes the channel ends what goes out to it; what it
/// has sent before still goes in.
async fn join<S: AsyncRead + AsyncWrite>(channel: Channel<Msg>, stream: S, memory: &Arc<Semaphore>) {
    let (mut read, write) = channel.split();
    let (mut from, mut to) = tokio::io::split(stream);
    let ((intake, mut pieces), closed) = (intake(memory), Notify::new());
    let inwards = async {
        while let Some(piece) = pieces.recv().await {
            to.write_all(&piece.bytes).await?;
        }
        to.shutdown().await
    };
    let outwards = async {
        let sent = tokio::select! {
            sent = send(&mut from, &write) => sent,
            () = closed.notified() => Ok(()),
        };
        let _ = write.eof().await;
        sent
    };
    let taking = take(&mut read, intake);
    let both = async { tokio::try_join!(inwards, outwards) };
    tokio::pin!(both);
    tokio::select! {
        _ = &mut both => {}
        () = taking => {
            closed.notify_one();
            let _ = tokio::time::timeout(LINGER, both).await;
        }
    }
    let _ = write.close().await;
}

/// Takes in what the client sends, until it closes the channel.
async fn take(read: &mut ChannelReadHalf, intake: Intake) {
    let mut intake = Some(intake);
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Some(intake) = &intake {
                    intake.put(data).await;
                }
            }
            Some(ChannelMsg::Eof) => intake = None,
            Some(ChannelMsg::Close) | None => return,
            Some(_) => {}
        }
    }
}

async fn send(from: &mut (impl AsyncRead + Unpin), write: &ChannelWriteHalf<Msg>) -> io::Result<()> {
    let mut bytes = BytesMut::with_capacity(PIECE);
    loop {
        bytes.reserve(PIECE);
        if from.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        write.data_bytes(bytes.split().freeze()).await.map_err(io::Error::other)?;
    }
}
