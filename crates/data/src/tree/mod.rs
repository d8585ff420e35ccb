//! Manifests: a directory as a sorted list of entries (path, kind, mode, size, digest, link target). A version is the
//! BLAKE3 of its manifest, and a manifest is itself a blob. Import and export of trees, all or nothing. It must not know
//! who asks or under which name a version is kept.
//!
//! # Format, version 3
//!
//! Text, one entry a line, sorted by the bytes of the path, so that a directory comes before what is in it. There is
//! exactly one text for a tree: a manifest that is not written in this very way is refused.
//!
//! ```text
//! vessl-tree 3
//! d 755 - - 1764374400 .
//! d 2775 - - 1764374400 src
//! f 644 1234 <64 hex digits> 1764374400.123456789 src/main.py
//! s 644 99999999 <64 hex digits> 1764374400 src/sparse.img
//! c 644 99999999 <64 hex digits> 1764374400 src/weights
//! l - - ../data 1764374400 src/link
//! ```
//!
//! A path is relative, has no empty, `.` or `..` part, and its parent is a directory of the manifest. `.` is the directory
//! itself; a tree that was one file has none. Modes are the nine
//! permission bits in octal without leading zeros, of a directory also set-group-id and sticky. Then comes when it was last
//! modified, in seconds since 1970. A file with holes, `s`, has its own size and the digest of its packed form
//! ([`crate::sparse`]), and a large one, `c`, the digest of its recipe ([`crate::chunks`]). Owners, set-id bits of files and extended attributes are not kept.
//! Bytes of paths and targets other than `!` to `~` are written as `%` and two upper-case hex digits, and so is `%`.
//!
//! Version 2 had no `c`, version 1 no times and no `s` either. Both are still read, and a tree is written as the oldest version that
//! has what it needs.
mod check;
mod checkout;
mod copy;
mod edit;
mod entry;
mod walk;
mod write;

pub use check::{Fault, check_version};
pub use checkout::{Checkout, checkout, copy_into};
pub use copy::{Copied, Target, copy, copy_file, copy_volume};
pub use edit::{Edit, EditError, merge};
pub use entry::{Entry, Form, Kind};
pub use walk::{Everything, Found, ON_ITS_WAY, Skips, Walked, WhatIsWhole, climbs_first, walk};
pub use write::{Bounds, Source, Warning, Written, store_manifest, write, write_file};

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, fchmod};

use crate::blob::{Digest, Store};
use crate::chunks::Recipe;
use crate::dir::{Dir, Modified};
use crate::{DataError, Watch};
use entry::Format;

/// Most entries of a tree.
pub const MAX_ENTRIES: usize = 1_000_000;
/// Longest path or link target in bytes.
pub const MAX_PATH: usize = 4095;
/// Longest file name in bytes.
pub const MAX_NAME: usize = 255;
/// Longest manifest in bytes.
const MAX_MANIFEST: u64 = 1 << 28;
const HEADS: [(Format, &str); 3] =
    [(Format::One, "vessl-tree 1\n"), (Format::Two, "vessl-tree 2\n"), (Format::Three, "vessl-tree 3\n")];
/// Bits that are kept of a file's mode.
const FILE_MODE: u32 = 0o777;
/// Bits that are kept of a directory's mode.
const DIR_MODE: u32 = 0o3777;

/// A directory, described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    top: Option<Top>,
    entries: Vec<Entry>,
}

/// The directory itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Top {
    /// Permission bits.
    pub mode: u32,
    /// When it was last modified.
    pub modified: Modified,
}

impl Top {
    /// Lets a directory have its permissions and time.
    pub fn apply(self, to: &Dir) -> std::io::Result<()> {
        fchmod(to, Mode::from_bits_truncate(self.mode))?;
        to.set_modified(Path::new("."), self.modified)
    }

    /// As the line of a manifest.
    fn entry(self) -> Entry {
        Entry { path: PathBuf::new(), kind: Kind::Dir { mode: self.mode }, modified: Some(self.modified) }
    }
}

