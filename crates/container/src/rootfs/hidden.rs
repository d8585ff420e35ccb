//! What must never be seen in a container: found under every name that a mount of this host gives it, and covered by an
//! empty read-only tmpfs (a file by an empty file).
//!
//! A directory is a part of a file system; each mount that shows that part shows the directory, so both `/var/x` and
//! `/mnt/all/var/x` are covered when `/mnt/all` is a bind of `/`. Hard links are not followed.
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::Merged;
use super::inside::{self, Make};
use super::mountinfo::{self, MountEntry};
use crate::error::{StartError, os};
use crate::sys::{self, Attr, Reach};

const SEALED: Attr = Attr::READ_ONLY.and(Attr::NO_SUID).and(Attr::NO_DEV).and(Attr::NO_EXEC);

/// Every host path under which one of `hidden` can be seen.
pub(crate) fn places(hidden: &[PathBuf]) -> Result<Vec<PathBuf>, StartError> {
    if hidden.is_empty() {
        return Ok(Vec::new());
    }
    let mounts = mountinfo::read().map_err(os("read the mounts of the host"))?;
    let mut found = Vec::new();
    for path in hidden {
        let real = match canonical(path) {
            Err(e) if leads_nowhere(&e) => continue,
            Ok(root) if root == Path::new("/") => Err(io::Error::other("it is `/`")),
            other => other,
        };
        let real = real.map_err(os(format!("find `{}`, which must stay hidden", path.display())))?;
        found.extend(places_of(&real, &mounts));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// The canonical form of a path of which the last parts may not exist yet.
fn canonical(path: &Path) -> io::Result<PathBuf> {
    match (std::fs::canonicalize(path), path.parent(), path.file_name()) {
        (Err(e), Some(parent), Some(name)) if e.kind() == io::ErrorKind::NotFound => {
            Ok(canonical(parent)?.join(name))
        }
        (other, ..) => other,
    }
}

/// Whether nothing can be seen under a path, now or later, by anybody.
fn leads_nowhere(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR))
}

fn places_of(path: &Path, mounts: &[MountEntry]) -> Vec<PathBuf> {
    // What is hidden, as parts of file systems: the path itself, and what is mounted below it.
    let holders = mounts.iter().filter(|m| path.starts_with(&m.point));
    let holder = holders.max_by_key(|m| m.point.components().count());
    let own = holder.and_then(|m| Some((&m.device, join(&m.root, path.strip_prefix(&m.point).ok()?))));
    let below = mounts.iter().filter(|m| m.point != path && m.point.starts_with(path));
    let parts: Vec<_> = own.into_iter().chain(below.map(|m| (&m.device, m.root.clone()))).collect();
    let shown = |mount: &MountEntry, part: &Path| match part.strip_prefix(&mount.root) {
        Ok(rest) => Some(join(&mount.point, rest)),
        Err(_) if mount.root.starts_with(part) => Some(mount.point.clone()),
        Err(_) => None,
    };
    let same = |mount: &MountEntry| {
        parts.iter().filter(|(device, _)| **device == mount.device).cloned().collect::<Vec<_>>()
    };
    let found = mounts
        .iter()
        .flat_map(|m| same(m).into_iter().filter_map(|(_, part)| shown(m, &part)).collect::<Vec<_>>());
    found.chain([path.to_owned()]).filter(|place| place != Path::new("/")).collect()
}

fn join(base: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { base.to_owned() } else { base.join(rest) }
}

/// Covers every hidden place of a root that shows the host.
pub(crate) fn cover_all(merged: &Merged) -> Result<(), StartError> {
    let covered = |place: &Path| merged.hidden.iter().any(|other| place != other && place.starts_with(other));
    for place in merged.hidden.iter().filter(|place| !covered(place)) {
        let make = if place.is_dir() || !place.exists() { Make::Dir } else { Make::File };
        let target = match inside::make(&merged.root, place, make) {
            // What cannot be made by us now cannot come into being below us later either.
            Err(e) if is_unreachable(&e) && !place.exists() => continue,
            other => other.map_err(os(format!("hide `{}`", place.display())))?,
        };
        cover(merged, target.as_fd(), make).map_err(os(format!("hide `{}`", place.display())))?;
    }
    Ok(())
}

fn is_unreachable(e: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(e.kind(), Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::NotADirectory)
        || e.raw_os_error() == Some(libc::EOVERFLOW)
}

/// Covers the hidden places strictly below a bound `source` at their place below `target`.
pub(crate) fn cover_below(merged: &Merged, source: &Path, target: &Path) -> Result<(), StartError> {
    for place in merged.hidden.iter().filter(|place| *place != source) {
        let Ok(rest) = place.strip_prefix(source) else { continue };
        let what = || format!("hide `{}` below `{}`", place.display(), target.display());
        let Some(shown) = inside::open(&merged.root, &target.join(rest)).map_err(os(what()))? else {
            continue;
        };
        let make = if sys::is_dir(&shown).map_err(os(what()))? { Make::Dir } else { Make::File };
        cover(merged, shown.as_fd(), make).map_err(os(what()))?;
    }
    Ok(())
}

fn cover(merged: &Merged, target: BorrowedFd<'_>, make: Make) -> io::Result<()> {
    let mount = match make {
        Make::Dir => sys::new_mount("tmpfs", &[("size", Some("4k")), ("mode", Some("0555"))], SEALED)?,
        Make::File => {
            let empty = merged.scratch.join("empty");
            std::fs::File::create(&empty)?;
            let tree = sys::open_tree(sys::open_path(&empty)?.as_fd(), Path::new(""), Reach::One)?;
            sys::set_attr(tree.as_fd(), SEALED, Reach::One)?;
            tree
        }
    };
    sys::move_mount(mount.as_fd(), target)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /home rw - ext4 /dev/sda2 rw\n\
        3 1 8:1 / /mnt/all rw - ext4 /dev/sda1 rw\n\
        4 1 8:1 /srv/d /data rw - ext4 /dev/sda1 rw\n\
        5 1 8:1 /srv/d/v/x /peek rw - ext4 /dev/sda1 rw\n\
        6 2 8:3 / /home/u/big rw - ext4 /dev/sda3 rw\n\
        7 1 8:3 / /media/big rw - ext4 /dev/sda3 rw\n";

    #[test]
    fn a_hidden_path_is_found_under_every_name() {
        let check = |path: &str, expected: &[&str]| {
            let mut found = places_of(Path::new(path), &mountinfo::parse(MOUNTS));
            found.sort();
            found.dedup();
            assert_eq!(found, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{path}");
        };
        check("/var/x", &["/mnt/all/var/x", "/var/x"]);
        check("/home/v", &["/home/v"]);
        check("/data/v", &["/data/v", "/mnt/all/srv/d/v", "/peek", "/srv/d/v"]);
        check("/srv/d", &["/data", "/mnt/all/srv/d", "/peek", "/srv/d"]);
        check("/peek/k", &["/data/v/x/k", "/mnt/all/srv/d/v/x/k", "/peek/k", "/srv/d/v/x/k"]);
        check("/home/u", &["/home/u", "/home/u/big", "/media/big"]);
    }
}
