//! The packs of a store: which blob is in which of them. It reads indexes, and never changes anything.
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use super::index::{self, Packed};
use super::{Blob, Digest, changed};
use crate::DataError;

/// A change of the directory that is younger than the clock of file systems is fine may be followed by another one of the same time.
const FRESH: Duration = Duration::from_millis(50);

/// Where a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) pack: Digest,
    offset: u32,
    size: u32,
}

impl Slot {
    pub(super) fn size(self) -> u64 {
        self.size.into()
    }
}

/// What is known of the packs in a directory. A pack is there when both of its files are, and its index is whole.
#[derive(Debug)]
pub(super) struct Packs {
    dir: PathBuf,
    /// Where it is noted which packs are elsewhere.
    away: PathBuf,
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// When the directory was last changed as it is known.
    at: Option<SystemTime>,
    /// The packs, and when they came.
    packs: HashMap<Digest, SystemTime>,
    slots: HashMap<Digest, Slot>,
}

/// A pack, by its files.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) data: PathBuf,
    pub(super) index: PathBuf,
}

impl Packs {
    /// Those of the store at `root`.
    pub(super) fn of(root: &Path) -> Self {
        Self { dir: root.join("packs"), away: root.join("away"), known: RwLock::default() }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn files(&self, pack: Digest) -> Files {
        let named = |ending| self.dir.join(format!("{pack}.{ending}"));
        Files { data: named("pack"), index: named("idx") }
    }

    /// Where a blob is now.
    pub(super) fn find(&self, digest: Digest) -> Result<Option<Slot>, DataError> {
        self.refresh()?;
        Ok(self.known(digest))
    }

    /// The same as far as it is known already; it may have been moved or removed since.
    pub(super) fn known(&self, digest: Digest) -> Option<Slot> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).slots.get(&digest).copied()
    }

    /// When a pack that is known came.
    pub(super) fn came(&self, pack: Digest) -> Option<SystemTime> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).packs.get(&pack).copied()
    }

    /// Opens a blob; `None` if its pack is not there any more.
    pub(super) fn open(&self, slot: Slot) -> Result<Option<Blob>, DataError> {
        let path = self.files(slot.pack).data;
        match File::open(&path) {
            Ok(file) => Ok(Some(Blob::part(file, path, (slot.offset.into(), slot.size.into())))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// Looks at the directory if it may have changed.
    pub(super) fn refresh(&self) -> Result<(), DataError> {
        let changed_at = match std::fs::metadata(&self.dir) {
            Ok(meta) => changed(&meta),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(DataError::os("read", &self.dir)(e)),
        };
        let as_known = |known: &Known| known.at == Some(changed_at);
        if as_known(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if as_known(&known) {
            return Ok(());
        }
        let now = SystemTime::now();
        let found: HashSet<Digest> = self.list()?.into_iter().collect();
        if known.packs.keys().any(|pack| !found.contains(pack)) {
            // Their blobs may be in others too.
            *known = Known::default();
        }
        for pack in found {
            if known.packs.contains_key(&pack) {
                continue;
            }
            if let Some((entries, came)) = self.read(pack)? {
                known.packs.insert(pack, came);
                let slot = |entry: &Packed| Slot { pack, offset: entry.offset, size: entry.size };
                known.slots.extend(entries.iter().map(|entry| (entry.digest, slot(entry))));
            }
        }
        let settled = now.duration_since(changed_at).is_ok_and(|age| age > FRESH);
        known.at = settled.then_some(changed_at);
        Ok(())
    }

    /// The names of all packs that have both files here.
    pub(super) fn here(&self) -> Result<Vec<Digest>, DataError> {
        let (data, indexes) = self.all_files()?;
        Ok(indexes.into_iter().filter(|pack| data.contains(pack)).collect())
    }

    /// The same, and of those that are elsewhere.
    fn list(&self) -> Result<Vec<Digest>, DataError> {
        let (data, indexes) = self.all_files()?;
        let is_there = |pack: &Digest| data.contains(pack) || self.marker(*pack).exists();
        Ok(indexes.into_iter().filter(is_there).collect())
    }

    fn marker(&self, pack: Digest) -> PathBuf {
        self.away.join(format!("{pack}.pack"))
    }

    /// Forgets what is known: it is looked at anew.
    pub(super) fn forget(&self) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).at = None;
    }

    /// The names of all packs by their files: those with the blobs, and indexes.
    pub(super) fn all_files(&self) -> Result<(HashSet<Digest>, Vec<Digest>), DataError> {
        let (mut data, mut indexes) = (HashSet::new(), Vec::new());
        let entries = match std::fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((data, indexes)),
            entries => entries.map_err(DataError::os("read", &self.dir))?,
        };
        for entry in entries {
            let name = entry.map_err(DataError::os("read", &self.dir))?.file_name();
            let Some((pack, ending)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let Ok(pack) = pack.parse() else { continue };
            match ending {
                "pack" => drop(data.insert(pack)),
                "idx" => indexes.push(pack),
                _ => {}
            }
        }
        Ok((data, indexes))
    }

    /// What is in a pack, and when it came; `None` if its index is not whole, or the pack is shorter than that says. One that is
    /// elsewhere came when that was noted.
    pub(super) fn read(&self, pack: Digest) -> Result<Option<(Vec<Packed>, SystemTime)>, DataError> {
        let Files { data, index } = self.files(pack);
        let about = || match std::fs::metadata(&data) {
            Ok(meta) => Ok((meta.size(), changed(&meta))),
            Err(_) => std::fs::metadata(self.marker(pack)).map(|meta| (u64::MAX, changed(&meta))),
        };
        let read = std::fs::read(&index).and_then(|text| Ok((text, about()?)));
        let (text, (size, came)) = match read {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DataError::os("read", index)(e)),
        };
        let entries = Some(text).filter(|text| Digest::of(text) == pack).and_then(|text| index::parse(&text));
        let whole = |entries: &Vec<Packed>| entries.iter().all(|entry| entry.end() <= size);
        Ok(entries.filter(whole).map(|entries| (entries, came)))
    }
}
