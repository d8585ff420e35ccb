//! The directory of one layer: makes what an entry says, with the kernel keeping every path inside ([`Links::InRoot`]).
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, futimens, makedev, mkdirat, mknodat,
    utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat};
use vessl_data::dir::{Dir, Kind as FileKind, Links, proc_path, real_path};
use xattr::FileExt;

use super::UnpackError;
use super::path::{EntryName, MAX_DEPTH};
use super::tar::{CopyError, Entry, Kind, Tar};
use super::whiteouts::Whiteouts;

/// Most bytes of names that are remembered until the end (directories and whiteouts).
const MAX_NAMES: usize = 256 << 20;

/// A layer's directory while it is filled.
pub(super) struct Tree {
    root: Rc<Dir>,
    /// Where `root` is, as the kernel names it.
    root_path: PathBuf,
    whiteouts: Whiteouts,
    /// The directory used last; entries come directory by directory.
    last: Option<(PathBuf, Rc<Dir>)>,
    /// Directories whose mode and time are set at the end, when nothing is made in them any more.
    late: Vec<(PathBuf, Mode, TimeSpec)>,
    hidden: HashSet<PathBuf>,
    names: usize,
    covers: bool,
    notes: BTreeMap<&'static str, u64>,
}

/// An entry that is about to be made: its directory, and its name there.
struct Target<'a> {
    dir: &'a Dir,
    name: &'a Path,
    entry: &'a Entry,
}

