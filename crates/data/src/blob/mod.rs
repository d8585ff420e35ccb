//! Bytes by their BLAKE3: write-once, verified on read, many processes at once. It must not know what a blob means.
//!
//! # The door
//!
//! A [`Store`] is a directory of blobs. One is put by itself ([`Store::put`], on disk when that returns), or with others in a
//! [`Batch`], which are on disk together with one sync. Whoever reads asks by digest and need not know how it is kept:
//! [`Store::missing`], [`Store::size`], [`Store::open_blob`] for its bytes as they are, [`Store::read`] and
//! [`Store::open_verified`] after a look at all of them. On disk there are two kinds of [`Unit`]: a *loose* blob, a file of its own,
//! which a tree may share by a hard link (`Store::open_loose`), and a *pack*, at most [`LARGEST_PACK`] bytes of blobs of at most
//! [`LARGEST_IN_PACK`] each, with an index. [`Store::units`] lists them, [`Store::unit`] says in which a blob is. A unit never
//! changes; it comes and goes as a whole.
//!
//! ```text
//! blobs/ab/cdef…      the file whose BLAKE3 is abcdef…, mode 0644 (so that a tree may share it by a hard link)
//! blobs/packs/N.pack  blobs one after the other
//! blobs/packs/N.idx   where they are ([`index`]); N is the BLAKE3 of this file, which comes after the other one and goes before it
//! blobs/again/        empty files by digest: when a blob that was here already, or one of a pack, was put last. The blob itself is
//!                     not touched, because a tree that is in use may share it
//! blobs/away/         what is kept elsewhere too, and may not be here ([`Home`])
//! blobs/tmp/          files being written, and directories of batches, each locked by its writer; renamed into place when they are
//!                     on disk. Others come from elsewhere on the same file system ([`crate::incoming`])
//! blobs/lock          shared: a blob is being put; exclusive: some are being collected
//! ```
mod away;
mod batch;
mod check;
mod collect;
mod digest;
pub mod index;
mod packs;
mod reader;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

pub use self::away::{Home, Marker, Stay, UnitName};
use self::batch::Loose;
pub use self::batch::{Batch, LARGEST_IN_PACK, MANY};
pub use self::check::{Checked, Harm, Standing};
use self::collect::{name, read_dir};
pub use self::digest::{Digest, NotADigest};
pub use self::index::LARGEST_PACK;
use self::packs::{Packs, Slot};
pub use self::reader::Blob;
use self::stream::hash_all;
pub(crate) use self::stream::{copy_hashing, copy_in_kernel, hash, unpack_hashing};
use crate::{DataError, Watch, durable, locked, pool};

/// How often a blob is brought home for one who opens it.
const TRIES: u32 = 3;
/// Mode of every loose blob.
pub const MODE: u32 = 0o644;

/// Handle of a blob directory; cheap, many processes may hold one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    packs: Arc<Packs>,
    home: Option<Arc<dyn Home>>,
}

/// What is kept as one on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A file that is one blob.
    Loose {
        /// Its name.
        digest: Digest,
        /// The file.
        path: PathBuf,
    },
    /// Blobs one after the other in a file, and where they are in another.
    Pack {
        /// BLAKE3 of the index.
        name: Digest,
        /// The blobs.
        data: PathBuf,
        /// Their index.
        index: PathBuf,
    },
}

/// Where a blob is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Loose { size: u64, put: SystemTime },
    Packed(Slot),
    Away { size: u64 },
}

/// Keeps every blob of a store where it is.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// Name of the blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// Whether it was not here before.
    pub new: bool,
}

