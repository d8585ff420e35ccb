//! One bind into a root file system. Source and target are held by descriptor from the moment they are resolved, so
//! nothing can be swapped below them.
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::inside::{self, Make, proc_path};
use super::{Access, Bind, Merged, hidden, overlay};
use crate::runtime::{StartError, os};
use crate::sys::{self, Attr, Reach};

/// What every bind gets: no set-user-id programs and no devices by way of the host's files.
const PLAIN: Attr = Attr::NO_SUID.and(Attr::NO_DEV);

pub(crate) fn bind(merged: &Merged, bind: &Bind) -> Result<(), StartError> {
    let Bind { source, target, access } = bind;
    let what = || format!("show `{}` at `{}`", source.display(), target.display());
    let from = sys::open_plain(source, OFlag::O_PATH).map_err(explain_link).map_err(os(what()))?;
    let make = if sys::is_dir(&from).map_err(os(what()))? { Make::Dir } else { Make::File };
    let to = inside::make(merged.root.as_fd(), target, make);
    let to = to.map_err(|e| explain_kind(e, make)).map_err(os(what()))?;
    match (access, make) {
        (Access::Private, Make::Dir) => {
            let lower = proc_path(from.as_fd()).display().to_string();
            let private = private_dir(&merged.scratch).map_err(os(what()))?;
            overlay::mount(&lower, &private, Some(from.as_fd()), to.as_fd()).map_err(os(what()))?;
        }
        (Access::Private, Make::File) => {
            attach(&copy(&from, &merged.scratch).map_err(os(what()))?, &to, PLAIN).map_err(os(what()))?;
        }
        (Access::ReadOnly, _) => attach(&from, &to, PLAIN.and(Attr::READ_ONLY)).map_err(os(what()))?,
        (Access::Shared, _) => attach(&from, &to, PLAIN).map_err(os(what()))?,
    }
    hidden::cover_below(merged, source, target)
}

/// Mounts a copy of the mounts at `from` over `to`.
fn attach(from: &OwnedFd, to: &OwnedFd, attr: Attr) -> io::Result<()> {
    let tree = sys::open_tree(from.as_fd(), Path::new(""), Reach::Tree)?;
    sys::set_attr(tree.as_fd(), attr, Reach::Tree)?;
    sys::move_mount(tree.as_fd(), to.as_fd())
}

/// A fresh directory `scratch/private/N`.
pub(super) fn private_dir(scratch: &Path) -> io::Result<PathBuf> {
    let base = scratch.join("private");
    std::fs::create_dir_all(&base)?;
    for number in 0u32.. {
        let dir = base.join(number.to_string());
        match std::fs::create_dir(&dir) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other.map(|()| dir),
        }
    }
    Err(io::Error::from(io::ErrorKind::StorageFull))
}

/// Copies a file, with mode and owner, into scratch.
fn copy(from: &OwnedFd, scratch: &Path) -> io::Result<OwnedFd> {
    let path = private_dir(scratch)?.join("file");
    let mut source = File::open(proc_path(from.as_fd()))?;
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

fn explain_link(e: io::Error) -> io::Error {
    match e.raw_os_error() {
        Some(libc::ELOOP) => io::Error::new(e.kind(), "a part of the path is a symbolic link"),
        _ => e,
    }
}

fn explain_kind(e: io::Error, make: Make) -> io::Error {
    let says = match (e.kind(), make) {
        (io::ErrorKind::IsADirectory, Make::File) => "the source is a file, but the target is a directory",
        (io::ErrorKind::NotADirectory, Make::Dir) => {
            "the source is a directory, but the target or a parent of it is a file"
        }
        _ => return e,
    };
    io::Error::new(e.kind(), says)
}
