//! Whole files by BLAKE3 under `blobs/ab/cdef…`; write-once, verified on read, many processes at once. It must not know
//! what a blob means.
//!
//! ```text
//! blobs/ab/cdef…   the file whose BLAKE3 is abcdef…, mode 0644 (so that a tree may share it by a hard link)
//! blobs/again/      empty files by digest: when a blob that was here already was put last. The blob itself is not touched,
//!                  because a tree that is in use may share it
//! blobs/tmp/       files being written, each locked by its writer; renamed into place when they are on disk. Others come from
//!                  elsewhere on the same file system ([`crate::incoming`])
//! blobs/lock       shared: a blob is being put; exclusive: blobs of one shard are being collected
//! ```
use std::collections::BTreeSet;
use std::fmt;
use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};

use crate::dir::Modified;
use crate::sparse::{self, Packed, UnpackError};
use crate::{DataError, Watch, durable, locked, pool};

/// Mode of every blob.
pub const MODE: u32 = 0o644;
/// Bytes read and hashed at once.
const CHUNK: usize = 1 << 20;
/// So many directories take longer one by one than the whole file system.
const MANY: usize = 8;

/// BLAKE3 of some bytes; 64 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 lower-case hex digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(NotADigest);
        }
        blake3::Hash::from_hex(text).map(|hash| Self(*hash.as_bytes())).map_err(|_| NotADigest)
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Handle of a blob directory; cheap, many processes may hold one.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
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
    /// Files or trees removed.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Opens (and makes, mode 0700) a store at `root`, and removes half-written files of writers that died.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        for dir in ["tmp", "again"] {
            durable::create_dir_all(&root.join(dir), 0o700).map_err(DataError::os("make", root))?;
        }
        let store = Self { root: root.to_owned() };
        store.sweep()?;
        Ok(store)
    }

    /// Where the bytes of `digest` are, if they are here. Only for reading.
    pub fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.to_string();
        self.root.join(&hex[..2]).join(&hex[2..])
    }

    /// Size in bytes, `None` if it is not here.
    pub fn size(&self, digest: Digest) -> Result<Option<u64>, DataError> {
        let path = self.path(digest);
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(Some(meta.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// Whether it is here.
    pub fn has(&self, digest: Digest) -> Result<bool, DataError> {
        Ok(self.size(digest)?.is_some())
    }

    /// Stores what `source` gives; on disk when it returns.
    pub fn put(&self, source: &mut dyn Read, watch: &Watch<'_>) -> Result<Put, DataError> {
        let name = Path::new("the bytes to store");
        let put = self.put_unsynced((name, None), watch, |tmp| copy_hashing(source, tmp, watch))?;
        self.sync_shard(put.digest)?;
        Ok(put)
    }

    /// Stores some bytes; on disk when it returns.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Put, DataError> {
        self.put(&mut &*bytes, &Watch::NONE)
    }

    /// Like [`Store::put`] for a file, from its first to its last byte: shares or copies inside the kernel where that is
    /// possible. The blob's file is on disk, its name is after [`Store::sync_shard`]. A new blob was last modified when its
    /// source was, so that a tree may share it. Errors call the source `name`.
    pub(crate) fn put_file(&self, source: &File, name: &Path, watch: &Watch<'_>) -> Result<Put, DataError> {
        let modified = Modified::of_file(source).map_err(DataError::os("read", name))?;
        self.put_unsynced((name, Some(modified)), watch, |tmp| {
            if copy_in_kernel(source, tmp, watch)? {
                return hash(tmp, watch);
            }
            let mut source = source;
            source.seek(SeekFrom::Start(0)).map_err(Stop::Read)?;
            copy_hashing(&mut source, tmp, watch)
        })
    }

    /// The same for the packed form of a file with holes. What the put says are the bytes of that form.
    pub(crate) fn put_packed(
        &self,
        source: &File,
        size: u64,
        name: &Path,
        watch: &Watch<'_>,
    ) -> Result<Put, DataError> {
        let told = AtomicU64::new(0);
        let tell = |more: u64, total| {
            let before = told.fetch_add(more, Ordering::Relaxed);
            (watch.progress)(more.min(size.saturating_sub(before)), total);
        };
        let put = self.put_unsynced((name, None), watch, |tmp| {
            let watch = Watch { progress: &tell, stop: watch.stop };
            copy_hashing(&mut Packed::of(source, size), tmp, &watch)
        })?;
        (watch.progress)(size.saturating_sub(told.into_inner()), None);
        Ok(put)
    }

    fn put_unsynced(
        &self,
        (name, modified): (&Path, Option<Modified>),
        watch: &Watch<'_>,
        fill: impl FnOnce(&File) -> Result<(Digest, u64), Stop>,
    ) -> Result<Put, DataError> {
        let _shared = self.lock_shared()?;
        let tmp = self.tmp_file().map_err(DataError::os("write", &self.root))?;
        let file = tmp.as_file();
        let (digest, size) = fill(file).map_err(|stop| stop.at(name, &self.root))?;
        let path = self.path(digest);
        if is_here(&path, (digest, size), watch)? {
            self.note_again(digest)?;
            return Ok(Put { digest, size, new: false });
        }
        file.set_permissions(Permissions::from_mode(MODE)).map_err(DataError::os("write", &self.root))?;
        if let Some(at) = modified {
            let time = TimeSpec::new(at.seconds, at.nanos.into());
            futimens(file, &TimeSpec::UTIME_OMIT, &time).map_err(DataError::os("write", &self.root))?;
        }
        file.sync_all().map_err(DataError::os("write", &self.root))?;
        let shard = path.parent().expect("a blob is in a shard");
        durable::create_dir_all(shard, 0o700).map_err(DataError::os("make", shard))?;
        tmp.persist(&path).map_err(|e| DataError::os("write", &path)(e.error))?;
        Ok(Put { digest, size, new: true })
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

    /// Makes the names of all blobs in the shard of `digest` durable.
    pub(crate) fn sync_shard(&self, digest: Digest) -> Result<(), DataError> {
        let path = self.path(digest);
        let shard = path.parent().expect("a blob is in a shard");
        durable::sync_dir(shard).map_err(DataError::os("sync", shard))
    }

    /// Takes files of the same file system in as blobs, by renaming them. Their bytes are on disk and those of their digests: the
    /// caller knows. Their names are on disk when it returns. Those that are here already are removed.
    pub(crate) fn adopt(&self, files: &[(PathBuf, Digest, u64)]) -> Result<(), DataError> {
        let _shared = self.lock_shared()?;
        let mut shards = BTreeSet::new();
        for (from, digest, size) in files {
            let path = self.path(*digest);
            if is_here(&path, (*digest, *size), &Watch::NONE)? {
                self.note_again(*digest)?;
                std::fs::remove_file(from).map_err(DataError::os("remove", from))?;
                continue;
            }
            let shard = path.parent().expect("a blob is in a shard");
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

    /// Those of `wanted` that are not here. The others are kept as if they had been put since `since`.
    pub fn missing(&self, wanted: &[Digest], since: SystemTime) -> Result<Vec<Digest>, DataError> {
        // No collection is at work meanwhile, and the next one sees the notes.
        let _shared = self.lock_shared()?;
        let missing = Mutex::new(Vec::new());
        pool::each(wanted, |digest| {
            let path = self.path(*digest);
            match std::fs::symlink_metadata(&path) {
                Ok(meta) if changed(&meta) >= since || self.was_put_again(*digest, since) => Ok(()),
                Ok(_) => self.note_again(*digest),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    locked(&missing).push(*digest);
                    Ok(())
                }
                Err(e) => Err(DataError::os("read", path)(e)),
            }
        })?;
        let mut missing = missing.into_inner().unwrap_or_default();
        missing.sort_unstable();
        missing.dedup();
        Ok(missing)
    }

    /// While what it returns lives, no blob is removed.
    pub fn keep(&self) -> Result<Hold, DataError> {
        Ok(Hold(self.lock_shared()?))
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: Digest) -> Result<File, DataError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(DataError::Missing { digest }),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// Opens a blob for reading after its bytes have been checked against its name.
    pub fn open_verified(&self, digest: Digest, watch: &Watch<'_>) -> Result<File, DataError> {
        let file = self.open_blob(digest)?;
        let path = self.path(digest);
        let (found, _) = hash(&file, watch).map_err(|stop| stop.at(&path, &path))?;
        if found != digest {
            return Err(DataError::Damaged { digest, path });
        }
        let mut reader = &file;
        reader.seek(SeekFrom::Start(0)).map_err(DataError::os("read", &path))?;
        Ok(file)
    }

    /// The bytes of a small blob, checked against its name; at most `limit` of them.
    pub fn read(&self, digest: Digest, limit: u64) -> Result<Vec<u8>, DataError> {
        let path = self.path(digest);
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(limit + 1).read_to_end(&mut bytes).map_err(DataError::os("read", &path))?;
        if bytes.len() as u64 > limit {
            return Err(DataError::Limit { path, limit: format!("more than {limit} bytes") });
        }
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(DataError::Damaged { digest, path }) }
    }

    /// Removes files of `tmp/` whose writers died.
    pub fn sweep(&self) -> Result<Freed, DataError> {
        let dir = self.root.join("tmp");
        let mut freed = Freed::default();
        for entry in std::fs::read_dir(&dir).map_err(DataError::os("read", &dir))? {
            let path = entry.map_err(DataError::os("read", &dir))?.path();
            // One that vanishes meanwhile had a living writer.
            let (Ok(file), Ok(meta)) = (File::open(&path), std::fs::symlink_metadata(&path)) else {
                continue;
            };
            if file.try_lock().is_ok() && std::fs::remove_file(&path).is_ok() {
                freed.count += 1;
                freed.bytes += meta.len();
            }
        }
        Ok(freed)
    }

    /// Removes every blob for which `keep` is false and that was not put since `before`. Puts go first: a shard is locked
    /// for as long as its removal takes, and what is in one while somebody is putting a blob is left.
    pub fn collect(&self, keep: &dyn Fn(Digest) -> bool, before: SystemTime) -> Result<Freed, DataError> {
        let mut freed = Freed::default();
        for shard in read_dir(&self.root)? {
            let Some(first) = name(&shard).filter(|name| name.len() == 2) else { continue };
            let Some(_lock) = self.try_lock()? else { continue };
            for path in read_dir(&shard)? {
                let digest = name(&path).and_then(|rest| format!("{first}{rest}").parse().ok());
                let meta = std::fs::symlink_metadata(&path).map_err(DataError::os("read", &path))?;
                // What it says of its own modification is that of the file that was put.
                let old = changed(&meta) < before;
                if old && digest.is_some_and(|digest| !keep(digest) && !self.was_put_again(digest, before)) {
                    std::fs::remove_file(&path).map_err(DataError::os("remove", &path))?;
                    freed.count += 1;
                    // A tree may still share the bytes.
                    freed.bytes += if meta.nlink() == 1 { meta.len() } else { 0 };
                }
            }
        }
        self.forget_again(before)?;
        Ok(freed)
    }

    /// Notes that a blob was put that is here, so that no collection takes it from under the one who put it.
    fn note_again(&self, digest: Digest) -> Result<(), DataError> {
        let path = self.again(digest);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let noted = file.and_then(|file| file.set_modified(SystemTime::now()));
        noted.map_err(DataError::os("write", &path))
    }

    fn was_put_again(&self, digest: Digest, since: SystemTime) -> bool {
        let noted = std::fs::symlink_metadata(self.again(digest)).and_then(|meta| meta.modified());
        noted.is_ok_and(|at| at >= since)
    }

    /// Removes the notes from before `before`, unless somebody is putting a blob.
    fn forget_again(&self, before: SystemTime) -> Result<(), DataError> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        for path in read_dir(&self.root.join("again"))? {
            let noted = std::fs::symlink_metadata(&path).and_then(|meta| meta.modified());
            if noted.is_ok_and(|at| at < before) {
                std::fs::remove_file(&path).map_err(DataError::os("remove", &path))?;
            }
        }
        Ok(())
    }

    fn again(&self, digest: Digest) -> PathBuf {
        self.root.join("again").join(digest.to_string())
    }

    /// The exclusive lock; `None` while somebody is putting a blob.
    fn try_lock(&self) -> Result<Option<File>, DataError> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(DataError::os("lock", &self.root)(e)),
        }
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

/// Whether the blob is at `path`, unharmed. One that was cut or damaged is put anew.
fn is_here(path: &Path, (digest, size): (Digest, u64), watch: &Watch<'_>) -> Result<bool, DataError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(DataError::os("read", path)(e)),
    };
    if file.metadata().map_err(DataError::os("read", path))?.len() != size {
        return Ok(false);
    }
    // What cannot be read is no copy either.
    let found = hash(&file, &Watch { progress: &|_, _| {}, ..*watch });
    watch.check()?;
    Ok(found.is_ok_and(|(found, _)| found == digest))
}

