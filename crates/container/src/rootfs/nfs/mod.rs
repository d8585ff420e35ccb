//! Mounts of NFS 4 exports by the kernel's client, without a program beside it: the name of the server is looked up here. It must
//! not know whose run wants it.
//!
//! ```text
//! name ─► addresses ─► for each: 4.2, 4.1, 4.0 ─► options ─► a child makes the file system (killed when the time is over)
//!      ─► detached mount ─► attached in a root file system, or read below its descriptor
//! ```
//! A mount that is attached nowhere goes with its descriptor, an attached one with the mount namespace of the agent.
mod attempt;
mod bounded;
mod error;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use vessl_data::dir::Dir;
use vessl_data::locked;

use super::inside::{self, Make};
use super::{Merged, bind};
use crate::error::{StartError, os};
use crate::sys::{self, Attr};
use crate::threads::ThreadGroup;
use crate::userns;
use attempt::Failed;
use bounded::{Ended, Limit};

pub use error::NfsError;

/// How long a server is usually waited for.
pub const LIMIT: Duration = Duration::from_secs(20);

/// A directory that a server exports; as text `nfs://server/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// Name or address; one of version 6 without brackets.
    server: String,
    /// Absolute.
    path: String,
}

/// Who may write to a mounted export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NfsAccess {
    /// Nobody on this machine.
    ReadOnly,
    /// Whom the server lets.
    ReadWrite,
}

/// A mounted export that is attached nowhere yet. It goes when this is dropped.
#[derive(Debug)]
pub struct NfsMount(OwnedFd);

/// How long a server is waited for.
#[derive(Clone, Copy)]
pub struct Patience<'a> {
    /// The longest time, usually [`LIMIT`].
    pub limit: Duration,
    /// Whether the caller wants no more; asked ten times a second.
    pub stop: &'a dyn Fn() -> bool,
}

