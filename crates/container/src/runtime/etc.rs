//! The three files of `/etc` that belong to the machine and not to the image: host name, hosts, resolver. The container resolves as the
//! host does; from a network of its own it reaches no resolver at the host's loopback address, but those that stand behind it. Its own
//! name resolves to a loopback address.
use std::io;
use std::net::IpAddr;
use std::path::Path;

use vessl_data::dir::{Dir, proc_path};

use super::show;
use crate::error::{StartError, os};
use crate::rootfs::inside::{self, Make};
use crate::sys::{self, Attr};

/// Where systemd-resolved, which answers at 127.0.0.53, says whom it asks itself.
const UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Writes private copies to `own` and binds them into the root file system.
pub(crate) fn provide(
    root: &Dir,
    own: &Dir,
    (hostname, has_network): (&str, bool),
) -> Result<(), StartError> {
    let host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let resolv = host("/etc/resolv.conf");
    let files = [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts(&host("/etc/hosts"), hostname)),
        ("resolv.conf", if has_network { resolver(&resolv, &host(UPSTREAM)) } else { resolv }),
    ];
    for (name, text) in files {
        let copy = proc_path(own).join(name);
        std::fs::write(&copy, text).map_err(os(format!("write the container's `{name}`")))?;
        match bind(root, &copy, &Path::new("/etc").join(name)) {
            // Rootless, the host's `/etc` cannot be added to; its own file is then the best there is.
            Err(e)
                if matches!(
                    e.raw_os_error(),
                    Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EOVERFLOW)
                ) => {}
            other => other.map_err(os(format!("provide `/etc/{name}` in the container")))?,
        }
    }
    Ok(())
}

fn bind(root: &Dir, copy: &Path, target: &Path) -> io::Result<()> {
    let place = inside::make(root, target, Make::File)?;
    show(&sys::open_path(copy)?, &place, Attr::NO_SUID.and(Attr::NO_DEV))
}

/// A text like `/etc/resolv.conf` for who does not reach the host's loopback address.
fn resolver(host: &str, upstream: &str) -> String {
    let servers = |text: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver"))
            .map(|rest| rest.trim().to_owned())
            .collect::<Vec<_>>()
    };
    let is_local = |server: &String| server.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if !servers(host).iter().any(is_local) {
        return host.to_owned();
    }
    let reached = servers(upstream).iter().any(|server| !is_local(server));
    let text = if reached { upstream } else { host };
    let kept = text.lines().filter(|line| {
        line.trim().strip_prefix("nameserver").is_none_or(|server| !is_local(&server.trim().to_owned()))
    });
    kept.fold(String::new(), |text, line| text + line + "\n")
}

/// The host's table with a row for `hostname`, if it has none.
fn hosts(host: &str, hostname: &str) -> String {
    let plain = host.lines().map(|line| line.split('#').next().unwrap_or_default());
    let known = plain.clone().any(|line| line.split_whitespace().skip(1).any(|name| name == hostname));
    let local = plain.clone().any(|line| line.split_whitespace().skip(1).any(|name| name == "localhost"));
    let mut text = host.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    if !local {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    if !known && !hostname.is_empty() {
        text.push_str("127.0.1.1\t");
        text.push_str(hostname);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_at_the_loopback_address_gives_way_to_those_behind_it() {
        let stub = "nameserver 127.0.0.53\noptions edns0\nsearch lab\n";
        let upstream = "nameserver 10.0.0.2\nnameserver ::1\nsearch lab\n";
        let check =
            |host, upstream, expected: &str| assert_eq!(resolver(host, upstream), expected, "{host:?}");
        check(stub, upstream, "nameserver 10.0.0.2\nsearch lab\n");
        check(stub, "", "options edns0\nsearch lab\n");
        check(stub, "nameserver 127.0.0.1\n", "options edns0\nsearch lab\n");
        check("nameserver 10.0.0.1\n", upstream, "nameserver 10.0.0.1\n");
        check("nameserver 127.0.0.1\nnameserver 1.1.1.1\n", "", "nameserver 1.1.1.1\n");
    }

    #[test]
    fn the_own_name_and_localhost_resolve() {
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        let check = |host, expected: &str| assert_eq!(hosts(host, "box"), expected, "{host:?}");
        check("", &format!("{local}127.0.1.1\tbox\n"));
        check("127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tbox\n");
        check("127.0.0.1 localhost\n10.0.0.1 x box # me\n", "127.0.0.1 localhost\n10.0.0.1 x box # me\n");
        check("127.0.0.1 localhost # box\n", "127.0.0.1 localhost # box\n127.0.1.1\tbox\n");
    }
}
