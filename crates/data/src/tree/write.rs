//! A directory into the store: walk it, put its files, and last of all its manifest.
use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::readlinkat;

use super::{Entry, Kind, MAX_ENTRIES, MAX_MANIFEST, MAX_NAME, MAX_PATH, Manifest, with_total};
use crate::blob::{Digest, Put, Store};
use crate::dir::{self, Dir};
use crate::locked;
use crate::pool;
use crate::{DataError, Watch};

/// A version that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// BLAKE3 of the manifest.
    pub version: Digest,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files and symbolic links.
    pub files: u64,
    /// Whether there is no entry at all.
    pub empty: bool,
    /// What was left out.
    pub skipped: Vec<Warning>,
}

/// Something that cannot be part of a tree and was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Path inside the tree.
    pub path: PathBuf,
    /// `a socket, pipe or device`.
    pub why: &'static str,
}

/// What a tree may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub bytes: u64,
}

impl Bounds {
    /// What the format takes.
    pub const FORMAT: Self = Self { entries: MAX_ENTRIES as u64, bytes: u64::MAX };

    /// An error if a tree of this size is too large; `path` is where that was found.
    fn check(self, entries: usize, bytes: u64, path: &Path) -> Result<(), DataError> {
        let limit = if entries as u64 > self.entries {
            format!("more than {} files, links and directories", self.entries)
        } else if bytes > self.bytes {
            format!("more than {} bytes in all", self.bytes)
        } else {
            return Ok(());
        };
        Err(DataError::Limit { path: path.to_owned(), limit })
    }
}

/// Stores the directory `root`: all of its files and then its manifest are on disk when this returns. An error leaves at
/// most blobs that no version needs. No symbolic link is followed.
pub fn write(store: &Store, root: &Dir, bounds: Bounds, watch: &Watch<'_>) -> Result<Written, DataError> {
    let mut walk = Walk { root, watch, bounds, entries: Vec::new(), skipped: Vec::new(), bytes: 0 };
    walk.all()?;
    let Walk { mut entries, skipped, bytes, .. } = walk;
    let shards = Mutex::new(BTreeSet::new());
    let mut files: Vec<Mutex<&mut Entry>> =
        entries.iter_mut().filter(|e| matches!(e.kind, Kind::File { .. })).map(Mutex::new).collect();
    // The largest first, so that no thread is left with one at the end.
    files.sort_by_cached_key(|e| std::cmp::Reverse(size_of_entry(&locked(e).kind)));
    with_total(watch, bytes, |watch| {
        pool::each(&files, |entry| {
            let mut entry = locked(entry);
            let put = put_file(store, root, &entry.path, watch)?;
            if let Kind::File { size, digest, .. } = &mut entry.kind {
                (*size, *digest) = (put.size, put.digest);
            }
            locked(&shards).insert(put.digest.0[0]);
            Ok(())
        })
    })?;
    drop(files);
    finish(store, entries, skipped, &shards.into_inner().unwrap_or_default())
}

/// Stores one file as a tree with the single entry `name`.
pub fn write_file(
    store: &Store,
    (name, file): (&Path, &File),
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Written, DataError> {
    let meta = file.metadata().map_err(DataError::os("read", name))?;
    bounds.check(1, meta.len(), name)?;
    let put = with_total(watch, meta.len(), |watch| put_unchanged(store, name, file, watch))?;
    let kind = Kind::File { mode: meta.mode() & 0o777, size: put.size, digest: put.digest };
    let entries = vec![Entry { path: name.to_owned(), kind }];
    finish(store, entries, Vec::new(), &BTreeSet::from([put.digest.0[0]]))
}

fn finish(
    store: &Store,
    entries: Vec<Entry>,
    skipped: Vec<Warning>,
    shards: &BTreeSet<u8>,
) -> Result<Written, DataError> {
    let manifest = Manifest::new(entries)?;
    for shard in shards {
        let mut digest = Digest([0; 32]);
        digest.0[0] = *shard;
        store.sync_shard(digest)?;
    }
    let text = manifest.text();
    if text.len() as u64 > MAX_MANIFEST {
        let limit = format!("a manifest can have {MAX_MANIFEST} bytes");
        return Err(DataError::Limit { path: PathBuf::from("."), limit });
    }
    let version = store.put_bytes(&text)?.digest;
    let files = manifest.entries().iter().filter(|e| !matches!(e.kind, Kind::Dir { .. })).count() as u64;
    Ok(Written { version, bytes: manifest.bytes(), files, empty: manifest.entries().is_empty(), skipped })
}

fn put_file(store: &Store, root: &Dir, path: &Path, watch: &Watch<'_>) -> Result<Put, DataError> {
    let file = root.file(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput => {
            DataError::Changed { path: path.to_owned() }
        }
        _ => DataError::os("read", path)(e),
    })?;
    put_unchanged(store, path, &file, watch)
}

