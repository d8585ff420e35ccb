//! A directory into the store: walk it, put its files, and last of all its manifest.
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::walk::{Everything, Found, walk};
use super::{Entry, FILE_MODE, Form, Kind, MAX_ENTRIES, MAX_MANIFEST, Manifest, with_total};
use crate::blob::{Batch, Digest, Put, Store};
use crate::chunks;
use crate::dir::{Dir, Modified};
use crate::locked;
use crate::pool;
use crate::sparse;
use crate::{DataError, Owner, Watch};

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
    /// Links that lead out of the directory and are what they lead to now.
    pub followed: u64,
    /// What is not in the tree, or leads nowhere there; sorted by path.
    pub warnings: Vec<Warning>,
}

/// Something that cannot be part of a tree as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Path inside the tree.
    pub path: PathBuf,
    /// What goes behind the path: `was left out: it is a socket, pipe or device`.
    pub text: String,
}

/// The directory that becomes a tree: `path` below `root`, without any link on the way. Links that lead out of it are followed as
/// by a process whose root is `root`.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Nothing above it is seen.
    pub root: &'a Dir,
    /// Relative; empty for the root itself.
    pub path: &'a Path,
    /// Who must be able to read what lies outside of the directory; `None` is root.
    pub reader: Option<Owner>,
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
    pub(super) fn check(self, entries: usize, bytes: u64, path: &Path) -> Result<(), DataError> {
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

/// Stores a directory: all of its files, together, and then its manifest are on disk when this returns. An error leaves at most
/// blobs that no version needs.
///
/// A link that leads to something inside stays a link, one that leads out becomes a copy of what it leads to.
pub fn write(
    store: &Store,
    source: Source<'_>,
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Written, DataError> {
    let mut walked = walk(source, bounds, &mut Everything, watch)?;
    let batch = Batch::begin(store)?;
    let is_file = |found: &&mut Found| matches!(found.entry.kind, Kind::File { .. });
    let mut files: Vec<Mutex<&mut Found>> = walked.found.iter_mut().filter(is_file).map(Mutex::new).collect();
    // The largest first, so that no thread is left with one at the end.
    files.sort_by_cached_key(|found| std::cmp::Reverse(size_of_entry(&locked(found).entry.kind)));
    with_total(watch, walked.bytes, |watch| {
        pool::each(&files, |found| {
            let Found { entry, from } = &mut **locked(found);
            let file = open(source.root, from, &entry.path)?;
            put_unchanged(&batch, entry, &file, watch)
        })
    })?;
    drop(files);
    let entries = walked.found.into_iter().map(|found| found.entry).collect();
    let manifest = Manifest::new(entries)?.with_top(walked.top);
    batch.finish()?;
    let written = store_manifest(store, &manifest)?;
    Ok(Written { followed: walked.followed, warnings: walked.warnings, ..written })
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
    let mode = meta.mode() & FILE_MODE;
    let kind = Kind::File { mode, size: meta.len(), digest: Digest([0; 32]), form: Form::Plain };
    let mut entry = Entry { path: name.to_owned(), kind, modified: None };
    let batch = Batch::begin(store)?;
    with_total(watch, meta.len(), |watch| put_unchanged(&batch, &mut entry, file, watch))?;
    batch.finish()?;
    store_manifest(store, &Manifest::new(vec![entry])?)
}

/// Stores the manifest of a tree whose files are in the store: that makes it a version. On disk when it returns.
pub fn store_manifest(store: &Store, manifest: &Manifest) -> Result<Written, DataError> {
    let text = manifest.text();
    if text.len() as u64 > MAX_MANIFEST {
        let limit = format!("a manifest can have {MAX_MANIFEST} bytes");
        return Err(DataError::Limit { path: PathBuf::from("."), limit });
    }
    let version = store.put_bytes(&text)?.digest;
    let files = manifest.entries().iter().filter(|e| !matches!(e.kind, Kind::Dir { .. })).count() as u64;
    let (bytes, empty) = (manifest.bytes(), manifest.entries().is_empty());
    Ok(Written { version, bytes, files, empty, followed: 0, warnings: Vec::new() })
}

fn open(root: &Dir, from: &Path, path: &Path) -> Result<File, DataError> {
    root.file(from).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidInput => {
            DataError::Changed { path: path.to_owned() }
        }
        _ => DataError::os("read", path)(e),
    })
}

/// Stores a file that nobody wrote to meanwhile, and completes its entry. What is a blob already was read as one whole, whatever
/// the times say: the file may be that blob, and be linked and unlinked by others.
fn put_unchanged(batch: &Batch, entry: &mut Entry, file: &File, watch: &Watch<'_>) -> Result<(), DataError> {
    let state =
        |meta: &Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    let path = &entry.path;
    let before = file.metadata().map_err(DataError::os("read", path))?;
    let modified = Modified::of_file(file).map_err(DataError::os("read", path))?;
    let (put, whole, how) = if sparse::has_holes(file).map_err(DataError::os("read", path))? {
        (batch.put_packed(file, before.len(), path, watch)?, before.len(), Form::Packed)
    } else if before.len() > chunks::LARGE {
        let (put, size) = put_chunks(batch, file, path, watch)?;
        (put, size, Form::Chunks)
    } else {
        let put = batch.put_file(file, path, watch)?;
        (put, put.size, Form::Plain)
    };
    let after = file.metadata().map_err(DataError::os("read", path))?;
    if put.new && (state(&before) != state(&after) || whole != after.size()) {
        return Err(DataError::Changed { path: path.clone() });
    }
    entry.modified = Some(modified);
    if let Kind::File { size, digest, form, .. } = &mut entry.kind {
        (*size, *digest, *form) = (whole, put.digest, how);
    }
    Ok(())
}

/// Puts a file in chunks, and their recipe; answers how large it is too.
fn put_chunks(batch: &Batch, file: &File, path: &Path, watch: &Watch<'_>) -> Result<(Put, u64), DataError> {
    let recipe = chunks::cut(file, path, watch, &mut |digest, bytes| batch.add(digest, bytes).map(drop))?;
    Ok((batch.put_bytes(&recipe.text())?, recipe.size()))
}

fn size_of_entry(kind: &Kind) -> u64 {
    if let Kind::File { size, .. } = kind { *size } else { 0 }
}
