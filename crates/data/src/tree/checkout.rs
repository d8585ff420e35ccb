//! A version out of the store: once as a shared read-only directory, or copied into a directory that has files already.
//! No symbolic link is followed on the way.
use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::{Entry, Form, Kind, Manifest, Top, read, with_total};
use crate::blob::{self, Digest, Freed, MODE, Store};
use crate::dir::{self, Dir, Modified};
use crate::{DataError, Owner, Watch, durable, pool};

/// How often a builder that waits for another one looks whether it should stop.
const WAIT: Duration = Duration::from_millis(20);

/// Versions as directories, each made once and shared by everybody who imports it.
///
/// ```text
/// trees/<version>/fs      the files; a user holds a shared lock on trees/<version>
/// trees/.new-<version>/   being made, under the exclusive lock of its stripe
/// trees/.gone-<version>/  being removed, under the same lock
/// trees/.lock-ab          one lock for the making and removal of all versions that begin with ab
/// ```
#[derive(Clone, Debug)]
pub struct Trees {
    root: PathBuf,
}

/// A version as a directory. It is not removed while this lives. Nothing may be written to it.
#[derive(Debug)]
pub struct Checkout {
    /// The directory.
    pub path: PathBuf,
    /// Whether it had to be made.
    pub new: bool,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files and symbolic links.
    pub files: u64,
    /// The directory as it was stored; that of `path` is ours.
    pub top: Option<Top>,
    _hold: File,
}

impl Trees {
    /// Opens (and makes, mode 0700) a directory of trees.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        durable::create_dir_all(root, 0o700).map_err(DataError::os("make", root))?;
        Ok(Self { root: root.to_owned() })
    }

    /// The version as a directory; no byte is copied if it was made before. Every file is verified when it is made, and
    /// a version is seen as a whole or not at all, also after a crash.
    pub fn checkout(&self, store: &Store, version: Digest, watch: &Watch<'_>) -> Result<Checkout, DataError> {
        let manifest = read(store, version)?;
        let files = manifest.entries().iter().filter(|e| !matches!(e.kind, Kind::Dir { .. })).count() as u64;
        let found = |hold, new| {
            let path = self.place("", version).join("fs");
            Checkout { path, new, bytes: manifest.bytes(), files, top: manifest.top(), _hold: hold }
        };
        if let Some(hold) = self.hold(version)? {
            return Ok(found(hold, false));
        }
        let _building = self.lock(version, watch)?;
        if let Some(hold) = self.hold(version)? {
            return Ok(found(hold, false));
        }
        self.build(store, &manifest, version, watch)?;
        // Only a removal under the same stripe could take it away again.
        let hold = self.hold(version)?.ok_or(DataError::Missing { digest: version })?;
        Ok(found(hold, true))
    }

    /// Removes every version for which `keep` is false and that nobody holds, and what dead processes left.
    pub fn collect(&self, keep: &dyn Fn(Digest) -> bool) -> Result<Freed, DataError> {
        let mut freed = Freed::default();
        for entry in std::fs::read_dir(&self.root).map_err(DataError::os("read", &self.root))? {
            let name = entry.map_err(DataError::os("read", &self.root))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let (state, version) = match name.strip_prefix('.').and_then(|n| n.split_once('-')) {
                Some(("new" | "gone", version)) => (&name[..name.len() - version.len()], version),
                Some(_) => continue,
                None => ("", name),
            };
            let Ok(version) = version.parse() else { continue };
            if state.is_empty() && keep(version) {
                continue;
            }
            let Some(_lock) = self.try_lock(version)? else { continue };
            if self.remove(state, version)? {
                freed.count += u64::from(state.is_empty());
            }
        }
        Ok(freed)
    }

    fn place(&self, state: &str, version: Digest) -> PathBuf {
        self.root.join(format!("{state}{version}"))
    }

    /// A shared lock on the version's directory, if it is there.
    fn hold(&self, version: Digest) -> Result<Option<File>, DataError> {
        let path = self.place("", version);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DataError::os("open", path)(e)),
        };
        file.lock_shared().map_err(DataError::os("lock", &path))?;
        // It may have been removed before the lock was ours.
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let held = file.metadata().map(id).map_err(DataError::os("read", &path))?;
        Ok((std::fs::metadata(&path).map(id).ok() == Some(held)).then_some(file))
    }

    fn try_lock(&self, version: Digest) -> Result<Option<File>, DataError> {
        let path = self.root.join(format!(".lock-{:02x}", version.0[0]));
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DataError::os("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(DataError::os("lock", path)(e)),
        }
    }

    fn lock(&self, version: Digest, watch: &Watch<'_>) -> Result<File, DataError> {
        loop {
            watch.check()?;
            if let Some(file) = self.try_lock(version)? {
                return Ok(file);
            }
            std::thread::sleep(WAIT);
        }
    }

    fn build(
        &self,
        store: &Store,
        manifest: &Manifest,
        version: Digest,
        watch: &Watch<'_>,
    ) -> Result<(), DataError> {
        let new = self.place(".new-", version);
        remove_all(&new)?;
        let made = fill(store, manifest, &new, watch);
        if made.is_err() {
            // The next builder or collection removes what this leaves.
            let _ = remove_all(&new);
        }
        made?;
        let path = self.place("", version);
        std::fs::rename(&new, &path).map_err(DataError::os("rename", &path))?;
        durable::sync_dir(&self.root).map_err(DataError::os("sync", &self.root))
    }

    /// Removes a version that nobody holds; false if somebody does.
    fn remove(&self, state: &str, version: Digest) -> Result<bool, DataError> {
        let mut path = self.place(state, version);
        if state.is_empty() {
            let gone = self.place(".gone-", version);
            remove_all(&gone)?;
            let Ok(dir) = File::open(&path) else { return Ok(false) };
            if dir.try_lock().is_err() {
                return Ok(false);
            }
            std::fs::rename(&path, &gone).map_err(DataError::os("rename", &path))?;
            path = gone;
        }
        remove_all(&path)?;
        Ok(true)
    }
}

