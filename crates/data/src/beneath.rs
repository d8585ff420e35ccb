//! Opening below a directory descriptor without following any symbolic link. It must not know what the files are for.
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::Owner;

/// What kind of file a mode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    Other,
}

impl Kind {
    pub(crate) fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Dir,
            SFlag::S_IFLNK => Self::Symlink,
            _ => Self::Other,
        }
    }
}

fn open(dir: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: u32) -> io::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .mode(Mode::from_bits_truncate(mode))
        .resolve(resolve);
    loop {
        match openat2(dir, path, how) {
            Err(nix::Error::EINTR | nix::Error::EAGAIN) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a regular file for reading; never blocks on a fifo. `InvalidInput` if it is not a regular file.
pub(crate) fn open_file(dir: BorrowedFd<'_>, path: &Path) -> io::Result<File> {
    let file = File::from(open(dir, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY, 0)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Opens a directory; the empty path is `dir` itself.
pub(crate) fn open_dir(dir: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    open(dir, here(path), OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0)
}

/// Makes a new file for reading and writing; it must not exist.
pub(crate) fn create_file(dir: BorrowedFd<'_>, path: &Path, mode: u32) -> io::Result<File> {
    Ok(File::from(open(dir, path, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL, mode)?))
}

/// Makes a directory in `dir`; one that is there already is fine, anything else is `AlreadyExists`.
pub(crate) fn make_dir(dir: BorrowedFd<'_>, name: &Path, mode: u32) -> io::Result<()> {
    match mkdirat(dir, name, Mode::from_bits_truncate(mode)) {
        Err(nix::Error::EEXIST) if stat(dir, name)?.is_some_and(|s| Kind::of(&s) == Kind::Dir) => Ok(()),
        other => Ok(other?),
    }
}

/// What `name` in `dir` is, without following it; `None` if there is nothing.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &Path) -> io::Result<Option<FileStat>> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(nix::Error::ENOENT) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Makes `owner` the owner of what `name` in `dir` is, without following it.
pub(crate) fn give(dir: BorrowedFd<'_>, name: &Path, (uid, gid): Owner) -> io::Result<()> {
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(fchownat(dir, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

fn here(path: &Path) -> &Path {
    if path.as_os_str().as_bytes().is_empty() { Path::new(".") } else { path }
}
