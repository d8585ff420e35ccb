//! Removes what nobody needs: files of writers that died, blobs that no tree names, packs that are mostly such blobs. What is being
//! put goes first: nothing is removed while somebody puts a blob.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::index::{LARGEST_PACK, Packed};
use super::packs::Files;
use super::{Batch, Blob, Digest, Freed, Store, UnitName, changed};
use crate::{DataError, durable};

impl Store {
    /// Removes files of `tmp/` whose writers died.
    pub fn sweep(&self) -> Result<Freed, DataError> {
        let mut freed = Freed::default();
        for path in read_dir(&self.root.join("tmp"))? {
            // One that vanishes meanwhile had a living writer.
            let (Ok(file), Ok(meta)) = (File::open(&path), std::fs::symlink_metadata(&path)) else {
                continue;
            };
            if file.try_lock().is_err() {
                continue;
            }
            let bytes = if meta.is_dir() { size_inside(&path) } else { meta.len() };
            let gone =
                if meta.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            if gone.is_ok() {
                freed.count += 1;
                freed.bytes += bytes;
            }
        }
        Ok(freed)
    }

    /// Removes every blob for which `keep` is false and that was not put since `before`, as far as nobody puts a blob at that moment.
    /// A pack without any blob that is kept is removed, and one that is more than half such blobs is written anew without them, if it is
    /// here. What is removed here dies elsewhere too.
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
                    remove(&path)?;
                    digest.map_or(Ok(()), |digest| self.let_die(UnitName::Loose(digest)))?;
                    freed.count += 1;
                    // A tree may still share the bytes.
                    freed.bytes += if meta.nlink() == 1 { meta.len() } else { 0 };
                }
            }
        }
        self.collect_packs(keep, before, &mut freed)?;
        self.collect_away(keep, before, &mut freed)?;
        self.forget_again(before)?;
        Ok(freed)
    }

    fn collect_packs(
        &self,
        keep: &dyn Fn(Digest) -> bool,
        before: SystemTime,
        freed: &mut Freed,
    ) -> Result<(), DataError> {
        self.remove_nameless()?;
        let (_, indexes) = self.packs.all_files()?;
        let mut waste = Vec::new();
        for pack in indexes {
            let Some(_lock) = self.try_lock()? else { continue };
            // What is damaged stays for who looks for damage.
            let Some((entries, came)) = self.packs.read(pack)? else { continue };
            if came >= before || self.was_put_again(pack, before) {
                continue;
            }
            let (kept, gone): (Vec<Packed>, Vec<Packed>) =
                entries.into_iter().partition(|entry| keep(entry.digest));
            let bytes = |entries: &[Packed]| entries.iter().map(|entry| u64::from(entry.size)).sum::<u64>();
            if kept.is_empty() {
                self.remove_pack(pack)?;
                freed.count += gone.len() as u64;
                freed.bytes += bytes(&gone);
            } else if bytes(&gone) > bytes(&kept) && self.packs.files(pack).data.exists() {
                waste.push(Waste { pack, size: bytes(&kept), kept, gone: (gone.len() as u64, bytes(&gone)) });
            }
        }
        let mut waste = waste.as_slice();
        while !waste.is_empty() {
            let mut size = 0;
            let fits = waste.iter().take_while(|pack| {
                size += pack.size;
                size <= LARGEST_PACK
            });
            let (together, rest) = waste.split_at(fits.count().max(1));
            self.rewrite(together, before, freed)?;
            waste = rest;
        }
        Ok(())
    }

    /// Puts what is kept of some packs into one, and then removes them. One with damage stays.
    fn rewrite(&self, packs: &[Waste], before: SystemTime, freed: &mut Freed) -> Result<(), DataError> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let batch = Batch::begin(self)?;
        let mut done = Vec::new();
        for waste in packs {
            // Somebody may have come to rely on it since the lock was last held.
            if self.was_put_again(waste.pack, before) {
                continue;
            }
            let Some(blobs) = self.read_kept(waste)? else { continue };
            for (entry, bytes) in waste.kept.iter().zip(blobs) {
                batch.pack(entry.digest, &bytes)?;
            }
            done.push(waste);
        }
        let (loose, filled) = batch.settle()?;
        self.adopt_locked(&loose, &filled)?;
        for waste in done {
            // The same blobs in the same order are the same pack.
            if filled.iter().all(|new| new.name != waste.pack) {
                self.remove_pack(waste.pack)?;
            }
            freed.count += waste.gone.0;
            freed.bytes += waste.gone.1;
        }
        Ok(())
    }

    /// The blobs of a pack that are kept; `None` if one of them is damaged, or the pack is gone.
    fn read_kept(&self, waste: &Waste) -> Result<Option<Vec<Vec<u8>>>, DataError> {
        let path = self.packs.files(waste.pack).data;
        let mut blobs = Vec::with_capacity(waste.kept.len());
        for entry in &waste.kept {
            let Ok(file) = File::open(&path) else { return Ok(None) };
            let place = (entry.offset.into(), entry.size.into());
            let mut bytes = Vec::new();
            let read = Blob::part(file, path.clone(), place).read_to_end(&mut bytes);
            read.map_err(DataError::os("read", &path))?;
            if Digest::of(&bytes) != entry.digest {
                return Ok(None);
            }
            blobs.push(bytes);
        }
        Ok(Some(blobs))
    }

    /// Removes packs whose writers died before they had an index.
    fn remove_nameless(&self) -> Result<(), DataError> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        let (data, indexes) = self.packs.all_files()?;
        let mut nameless = data.iter().filter(|pack| !indexes.contains(pack));
        nameless.try_for_each(|pack| remove(&self.packs.files(*pack).data))
    }

    /// The index first, so that nobody is sent to a pack that is not there.
    fn remove_pack(&self, pack: Digest) -> Result<(), DataError> {
        let Files { data, index } = self.packs.files(pack);
        remove(&index)?;
        durable::sync_dir(self.packs.dir()).map_err(DataError::os("sync", self.packs.dir()))?;
        if data.exists() {
            remove(&data)?;
        }
        self.let_die(UnitName::Pack(pack))
    }

    /// Notes that a blob, or one of a pack, was put that is here, so that no collection takes it from under the one who put it.
    pub(super) fn note_again(&self, name: Digest) -> Result<(), DataError> {
        let path = self.again(name);
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
        let noted = file.and_then(|file| file.set_modified(SystemTime::now()));
        noted.map_err(DataError::os("write", &path))
    }

    pub(super) fn was_put_again(&self, name: Digest, since: SystemTime) -> bool {
        let noted = std::fs::symlink_metadata(self.again(name)).and_then(|meta| meta.modified());
        noted.is_ok_and(|at| at >= since)
    }

    /// Removes the notes from before `before`, unless somebody is putting a blob.
    fn forget_again(&self, before: SystemTime) -> Result<(), DataError> {
        let Some(_lock) = self.try_lock()? else { return Ok(()) };
        for path in read_dir(&self.root.join("again"))? {
            let noted = std::fs::symlink_metadata(&path).and_then(|meta| meta.modified());
            if noted.is_ok_and(|at| at < before) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn again(&self, name: Digest) -> PathBuf {
        self.root.join("again").join(name.to_string())
    }

    /// The exclusive lock; `None` while somebody is putting a blob.
    pub(super) fn try_lock(&self) -> Result<Option<File>, DataError> {
        let lock = self.lock_file()?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(lock)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(DataError::os("lock", &self.root)(e)),
        }
    }
}

/// A pack that is mostly blobs that nobody needs.
#[derive(Debug)]
struct Waste {
    pack: Digest,
    kept: Vec<Packed>,
    /// Bytes of those.
    size: u64,
    /// Number and bytes of the others.
    gone: (u64, u64),
}

fn remove(path: &Path) -> Result<(), DataError> {
    std::fs::remove_file(path).map_err(DataError::os("remove", path))
}

fn size_inside(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

pub(super) fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = std::fs::read_dir(dir).map_err(DataError::os("read", dir))?;
    entries.map(|e| e.map(|e| e.path()).map_err(DataError::os("read", dir))).collect()
}

pub(super) fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}
