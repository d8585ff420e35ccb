//! `control.sock`: who may reach the run directory may ask its agent to stop, for what a program needs beside the commands, and for a line in the log. One JSON line in, one JSON line out. A socket
//! that somebody removed is made anew on SIGHUP.
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use vessl_core::door::Surroundings;
use vessl_core::record::{Control, ControlReply, EventKind};

use crate::machine::boot::Process;
use crate::record::run_dir::{DirError, RunDir, remove_any};

/// Longest request, in bytes.
const LONGEST: usize = 64 * 1024;
/// Longest time for the answer to one.
const WRITE_LIMIT: Duration = Duration::from_secs(1);
/// Most connections at a time.
const MOST: usize = 64;

/// The socket and its connections.
#[derive(Debug)]
pub(crate) struct ControlSocket {
    /// Where the socket is.
    dir: OwnedFd,
    listener: UnixListener,
    /// Of the listener.
    token: u64,
    open: BTreeMap<u64, Connection>,
    /// Tokens from here on are connections.
    next: u64,
    /// Of the container, while there is one.
    pub(crate) surroundings: Option<Surroundings>,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    line: Vec<u8>,
}

impl ControlSocket {
    /// Listens in `dir`, and on `epoll` as `token`; connections take the tokens after it.
    pub(crate) fn listen(dir: &RunDir, epoll: &Epoll, token: u64) -> io::Result<Self> {
        let dir = dir.as_fd().try_clone_to_owned()?;
        let listener = listener(&dir, epoll, token)?;
        Ok(Self { dir, listener, token, open: BTreeMap::new(), next: token + 1, surroundings: None })
    }

    /// Listens in the same place anew.
    pub(crate) fn renew(&mut self, epoll: &Epoll) -> io::Result<()> {
        self.listener = listener(&self.dir, epoll, self.token)?;
        Ok(())
    }

    /// Takes in what waits at the listener.
    pub(crate) fn accept(&mut self, epoll: &Epoll) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.open.len() >= MOST || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let event = EpollEvent::new(EpollFlags::EPOLLIN, self.next);
            if epoll.add(&stream, event).is_ok() {
                self.open.insert(self.next, Connection { stream, line: Vec::new() });
                self.next += 1;
            }
        }
    }

    /// The run directory.
    pub(crate) fn dir(&self) -> io::Result<OwnedFd> {
        self.dir.try_clone()
    }

    /// Answers what has arrived on connection `token`, and returns the requests.
    pub(crate) fn serve(&mut self, token: u64) -> Vec<Control> {
        let Some(connection) = self.open.get_mut(&token) else {
            return Vec::new();
        };
        let mut asked = Vec::new();
        if connection.serve(&mut asked, self.surroundings.as_ref()).is_break() {
            // Closing it takes it from the epoll as well.
            self.open.remove(&token);
        }
        asked
    }
}

fn listener(dir: &OwnedFd, epoll: &Epoll, token: u64) -> io::Result<UnixListener> {
    // The address of a socket has 108 bytes; a run directory may be deeper than that.
    let address = PathBuf::from(format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd()));
    remove_any(&address)?;
    let listener = UnixListener::bind(&address)?;
    std::fs::set_permissions(&address, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
    Ok(listener)
}

/// Tells the agent that works in `dir` to listen anew; false if there is none.
pub(crate) fn renew(dir: &RunDir) -> Result<bool, RenewError> {
    for event in dir.events()? {
        if let EventKind::Started { pid, start_time, .. } = event.what
            && (Process { pid, start_time }).lives()?
        {
            kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(io::Error::from)?;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why an agent could not be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RenewError {
    /// The run directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// Its process cannot be looked at or told.
    #[error("cannot tell the agent to listen anew: {0}")]
    Process(#[from] io::Error),
}

impl Connection {
    fn serve(
        &mut self,
        asked: &mut Vec<Control>,
        surroundings: Option<&Surroundings>,
    ) -> std::ops::ControlFlow<()> {
        use std::ops::ControlFlow::{Break, Continue};
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Break(()),
                Ok(n) => self.line.extend_from_slice(&bytes[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Continue(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Break(()),
            }
            while let Some(end) = memchr::memchr(b'\n', &self.line) {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                if self.answer(&line, asked, surroundings).is_err() {
                    return Break(());
                }
            }
            if self.line.len() > LONGEST {
                return Break(());
            }
        }
    }

    fn answer(
        &mut self,
        line: &[u8],
        asked: &mut Vec<Control>,
        surroundings: Option<&Surroundings>,
    ) -> io::Result<()> {
        let yes = ControlReply { ok: true, ..ControlReply::default() };
        let no = |error| ControlReply { error: Some(error), ..ControlReply::default() };
        let reply = match serde_json::from_slice(line) {
            Ok(Control::Surroundings) => match surroundings {
                Some(found) => ControlReply { surroundings: Some(found.clone()), ..yes },
                None => no("it has no container now".to_owned()),
            },
            Ok(request) => {
                asked.push(request);
                yes
            }
            Err(error) => no(format!("not a request: {error}")),
        };
        let mut text = serde_json::to_vec(&reply)?;
        text.push(b'\n');
        // An answer may be larger than what a socket takes at once; who does not read it is not waited for long.
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(WRITE_LIMIT))?;
        self.stream.write_all(&text)?;
        self.stream.set_nonblocking(true)
    }
}
