//! One bind into a root file system. Source and target are held by descriptor from the moment they are resolved, so
//! nothing can be swapped below them.
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use vessl_data::blob::Digest;
use vessl_data::dir::{open_plain, proc_path};
use vessl_data::locked;

use super::inside::{self, Make};
use super::{Access, Bind, Merged, hidden, layer, mountinfo, overlay};
use crate::error::{StartError, os};
use crate::sys::{self, Attr, Reach};

/// What every bind gets: no set-user-id programs and no devices by way of the host's files.
pub(super) const PLAIN: Attr = Attr::NO_SUID.and(Attr::NO_DEV);

pub(crate) fn bind(merged: &Merged, bind: &Bind, owner: Option<(u32, u32)>) -> Result<(), StartError> {
    let Bind { source, target, access } = bind;
    let what = || format!("show `{}` at `{}`", source.display(), target.display());
    let mut from = open_plain(source, OFlag::O_PATH).map_err(explain_link).map_err(os(what()))?;
    if let Some(owner) = owner {
        let given =
            private_dir(merged, "owner", target).and_then(|own| layer::given(merged, &from, owner, &own));
        from = given.map_err(os(what()))?;
    }
    let make = if sys::is_dir(&from).map_err(os(what()))? { Make::Dir } else { Make::File };
    let to = inside::make(&merged.root, target, make);
    let to = to.map_err(|e| explain_kind(e, make)).map_err(os(what()))?;
    match (access, make) {
        (Access::Private, Make::Dir) => {
            show_private(merged, source, (to.as_fd(), target)).map_err(os(what()))?;
        }
        (Access::Private, Make::File) => {
            let file =
                copy(&from, &private_dir(merged, "file", target).map_err(os(what()))?).map_err(os(what()))?;
            attach(&file, &to, PLAIN).map_err(os(what()))?;
        }
        (Access::ReadOnly | Access::Shared, _) => {
            let attr = if *access == Access::ReadOnly { PLAIN.and(Attr::READ_ONLY) } else { PLAIN };
            let shown = attach(&from, &to, attr).and_then(|mount| mount_id(&mount)).map_err(os(what()))?;
            locked(&merged.binds).push(shown);
        }
    }
    hidden::cover_below(merged, source, target)
}

/// Mounts a copy of the mounts at `from` over `to`; the root of what is there then.
fn attach(from: &OwnedFd, to: &OwnedFd, attr: Attr) -> io::Result<OwnedFd> {
    let tree = sys::open_tree(from.as_fd(), Path::new(""), Reach::Tree)?;
    sys::set_attr(tree.as_fd(), attr, Reach::Tree)?;
    sys::move_mount(tree.as_fd(), to.as_fd())?;
    Ok(tree)
}

/// `dir` itself, or an empty directory of the run's own that is mounted over it if it lies in one of the binds. It is told by the
/// numbers of the mounts: links of an image give a path many names, and a directory in a bind can be moved.
pub(super) fn cover(merged: &Merged, dir: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let binds = locked(&merged.binds).clone();
    if binds.is_empty() || !is_on(mount_id(&dir)?, &binds)? {
        return Ok(dir);
    }
    let own = sys::open_path(&private_dir(merged, "cover", path)?)?;
    attach(&own, &dir, PLAIN)
}

/// Whether a mount is one of `binds` or mounted somewhere on one of them.
fn is_on(mut mount: u64, binds: &[u64]) -> io::Result<bool> {
    let all: HashMap<u64, u64> = mountinfo::read()?.into_iter().map(|one| (one.id, one.parent)).collect();
    // No chain is longer than there are mounts.
    for _ in 0..=all.len() {
        if binds.contains(&mount) {
            return Ok(true);
        }
        match all.get(&mount) {
            Some(&parent) => mount = parent,
            None => break,
        }
    }
    Ok(false)
}

/// The number of the mount that an open file is on. Source: `proc_pid_fdinfo(5)`.
pub(super) fn mount_id(file: &OwnedFd) -> io::Result<u64> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::other("the kernel does not say which mount it is on"))
}

/// Mounts an overlay over `source` at `at`.
fn show_private(merged: &Merged, source: &Path, (at, path): (BorrowedFd<'_>, &Path)) -> io::Result<()> {
    let from = open_plain(source, OFlag::O_PATH).map_err(explain_link)?;
    let lower = proc_path(&from).display().to_string();
    overlay::mount(&lower, &private_dir(merged, "over", path)?, Some(from.as_fd()), at)
}

/// A directory in `scratch/private` for this place of the container. Whoever mounts the same again finds what was there.
pub(super) fn private_dir(merged: &Merged, kind: &str, place: &Path) -> io::Result<PathBuf> {
    let base = merged.scratch.join("private");
    let place = Digest::of(place.as_os_str().as_bytes()).to_string();
    let mut taken = locked(&merged.private);
    let mut name = format!("{kind}-{}", &place[..16]);
    while taken.contains(&name) {
        name.push('+');
    }
    let dir = base.join(&name);
    std::fs::create_dir_all(&dir)?;
    taken.push(name);
    Ok(dir)
}

/// Copies a file, with mode and owner, into a directory of scratch, if it is not there.
fn copy(from: &OwnedFd, into: &Path) -> io::Result<OwnedFd> {
    let path = into.join("file");
    if path.exists() {
        return sys::open_path(&path);
    }
    let mut source = File::open(proc_path(from))?;
    let meta = source.metadata()?;
    let mut file = File::create_new(&path)?;
    io::copy(&mut source, &mut file)?;
    std::os::unix::fs::fchown(
        &file,
        Some(std::os::unix::fs::MetadataExt::uid(&meta)),
        Some(std::os::unix::fs::MetadataExt::gid(&meta)),
    )?;
    file.set_permissions(meta.permissions())?;
    sys::open_path(&path)
}

pub(super) fn explain_link(e: io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(libc::ELOOP) => io::Error::new(e.kind(), "a part of the path is a symbolic link"),
        _ => e,
    }
}

pub(super) fn explain_kind(e: io::Error, make: Make) -> io::Error {
    let says = match (e.kind(), make) {
        (io::ErrorKind::IsADirectory, Make::File) => "the source is a file, but the target is a directory",
        (io::ErrorKind::NotADirectory, Make::Dir) => {
            "the source is a directory, but the target or a parent of it is a file"
        }
        _ => return e,
    };
    io::Error::new(e.kind(), says)
}