impl Export {
    /// `server` is a name or an address, in brackets or not; `path` is absolute, without `..`.
    pub fn new(server: &str, path: &str) -> Result<Self, NfsError> {
        let bare = server.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(server);
        let bad = |text: &str, why| Err(NfsError::Bad { text: text.to_owned(), why });
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let is_v6 = bare.parse::<Ipv6Addr>().is_ok();
        if bare.is_empty() || bare.starts_with('-') || !(is_v6 || bare.chars().all(is_name)) {
            return bad(server, "its server is not the name or address of one");
        }
        if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return bad(path, "its path is not absolute, or has `..` in it");
        }
        if path.chars().any(char::is_control) {
            return bad(server, "its path has control characters");
        }
        Ok(Self { server: bare.to_owned(), path: path.to_owned() })
    }

    /// Mounts it. Blocking, but never longer than the patience allows; the work with the server is done in a child process, which
    /// has ended when this returns if the kernel lets go of it.
    pub fn mount(&self, access: NfsAccess, patience: &Patience<'_>) -> Result<NfsMount, NfsError> {
        // This tells a kernel without a client at once, and loads the module of one that has it.
        drop(sys::open_context(attempt::TYPE).map_err(|error| self.unmade(error))?);
        if !may_mount() {
            return Err(NfsError::NotAllowed(self.to_string()));
        }
        let limit = Limit { until: Instant::now() + patience.limit, stop: patience.stop };
        let addresses = self.addresses(&limit, patience)?;
        let attr = Attr::NO_SUID.and(Attr::NO_DEV);
        let attr = if access == NfsAccess::ReadOnly { attr.and(Attr::READ_ONLY) } else { attr };
        let source = self.source();
        let mounted = attempt::negotiate(&addresses, limit.until, |address, version, until| {
            let options = attempt::options(&source, address, version, attempt::client(address));
            attempt::attempt(attempt::TYPE, &options, attr, &Limit { until, ..limit })
        });
        mounted.map(NfsMount).map_err(|failed| self.failed(failed, patience))
    }

    /// As the kernel wants it.
    fn source(&self) -> String {
        if self.server.contains(':') {
            return format!("[{}]:{}", self.server, self.path);
        }
        format!("{}:{}", self.server, self.path)
    }

    /// Looks the name of the server up, in a thread of its own that is left alone if it takes too long.
    fn addresses(&self, limit: &Limit<'_>, patience: &Patience<'_>) -> Result<Vec<IpAddr>, NfsError> {
        if let Ok(address) = self.server.parse() {
            return Ok(vec![address]);
        }
        let unknown = |said: String| NfsError::NoAddress { url: self.to_string(), said };
        let (found, looked_up) = channel();
        let group = Arc::new(ThreadGroup::default());
        // One that is left alone must not be waited for.
        let (server, entered) = (self.server.clone(), Arc::downgrade(&group));
        let thread = std::thread::Builder::new().name("nfs-name".to_owned()).spawn(move || {
            if let Some(group) = entered.upgrade() {
                group.enter();
            }
            let _ = found.send((server.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        });
        let thread = thread.map_err(|source| {
            let what = "start a thread to look its server up";
            NfsError::Os { url: self.to_string(), what, source }
        })?;
        let answer = limit.wait(|tick| match looked_up.recv_timeout(tick) {
            Err(RecvTimeoutError::Timeout) => None,
            answer => Some(answer),
        });
        let answer = answer.map_err(|ended| match ended {
            Ended::Stopped => NfsError::Stopped,
            _ => unknown(format!("nobody told it within {} s", patience.limit.as_secs())),
        })?;
        // It has answered, so it ends at once; the group sees to it that it is gone.
        let _ = thread.join();
        let addresses = answer.map_err(io::Error::other).and_then(|found| found);
        let addresses = addresses.map_err(|error| unknown(error.to_string()))?;
        let mut known: Vec<IpAddr> = Vec::new();
        for address in addresses.iter().map(std::net::SocketAddr::ip) {
            if !known.contains(&address) {
                known.push(address);
            }
        }
        Ok(known)
    }

    /// Why the kernel does not even begin.
    fn unmade(&self, source: io::Error) -> NfsError {
        let url = self.to_string();
        match source.raw_os_error() {
            Some(libc::ENODEV) => NfsError::NoClient(url),
            Some(libc::EPERM) => NfsError::NotAllowed(url),
            _ => NfsError::Os { url, what: "begin a mount", source },
        }
    }

    fn failed(&self, failed: Failed, patience: &Patience<'_>) -> NfsError {
        let url = self.to_string();
        match failed {
            Failed::Errno(libc::ENODEV, _) => NfsError::NoClient(url),
            Failed::Errno(errno, said) => NfsError::Refused { url, why: error::meaning(errno), said },
            Failed::TimedOut => NfsError::TimedOut { url, within: patience.limit },
            Failed::Stopped => NfsError::Stopped,
        }
    }
}

/// Whether this process is root of the machine itself: no user namespace can mount NFS.
fn may_mount() -> bool {
    !userns::is_inside() && sys::permitted().is_ok_and(|bits| bits & (1 << sys::CAP_SYS_ADMIN) != 0)
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, path } = self;
        if server.contains(':') {
            write!(f, "nfs://[{server}]{path}")
        } else {
            write!(f, "nfs://{server}{path}")
        }
    }
}

impl NfsMount {
    /// Its directory, to read or write below it while this lives.
    pub fn dir(&self) -> io::Result<Dir> {
        Dir::from(self.0.try_clone()?).dir(Path::new(""))
    }
}

