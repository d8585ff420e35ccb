//! The agent's end of the socket to init.
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vessl_core::frame::{self, Frames};
use vessl_core::record::{InitAsk, InitConfig, InitReport};

/// Init does nothing but read when it is spoken to; if it does not, it is broken.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// The socket to one init.
#[derive(Debug)]
pub(crate) struct Link {
    socket: UnixStream,
    frames: Frames,
}

impl Link {
    /// A new pair: ours, and init's descriptor 3.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(SEND_LIMIT))?;
        Ok((Self { socket: ours, frames: Frames::default() }, theirs.into()))
    }

    /// Sends the order and stops waiting in reads from here on.
    pub(crate) fn send_config(&mut self, order: &InitConfig) -> io::Result<()> {
        self.send(&frame::encode(order).map_err(io::Error::other)?)?;
        self.socket.set_nonblocking(true)
    }

    /// Asks something. An init that is gone is seen by its end, not here.
    pub(crate) fn ask(&mut self, ask: &InitAsk) {
        if let Ok(bytes) = frame::encode(ask) {
            let _ = self.send(&bytes);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Everything that has arrived. The second part is true once init has closed its end.
    pub(crate) fn reports(&mut self) -> (Vec<InitReport>, bool) {
        let closed = self.fill();
        let mut reports = Vec::new();
        loop {
            match self.frames.pop() {
                Ok(Some(report)) => reports.push(report),
                Ok(None) => return (reports, closed),
                // Not our init; its end tells the rest.
                Err(_) => return (reports, true),
            }
        }
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 8192];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return true,
                Ok(n) => self.frames.push(&bytes[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
