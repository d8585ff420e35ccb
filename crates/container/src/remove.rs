//! Removing a directory however deep it is. It must not know whose it is.
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Levels that are gone down at once; each takes a descriptor, and a user may have no more than 1024.
const LEVELS: usize = 100;

/// Removes a directory with all that is in it, following no links. What lies deeper than some levels is moved up first, so that a
/// run that makes a directory in a directory, and so on, cannot leave something that nobody can remove.
pub fn remove_dir_all(dir: &Path) -> io::Result<()> {
    let root = open(AT_FDCWD, dir)?;
    let mut lift = DeepRemoval { root: root.as_fd(), count: 0 };
    loop {
        let before = lift.count;
        lift.empty(&root, LEVELS)?;
        if lift.count == before {
            break;
        }
    }
    std::fs::remove_dir(dir)
}

fn open<P: ?Sized + nix::NixPath>(at: impl AsFd, name: &P) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

/// Where deep directories are moved to.
struct DeepRemoval<'a> {
    root: BorrowedFd<'a>,
    count: u64,
}

impl DeepRemoval<'_> {
    /// Removes what is in a directory, or moves it to the root if there are no levels left.
    fn empty(&mut self, dir: &OwnedFd, levels: usize) -> io::Result<()> {
        // A descriptor of its own: one that was read already is at its end.
        let mut entries = Dir::from_fd(open(dir, c".")?)?;
        for entry in entries.iter() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(nix::Error::ENOENT) => {}
                Err(nix::Error::EISDIR | nix::Error::EPERM) => self.remove(dir, name, levels)?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn remove(&mut self, dir: &OwnedFd, name: &CStr, levels: usize) -> io::Result<()> {
        if levels == 0 {
            return self.up(dir, name);
        }
        self.empty(&open(dir, name)?, levels - 1)?;
        Ok(unlinkat(dir, name, UnlinkatFlags::RemoveDir)?)
    }

    fn up(&mut self, dir: &OwnedFd, name: &CStr) -> io::Result<()> {
        loop {
            self.count += 1;
            let to = CString::new(format!(".vessl-deep-{}", self.count)).map_err(io::Error::other)?;
            match renameat(dir, name, self.root, to.as_c_str()) {
                // Of a removal that was cut off, or the run's own.
                Err(nix::Error::EEXIST | nix::Error::ENOTEMPTY | nix::Error::ENOTDIR) => {}
                done => return Ok(done?),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::mkdirat;

    use super::*;

    #[test]
    fn however_deep_it_is_it_goes_and_nothing_behind_links_does() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, other) = (dir.path().join("victim"), dir.path().join("other"));
        std::fs::create_dir_all(&other).unwrap();
        std::fs::write(other.join("stays"), "").unwrap();
        std::fs::create_dir(&victim).unwrap();
        std::os::unix::fs::symlink(&other, victim.join("link")).unwrap();
        std::fs::create_dir(victim.join(".vessl-deep-1")).unwrap();
        std::fs::write(victim.join(".vessl-deep-1/full"), "").unwrap();
        let mut at = open(AT_FDCWD, victim.as_path()).unwrap();
        for _ in 0..3000 {
            let name = "a-name-that-makes-every-path-too-long-for-the-kernel";
            mkdirat(&at, name, Mode::S_IRWXU).unwrap();
            mkdirat(&at, "beside", Mode::S_IRWXU).unwrap();
            at = open(&at, name).unwrap();
        }
        drop(at);
        remove_dir_all(&victim).unwrap();
        assert!(!victim.exists() && other.join("stays").exists());
        assert_eq!(remove_dir_all(&victim).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