impl Target<'_> {
    fn error(&self, doing: &'static str) -> impl Fn(Errno) -> UnpackError {
        move |errno| UnpackError::os(doing, &self.entry.path, errno)
    }
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, UnpackError> {
        let dir = Dir::open(root).map_err(|e| UnpackError::os("open", b"the layer's directory", e))?;
        let root_path = real_path(&dir).map_err(|e| UnpackError::os("find", b"the layer's directory", e))?;
        Ok(Self {
            root: Rc::new(dir),
            root_path,
            whiteouts: Whiteouts::new(),
            last: None,
            late: Vec::new(),
            hidden: HashSet::new(),
            names: 0,
            covers: false,
            notes: BTreeMap::new(),
        })
    }

    /// Makes one entry; the content of a file comes from `tar`.
    pub(super) fn add<R: BufRead>(&mut self, entry: &Entry, tar: &mut Tar<R>) -> Result<(), UnpackError> {
        match EntryName::of(&entry.path)? {
            EntryName::Bookkeeping => Ok(()),
            EntryName::Root => self.root_entry(entry),
            EntryName::Opaque(dir) => self.cover(entry, &dir),
            EntryName::Whiteout(dir, name) => self.hide(entry, &dir, &name),
            EntryName::Under(dir, name) => {
                let fd = self.directory(&dir, entry)?;
                let target = Target { dir: &fd, name: &name, entry };
                match entry.kind {
                    Kind::Directory => self.make_directory(&target, &dir.join(&name)),
                    _ => self.make_other(&target, &dir.join(&name), tar),
                }
            }
        }
    }

    /// Sets what had to wait, and says what could not be done.
    pub(super) fn finish(mut self) -> Result<(bool, Vec<String>), UnpackError> {
        for (path, mode, time) in std::mem::take(&mut self.late).into_iter().rev() {
            let named = path.as_os_str().as_encoded_bytes();
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
            match self.root.resolve(&path, flags, Links::InRoot) {
                // A later entry put something else in its place.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(UnpackError::os("open", named, errno)),
                Ok(dir) => fchmod(&dir, mode)
                    .and_then(|()| futimens(&dir, &time, &time))
                    .map_err(|e| UnpackError::os("set mode and time of", named, e))?,
            }
        }
        let notes = self.notes.iter().map(|(what, times)| format!("{what} ({times})")).collect();
        Ok((self.covers, notes))
    }

    fn note(&mut self, what: &'static str) {
        *self.notes.entry(what).or_default() += 1;
    }

    /// Counts a name that is kept in memory.
    fn remember(&mut self, path: &Path) -> Result<(), UnpackError> {
        self.names += path.as_os_str().len() + 64;
        if self.names > MAX_NAMES {
            return Err(UnpackError::TooBig("256 MiB of directory names".into()));
        }
        Ok(())
    }

    /// The directory `path`, made with its parents where it is missing.
    fn directory(&mut self, path: &Path, entry: &Entry) -> Result<Rc<Dir>, UnpackError> {
        if path.as_os_str().is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        if let Some((last, fd)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(fd));
        }
        let fd = match self.open_directory(path) {
            Ok(fd) => fd,
            // Missing, or hidden by a whiteout of this very layer.
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.make_parents(path, entry)?,
            Err(errno) => return Err(no_directory(errno, entry)),
        };
        let fd = Rc::new(fd);
        self.last = Some((path.to_owned(), Rc::clone(&fd)));
        Ok(fd)
    }

    /// Directories that the layer does not mention itself.
    fn make_parents(&mut self, path: &Path, entry: &Entry) -> Result<Dir, UnpackError> {
        let mut made = PathBuf::new();
        let mut above = Rc::clone(&self.root);
        for part in path {
            made.push(part);
            let target = Target { dir: &above, name: Path::new(part), entry };
            let was_hidden = self.hidden.contains(&made);
            if was_hidden {
                self.clear(&target, &made)?;
            }
            self.make_parent(&target)?;
            let next = self.open_directory(&made).map_err(|errno| no_directory(errno, entry))?;
            if was_hidden {
                self.whiteouts.cover(&next).map_err(|e| UnpackError::os("mark", &entry.path, e))?;
            }
            above = Rc::new(next);
        }
        self.open_directory(path).map_err(|errno| no_directory(errno, entry))
    }

    fn make_parent(&self, target: &Target<'_>) -> Result<(), UnpackError> {
        match mkdirat(target.dir, target.name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(target.error("make the directory of")(errno)),
            Ok(()) => {
                self.check_depth(target)?;
                let mode = Mode::from_bits_truncate(0o755);
                fchmodat(target.dir, target.name, mode, FchmodatFlags::FollowSymlink)
                    .map_err(target.error("set mode of"))
            }
        }
    }

    fn open_directory(&self, path: &Path) -> nix::Result<Dir> {
        self.root.resolve(path, OFlag::O_PATH | OFlag::O_DIRECTORY, Links::InRoot).map(Dir::from)
    }

    /// Links can make a directory deeper than its name says.
    fn check_depth(&self, target: &Target<'_>) -> Result<(), UnpackError> {
        let real = real_path(target.dir).map_err(|e| UnpackError::os("find", &target.entry.path, e))?;
        let depth = real.strip_prefix(&self.root_path).map_or(0, |below| below.components().count());
        if depth >= MAX_DEPTH {
            return Err(UnpackError::refused(&target.entry.path, "lies deeper than 256 directories"));
        }
        Ok(())
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::refused(&entry.path, "would replace the root directory"));
        }
        let root = Rc::clone(&self.root);
        let target = Target { dir: &root, name: Path::new("."), entry };
        self.dress_directory(&target, PathBuf::new())
    }

    fn make_directory(&mut self, target: &Target<'_>, path: &Path) -> Result<(), UnpackError> {
        self.check_depth(target)?;
        let was_hidden = self.hidden.contains(path);
        let make = || mkdirat(target.dir, target.name, Mode::S_IRWXU);
        match make() {
            Err(Errno::EEXIST) if is_directory(target)? => {}
            Err(Errno::EEXIST) => {
                self.clear(target, path)?;
                make().map_err(target.error("make"))?;
            }
            done => done.map_err(target.error("make"))?,
        }
        if was_hidden {
            let fd = open_dir(target)?;
            self.whiteouts.cover(&fd).map_err(|e| UnpackError::os("mark", &target.entry.path, e))?;
        }
        self.dress_directory(target, path.to_owned())
    }

    fn dress_directory(&mut self, target: &Target<'_>, path: PathBuf) -> Result<(), UnpackError> {
        let dir = open_dir(target)?;
        self.own(fchown(&dir, Some(uid(target.entry)), Some(gid(target.entry))), target)?;
        self.attributes(&dir, target.entry)?;
        self.remember(&path)?;
        self.late.push((path, mode(target.entry), time(target.entry)));
        Ok(())
    }

    /// Removes what is at `spot`: later entries replace earlier ones.
    fn clear(&mut self, target: &Target<'_>, path: &Path) -> Result<(), UnpackError> {
        self.hidden.remove(path);
        match unlinkat(target.dir, target.name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => {
                // It may have been a link that `last` went through.
                self.last = None;
                Ok(())
            }
            Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {
                self.last = None;
                std::fs::remove_dir_all(proc_path(target.dir).join(target.name))
                    .map_err(|e| UnpackError::os("replace", &target.entry.path, e))
            }
            Err(errno) => Err(target.error("replace")(errno)),
        }
    }

    /// Makes something that must not exist yet; later entries replace earlier ones.
    fn place<T>(
        &mut self,
        target: &Target<'_>,
        path: &Path,
        make: impl Fn() -> nix::Result<T>,
    ) -> Result<nix::Result<T>, UnpackError> {
        match make() {
            Err(Errno::EEXIST) => {
                self.clear(target, path)?;
                Ok(make())
            }
            done => Ok(done),
        }
    }

    fn make_other<R: BufRead>(
        &mut self,
        target: &Target<'_>,
        path: &Path,
        tar: &mut Tar<R>,
    ) -> Result<(), UnpackError> {
        match target.entry.kind {
            Kind::File => self.make_file(target, path, tar),
            Kind::Symlink => self.make_symlink(target, path),
            Kind::HardLink => self.make_hard_link(target, path),
            Kind::Fifo => self.make_node(target, path, SFlag::S_IFIFO),
            Kind::CharDevice => self.make_node(target, path, SFlag::S_IFCHR),
            Kind::BlockDevice | Kind::Directory => self.make_node(target, path, SFlag::S_IFBLK),
        }
    }

    fn make_file<R: BufRead>(
        &mut self,
        target: &Target<'_>,
        path: &Path,
        tar: &mut Tar<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // What the mode and the owner are already, as for most files, need not be set; a write would clear set-id bits.
        let plain = mode(target.entry) & (Mode::S_IRWXU | Mode::S_IRWXG | Mode::S_IRWXO);
        let make = || openat(target.dir, target.name, flags, plain);
        let mut file = File::from(self.place(target, path, make)?.map_err(target.error("make"))?);
        tar.copy(&mut file).map_err(|error| match error {
            CopyError::From(error) => error,
            CopyError::To(error) => UnpackError::os("write", &target.entry.path, error),
        })?;
        let is = fstat(&file).map_err(target.error("look at"))?;
        if (is.st_uid, is.st_gid) != (target.entry.uid, target.entry.gid) {
            self.own(fchown(&file, Some(uid(target.entry)), Some(gid(target.entry))), target)?;
        }
        if Mode::from_bits_truncate(is.st_mode) != mode(target.entry) {
            fchmod(&file, mode(target.entry)).map_err(target.error("set mode of"))?;
        }
        self.attributes(&file, target.entry)?;
        let time = time(target.entry);
        futimens(&file, &time, &time).map_err(target.error("set time of"))
    }

    fn make_symlink(&mut self, target: &Target<'_>, path: &Path) -> Result<(), UnpackError> {
        let link = &target.entry.link;
        if link.is_empty() || link.contains(&0) {
            return Err(UnpackError::refused(&target.entry.path, "is a link to nothing"));
        }
        let make = || symlinkat(link.as_slice(), target.dir, target.name);
        self.place(target, path, make)?.map_err(target.error("make"))?;
        self.own_at(target)?;
        set_time_at(target)
    }

    fn make_hard_link(&mut self, target: &Target<'_>, path: &Path) -> Result<(), UnpackError> {
        let (dir, name) = EntryName::of_link(&target.entry.path, &target.entry.link)?;
        let missing = || {
            let link = super::shown(&target.entry.link);
            UnpackError::refused(
                &target.entry.path,
                format!("is a hard link to `{link}`, which is not in its layer"),
            )
        };
        let dir = match self.open_directory(&dir) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Err(missing()),
            opened => opened.map_err(target.error("find the target of"))?,
        };
        let make = || linkat(&dir, name.as_path(), target.dir, target.name, AtFlags::empty());
        match self.place(target, path, make)? {
            Err(Errno::ENOENT) => Err(missing()),
            Err(Errno::EPERM) => {
                Err(UnpackError::refused(&target.entry.path, "is a hard link to a directory"))
            }
            done => done.map_err(target.error("link")),
        }
    }

    fn make_node(&mut self, target: &Target<'_>, path: &Path, kind: SFlag) -> Result<(), UnpackError> {
        let device = if kind == SFlag::S_IFIFO { (0, 0) } else { target.entry.device };
        if kind == SFlag::S_IFCHR && device == (0, 0) {
            self.note("devices 0:0, which hide files, were left out");
            return Ok(());
        }
        let number = makedev(u64::from(device.0), u64::from(device.1));
        let make = || mknodat(target.dir, target.name, kind, Mode::S_IRUSR | Mode::S_IWUSR, number);
        match self.place(target, path, make)? {
            Err(Errno::EPERM) => {
                self.note("device nodes were left out: this user may not make them");
                return Ok(());
            }
            done => done.map_err(target.error("make"))?,
        }
        self.own_at(target)?;
        fchmodat(target.dir, target.name, mode(target.entry), FchmodatFlags::FollowSymlink)
            .map_err(target.error("set mode of"))?;
        set_time_at(target)
    }

    fn cover(&mut self, entry: &Entry, dir: &Path) -> Result<(), UnpackError> {
        let fd = self.directory(dir, entry)?;
        self.covers |= dir.as_os_str().is_empty();
        self.whiteouts.cover(&fd).map_err(|e| UnpackError::os("mark", &entry.path, e))
    }

    /// A whiteout hides what the layers below have. Something of this layer with the same name stays, but a directory
    /// then has nothing from below.
    fn hide(&mut self, entry: &Entry, dir: &Path, name: &Path) -> Result<(), UnpackError> {
        let fd = self.directory(dir, entry)?;
        let path = dir.join(name);
        let target = Target { dir: &fd, name, entry };
        match fd.kind(name).map_err(|e| UnpackError::os("look at", &entry.path, e))? {
            Some(FileKind::Dir) => {
                let dir = open_dir(&target)?;
                return self.whiteouts.cover(&dir).map_err(|e| UnpackError::os("mark", &entry.path, e));
            }
            Some(_) => return Ok(()),
            None => {}
        }
        self.whiteouts.hide(&fd, name).map_err(|e| UnpackError::os("mark", &entry.path, e))?;
        self.remember(&path)?;
        self.hidden.insert(path);
        Ok(())
    }

    /// An owner that this process may not give is left out with a note.
    fn own(&mut self, done: nix::Result<()>, target: &Target<'_>) -> Result<(), UnpackError> {
        match done {
            Err(Errno::EPERM | Errno::EINVAL) => {
                self.note("owners were left out: this user may not give files to them (see /etc/subuid)");
                Ok(())
            }
            done => done.map_err(target.error("set owner of")),
        }
    }

    fn own_at(&mut self, target: &Target<'_>) -> Result<(), UnpackError> {
        let done = fchownat(
            target.dir,
            target.name,
            Some(uid(target.entry)),
            Some(gid(target.entry)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        );
        self.own(done, target)
    }

    /// Extended attributes that mean something in a container. Labels of the machine that built the image, and
    /// overlayfs's own marks, are left out.
    fn attributes(&mut self, file: &File, entry: &Entry) -> Result<(), UnpackError> {
        for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_wanted(name)) {
            match file.set_xattr(name, value) {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
                    self.note("extended attributes were left out: they are not permitted here");
                }
                done => done.map_err(|e| UnpackError::os("set an extended attribute of", &entry.path, e))?,
            }
        }
        Ok(())
    }
}

