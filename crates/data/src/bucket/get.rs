//! One object into one file: as a whole, or in parts if it is large; gone on with where it was cut off, and compared with every
//! checksum that is known of it.
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use http::header::CONTENT_RANGE;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate};
use nix::sys::time::TimeSpec;
use nix::unistd::linkat;
use reqwest::{Response, StatusCode};

use super::error::BucketError;
use super::import::{Job, Work};
use super::manifest::modified;
use super::refusal::{Aim, Refusal};
use super::s3::TIME;
use super::store::Range;
use super::sums::{Expected, Found};
use crate::dir::{Links, Modified, proc_path};
use crate::{DataError, Owner, locked};

/// What one request brings at most.
pub(super) const PART: u64 = 16 << 20;
/// How often what comes damaged is asked for.
const TRIES: u32 = 3;
/// Bytes that must have come for the tries to begin anew.
const PROGRESS: u64 = 256 << 10;

/// An object that is wanted.
#[derive(Clone, Debug)]
pub(super) struct Want {
    key: String,
    path: String,
    size: u64,
    /// What the picture has.
    tag: String,
    /// What every answer must have; empty if that is not known yet.
    pin: String,
    meta: Option<Meta>,
    expected: Expected,
}

/// What an export's list says of a file.
#[derive(Clone, Copy, Debug)]
struct Meta {
    mode: u32,
    modified: Option<Modified>,
}

/// An object that comes in parts.
#[derive(Debug)]
pub(super) struct Big {
    want: Want,
    file: Arc<File>,
    found: Mutex<Vec<Option<Found>>>,
    left: AtomicUsize,
    /// Whether one brings all of it, because the other end knows no ranges.
    is_taken: AtomicBool,
    tries: u32,
}

/// Brings the object at a position of the picture.
pub(super) async fn object(work: &Arc<Work>, at: usize) -> Result<(), BucketError> {
    let want = work.want(at);
    if work.reuse(&want)? {
        return Ok(());
    }
    let path = Path::new(&want.path);
    let file = work.into.create_file(path, 0o644).map_err(DataError::os("make", path))?;
    if want.size > PART {
        reserve(&file, want.size).map_err(DataError::os("write", path))?;
        return begin(work, want, Arc::new(file), 1).await;
    }
    if want.size > 0 {
        small(work, &want, &file).await?;
    }
    finish(work, &want, &file)
}

async fn small(work: &Work, want: &Want, file: &File) -> Result<(), BucketError> {
    let mut tries = 0;
    loop {
        let why = match bring(work, want, file, None).await? {
            Brought::Bytes(found, expected) => match expected.check(found) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            Brought::NoRanges => "it knows no ranges",
        };
        tries += 1;
        if tries == TRIES {
            return Err(BucketError::Damaged { key: work.store.wire.at().of_key(&want.key), why });
        }
        work.progress.done.fetch_sub(want.size, Ordering::Relaxed);
    }
}

/// Asks what is known of a large object and lets its parts be brought.
async fn begin(work: &Work, mut want: Want, file: Arc<File>, tries: u32) -> Result<(), BucketError> {
    let changed = || BucketError::Changed { key: work.store.wire.at().of_key(&want.key) };
    let about = work.store.about(&want.key).await?.ok_or_else(changed)?;
    if about.size != want.size || !want.pin.is_empty() && about.tag != want.pin {
        return Err(changed());
    }
    want.pin = about.tag;
    want.expected = Expected { blake3: want.expected.blake3, ..about.expected };
    let parts = usize::try_from(want.size.div_ceil(PART)).map_err(|_| changed())?;
    let big = Arc::new(Big {
        want,
        file,
        found: Mutex::new(vec![None; parts]),
        left: AtomicUsize::new(parts),
        is_taken: AtomicBool::new(false),
        tries,
    });
    // What has begun goes before everything else; the first part first.
    work.queue.push((0..parts).map(|n| (u64::MAX - n as u64, Job::Part(Arc::clone(&big), n))));
    Ok(())
}

