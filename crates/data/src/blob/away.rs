//! Units that are kept elsewhere too, where there is more room. What is marked may leave the disk and counts as here all the same; who
//! opens it gets it brought home, if the store was told by whom. It must not know where elsewhere is.
//!
//! ```text
//! blobs/away/D.blob   the loose blob D is elsewhere: how many bytes it has. Last modified when it was last needed here
//! blobs/away/N.pack   the same of the pack N; its index stays here
//! blobs/away/*.dead   a unit that was removed here, and must be removed elsewhere
//! ```
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::collect::{name, read_dir};
use super::stream::hash;
use super::{Blob, Digest, MANY, MODE, Store, Unit, changed, index};
use crate::{DataError, Watch, durable};

/// Which unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitName {
    /// The blob that has a file of its own.
    Loose(Digest),
    /// The pack.
    Pack(Digest),
}

/// Brings blobs home that are away.
pub trait Home: std::fmt::Debug + Send + Sync {
    /// Brings one home, with what is kept with it. Blocks.
    fn bring(&self, digest: Digest) -> Result<(), DataError>;
}

/// What is known of a unit that is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Bytes of its file: of a pack without the index.
    pub size: u64,
    /// When it was last needed here.
    pub used: SystemTime,
}

/// What must not leave the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// It may leave.
    May,
    /// It is small and always here: if its pack leaves, it is put by itself before.
    Itself,
    /// All of its unit stays.
    Unit,
}

const DEAD: &str = ".dead";

impl UnitName {
    /// The name of its file below the directory of a store.
    pub fn file(self) -> String {
        match self {
            Self::Loose(digest) => {
                let hex = digest.to_string();
                format!("{}/{}", &hex[..2], &hex[2..])
            }
            Self::Pack(pack) => format!("packs/{pack}.pack"),
        }
    }

    /// The same of its index, if it has one.
    pub fn index(self) -> Option<String> {
        match self {
            Self::Loose(_) => None,
            Self::Pack(pack) => Some(format!("packs/{pack}.idx")),
        }
    }

    /// The unit that has a file of this name, and whether that is an index.
    pub fn of_file(path: &str) -> Option<(Self, bool)> {
        let (dir, rest) = path.split_once('/')?;
        if dir == "packs" {
            let (pack, is_index) = match rest.strip_suffix(".pack") {
                Some(pack) => (pack, false),
                None => (rest.strip_suffix(".idx")?, true),
            };
            return Some((Self::Pack(pack.parse().ok()?), is_index));
        }
        let digest = (dir.len() == 2).then(|| format!("{dir}{rest}").parse().ok()).flatten()?;
        Some((Self::Loose(digest), false))
    }

    fn marker(self) -> String {
        match self {
            Self::Loose(digest) => format!("{digest}.blob"),
            Self::Pack(pack) => format!("{pack}.pack"),
        }
    }

    fn of_marker(name: &str) -> Option<Self> {
        match name.split_once('.')? {
            (digest, "blob") => Some(Self::Loose(digest.parse().ok()?)),
            (pack, "pack") => Some(Self::Pack(pack.parse().ok()?)),
            _ => None,
        }
    }
}

impl Unit {
    /// Its name.
    pub fn name(&self) -> UnitName {
        match self {
            Self::Loose { digest, .. } => UnitName::Loose(*digest),
            Self::Pack { name, .. } => UnitName::Pack(*name),
        }
    }

    /// The file with its blobs.
    pub fn data(&self) -> &Path {
        match self {
            Self::Loose { path, .. } => path,
            Self::Pack { data, .. } => data,
        }
    }
}

