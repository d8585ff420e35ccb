//! A version out of the store: staged as a shared read-only directory, or copied into a directory that has files already.
//! No symbolic link is followed on the way.
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::{Entry, Form, Kind, Manifest, Top, read, with_total};
use crate::blob::{self, Digest, MODE, Store};
use crate::chunks::Recipe;
use crate::dir::{self, Dir, Modified};
use crate::staging::{About, Made, Staged, Staging};
use crate::{DataError, Owner, Watch, pool};

/// A version as a directory that is only read.
#[derive(Debug)]
pub struct Checkout {
    /// The directory.
    pub staged: Staged,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files and symbolic links.
    pub files: u64,
    /// The directory as it was stored; that of `staged` is ours.
    pub top: Option<Top>,
}

/// The version as a directory; no byte is copied if it was made before. Every file is verified when it is made. `label` is how its
/// importer names it.
pub fn checkout(
    staging: &Staging,
    store: &Store,
    (label, version): (&str, Digest),
    watch: &Watch<'_>,
) -> Result<Checkout, DataError> {
    // What is here already is not walked: neither its files nor the list of them.
    if let Some(staged) = staging.get(version)?
        && let Some((about, rest)) = staged.about()
        && let Ok(top) = noted(&rest)
    {
        return Ok(Checkout { staged, bytes: about.bytes, files: about.files, top });
    }
    let manifest = read(store, version)?;
    let files = manifest.entries().iter().filter(|e| !matches!(e.kind, Kind::Dir { .. })).count() as u64;
    let staged = staging.entry(version, watch, |fs| {
        Target { store, root: fs, owner: None, whose: Whose::Staging }.write(&manifest, watch)?;
        let (label, bytes) = (label.to_owned(), manifest.bytes());
        let about = About { label, version: version.to_string(), bytes, files };
        Ok::<_, DataError>(Made { rest: note(manifest.top()), ..about.into() })
    })?;
    Ok(Checkout { staged, bytes: manifest.bytes(), files, top: manifest.top() })
}

/// What is to be found again of a version that is here: permissions, seconds and nanoseconds of the directory itself, or nothing known.
type Note = Option<(u32, i64, u32)>;

fn note(top: Option<Top>) -> Vec<u8> {
    let note: Note = top.map(|top| (top.mode, top.modified.seconds, top.modified.nanos));
    serde_json::to_vec(&note).unwrap_or_default()
}

/// An error where nothing was noted, as once was so.
fn noted(rest: &[u8]) -> serde_json::Result<Option<Top>> {
    let note: Note = serde_json::from_slice(rest)?;
    Ok(note.map(|(mode, seconds, nanos)| Top { mode, modified: Modified { seconds, nanos } }))
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
    Target { store, root: target, owner, whose: Whose::Caller }.write(&manifest, watch)?;
    Ok(manifest)
}

/// Where files are written.
struct Target<'a> {
    store: &'a Store,
    root: &'a Dir,
    /// Whose everything new is; `None` for who writes it.
    owner: Option<Owner>,
    whose: Whose,
}

/// Whose directory is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// A fresh one of ours that is only read later: links to blobs are fine.
    Staging,
    /// One that may have files.
    Caller,
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
        date(entry, &dir, Path::new("."))
    }

    fn file(&self, entry: &Entry, watch: &Watch<'_>) -> Result<(), DataError> {
        let path = &entry.path;
        let Kind::File { mode, digest, form, .. } = entry.kind else { return Ok(()) };
        let (parent, name) = self.parent(path)?;
        if self.whose == Whose::Caller {
            remove_file(&parent, name, path)?;
        } else if mode == MODE
            && form == Form::Plain
            && let Some(blob) = self.store.open_loose(digest, watch)?
        {
            let at = Modified::of_file(&blob).map_err(DataError::os("read", path))?;
            let from = self.store.path(digest);
            if entry.modified.is_none_or(|modified| modified == at)
                && linkat(AT_FDCWD, &from, &parent, name, AtFlags::empty()).is_ok()
            {
                return Ok(());
            }
        }
        let file = parent.create_file(name, 0o600).map_err(DataError::os("write", path))?;
        self.content(entry, &file, watch)?;
        self.give(&parent, name).map_err(DataError::os("write", path))?;
        file.set_permissions(Permissions::from_mode(mode)).map_err(DataError::os("write", path))?;
        date(entry, &parent, name).map_err(DataError::os("write", path))
    }

    /// Writes what is in a file, and verifies it.
    fn content(&self, entry: &Entry, mut file: &File, watch: &Watch<'_>) -> Result<(), DataError> {
        let (store, path) = (self.store, &entry.path);
        let Kind::File { size, digest, form, .. } = entry.kind else { return Ok(()) };
        if form == Form::Chunks {
            for chunk in Recipe::read(store, digest, size)?.chunks {
                watch.check()?;
                file.write_all(&chunk.read(store)?).map_err(DataError::os("write", path))?;
                (watch.progress)(chunk.size.into(), None);
            }
            return Ok(());
        }
        let mut blob = store.open_blob(digest)?;
        let from = blob.path().to_owned();
        let copied = match form {
            Form::Packed => blob::unpack_hashing(&mut blob, size, file, watch),
            Form::Plain | Form::Chunks => blob::copy_hashing(&mut blob, file, watch).map(|(found, _)| found),
        };
        let damaged = || DataError::Damaged { digest, path: from.clone() };
        let found = copied.map_err(|stop| match stop.at(&from, path) {
            DataError::Os { source, .. } if form == Form::Packed && is_no_form(&source) => damaged(),
            other => other,
        })?;
        if found == digest { Ok(()) } else { Err(damaged()) }
    }

    fn symlink(&self, entry: &Entry, target: &Path) -> Result<(), DataError> {
        let path = &entry.path;
        let (parent, name) = self.parent(path)?;
        if self.whose == Whose::Caller {
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