impl Manifest {
    /// A manifest of these entries in any order; refuses what is not a tree.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, DataError> {
        entries.sort_unstable_by(|a, b| a.bytes().cmp(b.bytes()));
        check(&entries)?;
        Ok(Self { top: None, entries })
    }

    /// The same with what is known of the directory itself.
    #[must_use]
    pub fn with_top(self, top: Top) -> Self {
        Self { top: Some(top), ..self }
    }

    /// The directory itself, if it was one and not stored as version 1.
    pub fn top(&self) -> Option<Top> {
        self.top
    }

    /// Reads the canonical text.
    pub fn parse(text: &[u8]) -> Result<Self, DataError> {
        let bad = |line, why| DataError::Manifest { line, why };
        let found =
            HEADS.iter().find_map(|(format, head)| Some((*format, text.strip_prefix(head.as_bytes())?)));
        let (format, body) =
            found.ok_or(bad(1, "it does not start with `vessl-tree 1`, `vessl-tree 2` or `vessl-tree 3`"))?;
        let body = match body.strip_suffix(b"\n") {
            Some(body) => body,
            None if body.is_empty() && format == Format::One => return Ok(Self::default()),
            None => {
                return Err(bad(
                    memchr::memchr_iter(b'\n', text).count() + 1,
                    "the last line is not complete",
                ));
            }
        };
        let mut entries = Vec::new();
        for (n, line) in body.split(|b| *b == b'\n').enumerate() {
            entries.push(Entry::parse(line, format).ok_or(bad(n + 2, "not an entry in canonical form"))?);
        }
        let top = match entries.first() {
            Some(Entry { path, kind: Kind::Dir { mode }, modified: Some(modified) })
                if path.as_os_str().is_empty() =>
            {
                Some(Top { mode: *mode, modified: *modified })
            }
            _ => None,
        };
        if let Some(top) = top {
            if top.mode & !DIR_MODE != 0 || top.modified.nanos >= 1_000_000_000 {
                return Err(bad(2, "the mode or time of the directory itself is not allowed"));
            }
            entries.remove(0);
        }
        check(&entries)?;
        let manifest = Self { top, entries };
        if manifest.format() == format {
            Ok(manifest)
        } else {
            Err(bad(1, "an older version of the format has everything that is in it"))
        }
    }

    fn format(&self) -> Format {
        let is = |entry: &Entry, wanted| matches!(entry.kind, Kind::File { form, .. } if form == wanted);
        let is_new = |entry: &Entry| entry.modified.is_some() || is(entry, Form::Packed);
        if self.entries.iter().any(|entry| is(entry, Form::Chunks)) {
            Format::Three
        } else if self.top.is_some() || self.entries.iter().any(is_new) {
            Format::Two
        } else {
            Format::One
        }
    }

    /// The canonical text.
    pub fn text(&self) -> Vec<u8> {
        let format = self.format();
        let head = HEADS.iter().find(|(known, _)| *known == format).map_or("", |(_, head)| head);
        let mut text = head.as_bytes().to_vec();
        if let Some(top) = self.top {
            top.entry().print(format, &mut text);
        }
        for entry in &self.entries {
            entry.print(format, &mut text);
        }
        text
    }

    /// BLAKE3 of the canonical text: the version.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.text())
    }

    /// Entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`, written like `src/main.py`.
    pub fn get(&self, path: &Path) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|e| e.bytes().cmp(entry::bytes(path))).ok()?;
        Some(&self.entries[at])
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files().map(|(_, size, _)| size).sum()
    }

    /// Every file: entry, size, digest.
    pub fn files(&self) -> impl Iterator<Item = (&Entry, u64, Digest)> {
        self.entries.iter().filter_map(|entry| match entry.kind {
            Kind::File { size, digest, .. } => Some((entry, size, digest)),
            Kind::Dir { .. } | Kind::Symlink { .. } => None,
        })
    }
}

