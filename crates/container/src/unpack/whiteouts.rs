//! How overlayfs is told that a name or the content of a directory is hidden: character device 0:0 and
//! `trusted.overlay.*`, or, where a user namespace does not permit those, `user.overlay.*` (mount option `userxattr`).
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, mknodat};
use xattr::FileExt;

/// The forms that work here; found by trying.
#[derive(Clone, Copy, Debug)]
pub(super) struct Whiteouts {
    device: bool,
    trusted: bool,
}

impl Whiteouts {
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
    pub(super) fn hide(&mut self, dir: impl AsFd, name: &Path) -> io::Result<()> {
        if self.device {
            match mknodat(&dir, name, SFlag::S_IFCHR, Mode::empty(), 0) {
                Err(Errno::EPERM) => self.device = false,
                done => return Ok(done?),
            }
        }
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mark = File::from(openat(&dir, name, flags, Mode::empty())?);
        self.set(&mark, "whiteout", b"y")?;
        let dir = directory(dir)?;
        let opaque = self.is_opaque(&dir)?;
        if opaque { Ok(()) } else { self.set(&dir, "opaque", b"x") }
    }

    /// Hides what the layers below have in `dir`.
    pub(super) fn cover(&mut self, dir: impl AsFd) -> io::Result<()> {
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
fn directory(dir: impl AsFd) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(File::from(openat(dir, ".", flags, Mode::empty())?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    /// What an overlay shows whose upper layer hides `gone` and everything in `full`.
    fn shown(mut whiteouts: Whiteouts, options: &str) -> Vec<PathBuf> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["low/full/below", "low/gone", "low/stays", "high/full/above", "merged"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let open = |name: &str| File::open(dir.path().join(name)).unwrap();
        whiteouts.hide(open("high"), Path::new("gone")).unwrap();
        whiteouts.cover(open("high/full")).unwrap();
        let (high, low, merged) =
            (dir.path().join("high"), dir.path().join("low"), dir.path().join("merged"));
        let data = format!("lowerdir={}:{}{options}", high.display(), low.display());
        let overlay = Some("overlay");
        mount(overlay, &merged, overlay, MsFlags::empty(), Some(data.as_str())).unwrap();
        let list = |dir: &Path| fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
        let all = list(&merged).into_iter().chain(list(&merged.join("full")));
        let mut names: Vec<_> = all.map(|path| path.strip_prefix(&merged).unwrap().to_owned()).collect();
        names.sort();
        umount2(&merged, MntFlags::MNT_DETACH).unwrap();
        names
    }

    #[test]
    fn both_forms_hide_the_same() {
        // The mounts are seen by this test alone.
        unshare(CloneFlags::CLONE_NEWNS).expect("needs root: run the tests as root");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let expected = ["full", "full/above", "stays"].map(PathBuf::from);
        assert_eq!(shown(Whiteouts::new(), ""), expected);
        assert_eq!(shown(Whiteouts::attributes_only(), ",userxattr"), expected);
    }
}