impl Merged {
    /// Attaches an export at `target`, a path in the container, which is made if it is missing. Others may change what is in it.
    pub fn show_nfs(&self, mount: &NfsMount, target: &Path) -> Result<(), StartError> {
        let what = || format!("show an NFS export at `{}`", target.display());
        let to = inside::make(&self.root, target, Make::Dir);
        let to = to.map_err(|e| bind::explain_kind(e, Make::Dir)).map_err(os(what()))?;
        sys::move_mount(mount.0.as_fd(), to.as_fd()).map_err(os(what()))?;
        let shown = bind::mount_id(&mount.0).map_err(os(what()))?;
        locked(&self.binds).push(shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: Patience<'static> = Patience { limit: LIMIT, stop: &|| false };

    #[test]
    fn what_an_export_is_called() {
        let check = |server: &str, path: &str, expected: Result<(&str, &str), &str>| {
            let found = Export::new(server, path).map(|export| (export.to_string(), export.source()));
            match (found, expected) {
                (Ok(found), Ok((url, source))) => assert_eq!(found, (url.to_owned(), source.to_owned())),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (other, _) => panic!("{server} {path}: {other:?}"),
            }
        };
        check("nas.local", "/export/a b", Ok(("nfs://nas.local/export/a b", "nas.local:/export/a b")));
        check("10.0.0.1", "/", Ok(("nfs://10.0.0.1/", "10.0.0.1:/")));
        check("[fd00::1]", "/x", Ok(("nfs://[fd00::1]/x", "[fd00::1]:/x")));
        check("fd00::1", "/x", Ok(("nfs://[fd00::1]/x", "[fd00::1]:/x")));
        for server in ["", "-o", "a:/b", "a b", "a,b", "[x]y"] {
            check(server, "/x", Err("the name or address"));
        }
        check("h", "x", Err("not absolute"));
        check("h", "/a/../b", Err("`..` in it"));
        check("h", "/a\nb", Err("control characters"));
    }

    fn addresses(server: &str, patience: &Patience<'_>) -> Result<Vec<IpAddr>, NfsError> {
        let limit = Limit { until: Instant::now() + patience.limit, stop: patience.stop };
        Export::new(server, "/x").unwrap().addresses(&limit, patience)
    }

    #[test]
    fn names_are_looked_up_in_time() {
        assert_eq!(addresses("::1", &NEVER).unwrap(), [IpAddr::from(Ipv6Addr::LOCALHOST)]);
        let local = addresses("localhost", &NEVER).unwrap();
        assert!(!local.is_empty() && local.iter().all(IpAddr::is_loopback), "{local:?}");
        // A name server that does not answer is silence.
        let short = Patience { limit: Duration::from_secs(1), ..NEVER };
        let said = addresses("no-such-host.invalid", &short).unwrap_err().to_string();
        let expected =
            "`nfs://no-such-host.invalid/x` cannot be mounted: the name of the server has no address (";
        assert!(said.starts_with(expected), "{said}");
        let stopped = Patience { stop: &|| true, ..NEVER };
        assert!(matches!(addresses("localhost", &stopped), Err(NfsError::Stopped)));
    }

    #[test]
    fn a_mount_that_cannot_be_is_said() {
        let export = Export::new("127.0.0.1", "/x").unwrap();
        let error = export.mount(NfsAccess::ReadOnly, &NEVER).unwrap_err();
        let said = error.to_string();
        let expected = match sys::open_context(attempt::TYPE).map_err(|e| e.raw_os_error()) {
            Err(Some(libc::ENODEV)) => {
                "this machine's kernel has no NFS client (`nfs` module), so `nfs://127.0.0.1/x` cannot be mounted"
            }
            Err(Some(libc::EPERM)) => {
                "`nfs://127.0.0.1/x` cannot be mounted: only root of the machine may mount NFS"
            }
            _ => "`nfs://127.0.0.1/x` cannot be mounted: ",
        };
        assert!(said.starts_with(expected), "{said}");
    }

    /// Another file system stands for the export; its mount is as detached.
    #[test]
    fn an_export_is_read_below_its_descriptor_and_shown_in_a_root() {
        let (nothing, flags) = (None::<&str>, nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE);
        // For this thread alone.
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        nix::mount::mount(nothing, "/", nothing, flags, nothing).unwrap();
        let mount = NfsMount(sys::new_mount("tmpfs", &[], Attr::NO_SUID).unwrap());
        let inside = mount.dir().unwrap();
        drop(inside.create_file(Path::new("there"), 0o644).unwrap());
        let temp = tempfile::tempdir().unwrap();
        let root = Dir::open(temp.path()).unwrap();
        let (path, scratch) = (temp.path().to_owned(), temp.path().join("scratch"));
        let (binds, private) = Default::default();
        let merged = Merged { path, root, scratch, hidden: Vec::new(), binds, private };
        std::fs::write(temp.path().join("file"), "").unwrap();
        let said = merged.show_nfs(&mount, Path::new("/file")).unwrap_err().to_string();
        assert!(said.contains("show an NFS export at `/file`: the source is a directory, but"), "{said}");
        merged.show_nfs(&mount, Path::new("/a/b")).unwrap();
        assert_eq!(locked(&merged.binds).len(), 1);
        drop((mount, inside));
        assert!(temp.path().join("a/b/there").exists());
        nix::mount::umount(&temp.path().join("a/b")).unwrap();
        assert!(!temp.path().join("a/b/there").exists());
    }

    #[test]
    fn how_an_attempt_ended_in_words() {
        let export = Export::new("nas", "/x").unwrap();
        let check = |failed: Failed, expected: &str| {
            assert_eq!(export.failed(failed, &NEVER).to_string(), expected);
        };
        check(Failed::TimedOut, "`nfs://nas/x` cannot be mounted: the server did not answer within 20 s");
        check(Failed::Stopped, "stopped");
        check(
            Failed::Errno(libc::ECONNREFUSED, Vec::new()),
            "`nfs://nas/x` cannot be mounted: nothing serves NFS there (port 2049)",
        );
    }
}