/// Stores a file that nobody wrote to meanwhile. What is a blob already was read as one whole, whatever the times say: the
/// file may be that blob, and be linked and unlinked by others.
fn put_unchanged(store: &Store, path: &Path, file: &File, watch: &Watch<'_>) -> Result<Put, DataError> {
    let state =
        |meta: &Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let before = file.metadata().map_err(DataError::os("read", path))?;
    let put = store.put_file(file, path, watch)?;
    let after = file.metadata().map_err(DataError::os("read", path))?;
    if !put.new || (state(&before) == state(&after) && put.size == after.size()) {
        Ok(put)
    } else {
        Err(DataError::Changed { path: path.to_owned() })
    }
}

fn size_of_entry(kind: &Kind) -> u64 {
    if let Kind::File { size, .. } = kind { *size } else { 0 }
}

struct Walk<'a> {
    root: &'a Dir,
    watch: &'a Watch<'a>,
    bounds: Bounds,
    entries: Vec<Entry>,
    skipped: Vec<Warning>,
    bytes: u64,
}

impl Walk<'_> {
    /// Directory after directory, not one in the other: a deep tree needs neither stack nor descriptors.
    fn all(&mut self) -> Result<(), DataError> {
        let mut open = vec![PathBuf::new()];
        while let Some(path) = open.pop() {
            self.watch.check()?;
            let dir = self.root.dir(&path).map_err(DataError::os("read", &path))?;
            for name in names(&dir, &path)? {
                open.extend(self.entry(&dir, &name, path.join(&name))?);
            }
        }
        Ok(())
    }

    /// Records one entry; returns it if it is a directory.
    fn entry(&mut self, dir: &Dir, name: &Path, path: PathBuf) -> Result<Option<PathBuf>, DataError> {
        self.limits(name, &path)?;
        let Some(stat) = dir.stat(name).map_err(DataError::os("read", &path))? else {
            return Err(DataError::Changed { path });
        };
        let mode = stat.st_mode & 0o777;
        match dir::Kind::of(&stat) {
            dir::Kind::File => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                self.bytes = self.bytes.saturating_add(size);
                self.bounds.check(self.entries.len() + 1, self.bytes, &path)?;
                self.entries.push(Entry { path, kind: Kind::File { mode, size, digest: Digest([0; 32]) } });
            }
            dir::Kind::Dir => {
                self.entries.push(Entry { path: path.clone(), kind: Kind::Dir { mode } });
                return Ok(Some(path));
            }
            dir::Kind::Symlink => {
                let target = readlinkat(dir, name).map_err(DataError::os("read", &path))?;
                self.entries.push(Entry { path, kind: Kind::Symlink { target: target.into() } });
            }
            dir::Kind::Other => self.skipped.push(Warning { path, why: "a socket, pipe or device" }),
        }
        Ok(None)
    }

    fn limits(&self, name: &Path, path: &Path) -> Result<(), DataError> {
        self.bounds.check(self.entries.len() + 1, 0, path)?;
        let limit = if path.as_os_str().len() > MAX_PATH || name.as_os_str().len() > MAX_NAME {
            format!("a path in a tree can have {MAX_PATH} bytes")
        } else {
            return Ok(());
        };
        Err(DataError::Limit { path: path.to_owned(), limit })
    }
}

fn names(dir: &Dir, path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let copy = dir.dir(Path::new("")).map_err(DataError::os("read", path))?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(copy.into()).map_err(DataError::os("read", path))?.iter() {
        let name = entry.map_err(DataError::os("read", path))?.file_name().to_owned();
        if !matches!(name.as_bytes(), b"." | b"..") {
            names.push(PathBuf::from(std::ffi::OsString::from_vec(name.into_bytes())));
        }
    }
    Ok(names)
}