/// Copies a version into the directory `target`, which may have files: a file or link of the same name is replaced, a
/// directory is filled. Nothing is followed: a link, or a file, in place of a directory is [`DataError::Conflict`]. What is
/// new is `owner`'s, if one is named; what was there keeps its owner, and so does `target` itself with its permissions.
pub fn copy_into(
    store: &Store,
    version: Digest,
    target: &Dir,
    owner: Option<Owner>,
    watch: &Watch<'_>,
) -> Result<Manifest, DataError> {
    let manifest = read(store, version)?;
    Target { store, root: target, owner, shared: false }.write(&manifest, watch)?;
    Ok(manifest)
}

/// Makes `new/fs` with everything in it, on disk.
fn fill(store: &Store, manifest: &Manifest, new: &Path, watch: &Watch<'_>) -> Result<(), DataError> {
    let make =
        |path: &Path, mode| DirBuilder::new().mode(mode).create(path).map_err(DataError::os("make", path));
    let fs = new.join("fs");
    make(new, 0o700)?;
    make(&fs, 0o700)?;
    let root = Dir::open(&fs).map_err(DataError::os("open", &fs))?;
    Target { store, root: &root, owner: None, shared: true }.write(manifest, watch)?;
    fchmod(&root, Mode::from_bits_truncate(0o755)).map_err(DataError::os("write", &fs))?;
    root.sync().map_err(DataError::os("sync", &fs))?;
    durable::sync_dir(new).map_err(DataError::os("sync", new))
}

/// Where files are written.
struct Target<'a> {
    store: &'a Store,
    root: &'a Dir,
    /// Whose everything new is; `None` for who writes it.
    owner: Option<Owner>,
    /// A fresh directory of ours that is only read later: links to blobs are fine, and it must reach the disk.
    shared: bool,
}