fn is_wanted(attribute: &str) -> bool {
    attribute == "security.capability"
        || attribute.starts_with("system.posix_acl_")
        || (attribute.starts_with("user.") && !attribute.starts_with("user.overlay."))
}

fn uid(entry: &Entry) -> Uid {
    Uid::from_raw(entry.uid)
}

fn gid(entry: &Entry) -> Gid {
    Gid::from_raw(entry.gid)
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode)
}

fn time(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, entry.mtime.1)
}

fn set_time_at(target: &Target<'_>) -> Result<(), UnpackError> {
    let time = time(target.entry);
    utimensat(target.dir, target.name, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(target.error("set time of"))
}

fn open_dir(target: &Target<'_>) -> Result<File, UnpackError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(target.dir, target.name, flags, Mode::empty()).map(File::from).map_err(target.error("open"))
}

fn is_directory(target: &Target<'_>) -> Result<bool, UnpackError> {
    let kind = target.dir.kind(target.name).map_err(|e| UnpackError::os("look at", &target.entry.path, e))?;
    Ok(kind == Some(FileKind::Dir))
}

fn no_directory(errno: Errno, entry: &Entry) -> UnpackError {
    let reason = match errno {
        Errno::ENOENT => "lies behind a link to nothing",
        Errno::ENOTDIR => "lies in what is not a directory",
        Errno::ELOOP => "lies behind a loop of links",
        other => return UnpackError::os("open the directory of", &entry.path, other),
    };
    UnpackError::refused(&entry.path, reason)
}
