//! The three files of `/etc` that belong to the machine and not to the image: host name, hosts, resolver. The container
//! shares the host's network, so it resolves as the host does; its own name resolves to a loopback address.
use std::io;
use std::path::Path;

use vessl_data::dir::{Dir, proc_path};

use super::show;
use crate::error::{StartError, os};
use crate::rootfs::inside::{self, Make};
use crate::sys::{self, Attr};

/// Writes private copies to `own` and binds them into the root file system.
pub(crate) fn provide(root: &Dir, own: &Dir, hostname: &str) -> Result<(), StartError> {
    let host = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let files = [
        ("hostname", format!("{hostname}\n")),
        ("hosts", hosts(&host("/etc/hosts"), hostname)),
        ("resolv.conf", host("/etc/resolv.conf")),
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
    fn the_own_name_and_localhost_resolve() {
        let local = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        let check = |host, expected: &str| assert_eq!(hosts(host, "box"), expected, "{host:?}");
        check("", &format!("{local}127.0.1.1\tbox\n"));
        check("127.0.0.1 localhost", "127.0.0.1 localhost\n127.0.1.1\tbox\n");
        check("127.0.0.1 localhost\n10.0.0.1 x box # me\n", "127.0.0.1 localhost\n10.0.0.1 x box # me\n");
        check("127.0.0.1 localhost # box\n", "127.0.0.1 localhost # box\n127.0.1.1\tbox\n");
    }
}