impl Store {
    /// The same store, which brings home what is opened.
    #[must_use]
    pub fn with_home(mut self, home: std::sync::Arc<dyn Home>) -> Self {
        self.home = Some(home);
        self
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn away(&self) -> PathBuf {
        self.root.join("away")
    }

    fn file(&self, unit: UnitName) -> PathBuf {
        self.root.join(unit.file())
    }

    /// What is known of a unit that is elsewhere; `None` if it is not.
    pub(super) fn marker(&self, unit: UnitName) -> Result<Option<Marker>, DataError> {
        read_marker(&self.away().join(unit.marker()))
    }

    /// The same of a loose blob, with the time when that became known.
    pub(super) fn find_away(&self, digest: Digest) -> Result<Option<(u64, SystemTime)>, DataError> {
        Ok(self.marker(UnitName::Loose(digest))?.map(|marker| (marker.size, marker.used)))
    }

    /// Every unit that is elsewhere, whether it is here too or not.
    pub fn marked(&self) -> Result<HashMap<UnitName, Marker>, DataError> {
        let mut found = HashMap::new();
        for path in markers(&self.away())? {
            let Some(unit) = name(&path).and_then(UnitName::of_marker) else { continue };
            if let Some(marker) = read_marker(&path)? {
                found.insert(unit, marker);
            }
        }
        Ok(found)
    }

    /// Notes that units are elsewhere, whole, with these sizes. Those that are gone here meanwhile are left out: nobody needs them. On
    /// disk when it returns.
    pub fn mark(&self, units: &[(UnitName, u64)]) -> Result<(), DataError> {
        // No collection removes any of them meanwhile.
        let _shared = self.lock_shared()?;
        let here = units.iter().filter(|(unit, _)| self.file(*unit).exists());
        let here: Vec<(UnitName, u64)> = here.copied().collect();
        self.mark_locked(&here)
    }

    fn mark_locked(&self, units: &[(UnitName, u64)]) -> Result<(), DataError> {
        let dir = self.away();
        for (unit, size) in units {
            let path = dir.join(unit.marker());
            let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
            let written = written.and_then(|mut file| {
                file.write_all(format!("{size}\n").as_bytes())?;
                if units.len() < MANY { file.sync_all() } else { Ok(()) }
            });
            written.map_err(DataError::os("write", &path))?;
        }
        if units.len() >= MANY {
            durable::sync_file_system(&dir).map_err(DataError::os("sync", &dir))?;
        }
        durable::sync_dir(&dir).map_err(DataError::os("sync", &dir))
    }

    /// Forgets that a unit is elsewhere.
    pub fn unmark(&self, unit: UnitName) -> Result<(), DataError> {
        forget(&self.away().join(unit.marker()))?;
        self.packs.forget();
        Ok(())
    }

    /// Notes a unit that is elsewhere and of which nothing is here, with its index if it is a pack. False if that is not its index.
    pub fn adopt_away(&self, unit: UnitName, size: u64, index: Option<&[u8]>) -> Result<bool, DataError> {
        let _shared = self.lock_shared()?;
        if let UnitName::Pack(pack) = unit {
            let text = index.filter(|text| Digest::of(text) == pack && index::parse(text).is_some());
            let Some(text) = text else { return Ok(false) };
            let (dir, path) = (self.packs.dir(), self.packs.files(pack).index);
            durable::create_dir_all(dir, 0o700).map_err(DataError::os("make", dir))?;
            durable::write_atomic(&path, text, 0o600).map_err(DataError::os("write", &path))?;
        }
        self.mark_locked(&[(unit, size)])?;
        // What is known of the packs is of before.
        self.packs.forget();
        Ok(true)
    }

    /// The units that must be removed elsewhere.
    pub fn dead(&self) -> Result<Vec<UnitName>, DataError> {
        let all = markers(&self.away())?;
        let dead = all.iter().filter_map(|path| UnitName::of_marker(name(path)?.strip_suffix(DEAD)?));
        Ok(dead.collect())
    }

    /// A dead unit is gone elsewhere too.
    pub fn bury(&self, unit: UnitName) -> Result<(), DataError> {
        forget(&self.away().join(unit.marker() + DEAD))
    }

    /// A unit was removed here: if it is elsewhere, it dies there too.
    pub(super) fn let_die(&self, unit: UnitName) -> Result<(), DataError> {
        let from = self.away().join(unit.marker());
        match std::fs::rename(&from, self.away().join(unit.marker() + DEAD)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::os("rename", from)(e)),
            _ => Ok(()),
        }
    }

    /// The units that these blobs need and that are not here. Those that are here are noted as needed now.
    pub fn away_of(&self, digests: &[Digest]) -> Result<BTreeMap<UnitName, u64>, DataError> {
        let mut units = BTreeSet::new();
        for digest in digests {
            // A loose one goes before one in a pack.
            if !self.path(*digest).exists()
                && let Some(unit) = self.unit(*digest)?
            {
                units.insert(unit.name());
            } else {
                self.use_now(UnitName::Loose(*digest));
            }
        }
        let mut away = BTreeMap::new();
        for unit in units {
            if self.file(unit).exists() {
                self.use_now(unit);
            } else if let Some(marker) = self.marker(unit)? {
                away.insert(unit, marker.size);
            }
        }
        Ok(away)
    }

    /// When it was needed is of use to nobody but an eviction.
    fn use_now(&self, unit: UnitName) {
        let file = OpenOptions::new().write(true).open(self.away().join(unit.marker()));
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }

