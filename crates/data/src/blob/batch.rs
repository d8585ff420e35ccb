//! Blobs that are put together, and are on disk together with one sync: none of them is a blob before. Small ones are in packs.
use std::collections::HashSet;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::index::{self, LARGEST_PACK, Packed};
use super::stream::{Stop, copy_hashing, copy_in_kernel, hash};
use super::{Digest, MODE, Put, Store};
use crate::dir::Modified;
use crate::sparse;
use crate::{DataError, Watch, durable, locked};

/// From so many files on one sync of the file system is cheaper than one of each. Below, it would wait for what others write there.
pub const MANY: usize = 32;
/// Largest blob that is put into a pack, in bytes.
pub const LARGEST_IN_PACK: u64 = 4 << 20;

/// Blobs on their way in. They are in a directory of their own in `tmp/` until all of them are on disk.
#[derive(Debug)]
pub struct Batch {
    store: Store,
    dir: tempfile::TempDir,
    /// The locked directory, opened before anything is written, so that it is told of every failed write.
    disk: File,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Files that have been named.
    names: u64,
    loose: Vec<Loose>,
    filled: Vec<Filled>,
    filling: Option<Filling>,
    known: HashSet<Digest>,
}

/// A blob that will have a file of its own.
#[derive(Debug)]
pub(super) struct Loose {
    pub(super) from: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A pack that is being filled.
#[derive(Debug)]
struct Filling {
    path: PathBuf,
    file: File,
    size: u64,
    entries: Vec<Packed>,
}

/// A pack that nothing is added to, with its index.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) name: Digest,
    pub(super) data: PathBuf,
    pub(super) index: PathBuf,
}

impl Batch {
    /// Begins one. What it holds is gone if it is dropped before its end.
    pub fn begin(store: &Store) -> Result<Self, DataError> {
        let (dir, disk) = store.tmp_dir("batch-")?;
        Ok(Self { store: store.clone(), dir, disk, inside: Mutex::default() })
    }