/// When the file was put, or shared with a tree since.
fn changed(meta: &std::fs::Metadata) -> SystemTime {
    let seconds = u64::try_from(meta.ctime()).unwrap_or_default();
    let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos)
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = std::fs::read_dir(dir).map_err(DataError::os("read", dir))?;
    entries.map(|e| e.map(|e| e.path()).map_err(DataError::os("read", dir))).collect()
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Why a copy ended early; the side that failed decides what is said.
pub(crate) enum Stop {
    Read(io::Error),
    Write(io::Error),
    Asked,
}

impl Stop {
    pub(crate) fn at(self, from: &Path, to: &Path) -> DataError {
        match self {
            Self::Read(e) => DataError::os("read", from)(e),
            Self::Write(e) => DataError::os("write", to)(e),
            Self::Asked => DataError::Stopped,
        }
    }
}

/// Copies `source` to its end and returns digest and size.
pub(crate) fn copy_hashing(
    source: &mut dyn Read,
    mut to: &File,
    watch: &Watch<'_>,
) -> Result<(Digest, u64), Stop> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        watch.check().map_err(|_| Stop::Asked)?;
        let n = match source.read(&mut buffer) {
            Ok(0) => return Ok((Digest(*hasher.finalize().as_bytes()), size)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Stop::Read(e)),
        };
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n]).map_err(Stop::Write)?;
        size += n as u64;
        (watch.progress)(n as u64, None);
    }
}