/// Brings one part of a large object, and sees to the whole after the last.
pub(super) async fn part(work: &Arc<Work>, big: &Arc<Big>, n: usize) -> Result<(), BucketError> {
    if big.is_taken.load(Ordering::SeqCst) {
        return Ok(());
    }
    let from = n as u64 * PART;
    let range = from..(from + PART).min(big.want.size);
    match bring(work, &big.want, &big.file, Some(range)).await? {
        Brought::Bytes(found, _) => {
            locked(&big.found)[n] = Some(found);
            if big.left.fetch_sub(1, Ordering::SeqCst) > 1 || big.is_taken.load(Ordering::SeqCst) {
                return Ok(());
            }
        }
        Brought::NoRanges => {
            if big.is_taken.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            // It has no pieces: what is known of it is compared with the file.
            bring(work, &big.want, &big.file, None).await?;
            locked(&big.found).clear();
        }
    }
    whole(work, big).await
}

/// Compares a large object that is there with what is known of it.
async fn whole(work: &Arc<Work>, big: &Arc<Big>) -> Result<(), BucketError> {
    let found = std::mem::take(&mut *locked(&big.found));
    let found = found.into_iter().flatten().reduce(Found::and);
    let checked = match found {
        Some(found) => big.want.expected.of_pieces().check(found),
        None => Ok(()),
    };
    let checked = match checked {
        Ok(()) => {
            let of_file = Arc::clone(big);
            let read = tokio::task::spawn_blocking(move || {
                of_file.want.expected.check_file(&of_file.file, of_file.want.size)
            });
            let read = read.await.map_err(io::Error::other).and_then(|read| read);
            read.map_err(DataError::os("read", &big.want.path))?
        }
        damaged => damaged,
    };
    let Err(why) = checked else { return finish(work, &big.want, &big.file) };
    if big.tries == TRIES {
        return Err(BucketError::Damaged { key: work.store.wire.at().of_key(&big.want.key), why });
    }
    work.progress.done.fetch_sub(big.want.size, Ordering::Relaxed);
    begin(work, big.want.clone(), Arc::clone(&big.file), big.tries + 1).await
}

/// What came.
enum Brought {
    /// All that was asked for, and what it should have.
    Bytes(Found, Expected),
    /// More than was asked for.
    NoRanges,
}

/// Brings a part of an object, or all of it, to its place in a file.
async fn bring(work: &Work, want: &Want, file: &File, part: Option<Range>) -> Result<Brought, BucketError> {
    let range = part.clone().unwrap_or(0..want.size);
    let (mut at, mut moved_at) = (range.start, range.start);
    let mut expected = want.expected.of_pieces();
    let mut sums = expected.plan();
    let mut pin = want.pin.clone();
    let mut retries = work.store.wire.retries();
    loop {
        let asked = (part.is_some() || at > 0).then_some(at..range.end);
        let mut response = match work.store.get(&want.key, &pin, asked.clone()).await? {
            Ok(response) => response,
            Err(refusal) => return Err(gone(work, want, refusal)),
        };
        let tag = work.store.tag(&response);
        if !pin.is_empty() && !tag.is_empty() && tag != pin {
            return Err(BucketError::Changed { key: work.store.wire.at().of_key(&want.key) });
        }
        pin = if tag.is_empty() { pin } else { tag };
        let mut skip = match begins(&response) {
            None if part.is_some() => return Ok(Brought::NoRanges),
            None => at,
            Some(begin) if asked.is_some() && begin == at => 0,
            Some(_) => return Err(work.store.odd("it answers another range than was asked for".to_owned())),
        };
        if part.is_none() && at == 0 {
            expected = Expected { blake3: want.expected.blake3, ..Expected::of(&response) };
            sums = expected.plan();
        }
        let cut = loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break None,
                Err(error) => break Some(error),
            };
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= old as u64;
            bytes::Buf::advance(&mut chunk, old);
            if at + chunk.len() as u64 > range.end {
                return Err(BucketError::Changed { key: work.store.wire.at().of_key(&want.key) });
            }
            file.write_all_at(&chunk, at).map_err(DataError::os("write", &want.path))?;
            sums.update(&chunk);
            at += chunk.len() as u64;
            work.progress.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        };
        if at == range.end {
            return Ok(Brought::Bytes(sums.finish(range.end - range.start), expected));
        }
        if at >= moved_at + PROGRESS {
            moved_at = at;
            retries = work.store.wire.retries();
        }
        retries.after_failure().await.map_err(|()| work.store.wire.cut(&want.key, cut.as_ref()))?;
    }
}

/// The first byte of an answer that is a part.
pub(super) fn begins(response: &Response) -> Option<u64> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return None;
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    Some(range.and_then(|r| r.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()).unwrap_or(u64::MAX))
}