/// What a file needs besides the blob that its entry names: the chunks, if it is in chunks.
pub fn chunks_of(store: &Store, entry: &Entry) -> Result<Vec<Digest>, DataError> {
    match entry.kind {
        Kind::File { form: Form::Chunks, digest, size, .. } => {
            let recipe = Recipe::read(store, digest, size)?;
            Ok(recipe.chunks.into_iter().map(|chunk| chunk.digest).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Reads and verifies the manifest of a version.
pub fn read(store: &Store, version: Digest) -> Result<Manifest, DataError> {
    Manifest::parse(&store.read(version, MAX_MANIFEST)?)
}

/// Every blob that a version is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Its manifest, and the recipes of its files: what names others.
    pub names: Vec<Digest>,
    /// The content of its files.
    pub content: Vec<Digest>,
}

/// Reads of which blobs a version is made.
pub fn needs(store: &Store, version: Digest) -> Result<Needs, DataError> {
    let manifest = read(store, version)?;
    let mut needs = Needs { names: vec![version], content: Vec::new() };
    for entry in manifest.entries() {
        match entry.kind {
            Kind::File { form: Form::Chunks, digest, .. } => {
                needs.names.push(digest);
                needs.content.extend(chunks_of(store, entry)?);
            }
            Kind::File { digest, .. } => needs.content.push(digest),
            Kind::Dir { .. } | Kind::Symlink { .. } => {}
        }
    }
    Ok(needs)
}

/// Removes the blobs that none of the versions in `keep` needs and that were not put since `before`, as far
/// as nobody writes to the store meanwhile. A version whose manifest is lost names no files any more; it is told of, and
/// keeps nothing else from being removed.
pub fn collect(
    store: &Store,
    keep: &[Digest],
    before: std::time::SystemTime,
) -> Result<(crate::blob::Freed, Vec<DataError>), DataError> {
    let mut needed: HashSet<Digest> = keep.iter().copied().collect();
    let mut lost = Vec::new();
    let mut lost_or = |result: Result<Vec<Digest>, DataError>| match result {
        Ok(digests) => {
            needed.extend(digests);
            Ok(())
        }
        Err(gone @ (DataError::Missing { .. } | DataError::Damaged { .. })) => {
            lost.push(gone);
            Ok(())
        }
        Err(e) => Err(e),
    };
    let mut recipes = HashSet::new();
    for version in keep {
        let manifest = read(store, *version);
        let entries = manifest.as_ref().map(Manifest::entries).unwrap_or_default();
        for entry in entries {
            if let Kind::File { form: Form::Chunks, digest, .. } = entry.kind
                && recipes.insert(digest)
            {
                lost_or(chunks_of(store, entry))?;
            }
        }
        lost_or(manifest.map(|manifest| manifest.files().map(|(_, _, digest)| digest).collect()))?;
    }
    Ok((store.collect(&|digest| needed.contains(&digest), before)?, lost))
}

/// Checks sorted entries: no path twice, every parent a directory, within the limits.
fn check(entries: &[Entry]) -> Result<(), DataError> {
    let line = |n: usize| n + 2;
    if entries.len() > MAX_ENTRIES {
        let why = "more than 1000000 entries";
        return Err(DataError::Manifest { line: line(MAX_ENTRIES), why });
    }
    let mut dirs: HashSet<&Path> = HashSet::from([Path::new("")]);
    let mut total = 0_u64;
    for (n, entry) in entries.iter().enumerate() {
        let bad = |why| Err(DataError::Manifest { line: line(n), why });
        if n > 0 && entries[n - 1].bytes() >= entry.bytes() {
            return bad("paths are not sorted or not unique");
        }
        if !entry.is_valid() {
            return bad("a path, name, target or mode is not allowed");
        }
        if !entry.path.parent().is_some_and(|parent| dirs.contains(parent)) {
            return bad("its parent is not a directory of the tree");
        }
        match entry.kind {
            Kind::Dir { .. } => {
                dirs.insert(&entry.path);
            }
            Kind::File { size, .. } => match total.checked_add(size) {
                Some(sum) => total = sum,
                None => return bad("the sizes are not possible"),
            },
            Kind::Symlink { .. } => {}
        }
    }
    Ok(())
}

/// Adds the total of all bytes to what the caller's watch is told.
fn with_total<R>(watch: &Watch<'_>, total: u64, work: impl FnOnce(&Watch<'_>) -> R) -> R {
    let progress = |more, _| (watch.progress)(more, Some(total));
    work(&Watch { progress: &progress, stop: watch.stop })
}

#[cfg(test)]
mod tests;
