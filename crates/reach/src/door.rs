//! The asking side of [`vessl_core::door`].
use std::fs::OpenOptions;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use vessl_core::door::{DoorAsk, DoorReply, Refused, SOCKET, Target};
use vessl_core::frame::{self, Frames};

/// Longest time that init may take to answer.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);
/// The same where it waits for somebody else.
const DIAL_LIMIT: Duration = Duration::from_secs(15);
/// Most descriptors of one answer.
const MOST: usize = 3;

/// Why nobody came in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoorError {
    /// There is no container now.
    #[error("the run has no container now")]
    NoContainer,
    /// Init does not answer.
    #[error(
        "the first process of the container does not answer within {0} s: it may be frozen, or the machine is out of memory"
    )]
    Silent(u64),
    /// Init said no.
    #[error("{why}")]
    Refused {
        /// In words.
        why: String,
        /// What kind of reason it is.
        because: Refused,
    },
    /// The socket, or what came through it.
    #[error("cannot speak with the first process of the container: {0}")]
    Io(#[from] io::Error),
}

/// A connection to the door.
#[derive(Debug)]
pub struct Door {
    stream: UnixStream,
    frames: Frames,
    ends: Vec<OwnedFd>,
}

/// A connected socket inside a run.
#[derive(Debug)]
pub enum Dialed {
    /// TCP.
    Tcp(tokio::net::TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

/// A socket that listens inside a run.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(tokio::net::TcpListener),
    /// A unix socket.
    Unix(tokio::net::UnixListener),
}

/// Connects to something inside the run whose directory is `dir`.
pub async fn dial(dir: &Path, to: Target) -> Result<Dialed, DoorError> {
    let is_unix = matches!(to, Target::Path(_));
    let socket = one(ask(dir, &DoorAsk::Dial { to }, DIAL_LIMIT).await?)?;
    if is_unix {
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        return Ok(Dialed::Unix(UnixStream::from_std(stream)?));
    }
    let stream = std::net::TcpStream::from(socket);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(Dialed::Tcp(tokio::net::TcpStream::from_std(stream)?))
}

/// Listens inside the run whose directory is `dir`.
pub async fn listen(dir: &Path, at: Target) -> Result<Listener, DoorError> {
    let is_unix = matches!(at, Target::Path(_));
    let socket = one(ask(dir, &DoorAsk::Listen { at }, LIMIT).await?)?;
    if is_unix {
        let listener = std::os::unix::net::UnixListener::from(socket);
        listener.set_nonblocking(true)?;
        return Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?));
    }
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(Listener::Tcp(tokio::net::TcpListener::from_std(listener)?))
}

fn one((_, ends): (Door, Vec<OwnedFd>)) -> Result<OwnedFd, DoorError> {
    ends.into_iter().next().ok_or_else(|| strange("no descriptor came with the answer"))
}

pub(crate) fn strange(why: &'static str) -> DoorError {
    DoorError::Io(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Asks once; what was asked for comes as descriptors.
pub(crate) async fn ask(
    dir: &Path,
    ask: &DoorAsk,
    limit: Duration,
) -> Result<(Door, Vec<OwnedFd>), DoorError> {
    let asking = async {
        let mut door = Door { stream: connect(dir).await?, frames: Frames::default(), ends: Vec::new() };
        door.stream.write_all(&frame::encode(ask).map_err(io::Error::other)?).await?;
        match door.reply().await? {
            DoorReply::Open => {
                let ends = std::mem::take(&mut door.ends);
                Ok((door, ends))
            }
            DoorReply::Refused { why, because } => Err(DoorError::Refused { why, because }),
            DoorReply::Ended { .. } => Err(strange("a program ended that was not started")),
        }
    };
    tokio::time::timeout(limit, asking).await.map_err(|_| DoorError::Silent(limit.as_secs()))?
}

async fn connect(dir: &Path) -> Result<UnixStream, DoorError> {
    let is_gone = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let connected = async {
        // The address of a socket has 108 bytes; a run directory may be deeper than that.
        let dir = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(dir)?;
        UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())).await
    };
    connected.await.map_err(|error| if is_gone(&error) { DoorError::NoContainer } else { error.into() })
}

impl Door {
    /// The next answer; its descriptors are in `ends`.
    async fn reply(&mut self) -> Result<DoorReply, DoorError> {
        loop {
            if let Some(reply) = self.frames.pop().map_err(io::Error::other)? {
                return Ok(reply);
            }
            let (bytes, ends) = self.stream.async_io(Interest::READABLE, || receive(&self.stream)).await?;
            if bytes.is_empty() {
                return Err(DoorError::NoContainer);
            }
            self.frames.push(&bytes);
            self.ends.extend(ends);
        }
    }

    /// Sends a signal to the program and to those of its session.
    pub async fn signal(&mut self, signal: i32) -> Result<(), DoorError> {
        let bytes = frame::encode(&DoorAsk::Signal { signal }).map_err(io::Error::other)?;
        Ok(self.stream.write_all(&bytes).await?)
    }

    /// Waits for the end of the program: its exit code, 128+n for a signal. An error if the container has ended. May be dropped
    /// and called again.
    pub async fn ended(&mut self) -> Result<i32, DoorError> {
        loop {
            if let DoorReply::Ended { exit_code } = self.reply().await? {
                return Ok(exit_code);
            }
        }
    }
}

fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let length = recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut ends = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            ends.extend(rights);
        }
    }
    Ok((bytes[..length].to_vec(), ends))
}
