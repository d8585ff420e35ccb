//! A directory held by descriptor, and what lies below it: no symbolic link leads out, whatever is there and whoever changes it
//! meanwhile (`openat2`). It must not know what the files are for.
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat};

use crate::Owner;

/// How often a walk is tried again with which a rename elsewhere raced, as the kernel says by `EAGAIN`.
const TRIES: u32 = 128;

/// What kind of file a mode says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A socket, pipe or device.
    Other,
}

impl Kind {
    /// Of a file's status.
    pub fn of(stat: &FileStat) -> Self {
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFDIR => Self::Dir,
            SFlag::S_IFLNK => Self::Symlink,
            _ => Self::Other,
        }
    }
}

/// When something was last modified, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modified {
    /// Whole seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after them, below 10⁹.
    pub nanos: u32,
}

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

impl Modified {
    /// Of a file's status.
    pub fn of(stat: &FileStat) -> Self {
        Self { seconds: stat.st_mtime, nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
    }

    /// Of an open file.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&nix::sys::stat::fstat(file)?))
    }

    /// Nanoseconds since 1970.
    pub fn nanoseconds(self) -> i128 {
        i128::from(self.seconds) * SECOND + i128::from(self.nanos)
    }

    /// The reverse of [`Modified::nanoseconds`]; `None` if no kernel has such a time.
    pub fn from_nanoseconds(all: i128) -> Option<Self> {
        let seconds = i64::try_from(all.div_euclid(SECOND)).ok()?;
        Some(Self { seconds, nanos: u32::try_from(all.rem_euclid(SECOND)).ok()? })
    }
}

/// Which symbolic links are followed on the way to what is opened; never the magic ones of `/proc`. Source: openat2(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// None: one on the way is `ELOOP`.
    Refused,
    /// Those that stay below the directory: others, and a `..` that leads out, are `EXDEV`.
    Beneath,
    /// All, as for a process whose root is the directory: absolute ones and `..` stay inside.
    InRoot,
}