/// Hashes what is read.
struct Hashing<R>(R, blake3::Hasher);

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(to)?;
        self.1.update(&to[..n]);
        Ok(n)
    }
}

/// Writes the file of `size` bytes whose packed form is `packed`, and returns the digest of that form.
pub(crate) fn unpack_hashing(packed: &File, size: u64, to: &File, watch: &Watch<'_>) -> Result<Digest, Stop> {
    let mut reader = BufReader::with_capacity(CHUNK, Hashing(packed, blake3::Hasher::new()));
    let mut told = 0;
    let mut each = |more| {
        told += more;
        (watch.progress)(more, None);
        !(watch.stop)()
    };
    sparse::unpack(&mut reader, size, to, &mut each).map_err(|failed| match failed {
        UnpackError::Read(e) => Stop::Read(e),
        UnpackError::Write(e) => Stop::Write(e),
    })?;
    watch.check().map_err(|_| Stop::Asked)?;
    (watch.progress)(size.saturating_sub(told), None);
    Ok(Digest(*reader.into_inner().1.finalize().as_bytes()))
}

/// Copies without bringing the bytes into this process; false if the kernel cannot. Nothing useful is in `to` then, but its cursor is at the start.
pub(crate) fn copy_in_kernel(source: &File, to: &File, watch: &Watch<'_>) -> Result<bool, Stop> {
    let (mut from, mut at) = (0_i64, 0_i64);
    loop {
        watch.check().map_err(|_| Stop::Asked)?;
        match nix::fcntl::copy_file_range(source, Some(&mut from), to, Some(&mut at), 64 * CHUNK) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(
                nix::Error::EXDEV
                | nix::Error::EINVAL
                | nix::Error::ENOSYS
                | nix::Error::EOPNOTSUPP
                | nix::Error::EPERM,
            ) if at == 0 => return Ok(false),
            Err(e) => return Err(Stop::Write(e.into())),
        }
    }
}

/// Digest and size of a file from its first byte on.
pub(crate) fn hash(mut file: &File, watch: &Watch<'_>) -> Result<(Digest, u64), Stop> {
    file.seek(SeekFrom::Start(0)).map_err(Stop::Read)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        watch.check().map_err(|_| Stop::Asked)?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok((Digest(*hasher.finalize().as_bytes()), size)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
                (watch.progress)(n as u64, None);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Stop::Read(e)),
        }
    }
}
