//! SSH into runs from outside: a listener that hands every connection to a process of its own. It speaks no protocol, and holds no rule
//! about who may.
//!
//! ```text
//! client ─► accept ─► control ─► engine ─► `vessl agent ssh` (has the connection from then on)
//! ```
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::control::Control;

/// Most connections at the same time.
const CONNECTIONS: usize = 512;
/// Of those, most that have not come in yet; each has a limit of time for that.
const ENTERING: usize = 64;
/// Pause after the system gave no connection (no descriptors left).
const BREATH: Duration = Duration::from_millis(100);

/// A listener for SSH.
#[derive(Debug)]
pub(crate) struct Ssh {
    listener: TcpListener,
    control: Control,
}

impl Ssh {
    /// Listens, and says where.
    pub(crate) async fn listen(wanted: SocketAddr, control: Control) -> io::Result<Self> {
        let listener = match TcpListener::bind(wanted).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let listener = TcpListener::bind((wanted.ip(), 0)).await?;
                let instead = listener.local_addr()?;
                tracing::warn!(
                    "`ssh_listen` {wanted} is taken: runs are reached by SSH at {instead} instead"
                );
                listener
            }
            listener => listener?,
        };
        let at = listener.local_addr()?;
        control.ssh_is_at(host(at), at.port());
        tracing::info!(%at, "runs are reached by SSH here");
        Ok(Self { listener, control })
    }

    /// Takes connections until the server stops. Those that were taken go on.
    pub(crate) async fn serve(self) {
        let (all, entering) = (Arc::new(Semaphore::new(CONNECTIONS)), Arc::new(Semaphore::new(ENTERING)));
        let stopping = self.control.stopping();
        loop {
            let taken = async {
                let room = Arc::clone(&all).acquire_owned().await.map_err(io::Error::other)?;
                let entering = Arc::clone(&entering).acquire_owned().await.map_err(io::Error::other)?;
                let (stream, from) = self.listener.accept().await?;
                Ok::<_, io::Error>((stream, from, [room, entering]))
            };
            let taken = tokio::select! {
                taken = taken => taken,
                () = stopping.cancelled() => return,
            };
            match taken {
                Ok((stream, from, rooms)) => {
                    tokio::spawn(pass_on(self.control.clone(), (stream, from), rooms));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection by SSH could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// What people connect to: an address, or the name of the machine if every address is one.
fn host(at: SocketAddr) -> String {
    let name = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let named = at.ip().is_unspecified().then(name).flatten();
    named.unwrap_or_else(|| at.ip().to_string())
}

async fn pass_on(
    control: Control,
    (stream, from): (TcpStream, SocketAddr),
    [room, entering]: [OwnedSemaphorePermit; 2],
) {
    let passed = async {
        // A machine that is gone is noticed, also by a process that cannot write.
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let at = stream.local_addr()?;
        let ends = format!("{} {} {} {}", from.ip(), from.port(), at.ip(), at.port());
        let connection = OwnedFd::from(stream.into_std()?);
        control.serve_ssh(connection, &ends, Some(entering)).await.map_err(io::Error::other)
    };
    if let Err(error) = passed.await {
        tracing::warn!(error = %crate::chain(&error), "a connection by SSH is not served");
    }
    drop(room);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_connect_to_an_address_or_the_machine() {
        assert_eq!(host("127.0.0.1:22".parse().unwrap()), "127.0.0.1");
        assert!(!host("0.0.0.0:22".parse().unwrap()).starts_with('0'));
    }
}
