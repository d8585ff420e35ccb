//! Connections and listeners inside the container's network. Names are not looked up: there is no resolver here.
use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr, sockopt,
};
use nix::sys::stat::{Mode, umask};
use vessl_core::door::{Refused, Target};

use crate::account::Account;

/// Longest time for one connection.
const LIMIT: Duration = Duration::from_secs(10);

/// Why it was not done, and what kind of reason it is.
pub(crate) type No = (String, Refused);

/// A connection that is being made.
pub(crate) struct Dial {
    target: Target,
    socket: OwnedFd,
    /// Where to try next.
    others: VecDeque<SocketAddr>,
    pub(crate) until: Instant,
}

/// How far it is.
pub(crate) enum Dialed {
    Open(OwnedFd),
    Refused(No),
    Waits(Dial),
}

/// Begins to connect; to a unix socket as `own` may.
pub(crate) fn dial(target: Target, own: &Account) -> Dialed {
    let others = match &target {
        Target::Path(path) => return unix(&target, path, own),
        Target::Address(address) => VecDeque::from([*address]),
        Target::Port(port) => {
            VecDeque::from([(Ipv4Addr::LOCALHOST, *port).into(), (Ipv6Addr::LOCALHOST, *port).into()])
        }
    };
    next(target, others, Errno::ECONNREFUSED, Instant::now() + LIMIT)
}

/// Tries one address after the other; `last` is what became of the one before.
fn next(target: Target, mut others: VecDeque<SocketAddr>, mut last: Errno, until: Instant) -> Dialed {
    while let Some(address) = others.pop_front() {
        let connected = match address {
            SocketAddr::V4(address) => connect(AddressFamily::Inet, &SockaddrIn::from(address)),
            SocketAddr::V6(address) => connect(AddressFamily::Inet6, &SockaddrIn6::from(address)),
        };
        match connected {
            Ok((socket, true)) => return Dialed::Open(socket),
            Ok((socket, false)) => return Dialed::Waits(Dial { target, socket, others, until }),
            // A machine without IPv6 says nothing of the port.
            Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {}
            Err(error) => last = error,
        }
    }
    Dialed::Refused(refusal(&target, last))
}

fn unix(target: &Target, path: &str, own: &Account) -> Dialed {
    let connected = own.with_files(|| {
        let address = UnixAddr::new(path)?;
        Ok(connect(AddressFamily::Unix, &address)?)
    });
    match connected {
        Ok((socket, _)) => Dialed::Open(socket),
        Err(error) => {
            Dialed::Refused(refusal(target, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EACCES))))
        }
    }
}

/// A socket that is connected, or will be.
fn connect(family: AddressFamily, address: &impl SockaddrLike) -> nix::Result<(OwnedFd, bool)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    match socket::connect(socket.as_raw_fd(), address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::EINPROGRESS) => Ok((socket, false)),
        Err(error) => Err(error),
    }
}

fn refusal(target: &Target, error: Errno) -> No {
    match error {
        Errno::ECONNREFUSED | Errno::ENOENT => (format!("nothing listens on {target}"), Refused::Nobody),
        Errno::ETIMEDOUT => (format!("{target} does not answer"), Refused::Failed),
        error => (format!("cannot connect to {target}: {}", error.desc()), Refused::Failed),
    }
}

impl Dial {
    /// Looks how far it is.
    pub(crate) fn go_on(self) -> Dialed {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if !ready && Instant::now() >= self.until {
            return Dialed::Refused(refusal(&self.target, Errno::ETIMEDOUT));
        }
        if !ready {
            return Dialed::Waits(self);
        }
        match socket::getsockopt(&self.socket, sockopt::SocketError) {
            Ok(0) => Dialed::Open(self.socket),
            Ok(error) => next(self.target, self.others, Errno::from_raw(error), self.until),
            Err(error) => Dialed::Refused(refusal(&self.target, error)),
        }
    }
}

