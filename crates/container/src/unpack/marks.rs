//! How overlayfs is told that a name or the content of a directory is hidden: character device 0:0 and
//! `trusted.overlay.*`, or, where a user namespace does not permit those, `user.overlay.*` (mount option `userxattr`).
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mknodat};
use xattr::FileExt;

/// The forms that work here; found by trying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    device: bool,
    trusted: bool,
}

impl Marks {
    /// The forms of a privileged process, until one is refused.
    pub(super) fn new() -> Self {
        Self { device: true, trusted: true }
    }

    /// The forms of an old kernel's user namespace.
    #[cfg(test)]
    pub(super) fn attributes_only() -> Self {
        Self { device: false, trusted: false }
    }

    /// Hides `name` of the layers below in `dir`, where it does not exist.
    pub(super) fn hide(&mut self, dir: &OwnedFd, name: &Path) -> io::Result<()> {
        if self.device {
            match mknodat(dir, name, SFlag::S_IFCHR, Mode::empty(), 0) {
                Err(Errno::EPERM) => self.device = false,
                done => return Ok(done?),
            }
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mark = File::from(openat(dir, name, flags, Mode::empty())?);
        self.set(&mark, "whiteout", b"y")?;
        let dir = directory(dir)?;
        let opaque = self.is_opaque(&dir)?;
        if opaque { Ok(()) } else { self.set(&dir, "opaque", b"x") }
    }

    /// Hides what the layers below have in `dir`.
    pub(super) fn cover(&mut self, dir: &OwnedFd) -> io::Result<()> {
        let dir = directory(dir)?;
        self.set(&dir, "opaque", b"y")
    }

    fn is_opaque(self, dir: &File) -> io::Result<bool> {
        Ok(dir.get_xattr(self.name("opaque"))?.is_some_and(|value| value == b"y"))
    }

    fn name(self, what: &str) -> String {
        format!("{}.overlay.{what}", if self.trusted { "trusted" } else { "user" })
    }

    fn set(&mut self, file: &File, what: &str, value: &[u8]) -> io::Result<()> {
        match file.set_xattr(self.name(what), value) {
            Err(error) if self.trusted && error.raw_os_error() == Some(libc::EPERM) => {
                self.trusted = false;
                file.set_xattr(self.name(what), value)
            }
            done => done,
        }
    }
}

/// A directory opened for its attributes (an `O_PATH` descriptor has none).
fn directory(dir: &OwnedFd) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(dir, ".", flags, Mode::empty())?))
}