/// What a sweep or a collection freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Files, blobs or trees removed.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens (and makes, mode 0700) a store at `root`, and removes half-written files of writers that died.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        for dir in ["tmp", "again", "away"] {
            durable::create_dir_all(&root.join(dir), 0o700).map_err(DataError::os("make", root))?;
        }
        let store = Self::at(root);
        store.sweep()?;
        Ok(store)
    }

    /// A store for who only reads; nothing is made or removed.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), packs: Arc::new(Packs::of(root)), home: None }
    }

    /// Where the file of `digest` is if it is a loose blob. Only for reading.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// Size in bytes, `None` if it is not here.
    pub fn size(&self, digest: Digest) -> Result<Option<u64>, DataError> {
        Ok(self.find(digest)?.map(|place| match place {
            Place::Loose { size, .. } | Place::Away { size } => size,
            Place::Packed(slot) => slot.size(),
        }))
    }

    /// Whether it is here.
    pub fn has(&self, digest: Digest) -> Result<bool, DataError> {
        Ok(self.find(digest)?.is_some())
    }

    fn find(&self, digest: Digest) -> Result<Option<Place>, DataError> {
        if let Some(place) = self.find_loose(digest)? {
            return Ok(Some(place));
        }
        if let Some(slot) = self.packs.find(digest)? {
            return Ok(Some(Place::Packed(slot)));
        }
        Ok(self.find_away(digest)?.map(|(size, _)| Place::Away { size }))
    }

    fn find_loose(&self, digest: Digest) -> Result<Option<Place>, DataError> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(Place::Loose { size: meta.len(), put: changed(&meta) })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// In which unit a blob is.
    pub fn unit(&self, digest: Digest) -> Result<Option<Unit>, DataError> {
        Ok(self.find(digest)?.map(|place| match place {
            Place::Loose { .. } | Place::Away { .. } => Unit::Loose { digest, path: self.path(digest) },
            Place::Packed(slot) => self.pack(slot.pack),
        }))
    }

    /// All units that are here and whole by their names. Those that come or go meanwhile may be among them or not.
    pub fn units(&self) -> Result<Vec<Unit>, DataError> {
        let mut units: Vec<Unit> = self.packs.here()?.into_iter().map(|name| self.pack(name)).collect();
        for shard in read_dir(&self.root)? {
            let Some(first) = name(&shard).filter(|name| name.len() == 2) else { continue };
            for path in read_dir(&shard)? {
                if let Some(digest) = name(&path).and_then(|rest| format!("{first}{rest}").parse().ok()) {
                    units.push(Unit::Loose { digest, path });
                }
            }
        }
        Ok(units)
    }

    /// Which blobs are in a unit. An error if the index of a pack is damaged.
    pub fn inside(&self, unit: &Unit) -> Result<Vec<Digest>, DataError> {
        match unit {
            Unit::Loose { digest, .. } => Ok(vec![*digest]),
            Unit::Pack { name, .. } => self.inside_pack(*name),
        }
    }

    /// Which blobs are in a pack. An error if its index is damaged.
    pub(crate) fn inside_pack(&self, pack: Digest) -> Result<Vec<Digest>, DataError> {
        let damaged = || DataError::Damaged { digest: pack, path: self.packs.files(pack).index };
        let (entries, _) = self.packs.read(pack)?.ok_or_else(damaged)?;
        Ok(entries.into_iter().map(|entry| entry.digest).collect())
    }

    fn pack(&self, name: Digest) -> Unit {
        let files = self.packs.files(name);
        Unit::Pack { name, data: files.data, index: files.index }
    }

    /// Stores what `source` gives; on disk when it returns.
    pub fn put(&self, source: &mut dyn Read, watch: &Watch<'_>) -> Result<Put, DataError> {
        let _shared = self.lock_shared()?;
        let failed = || DataError::os("write", &self.root);
        let tmp = self.tmp_file().map_err(failed())?;
        let file = tmp.as_file();
        let name = Path::new("the bytes to store");
        let (digest, size) = copy_hashing(source, file, watch).map_err(|stop| stop.at(name, &self.root))?;
        if self.is_here(digest, size, watch)? {
            self.note(digest)?;
            return Ok(Put { digest, size, new: false });
        }
        file.set_permissions(Permissions::from_mode(MODE)).map_err(failed())?;
        file.sync_all().map_err(failed())?;
        let path = self.path(digest);
        let shard = durable::parent(&path);
        durable::create_dir_all(shard, 0o700).map_err(DataError::os("make", shard))?;
        tmp.persist(&path).map_err(|e| DataError::os("write", &path)(e.error))?;
        durable::sync_dir(shard).map_err(DataError::os("sync", shard))?;
        Ok(Put { digest, size, new: true })
    }

    /// Stores some bytes; on disk when it returns.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Put, DataError> {
        self.put(&mut &*bytes, &Watch::NONE)
    }

    /// A new locked directory in `tmp/`.
    fn tmp_dir(&self, prefix: &str) -> Result<(tempfile::TempDir, File), DataError> {
        let tmp = self.root.join("tmp");
        let failed = || DataError::os("make", &tmp);
        loop {
            let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(&tmp).map_err(failed())?;
            // A sweep may take one that has no lock yet for a dead writer's.
            let Ok(disk) = File::open(dir.path()) else { continue };
            let locked = disk.try_lock().is_ok();
            if locked && disk.metadata().map_err(failed())?.nlink() > 0 {
                return Ok((dir, disk));
            }
        }
    }

    /// A new locked file in `tmp/`. A sweep may take one that has no lock yet for a dead writer's.
    fn tmp_file(&self) -> io::Result<tempfile::NamedTempFile> {
        loop {
            let tmp = tempfile::NamedTempFile::new_in(self.root.join("tmp"))?;
            match tmp.as_file().try_lock() {
                Ok(()) if tmp.as_file().metadata()?.nlink() > 0 => return Ok(tmp),
                Err(TryLockError::Error(e)) => return Err(e),
                Ok(()) | Err(TryLockError::WouldBlock) => {}
            }
        }
    }

    /// Takes a file of the same file system in as a blob, by renaming it. Its bytes are on disk and those of its digest: the caller
    /// knows. Its name is on disk when this returns. If it is here already, the file is removed.
    pub(crate) fn adopt(&self, from: PathBuf, digest: Digest, size: u64) -> Result<(), DataError> {
        let _shared = self.lock_shared()?;
        self.adopt_loose(&[Loose { from, digest, size }])
    }

    /// The same for many. The caller holds a lock.
    fn adopt_loose(&self, files: &[Loose]) -> Result<(), DataError> {
        let mut shards = BTreeSet::new();
        for Loose { from, digest, size } in files {
            let path = self.path(*digest);
            if self.is_here(*digest, *size, &Watch::NONE)? {
                self.note(*digest)?;
                std::fs::remove_file(from).map_err(DataError::os("remove", from))?;
                continue;
            }
            let shard = durable::parent(&path);
            durable::create_dir_all(shard, 0o700).map_err(DataError::os("make", shard))?;
            std::fs::rename(from, &path).map_err(DataError::os("write", &path))?;
            shards.insert(shard.to_owned());
        }
        if shards.len() < MANY {
            let sync = |shard: &PathBuf| durable::sync_dir(shard).map_err(DataError::os("sync", shard));
            return shards.iter().try_for_each(sync);
        }
        durable::sync_file_system(&self.root).map_err(DataError::os("sync", &self.root))
    }

    /// Whether a blob is here, unharmed; if so, it is kept as if it had been put now. One that was cut or damaged is put anew.
    fn is_here_again(&self, (digest, size): (Digest, u64), watch: &Watch<'_>) -> Result<bool, DataError> {
        let _shared = self.lock_shared()?;
        let here = self.is_here(digest, size, watch)?;
        if here {
            self.note(digest)?;
        }
        Ok(here)
    }

    fn is_here(&self, digest: Digest, size: u64, watch: &Watch<'_>) -> Result<bool, DataError> {
        let mut blob = match self.open_here(digest) {
            Ok(blob) => blob,
            // It was whole when it went, and nobody fetches what he has.
            Err(DataError::Away { .. }) => return Ok(self.size(digest)? == Some(size)),
            Err(DataError::Missing { .. }) => return Ok(false),
            Err(e) => return Err(e),
        };
        if blob.size() != size {
            return Ok(false);
        }
        // What cannot be read is no copy either.
        let found = hash_all(&mut blob, &Watch { progress: &|_, _| {}, ..*watch });
        watch.check()?;
        Ok(found.is_ok_and(|(found, _)| found == digest))
    }

    /// Notes that a blob was put that is here. The caller holds a lock.
    fn note(&self, digest: Digest) -> Result<(), DataError> {
        match self.find(digest)? {
            Some(Place::Packed(slot)) => self.note_again(slot.pack),
            Some(Place::Loose { .. } | Place::Away { .. }) | None => self.note_again(digest),
        }
    }

    /// Those of `wanted` that are not here. The others are kept as if they had been put since `since`.
    pub fn missing(&self, wanted: &[Digest], since: SystemTime) -> Result<Vec<Digest>, DataError> {
        // No collection is at work meanwhile, and the next one sees the notes.
        let _shared = self.lock_shared()?;
        self.packs.refresh()?;
        let (missing, packs) = (Mutex::new(Vec::new()), Mutex::new(BTreeSet::new()));
        pool::each(wanted, |digest| {
            match (self.find_loose(*digest)?, self.packs.known(*digest)) {
                (Some(Place::Loose { put, .. }), _) => self.note_since(*digest, Some(put), since)?,
                (_, Some(slot)) => drop(locked(&packs).insert(slot.pack)),
                _ => match self.find_away(*digest)? {
                    Some((_, used)) => self.note_since(*digest, Some(used), since)?,
                    None => locked(&missing).push(*digest),
                },
            }
            Ok::<_, DataError>(())
        })?;
        for pack in packs.into_inner().unwrap_or_default() {
            self.note_since(pack, self.packs.came(pack), since)?;
        }
        let mut missing = missing.into_inner().unwrap_or_default();
        missing.sort_unstable();
        missing.dedup();
        Ok(missing)
    }

    fn note_since(&self, name: Digest, put: Option<SystemTime>, since: SystemTime) -> Result<(), DataError> {
        let known = put.is_some_and(|put| put >= since) || self.was_put_again(name, since);
        if known { Ok(()) } else { self.note_again(name) }
    }

    /// While what it returns lives, no blob is removed.
    pub fn keep(&self) -> Result<Hold, DataError> {
        Ok(Hold(self.lock_shared()?))
    }

    /// Opens a blob for reading, and has it brought home for that if it is away.
    pub fn open_blob(&self, digest: Digest) -> Result<Blob, DataError> {
        // It may leave again before it is opened, but not for ever.
        for _ in 0..TRIES {
            match (self.open_here(digest), &self.home) {
                (Err(DataError::Away { .. }), Some(home)) => home.bring(digest)?,
                (opened, _) => return opened,
            }
        }
        self.open_here(digest)
    }

    fn open_here(&self, digest: Digest) -> Result<Blob, DataError> {
        let mut before = None;
        loop {
            let path = self.path(digest);
            match File::open(&path) {
                Ok(file) => {
                    let size = file.metadata().map_err(DataError::os("read", &path))?.len();
                    return Ok(Blob::part(file, path, (0, size)));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(DataError::os("read", path)(e)),
            }
            if let Some(slot) = self.packs.known(digest)
                && let Some(blob) = self.packs.open(slot)?
            {
                return Ok(blob);
            }
            // Its pack has just come, was written anew, or is gone.
            let slot = self.packs.find(digest)?;
            if slot.is_none() || before == slot {
                let unit = slot.map_or(UnitName::Loose(digest), |slot| UnitName::Pack(slot.pack));
                let is_away = self.marker(unit)?.is_some();
                return Err(if is_away { DataError::away(digest) } else { DataError::Missing { digest } });
            }
            before = slot;
        }
    }

    /// Opens a blob for reading after its bytes have been checked against its name.
    pub fn open_verified(&self, digest: Digest, watch: &Watch<'_>) -> Result<Blob, DataError> {
        let mut blob = self.open_blob(digest)?;
        let path = blob.path().to_owned();
        let (found, _) = hash_all(&mut blob, watch).map_err(|stop| stop.at(&path, &path))?;
        if found != digest {
            return Err(DataError::Damaged { digest, path });
        }
        blob.seek(SeekFrom::Start(0)).map_err(DataError::os("read", &path))?;
        Ok(blob)
    }

    /// The file of a loose blob, after its bytes have been checked against its name; `None` if it is in a pack.
    pub(crate) fn open_loose(&self, digest: Digest, watch: &Watch<'_>) -> Result<Option<File>, DataError> {
        let path = self.path(digest);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DataError::os("read", path)(e)),
        };
        let (found, _) = hash(&file, watch).map_err(|stop| stop.at(&path, &path))?;
        if found == digest { Ok(Some(file)) } else { Err(DataError::Damaged { digest, path }) }
    }

    /// The bytes of a small blob, checked against its name; at most `limit` of them.
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, DataError> {
        let blob = self.open_blob(digest)?;
        let path = blob.path().to_owned();
        let mut bytes = Vec::new();
        blob.take(limit + 1).read_to_end(&mut bytes).map_err(DataError::os("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(DataError::Limit { path, limit: format!("more than {limit} bytes") });
        }
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(DataError::Damaged { digest, path }) }
    }

    fn lock_file(&self) -> Result<File, DataError> {
        let path = self.root.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        options.open(&path).map_err(DataError::os("open", &path))
    }

    fn lock_shared(&self) -> Result<File, DataError> {
        let file = self.lock_file()?;
        file.lock_shared().map_err(DataError::os("lock", &self.root))?;
        Ok(file)
    }
}

/// When the file was put, or shared with a tree since.
fn changed(meta: &std::fs::Metadata) -> SystemTime {
    let seconds = u64::try_from(meta.ctime()).unwrap_or_default();
    let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}