impl Links {
    fn flags(self) -> ResolveFlag {
        let how = match self {
            Self::Refused => ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS,
            Self::Beneath => ResolveFlag::RESOLVE_BENEATH,
            Self::InRoot => ResolveFlag::RESOLVE_IN_ROOT,
        };
        how | ResolveFlag::RESOLVE_NO_MAGICLINKS
    }
}

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.0
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Dir {
    /// Opens a directory of this machine; links are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        Ok(Self(nix::fcntl::open(path, flags, Mode::empty())?))
    }

    /// Opens what is at `path`; the empty path is the directory itself.
    pub fn resolve(&self, path: &Path, flags: OFlag, links: Links) -> Result<OwnedFd, Errno> {
        resolve(self.as_fd(), path, how(flags).resolve(links.flags()))
    }

    /// Like [`Dir::resolve`], for flags that may make the file: it gets `mode` without the bits of the process' mask.
    pub fn create(&self, path: &Path, flags: OFlag, mode: u32, links: Links) -> Result<File, Errno> {
        let how = how(flags | OFlag::O_CREAT).mode(Mode::from_bits_truncate(mode)).resolve(links.flags());
        resolve(self.as_fd(), path, how).map(File::from)
    }

    /// Opens a regular file for reading, no link followed; never blocks on a pipe. `InvalidInput` if it is something else.
    pub fn file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
        let file = File::from(self.resolve(path, flags, Links::Refused)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
    }

    /// Opens a directory, no link followed.
    pub fn dir(&self, path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        Ok(Self(self.resolve(path, flags, Links::Refused)?))
    }

    /// Makes a new file for reading and writing, no link followed; it must not exist.
    pub fn create_file(&self, path: &Path, mode: u32) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        Ok(self.create(path, flags, mode, Links::Refused)?)
    }

    /// Makes a directory; one that is there already is fine, anything else is `AlreadyExists`.
    pub fn make_dir(&self, name: &Path, mode: u32) -> io::Result<()> {
        match mkdirat(self, name, Mode::from_bits_truncate(mode)) {
            Err(Errno::EEXIST) if self.kind(name)? == Some(Kind::Dir) => Ok(()),
            other => Ok(other?),
        }
    }

    /// What `name` in it is, without following it; `None` if there is nothing.
    pub fn stat(&self, name: &Path) -> io::Result<Option<FileStat>> {
        match fstatat(self, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// The names in it, in no order.
    pub fn names(&self) -> io::Result<Vec<PathBuf>> {
        let copy = self.dir(Path::new(""))?;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::from_fd(copy.into())?.iter() {
            let name = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(PathBuf::from(OsString::from_vec(name.into_bytes())));
            }
        }
        Ok(names)
    }

    /// Where the link `name` in it points.
    pub fn link(&self, name: &Path) -> io::Result<PathBuf> {
        Ok(nix::fcntl::readlinkat(self, name)?.into())
    }

    /// Removes `name` in it, a directory with everything in it. No link is followed.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        let path = proc_path(self).join(name);
        if self.kind(name)? == Some(Kind::Dir) {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        }
    }

    /// What kind of file `name` in it is, without following it.
    pub fn kind(&self, name: &Path) -> io::Result<Option<Kind>> {
        Ok(self.stat(name)?.as_ref().map(Kind::of))
    }

    /// Makes `owner` the owner of `name` in it, without following it.
    pub fn give(&self, name: &Path, (uid, gid): Owner) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        Ok(fchownat(self, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// Sets when `name` in it was last modified, without following it; `.` is the directory itself.
    pub fn set_modified(&self, name: &Path, at: Modified) -> io::Result<()> {
        let time = TimeSpec::new(at.seconds, at.nanos.into());
        Ok(utimensat(self, name, &TimeSpec::UTIME_OMIT, &time, UtimensatFlags::NoFollowSymlink)?)
    }

    /// Waits until its entries are on disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(nix::unistd::fsync(self)?)
    }

    /// Another handle of it.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

/// Opens a path of this machine that must hold no symbolic link at all, so that nothing can be swapped below us.
pub fn open_plain(path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    let links = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    Ok(resolve(AT_FDCWD, path, how(flags).resolve(links))?)
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new().flags(flags | OFlag::O_CLOEXEC)
}

fn resolve(dir: BorrowedFd<'_>, path: &Path, how: OpenHow) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    for _ in 0..TRIES {
        match openat2(dir, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// A name by which path-taking system calls of this process reach what it has open.
pub fn proc_path<F: AsFd + ?Sized>(fd: &F) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// The path of what this process has open, as the process sees it.
pub fn real_path<F: AsFd + ?Sized>(fd: &F) -> io::Result<PathBuf> {
    std::fs::read_link(proc_path(fd))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_as_far_as_they_may() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("in/sub")).unwrap();
        for name in ["in/f", "in/sub/f", "f"] {
            fs::write(base.join(name), name).unwrap();
        }
        for (target, name) in [("f", "near"), ("../f", "far"), ("/f", "absolute"), ("sub", "way")] {
            symlink(target, base.join("in").join(name)).unwrap();
        }
        symlink("/proc/self/root/f", base.join("in/magic")).unwrap();
        let dir = Dir::open(&base.join("in")).unwrap();
        let check = |path: &str, expected: [Result<&str, Errno>; 3]| {
            let read = |links| -> Result<String, Errno> {
                let mut file = File::from(dir.resolve(Path::new(path), OFlag::O_RDONLY, links)?);
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                Ok(text)
            };
            let found = [Links::Refused, Links::Beneath, Links::InRoot].map(read);
            assert_eq!(found, expected.map(|expected| expected.map(str::to_owned)), "{path}");
        };
        let (link, out) = (Err(Errno::ELOOP), Err(Errno::EXDEV));
        check("sub/f", [Ok("in/sub/f"), Ok("in/sub/f"), Ok("in/sub/f")]);
        check("near", [link, Ok("in/f"), Ok("in/f")]);
        check("way/f", [link, Ok("in/sub/f"), Ok("in/sub/f")]);
        check("far", [link, out, Ok("in/f")]);
        check("absolute", [link, out, Ok("in/f")]);
        check("../f", [out, out, Ok("in/f")]);
        check("/f", [out, out, Ok("in/f")]);
        check("magic", [link, out, Err(Errno::ENOENT)]);
        assert!(dir.file(Path::new("near")).is_err() && dir.file(Path::new("sub")).is_err());
        assert!(dir.create_file(Path::new("way/new"), 0o600).is_err());
        assert!(open_plain(&base.join("in/way/f"), OFlag::O_PATH).is_err());
    }
}
