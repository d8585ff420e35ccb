//! One attempt to mount an export, and in which order attempts are made: every address of the server, for each of them the newest
//! version of the protocol first.
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::bounded::{self, Ended, Limit};
use super::error::plain;
use crate::sys::{self, Attr};

/// The name of NFS 4 as a type of file systems.
pub(super) const TYPE: &str = "nfs4";
/// Versions that are tried; 3 would need two more services of the server.
const VERSIONS: [&str; 3] = ["4.2", "4.1", "4.0"];
/// Where NFS 4 is served.
const PORT: u16 = 2049;
/// Most lines of the kernel that are told.
const MOST_LINES: usize = 8;

/// Why an attempt failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// With an error number, and what the kernel said.
    Errno(i32, Vec<String>),
    TimedOut,
    Stopped,
}

/// Makes attempts until one succeeds or nothing else is worth it. `attempt` gets address, version and its latest moment.
pub(super) fn negotiate<T>(
    addresses: &[IpAddr],
    until: Instant,
    mut attempt: impl FnMut(IpAddr, &'static str, Instant) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut first = None;
    for (index, address) in addresses.iter().enumerate() {
        // A dead address leaves time for those behind it.
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let until = now + until.saturating_duration_since(now) / left;
        match newest(*address, until, &mut attempt) {
            Err(failed) if is_of_the_address(&failed) => drop(first.get_or_insert(failed)),
            other => return other,
        }
    }
    Err(first.unwrap_or(Failed::Errno(libc::EADDRNOTAVAIL, Vec::new())))
}

/// Tries the versions at one address.
fn newest<T>(
    address: IpAddr,
    until: Instant,
    attempt: &mut impl FnMut(IpAddr, &'static str, Instant) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let mut last = None;
    for version in VERSIONS {
        match attempt(address, version, until) {
            // An old kernel does not know a new version as an option.
            Err(failed @ Failed::Errno(libc::EPROTONOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL, _)) => {
                last = Some(failed);
            }
            other => return other,
        }
    }
    Err(last.unwrap_or(Failed::TimedOut))
}

/// Whether another address of the server may do better.
fn is_of_the_address(failed: &Failed) -> bool {
    let unreachable = |errno| {
        matches!(
            errno,
            libc::ECONNREFUSED
                | libc::ETIMEDOUT
                | libc::EHOSTUNREACH
                | libc::EHOSTDOWN
                | libc::ENETUNREACH
                | libc::ECONNRESET
                | libc::EAFNOSUPPORT
                | libc::EADDRNOTAVAIL
        )
    };
    match failed {
        Failed::Errno(errno, _) => unreachable(*errno),
        Failed::TimedOut => true,
        Failed::Stopped => false,
    }
}

/// What the kernel is told. Without it, it would ask a program of its own for the address.
pub(super) fn options(
    source: &str,
    address: IpAddr,
    version: &str,
    client: Option<IpAddr>,
) -> Vec<(&'static str, String)> {
    let mut options =
        vec![("source", source.to_owned()), ("addr", address.to_string()), ("vers", version.to_owned())];
    options.extend(client.map(|client| ("clientaddr", client.to_string())));
    options
}

/// The address of this machine that the server sees; nothing is sent to find it.
pub(super) fn client(server: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if server.is_ipv4() { [0_u8; 4].into() } else { [0_u8; 16].into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((server, PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Makes one file system of `fstype` and a detached mount of it.
pub(super) fn attempt(
    fstype: &str,
    options: &[(&str, String)],
    attr: Attr,
    limit: &Limit<'_>,
) -> Result<OwnedFd, Failed> {
    let context = sys::open_context(fstype).map_err(|error| failed(&error, None))?;
    for (key, value) in options {
        sys::set_option(&context, key, value).map_err(|error| failed(&error, Some(&context)))?;
    }
    match create(&context, limit).map_err(|error| failed(&error, None))? {
        Ended::Returned(0) => {}
        Ended::Returned(errno) => {
            return Err(failed(&io::Error::from_raw_os_error(errno), Some(&context)));
        }
        // The child may still hold the context, and who reads from it would wait for that.
        Ended::TimedOut => return Err(Failed::TimedOut),
        Ended::Stopped => return Err(Failed::Stopped),
    }
    sys::mount_context(&context, attr).map_err(|error| failed(&error, Some(&context)))
}

/// Makes the file system, which is the part that waits for the server.
#[allow(unsafe_code)]
fn create(context: &OwnedFd, limit: &Limit<'_>) -> io::Result<Ended> {
    fn create(context: &OwnedFd) -> i32 {
        sys::create(context).err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO))
    }
    // SAFETY: it makes one call of the kernel.
    unsafe { bounded::call(create, context, limit) }
}

fn failed(error: &io::Error, context: Option<&OwnedFd>) -> Failed {
    let said = context.map(words).unwrap_or_default();
    Failed::Errno(error.raw_os_error().unwrap_or(libc::EIO), said)
}

/// What the kernel says about a file system that it could not make: a line a read, and an error after the last.
fn words(context: &OwnedFd) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = [0; 1024];
    while lines.len() < MOST_LINES
        && let Ok(length @ 1..) = nix::unistd::read(context.as_fd(), &mut line)
    {
        lines.extend(plain(&String::from_utf8_lossy(&line[..length])));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_mins(1);

    /// What an attempt is answered, by address and version.
    type Script<'a> = &'a [(&'a str, &'a str, i32)];

    fn run(addresses: &[&str], script: Script<'_>) -> (Result<String, Failed>, usize) {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let mut made = 0;
        let done = negotiate(&addresses, Instant::now() + LIMIT, |address, version, _| {
            made += 1;
            let scripted =
                |(a, v, _): &&(&str, &str, i32)| *a == address.to_string() && [version, "*"].contains(v);
            match script.iter().find(scripted).map_or(0, |(_, _, errno)| *errno) {
                0 => Ok(format!("{address} {version}")),
                -1 => Err(Failed::TimedOut),
                -2 => Err(Failed::Stopped),
                errno => Err(Failed::Errno(errno, Vec::new())),
            }
        });
        (done, made)
    }

    #[test]
    fn versions_and_addresses_in_order() {
        let ok = |text: &str| Ok(text.to_owned());
        let errno = |errno| Err(Failed::Errno(errno, Vec::new()));
        let check = |addresses: &[&str], script: Script<'_>, expected: (Result<String, Failed>, usize)| {
            assert_eq!(run(addresses, script), expected, "{addresses:?} {script:?}");
        };
        let one = &["10.0.0.1"];
        let two = &["::1", "10.0.0.1"];
        check(one, &[], (ok("10.0.0.1 4.2"), 1));
        check(one, &[("10.0.0.1", "4.2", libc::EPROTONOSUPPORT)], (ok("10.0.0.1 4.1"), 2));
        check(
            one,
            &[("10.0.0.1", "4.2", libc::EINVAL), ("10.0.0.1", "4.1", libc::EPROTONOSUPPORT)],
            (ok("10.0.0.1 4.0"), 3),
        );
        check(one, &[("10.0.0.1", "*", libc::EPROTONOSUPPORT)], (errno(libc::EPROTONOSUPPORT), 3));
        check(two, &[("::1", "*", libc::ECONNREFUSED)], (ok("10.0.0.1 4.2"), 2));
        check(two, &[("::1", "*", -1)], (ok("10.0.0.1 4.2"), 2));
        check(two, &[("::1", "*", libc::EACCES)], (errno(libc::EACCES), 1));
        check(two, &[("::1", "*", -2)], (Err(Failed::Stopped), 1));
        let both = &[("::1", "*", libc::ENETUNREACH), ("10.0.0.1", "*", -1)];
        check(two, both, (errno(libc::ENETUNREACH), 2));
        check(&[], &[], (errno(libc::EADDRNOTAVAIL), 0));
    }

    #[test]
    fn a_dead_address_leaves_time_for_the_next() {
        let addresses: Vec<IpAddr> = ["::1", "10.0.0.1"].iter().map(|a| a.parse().unwrap()).collect();
        let begun = Instant::now();
        let mut limits = Vec::new();
        let done: Result<(), _> = negotiate(&addresses, begun + LIMIT, |_, _, until| {
            limits.push(until.saturating_duration_since(begun));
            Err(Failed::TimedOut)
        });
        assert_eq!(done, Err(Failed::TimedOut));
        assert!(limits[0] < LIMIT * 3 / 4 && limits[1] > LIMIT * 3 / 4);
    }

    #[test]
    fn what_the_kernel_is_told() {
        let check = |address: &str, client: Option<&str>, expected: &str| {
            let parsed = |text: &str| text.parse::<IpAddr>().unwrap();
            let options = options("nas:/x y", parsed(address), "4.1", client.map(parsed));
            let text: Vec<_> = options.iter().map(|(key, value)| format!("{key}={value}")).collect();
            assert_eq!(text.join(" | "), expected);
        };
        check("10.0.0.1", None, "source=nas:/x y | addr=10.0.0.1 | vers=4.1");
        check("fd00::1", Some("fd00::2"), "source=nas:/x y | addr=fd00::1 | vers=4.1 | clientaddr=fd00::2");
        assert_eq!(client([127, 0, 0, 1].into()), Some([127, 0, 0, 1].into()));
    }

    /// The whole way of an attempt, with a file system that every kernel has.
    #[test]
    fn the_kernel_makes_what_a_child_asked_it_for() {
        let limit = Limit { until: Instant::now() + LIMIT, stop: &|| false };
        let option = |key, value: &str| [(key, value.to_owned())];
        let made = |fstype, options: &[(&str, String)]| attempt(fstype, options, Attr::READ_ONLY, &limit);
        let mount = made("tmpfs", &option("mode", "0711")).unwrap();
        assert_eq!(nix::sys::stat::fstat(&mount).unwrap().st_mode & 0o7777, 0o711);
        let flags = nix::sys::statvfs::fstatvfs(&mount).unwrap().flags();
        assert!(flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY));
        let bad = made("tmpfs", &option("size", "many")).unwrap_err();
        let said = vec!["tmpfs: Bad value for 'size'".to_owned()];
        assert_eq!(bad, Failed::Errno(libc::EINVAL, said));
        // `overlay` without layers fails where the file system is made.
        assert!(matches!(made("overlay", &[]), Err(Failed::Errno(libc::EINVAL, _))));
        assert_eq!(made("no-such-type", &[]).unwrap_err(), Failed::Errno(libc::ENODEV, Vec::new()));
    }
}
