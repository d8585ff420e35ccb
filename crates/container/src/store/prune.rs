//! Removal of what nobody needs: images, layers, half work of the dead.
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::layers::remove_tree;
use super::lock::How;
use super::record::{self, image_lock};
use super::{Freed, Store, StoreError};

/// Downloads that are kept for a later pull when work is swept.
const KEEP_PARTS: Duration = Duration::from_hours(24);

pub(super) fn prune(store: &Store) -> Result<Freed, StoreError> {
    let mut freed = Freed::default();
    for record in record::all(store)? {
        freed.images += u32::from(forget(store, &record)?);
    }
    let needed = needed(store)?;
    for name in names(&store.root.join("layers"))? {
        let Some(diff) = name.to_str().filter(|diff| !needed.contains(*diff)) else { continue };
        if let Some(bytes) = remove_layer(store, diff)? {
            freed.layers += 1;
            freed.bytes += bytes;
        }
    }
    freed.bytes += sweep(store, Duration::ZERO)?;
    Ok(freed)
}

/// Layers of the images that are left.
fn needed(store: &Store) -> Result<HashSet<String>, StoreError> {
    Ok(record::all(store)?.into_iter().flat_map(|record| record.layers).collect())
}

/// Removes a record that nobody holds.
fn forget(store: &Store, record: &record::Record) -> Result<bool, StoreError> {
    let Some(lock) = store.lock(&image_lock(&record.reference), How::Exclusive)? else { return Ok(false) };
    let path = record.path(store);
    remove_file(&path)?;
    lock.remove().map_err(|e| StoreError::io("remove the lock of", &path, e))?;
    Ok(true)
}

/// Removes a layer that nobody holds; its bytes.
fn remove_layer(store: &Store, diff: &str) -> Result<Option<u64>, StoreError> {
    let Some(lock) = store.lock(diff, How::Exclusive)? else { return Ok(None) };
    // A pull may have finished an image of it before the lock was ours; now none can.
    if needed(store)?.contains(diff) {
        return Ok(None);
    }
    let dir = store.layer_dir(diff);
    if !dir.exists() {
        // Another prune was faster.
        lock.remove().map_err(|e| StoreError::io("remove the lock of", &dir, e))?;
        return Ok(None);
    }
    let bytes = store.layer(diff).ok().flatten().map_or(0, |layer| layer.size);
    let work = store.work_dir(diff);
    let remove = || {
        // Out of sight in one step; what a crash leaves below `tmp` is swept.
        std::fs::create_dir_all(&work)?;
        remove_tree(&work.join("old"))?;
        std::fs::rename(&dir, work.join("old"))?;
        remove_tree(&work)?;
        lock.remove()
    };
    remove().map_err(|e| StoreError::io("remove", &dir, e))?;
    Ok(Some(bytes))
}

/// Removes the work of processes that died, and downloads that are older than `keep` or empty; the bytes of those.
pub(super) fn sweep(store: &Store, keep: Duration) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let tmp = store.root.join("tmp");
    for name in names(&tmp)? {
        let path = tmp.join(&name);
        let Some(diff) = name.to_str().filter(|name| is_diff(name)) else {
            sweep_file(&path)?;
            continue;
        };
        let Some(lock) = store.lock(diff, How::Exclusive)? else { continue };
        bytes += sweep_work(&path, keep)?;
        if !store.layer_dir(diff).exists() && !path.exists() {
            lock.remove().map_err(|e| StoreError::io("remove the lock of", &path, e))?;
        }
    }
    Ok(bytes)
}

/// Keeps young downloads, as is told by [`KEEP_PARTS`].
pub(super) fn sweep_dead(store: &Store) -> Result<(), StoreError> {
    sweep(store, KEEP_PARTS).map(drop)
}

fn sweep_work(work: &Path, keep: Duration) -> Result<u64, StoreError> {
    let mut bytes = 0;
    let mut kept = false;
    for name in names(work)? {
        let path = work.join(&name);
        if Path::new(&name).extension().is_none_or(|e| e != "part") {
            remove_tree(&path).map_err(|e| StoreError::io("remove", &path, e))?;
            continue;
        }
        let size = path.metadata().map_or(0, |meta| meta.size());
        if size == 0 || age(&path) >= keep {
            bytes += size;
            remove_file(&path)?;
        } else {
            kept = true;
        }
    }
    if !kept {
        remove_tree(work).map_err(|e| StoreError::io("remove", work, e))?;
    }
    Ok(bytes)
}

/// A record that was being written; a live writer needs milliseconds.
fn sweep_file(path: &Path) -> Result<(), StoreError> {
    if age(path) >= Duration::from_mins(1) { remove_file(path) } else { Ok(()) }
}

fn is_diff(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn age(path: &Path) -> Duration {
    let modified = path.metadata().and_then(|meta| meta.modified());
    modified.ok().and_then(|then| SystemTime::now().duration_since(then).ok()).unwrap_or_default()
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}

fn names(dir: &Path) -> Result<Vec<OsString>, StoreError> {
    let read = || std::fs::read_dir(dir)?.map(|entry| entry.map(|e| e.file_name())).collect();
    match read() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        done => done.map_err(|e| StoreError::io("read", dir, e)),
    }
}