    /// Puts some bytes: into a pack, if they are few.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Put, DataError> {
        self.add(Digest::of(bytes), bytes)
    }

    /// The same for bytes whose digest the caller has made.
    pub(crate) fn add(&self, digest: Digest, bytes: &[u8]) -> Result<Put, DataError> {
        let size = bytes.len() as u64;
        if size > LARGEST_IN_PACK {
            let name = Path::new("the bytes to store");
            return self
                .put_loose((name, None), &Watch::NONE, |to| copy_hashing(&mut &*bytes, to, &Watch::NONE));
        }
        let here = self.store.is_here_again((digest, size), &Watch::NONE)?;
        Ok(Put { digest, size, new: !here && self.pack(digest, bytes)? })
    }

    /// Puts some bytes into a pack, whether they are in the store already or not. False if they are in the batch.
    pub(super) fn pack(&self, digest: Digest, bytes: &[u8]) -> Result<bool, DataError> {
        let mut inside = locked(&self.inside);
        // An index has every blob once.
        let new = inside.known.insert(digest);
        if new {
            inside.pack(self.dir.path(), digest, bytes)?;
        }
        Ok(new)
    }

    /// Puts a file from its first to its last byte: shares or copies inside the kernel where that is possible. A new blob was last
    /// modified when its source was, so that a tree may share it. Errors call the source `name`.
    pub(crate) fn put_file(&self, source: &File, name: &Path, watch: &Watch<'_>) -> Result<Put, DataError> {
        let modified = Modified::of_file(source).map_err(DataError::os("read", name))?;
        self.put_loose((name, Some(modified)), watch, |to| {
            if copy_in_kernel(source, to, watch)? {
                return hash(to, watch);
            }
            let mut source = source;
            source.seek(SeekFrom::Start(0)).map_err(Stop::Read)?;
            copy_hashing(&mut source, to, watch)
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
        let put = self.put_loose((name, None), watch, |to| {
            let watch = Watch { progress: &tell, stop: watch.stop };
            copy_hashing(&mut sparse::Packed::of(source, size), to, &watch)
        })?;
        (watch.progress)(size.saturating_sub(told.into_inner()), None);
        Ok(put)
    }

    fn put_loose(
        &self,
        (name, modified): (&Path, Option<Modified>),
        watch: &Watch<'_>,
        fill: impl FnOnce(&File) -> Result<(Digest, u64), Stop>,
    ) -> Result<Put, DataError> {
        let from = locked(&self.inside).name(self.dir.path());
        let failed = || DataError::os("write", &self.store.root);
        let file = new_file(&from).map_err(failed())?;
        let (digest, size) = fill(&file).map_err(|stop| stop.at(name, &self.store.root))?;
        if self.store.is_here_again((digest, size), watch)? || !locked(&self.inside).known.insert(digest) {
            std::fs::remove_file(&from).map_err(failed())?;
            return Ok(Put { digest, size, new: false });
        }
        file.set_permissions(Permissions::from_mode(MODE)).map_err(failed())?;
        if let Some(at) = modified {
            let time = TimeSpec::new(at.seconds, at.nanos.into());
            futimens(&file, &TimeSpec::UTIME_OMIT, &time)
                .map_err(DataError::os("write", &self.store.root))?;
        }
        locked(&self.inside).loose.push(Loose { from, digest, size });
        Ok(Put { digest, size, new: true })
    }

    /// Makes all of them blobs. They and their names are on disk when it returns.
    pub fn finish(self) -> Result<(), DataError> {
        let (loose, filled) = self.settle()?;
        let _shared = self.store.lock_shared()?;
        self.store.adopt_locked(&loose, &filled)
    }

    /// Writes everything to disk that will be renamed.
    pub(super) fn settle(&self) -> Result<(Vec<Loose>, Vec<Filled>), DataError> {
        let mut inside = locked(&self.inside);
        inside.close(self.dir.path())?;
        let (loose, filled) = (std::mem::take(&mut inside.loose), std::mem::take(&mut inside.filled));
        let of_packs = filled.iter().flat_map(|pack| [&pack.data, &pack.index]);
        let files: Vec<&PathBuf> = loose.iter().map(|blob| &blob.from).chain(of_packs).collect();
        sync_all(&self.disk, &files).map_err(DataError::os("write", &self.store.root))?;
        Ok((loose, filled))
    }
}

/// Waits until files are on disk, which are new and in the file system of `disk`.
fn sync_all(disk: &File, files: &[&PathBuf]) -> io::Result<()> {
    if files.len() < MANY {
        return files.iter().try_for_each(|path| File::open(path)?.sync_all());
    }
    Ok(nix::unistd::syncfs(disk)?)
}

impl Inside {
    /// The path of a new file.
    fn name(&mut self, dir: &Path) -> PathBuf {
        self.names += 1;
        dir.join(self.names.to_string())
    }

    fn pack(&mut self, dir: &Path, digest: Digest, bytes: &[u8]) -> Result<(), DataError> {
        let size = bytes.len() as u64;
        if self.filling.as_ref().is_some_and(|filling| filling.size + size > LARGEST_PACK) {
            self.close(dir)?;
        }
        if self.filling.is_none() {
            let path = self.name(dir);
            let file = new_file(&path).map_err(DataError::os("write", &path))?;
            self.filling = Some(Filling { path, file, size: 0, entries: Vec::new() });
        }
        if let Some(Filling { path, file, size: end, entries }) = &mut self.filling {
            file.write_all(bytes).map_err(DataError::os("write", &*path))?;
            let small = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            entries.push(Packed { digest, offset: small(*end), size: small(size) });
            *end += size;
        }
        Ok(())
    }

    /// Writes the index of the pack that is being filled.
    fn close(&mut self, dir: &Path) -> Result<(), DataError> {
        let Some(Filling { path: data, mut entries, .. }) = self.filling.take() else { return Ok(()) };
        let index = self.name(dir);
        let text = index::print(&mut entries);
        new_file(&index)
            .and_then(|mut file| file.write_all(&text))
            .map_err(DataError::os("write", &index))?;
        self.filled.push(Filled { name: Digest::of(&text), data, index });
        Ok(())
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

impl Store {
    /// Names what is on disk already, the packs before their indexes. The caller holds a lock.
    pub(super) fn adopt_locked(&self, loose: &[Loose], filled: &[Filled]) -> Result<(), DataError> {
        let rename = |from: &Path, to: &Path| std::fs::rename(from, to).map_err(DataError::os("write", to));
        self.adopt_loose(loose)?;
        if filled.is_empty() {
            return Ok(());
        }
        let dir = self.packs.dir();
        durable::create_dir_all(dir, 0o700).map_err(DataError::os("make", dir))?;
        let sync = || durable::sync_dir(dir).map_err(DataError::os("sync", dir));
        for pack in filled {
            rename(&pack.data, &self.packs.files(pack.name).data)?;
        }
        sync()?;
        for pack in filled {
            rename(&pack.index, &self.packs.files(pack.name).index)?;
        }
        sync()
    }
}