/// An object that was listed and is not to be had.
fn gone(work: &Work, want: &Want, refusal: Refusal) -> BucketError {
    if refusal.is_missing() || refusal.is_condition() || matches!(refusal.status, 304 | 416) {
        return BucketError::Changed { key: work.store.wire.at().of_key(&want.key) };
    }
    work.store.refused(refusal, &want.key, Aim::Read)
}

/// Room for a large file, so that a full disk is known at the beginning.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    let length = i64::try_from(size).map_err(io::Error::other)?;
    match fallocate(file.as_fd(), FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.set_len(size),
        other => Ok(other?),
    }
}

/// Owner, permissions and time of a file that is whole.
fn finish(work: &Work, want: &Want, file: &File) -> Result<(), BucketError> {
    Ok(dress(file, want.meta, work.owner).map_err(DataError::os("write", &want.path))?)
}

fn dress(file: &File, meta: Option<Meta>, owner: Option<Owner>) -> io::Result<()> {
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(file, Some(user), Some(group))?;
    }
    let Some(meta) = meta else { return Ok(()) };
    file.set_permissions(Permissions::from_mode(meta.mode & 0o777))?;
    if let Some(at) = meta.modified {
        let time = TimeSpec::new(at.seconds, at.nanos.into());
        nix::sys::stat::futimens(file, &TimeSpec::UTIME_OMIT, &time)?;
    }
    Ok(())
}

impl Work {
    fn want(&self, at: usize) -> Want {
        let (path, size, tag) = {
            let seen = locked(&self.seen);
            let object = seen.get(at);
            (object.key.to_owned(), object.size, object.tag.to_owned())
        };
        let listed = self.manifest.get().and_then(|manifest| manifest.file(&path));
        let meta = listed.map(|file| Meta { mode: file.mode, modified: modified(file.modified) });
        // What an export lists has a digest; a copy of the bucket has other tags and the same bytes.
        let is_pin = listed.is_none() && !tag.starts_with(TIME);
        let pin = if is_pin { tag.clone() } else { String::new() };
        let expected = Expected { blake3: listed.map(|file| file.blake3), ..Expected::default() };
        Want { key: self.key(&path), path, size, tag, pin, meta, expected }
    }

    /// Takes a file of the earlier import that is the same.
    fn reuse(&self, want: &Want) -> Result<bool, BucketError> {
        let Some((picture, dir)) = &self.previous else { return Ok(false) };
        let path = Path::new(&want.path);
        let Some(before) = picture.get(&want.path) else { return Ok(false) };
        let is_same = before.size == want.size && !before.tag.is_empty() && before.tag == want.tag;
        if !is_same {
            return Ok(false);
        }
        let Ok(old) = dir.file(path) else { return Ok(false) };
        let about = old.metadata().map_err(DataError::os("read", path))?;
        if about.len() != want.size {
            return Ok(false);
        }
        if !fits(&about, want.meta, self.owner) || !self.share(path, dir)? {
            let new = self.into.create_file(path, 0o644).map_err(DataError::os("make", path))?;
            io::copy(&mut &old, &mut &new).map_err(DataError::os("write", path))?;
            finish(self, want, &new)?;
        }
        self.progress.done.fetch_add(want.size, Ordering::Relaxed);
        Ok(true)
    }

    /// Another name for a file of the earlier import; false where that cannot be.
    fn share(&self, path: &Path, from: &crate::dir::Dir) -> Result<bool, BucketError> {
        let old = from.resolve(path, OFlag::O_PATH | OFlag::O_NOFOLLOW, Links::Refused);
        let old = old.map_err(DataError::os("read", path))?;
        match linkat(AT_FDCWD, &proc_path(&old), &self.into, path, AtFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::EXDEV | Errno::EMLINK | Errno::EPERM | Errno::EACCES | Errno::ENOENT) => Ok(false),
            Err(e) => Err(DataError::os("make", path)(e).into()),
        }
    }
}

/// Whether a file is already as the new one must be, so that both can be one.
fn fits(about: &std::fs::Metadata, meta: Option<Meta>, owner: Option<Owner>) -> bool {
    let (user, group) =
        owner.unwrap_or_else(|| (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()));
    let is_dressed = meta.is_none_or(|meta| {
        let time = meta
            .modified
            .is_none_or(|at| (about.mtime(), about.mtime_nsec()) == (at.seconds, i64::from(at.nanos)));
        about.mode() & 0o777 == meta.mode & 0o777 && time
    });
    about.uid() == user && about.gid() == group && is_dressed
}
