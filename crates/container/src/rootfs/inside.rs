//! Paths of a root file system, resolved as the container would resolve them: no symbolic link, `..` or magic link leads
//! out (`openat2`), whatever the image holds. What is missing can be made on the way.
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::sys;

/// How many dangling links are followed while making a path.
const LINKS: u32 = 16;

/// What to make where a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// A directory, mode 0755.
    Dir,
    /// An empty file, mode 0644.
    File,
}

/// Opens `path` as a handle (`O_PATH`); `None` if it does not exist.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    match sys::open_in_root(root, path, OFlag::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Opens `path`, which is made (with its parents) if it is missing.
pub(crate) fn make(root: BorrowedFd<'_>, path: &Path, what: Make) -> io::Result<OwnedFd> {
    make_following(root, path, what, LINKS)
}

fn make_following(root: BorrowedFd<'_>, path: &Path, what: Make, links: u32) -> io::Result<OwnedFd> {
    match sys::open_in_root(root, path, OFlag::O_PATH) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        other => return other.and_then(|fd| check_kind(fd, what)),
    }
    let (parent, name) = split(path)?;
    let dir = make_following(root, parent, Make::Dir, links)?;
    match make_one(dir.as_fd(), name, what) {
        Err(nix::Error::EEXIST) => {}
        other => other?,
    }
    match sys::open_in_root(dir.as_fd(), Path::new(name), OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Ok(fd) if is_link(&fd)? => {
            let links = links.checked_sub(1).ok_or(nix::Error::ELOOP)?;
            make_following(root, &link_target(root, dir.as_fd(), name)?, what, links)
        }
        other => other.and_then(|fd| check_kind(fd, what)),
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let dotted = path.components().any(|c| c == Component::ParentDir);
    let parts = path.parent().zip(path.file_name()).filter(|_| !dotted);
    parts.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path must be absolute and without `..`")
    })
}

fn make_one(dir: BorrowedFd<'_>, name: &OsStr, what: Make) -> nix::Result<()> {
    match what {
        Make::Dir => nix::sys::stat::mkdirat(dir, name, Mode::from_bits_truncate(0o755)),
        Make::File => {
            let flags =
                OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            nix::fcntl::openat(dir, name, flags, Mode::from_bits_truncate(0o644)).map(drop)
        }
    }
}

fn check_kind(fd: OwnedFd, what: Make) -> io::Result<OwnedFd> {
    match (sys::is_dir(&fd)?, what) {
        (true, Make::File) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        (false, Make::Dir) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        _ => Ok(fd),
    }
}

fn is_link(fd: &OwnedFd) -> io::Result<bool> {
    Ok(nix::sys::stat::fstat(fd)?.st_mode & libc::S_IFMT == libc::S_IFLNK)
}

/// Where a dangling link points, as an absolute path of the root file system without `..`.
fn link_target(root: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &OsStr) -> io::Result<PathBuf> {
    let target = PathBuf::from(nix::fcntl::readlinkat(dir, name)?);
    let (outer, here) = (real_path(root)?, real_path(dir)?);
    let here = Path::new("/").join(here.strip_prefix(&outer).map_err(io::Error::other)?);
    Ok(plain(&here.join(target)))
}

/// `path` from the root on, without `.` and `..`, by its text alone: above the root is the root.
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

/// The path of an open handle as this process sees it.
pub(crate) fn real_path(fd: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(proc_path(fd))
}

/// A name by which path-taking system calls reach an open handle.
pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn made(links: &[(&str, &str)], path: &str, what: Make) -> io::Result<String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        for (name, target) in links {
            let link = dir.path().join("root").join(name);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(target, link).unwrap();
        }
        let root = sys::open_path(&dir.path().join("root")).unwrap();
        let fd = make(root.as_fd(), Path::new(path), what)?;
        assert!(
            fs::read_dir(dir.path().join("outside")).unwrap().next().is_none(),
            "something was made outside"
        );
        let real = real_path(fd.as_fd()).unwrap();
        let base = real_path(root.as_fd()).unwrap();
        Ok(Path::new("/").join(real.strip_prefix(base).expect("inside the root")).display().to_string())
    }

    #[test]
    fn missing_paths_are_made_inside_the_root() {
        let check = |links: &[(&str, &str)], path, expected: &str| {
            assert_eq!(made(links, path, Make::Dir).unwrap(), expected, "{links:?} {path}");
            let file = made(links, &format!("{path}/f"), Make::File).unwrap();
            assert_eq!(file, format!("{expected}/f"), "{links:?} {path}");
        };
        check(&[], "/a/b/c", "/a/b/c");
        check(&[("a", "/x/y")], "/a/b", "/x/y/b");
        check(&[("a", "../../outside")], "/a/b", "/outside/b");
        check(&[("a", "/../outside")], "/a", "/outside");
        check(&[("d/a", "../e")], "/d/a/b", "/e/b");
        check(&[("a", "b"), ("b", "c")], "/a", "/c");
    }

    #[test]
    fn what_cannot_be_made_is_refused() {
        let check = |links: &[(&str, &str)], path, what, expected: &str| {
            let said = made(links, path, what).expect_err("refused").to_string();
            assert!(said.contains(expected), "{links:?} {path}: {said}");
        };
        check(&[("a", "b"), ("b", "a")], "/a", Make::Dir, "symbolic links");
        check(&[], "/x/../y", Make::Dir, "without `..`");
        check(&[], "/", Make::File, "is a directory");
    }
}