impl AsFd for Dial {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Listens; a unix socket and the directory that is made for it are made as `own` may.
pub(crate) fn listen(at: &Target, own: &Account) -> Result<OwnedFd, No> {
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(OwnedFd::from);
    let listener = match at {
        Target::Port(port) => tcp((Ipv4Addr::LOCALHOST, *port).into()),
        Target::Address(address) => tcp(*address),
        Target::Path(path) => own.with_files(|| listen_unix(Path::new(path))),
    };
    listener.map_err(|error| (format!("cannot listen on {at}: {error}"), Refused::Failed))
}

fn listen_unix(path: &Path) -> std::io::Result<OwnedFd> {
    if let Some(dir) = path.parent() {
        // If it is not there after this, the socket cannot be made either.
        let _ = DirBuilder::new().mode(0o700).create(dir);
    }
    // It has its mode from the begin: nothing is done by its name once it is there, which may be another's by then.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    Ok(listener?.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn finish(mut dialed: Dialed) -> Result<OwnedFd, No> {
        loop {
            match dialed {
                Dialed::Open(socket) => return Ok(socket),
                Dialed::Refused(no) => return Err(no),
                Dialed::Waits(dial) => {
                    let mut fds = [PollFd::new(dial.as_fd(), PollFlags::POLLOUT)];
                    poll(&mut fds, 1000_u16).unwrap();
                    dialed = dial.go_on();
                }
            }
        }
    }

    fn me() -> Account {
        Account::of_user(&vessl_core::account::User {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            groups: Vec::new(),
            home: "/".to_owned(),
        })
    }

    #[test]
    fn a_port_of_either_loopback_is_found() {
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        assert!(finish(dial(Target::Port(port), &me())).is_ok());
        drop(v4);
        let (why, because) = finish(dial(Target::Port(port), &me())).unwrap_err();
        assert_eq!((why, because), (format!("nothing listens on port {port}"), Refused::Nobody));
        let Ok(v6) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
        assert!(finish(dial(Target::Port(v6.local_addr().unwrap().port()), &me())).is_ok());
    }

    #[test]
    fn a_unix_socket_is_made_and_dialled_as_its_user_may() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};

        let own = Account::of_user(&vessl_core::account::User {
            uid: 1234,
            gid: 5678,
            groups: vec![5678],
            home: "/".to_owned(),
        });
        let dir = tempfile::tempdir().unwrap();
        let mode =
            |mode| std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let path = dir.path().join("s");
        let at = || Target::Path(path.to_str().unwrap().to_owned());
        mode(0o700);
        assert!(listen(&at(), &own).unwrap_err().0.contains("Permission denied"));
        mode(0o777);
        let listener = listen(&at(), &own).unwrap();
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.gid(), about.mode() & 0o777), (1234, 5678, 0o600));
        assert!(finish(dial(at(), &own)).is_ok());
        drop(listener);
        // A socket of root's is not reached.
        std::fs::remove_file(&path).unwrap();
        let _listener = listen(&at(), &me()).unwrap();
        assert!(finish(dial(at(), &own)).unwrap_err().0.contains("Permission denied"));
        let again = std::fs::File::create(dir.path().join("mine")).unwrap();
        assert_eq!(again.metadata().unwrap().uid(), 0, "this process is who it was");
    }

    #[test]
    fn a_unix_socket_is_made_with_its_directory_and_dialled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/s").to_str().unwrap().to_owned();
        let (why, because) = finish(dial(Target::Path(path.clone()), &me())).unwrap_err();
        assert_eq!((why, because), (format!("nothing listens on `{path}`"), Refused::Nobody));
        let listener = UnixListener::from(listen(&Target::Path(path.clone()), &me()).unwrap());
        let dialled = UnixStream::from(finish(dial(Target::Path(path.clone()), &me())).unwrap());
        assert!(listener.accept().is_ok());
        drop(dialled);
        assert!(listen(&Target::Path(path), &me()).unwrap_err().0.contains("in use"));
    }
}