    /// Whether a file has the bytes of a unit.
    pub fn is_whole(&self, unit: UnitName, path: &Path, watch: &Watch<'_>) -> Result<bool, DataError> {
        let open = || File::open(path).map_err(DataError::os("read", path));
        let failed = |stop: super::stream::Stop| stop.at(path, path);
        match unit {
            UnitName::Loose(digest) => Ok(hash(&open()?, watch).map_err(failed)?.0 == digest),
            UnitName::Pack(pack) => {
                let text = std::fs::read(self.packs.files(pack).index);
                let text = text.map_err(DataError::os("read", self.packs.files(pack).index))?;
                let Some(entries) = index::parse(&text) else { return Ok(false) };
                let length = std::fs::metadata(path).map_err(DataError::os("read", path))?.len();
                for entry in entries {
                    if entry.end() > length {
                        return Ok(false);
                    }
                    let place = (entry.offset.into(), entry.size.into());
                    let mut blob = Blob::part(open()?, path.to_owned(), place);
                    let (found, _) = super::hash_all(&mut blob, watch).map_err(failed)?;
                    if found != entry.digest {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Takes files home that are on disk and whole, by renaming them. Their names are on disk when this returns.
    pub fn take_home(&self, files: &[(UnitName, PathBuf)]) -> Result<(), DataError> {
        let _shared = self.lock_shared()?;
        let mut dirs = BTreeSet::new();
        for (unit, from) in files {
            let to = self.file(*unit);
            let mode = if matches!(unit, UnitName::Loose(_)) { MODE } else { 0o600 };
            let dir = durable::parent(&to);
            durable::create_dir_all(dir, 0o700).map_err(DataError::os("make", dir))?;
            std::fs::set_permissions(from, Permissions::from_mode(mode))
                .and_then(|()| std::fs::rename(from, &to))
                .map_err(DataError::os("write", &to))?;
            dirs.insert(dir.to_owned());
            self.use_now(*unit);
        }
        dirs.iter().try_for_each(|dir| durable::sync_dir(dir).map_err(DataError::os("sync", dir)))
    }

    /// A locked directory in `tmp/` for files on their way home; gone with what this returns.
    pub fn landing(&self) -> Result<(tempfile::TempDir, File), DataError> {
        self.tmp_dir("home-")
    }

    /// Removes the file of a unit that is elsewhere, as far as `stay` and those who put blobs let it; its bytes if it did.
    pub fn evict(&self, unit: &Unit, stay: &dyn Fn(Digest) -> Stay) -> Result<Option<u64>, DataError> {
        let inside = self.inside(unit)?;
        let mut alone = Vec::new();
        for digest in inside {
            match (stay(digest), unit) {
                (Stay::May, _) => {}
                (Stay::Itself, Unit::Pack { .. }) => alone.push(digest),
                _ => return Ok(None),
            }
        }
        for digest in alone {
            self.put_alone(digest)?;
        }
        // Not while somebody puts a blob, or keeps all of them where they are.
        let Some(_lock) = self.try_lock()? else { return Ok(None) };
        if self.marker(unit.name())?.is_none() {
            return Ok(None);
        }
        let path = unit.data();
        let size = std::fs::metadata(path).map_err(DataError::os("read", path))?.len();
        std::fs::remove_file(path).map_err(DataError::os("remove", path))?;
        Ok(Some(size))
    }

    /// Puts a blob of a pack by itself too.
    fn put_alone(&self, digest: Digest) -> Result<(), DataError> {
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        let bytes = self.read(digest, super::LARGEST_IN_PACK)?;
        let _shared = self.lock_shared()?;
        let dir = durable::parent(&path);
        durable::create_dir_all(dir, 0o700).map_err(DataError::os("make", dir))?;
        let tmp = self.tmp_file().map_err(DataError::os("write", &path))?;
        let written = tmp.as_file().set_permissions(Permissions::from_mode(MODE));
        written
            .and_then(|()| tmp.as_file().write_all(&bytes))
            .and_then(|()| tmp.as_file().sync_all())
            .map_err(DataError::os("write", &path))?;
        tmp.persist(&path).map_err(|e| DataError::os("write", &path)(e.error))?;
        durable::sync_dir(dir).map_err(DataError::os("sync", dir))
    }

    /// Loose blobs that are not here, and packs without an index: those that nobody needs die.
    pub(super) fn collect_away(
        &self,
        keep: &dyn Fn(Digest) -> bool,
        before: SystemTime,
        freed: &mut super::Freed,
    ) -> Result<(), DataError> {
        for path in markers(&self.away())? {
            let Some(unit) = name(&path).and_then(UnitName::of_marker) else { continue };
            let Some(_lock) = self.try_lock()? else { continue };
            let is_needed = match unit {
                UnitName::Loose(digest) => keep(digest) || self.was_put_again(digest, before),
                UnitName::Pack(pack) => self.packs.files(pack).index.exists(),
            };
            let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
            if is_needed || changed(&meta) >= before || self.file(unit).exists() {
                continue;
            }
            self.let_die(unit)?;
            freed.count += 1;
        }
        Ok(())
    }
}

/// What a marker says; `None` if there is none. One that was cut by a crash is none, and is written again.
fn read_marker(path: &Path) -> Result<Option<Marker>, DataError> {
    let failed = || DataError::os("read", path);
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound) => return Ok(None),
        Err(e) => return Err(failed()(e)),
    };
    let used = std::fs::metadata(path).and_then(|meta| meta.modified()).map_err(failed())?;
    let size = text.strip_suffix('\n').and_then(|size| size.parse().ok());
    Ok(size.map(|size| Marker { size, used }))
}

fn markers(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    if dir.is_dir() { read_dir(dir) } else { Ok(Vec::new()) }
}

fn forget(path: &Path) -> Result<(), DataError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::os("remove", path)(e)),
        _ => Ok(()),
    }
}
