//! The process of one connection: `vessl agent ssh --data DATA --from ENDS`, with the connection as descriptor 0 and a socket to the server
//! as descriptor 1. It goes on while the server is restarted, and ends with the connection.
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use russh::server::{Config, Handle, run_stream};
use russh::{Disconnect, MethodKind, MethodSet, SshId};
use rustix::net::AddressFamily;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::{Client, Entered};
use crate::keys::{KeyError, Place};
use crate::shared::Shared;
use crate::{forward, watch};

const USAGE: &str = "usage: agent ssh --data DATA --from ENDS";
/// Longest time from the connection to the first line of a client, which says it at once.
const HELLO: Duration = Duration::from_secs(5);
/// Longest time from the connection to the proof of a key.
const ENTER: Duration = Duration::from_secs(20);
/// A silent client is asked so often whether it is there, and given up after so many times.
const ASK: Duration = Duration::from_secs(15);
const ASKED: usize = 3;
/// Longest time for a client to take in why its connection ends.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Keys that a client may offer. Somebody's agent may have some.
const OFFERS: usize = 32;

/// Pieces of output on their way to the cipher, over all channels.
const EVENTS: usize = 64;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Serves the connection. The exit code says nothing: nobody waits for it.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let [data_flag, data, from_flag, ends] = args.as_slice() else { return usage() };
    let Some(ends) = ends.to_str().filter(|_| data_flag == "--data" && from_flag == "--from") else {
        return usage();
    };
    // Ctrl-C at the server is nothing to the session.
    let _ = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Into::into);
    let served = runtime.and_then(|runtime| {
        let served = runtime.block_on(serve(Place::new(data), ends.to_owned()));
        runtime.shutdown_background();
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    let _ = writeln!(io::stderr(), "{USAGE}");
    ExitCode::from(2)
}

async fn serve(keys: Place, ends: String) -> Result<(), Failure> {
    let connection = io::stdin().as_fd().try_clone_to_owned()?;
    let server = std::os::unix::net::UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    server.set_nonblocking(true)?;
    let server = UnixStream::from_std(server)?;
    let config = Arc::new(config(&keys)?);
    let (entered, entering) = oneshot::channel();
    let client = Client::new(ends, keys.clone(), server, entered);
    let watched = connection.try_clone()?;
    match rustix::net::getsockname(&connection)?.address_family() {
        AddressFamily::UNIX => {
            let stream = std::os::unix::net::UnixStream::from(connection);
            stream.set_nonblocking(true)?;
            with((UnixStream::from_std(stream)?, watched), (config, client), keys, entering).await
        }
        _ => with((tcp(connection)?, watched), (config, client), keys, entering).await,
    }
}

fn tcp(connection: OwnedFd) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::from(connection);
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    // A machine that is gone says nothing; who waits for a program would never know.
    rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
    rustix::net::sockopt::set_tcp_keepidle(&stream, ASK * 4)?;
    TcpStream::from_std(stream)
}

fn config(keys: &Place) -> Result<Config, KeyError> {
    let methods = MethodSet::from(&[MethodKind::PublicKey][..]);
    Ok(Config {
        server_id: SshId::Standard(concat!("SSH-2.0-vessl_", env!("CARGO_PKG_VERSION")).into()),
        methods,
        // Keys cannot be guessed, and an agent offers several.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        max_auth_attempts: OFFERS,
        keys: vec![keys.read_host_key()?],
        inactivity_timeout: None,
        keepalive_interval: Some(ASK),
        keepalive_max: ASKED,
        nodelay: true,
        event_buffer_size: EVENTS,
        ..Config::default()
    })
}

/// Serves the stream to its end.
async fn with<S>(
    (stream, connection): (S, OwnedFd),
    (config, client): (Arc<Config>, Client),
    keys: Place,
    entering: oneshot::Receiver<Entered>,
) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let until = Instant::now() + ENTER;
    let shared = Arc::clone(&client.shared);
    let session = tokio::time::timeout(HELLO, run_stream(config, stream, client)).await??;
    tokio::pin!(session);
    let entered = tokio::select! {
        ended = &mut session => return Ok(ended?),
        entered = tokio::time::timeout_at(until, entering) => match entered {
            Ok(Ok(entered)) => entered,
            // It was refused, and is being told so.
            Ok(Err(_)) => return Ok(tokio::time::timeout(LAST_WORDS, session).await.unwrap_or(Ok(()))?),
            Err(late) => return Err(late.into()),
        },
    };
    let Entered { fingerprint, dir, handle } = entered;
    tokio::select! {
        // Who goes without a word has gone too.
        _ = &mut session => {}
        () = watch::gone(connection) => {}
        why = watch::over(&keys, &fingerprint, &dir) => {
            say(&handle, why).await;
            let _ = tokio::time::timeout(LAST_WORDS, &mut session).await;
        }
    }
    leave(&shared).await;
    Ok(())
}

/// Tells the client why its connection ends.
async fn say(handle: &Handle, why: String) {
    let said = handle.disconnect(Disconnect::ByApplication, why, String::new());
    let _ = tokio::time::timeout(LAST_WORDS, said).await;
}

/// Removes what the connection made in the run.
async fn leave(shared: &Shared) {
    let sockets = shared.listening.end();
    if !sockets.is_empty() {
        forward::unlink(shared.dir(), sockets).await;
    }
}