impl Target<'_> {
    fn write(&self, manifest: &Manifest, watch: &Watch<'_>) -> Result<(), DataError> {
        let mut made = Vec::new();
        for entry in manifest.entries() {
            if let Kind::Dir { mode } = entry.kind
                && self.directory(entry, mode)?
            {
                made.push((entry, mode));
            }
        }
        let mut files: Vec<&Entry> =
            manifest.entries().iter().filter(|e| !matches!(e.kind, Kind::Dir { .. })).collect();
        files.sort_by_key(|e| std::cmp::Reverse(if let Kind::File { size, .. } = e.kind { size } else { 0 }));
        with_total(watch, manifest.bytes(), |watch| {
            pool::each(&files, |entry| {
                watch.check()?;
                match &entry.kind {
                    Kind::File { .. } => self.file(entry, watch),
                    Kind::Symlink { target } => self.symlink(entry, target),
                    Kind::Dir { .. } => Ok(()),
                }
            })
        })?;
        // A directory may forbid writing, so its mode comes when everything is in it, and so does its time.
        for (entry, mode) in made.into_iter().rev() {
            self.seal(entry, mode).map_err(DataError::os("write", &entry.path))?;
        }
        Ok(())
    }

    /// Makes a directory; false if it was there.
    fn directory(&self, entry: &Entry, mode: u32) -> Result<bool, DataError> {
        let (parent, name) = self.parent(&entry.path)?;
        match parent.kind(name).map_err(DataError::os("read", &entry.path))? {
            None => {
                let made = parent.make_dir(name, mode | 0o700);
                made.map_err(DataError::os("make", &entry.path)).map(|()| true)
            }
            Some(dir::Kind::Dir) => Ok(false),
            Some(dir::Kind::Symlink) => Err(conflict(&entry.path, "a symbolic link")),
            Some(_) => Err(conflict(&entry.path, "a file")),
        }
    }

    fn seal(&self, entry: &Entry, mode: u32) -> io::Result<()> {
        let dir = self.root.dir(&entry.path)?;
        self.give(&dir, Path::new("."))?;
        fchmod(&dir, Mode::from_bits_truncate(mode))?;
        date(entry, &dir, Path::new("."))?;
        if self.shared { dir.sync() } else { Ok(()) }
    }

    fn file(&self, entry: &Entry, watch: &Watch<'_>) -> Result<(), DataError> {
        let (store, path) = (self.store, &entry.path);
        let Kind::File { mode, size, digest, form } = entry.kind else { return Ok(()) };
        let (parent, name) = self.parent(path)?;
        if !self.shared {
            remove_file(&parent, name, path)?;
        } else if mode == MODE && form == Form::Plain {
            let blob = store.open_verified(digest, watch)?;
            let at = Modified::of_file(&blob).map_err(DataError::os("read", path))?;
            if entry.modified.is_none_or(|modified| modified == at)
                && linkat(AT_FDCWD, &store.path(digest), &parent, name, AtFlags::empty()).is_ok()
            {
                return Ok(());
            }
            drop(blob);
        }
        let file = parent.create_file(name, 0o600).map_err(DataError::os("write", path))?;
        let mut blob = store.open_blob(digest)?;
        let copied = match form {
            Form::Plain => blob::copy_hashing(&mut blob, &file, watch).map(|(found, _)| found),
            Form::Packed => blob::unpack_hashing(&blob, size, &file, watch),
        };
        let damaged = || DataError::Damaged { digest, path: store.path(digest) };
        let found = copied.map_err(|stop| match stop.at(&store.path(digest), path) {
            DataError::Os { source, .. } if form == Form::Packed && is_no_form(&source) => damaged(),
            other => other,
        })?;
        if found != digest {
            return Err(damaged());
        }
        self.give(&parent, name).map_err(DataError::os("write", path))?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(DataError::os("write", path))?;
        date(entry, &parent, name).map_err(DataError::os("write", path))?;
        if self.shared { file.sync_all().map_err(DataError::os("write", path)) } else { Ok(()) }
    }

    fn symlink(&self, entry: &Entry, target: &Path) -> Result<(), DataError> {
        let path = &entry.path;
        let (parent, name) = self.parent(path)?;
        if !self.shared {
            remove_file(&parent, name, path)?;
        }
        symlinkat(target, &parent, name).map_err(DataError::os("write", path))?;
        self.give(&parent, name)
            .and_then(|()| date(entry, &parent, name))
            .map_err(DataError::os("write", path))
    }

    fn give(&self, dir: &Dir, name: &Path) -> io::Result<()> {
        self.owner.map_or(Ok(()), |owner| dir.give(name, owner))
    }

    /// The directory that `path` is in, and its name there.
    fn parent<'p>(&self, path: &'p Path) -> Result<(Dir, &'p Path), DataError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = Path::new(path.file_name().expect("a checked manifest has names"));
        match self.root.dir(parent) {
            Ok(dir) => Ok((dir, name)),
            Err(e) if e.raw_os_error() == Some(nix::Error::ELOOP as i32) => {
                Err(conflict(parent, "a symbolic link"))
            }
            Err(e) => Err(DataError::os("open", parent)(e)),
        }
    }
}

/// Lets `name` in `dir` have been modified when the entry was.
fn date(entry: &Entry, dir: &Dir, name: &Path) -> io::Result<()> {
    entry.modified.map_or(Ok(()), |at| dir.set_modified(name, at))
}

/// Whether something was read as a packed form and is none.
fn is_no_form(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

fn conflict(path: &Path, there: &'static str) -> DataError {
    DataError::Conflict { path: path.to_owned(), there }
}

/// Removes a file or link that is in the way of a new one.
fn remove_file(dir: &Dir, name: &Path, path: &Path) -> Result<(), DataError> {
    match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(nix::Error::EISDIR | nix::Error::EPERM)
            if dir.kind(name).is_ok_and(|kind| kind == Some(dir::Kind::Dir)) =>
        {
            Err(conflict(path, "a directory"))
        }
        Err(e) => Err(DataError::os("replace", path)(e)),
    }
}

/// Removes a directory of ours and everything in it, also where a mode forbids it; fine if there is none.
fn remove_all(path: &Path) -> Result<(), DataError> {
    let remove = || match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    remove()
        .or_else(|e| {
            if e.kind() != io::ErrorKind::PermissionDenied {
                return Err(e);
            }
            unseal(path)?;
            remove()
        })
        .map_err(DataError::os("remove", path))
}

fn unseal(dir: &Path) -> io::Result<()> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unseal(&entry.path())?;
        }
    }
    Ok(())
}
