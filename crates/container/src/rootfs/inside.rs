//! Paths of a root file system, resolved as the container would resolve them ([`Links::InRoot`]), whatever the image holds. What
//! is missing can be made on the way.
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use vessl_data::dir::{Dir, Kind, Links, real_path};

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
pub(crate) fn open(root: &Dir, path: &Path) -> io::Result<Option<OwnedFd>> {
    match root.resolve(path, OFlag::O_PATH, Links::InRoot) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Opens `path`, which is made (with its parents) if it is missing.
pub(crate) fn make(root: &Dir, path: &Path, what: Make) -> io::Result<OwnedFd> {
    make_following(root, path, what, LINKS)
}

fn make_following(root: &Dir, path: &Path, what: Make, links: u32) -> io::Result<OwnedFd> {
    match root.resolve(path, OFlag::O_PATH, Links::InRoot) {
        Err(Errno::ENOENT) => {}
        other => return check_kind(other?, what),
    }
    let (parent, name) = split(path)?;
    let dir = Dir::from(make_following(root, parent, Make::Dir, links)?);
    match make_one(&dir, name, what) {
        Err(Errno::EEXIST) => {}
        other => other?,
    }
    let made = dir.resolve(Path::new(name), OFlag::O_PATH | OFlag::O_NOFOLLOW, Links::InRoot)?;
    if Kind::of(&fstat(&made)?) == Kind::Symlink {
        let links = links.checked_sub(1).ok_or(Errno::ELOOP)?;
        return make_following(root, &link_target(root, &dir, name)?, what, links);
    }
    check_kind(made, what)
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let dotted = path.components().any(|c| c == Component::ParentDir);
    let parts = path.parent().zip(path.file_name()).filter(|_| !dotted);
    parts.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, "the path must be absolute and without `..`")
    })
}

fn make_one(dir: &Dir, name: &OsStr, what: Make) -> nix::Result<()> {
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

/// Where a dangling link points, as an absolute path of the root file system without `..`.
fn link_target(root: &Dir, dir: &Dir, name: &OsStr) -> io::Result<PathBuf> {
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
        let root = Dir::open(&dir.path().join("root")).unwrap();
        let fd = make(&root, Path::new(path), what)?;
        assert!(
            fs::read_dir(dir.path().join("outside")).unwrap().next().is_none(),
            "something was made outside"
        );
        let real = real_path(&fd).unwrap();
        let base = real_path(&root).unwrap();
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
