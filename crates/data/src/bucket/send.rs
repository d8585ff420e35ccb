//! One file to its key: as a whole, or in parts if it is large, of which nothing can be seen before all files are there.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use md5::{Digest as _, Md5};
use sha2::{Digest as _, Sha256};

use super::error::BucketError;
use super::export::{Job, Work};
use super::get::PART;
use super::journal::{Done, Event, Upload};
use super::outgoing::{OutFile, State};
use super::refusal::{Aim, Refusal};
use super::store::{About, When};
use super::sums::of_tag;
use super::wire::{Payload, Piece, Sent};
use super::{Provider, gs, s3};
use crate::blob::Digest;
use crate::{DataError, locked};

/// Files up to this size are held in memory while they are sent.
const SMALL: u64 = 1 << 20;
/// Files up to this size are sent as a whole.
const SINGLE: u64 = 64 << 20;
/// Most parts of an upload.
const PARTS: u64 = 10_000;
/// Bytes of a file that are read at once.
const READ: usize = 256 << 10;
/// How often what arrives damaged is sent.
const TRIES: u32 = 3;

/// A large file on its way.
#[derive(Debug)]
pub(super) struct Large {
    /// Position in the outbox.
    at: usize,
    file: Arc<File>,
    state: State,
    /// Of the upload (S3), or its address (Google).
    id: String,
    part: u64,
    tags: Mutex<Vec<Option<String>>>,
    digests: Mutex<Option<Digests>>,
    /// Parts that are not there yet, and the digest.
    left: AtomicUsize,
}

/// What a file has.
#[derive(Clone, Copy, Debug)]
struct Digests {
    blake3: Digest,
    sha256: [u8; 32],
    crc32c: u32,
    md5: Option<[u8; 16]>,
}

/// Sends a file, or begins to.
pub(super) async fn file(work: &Arc<Work>, at: usize) -> Result<(), BucketError> {
    let out = &work.outbox.files[at];
    let (file, state) = out.open(work.root.as_ref())?;
    if let Some(done) = work.journal.done(&out.path).filter(|done| done.state == state) {
        work.progress.done.fetch_add(out.size, Ordering::Relaxed);
        locked(&work.done)[at] = Some(done);
        return Ok(());
    }
    if out.size > SINGLE {
        return match work.provider() {
            Provider::S3 => large(work, at, file, state).await,
            Provider::Gs => resumable(work, at, file, state).await,
        };
    }
    let (payload, digests) = prepare(work, out, &file).await?;
    let key = work.key(&out.path);
    let mut tries = 0;
    loop {
        let put = work.store.put(&key, payload.clone(), &When::Always).await;
        let about = accepted(work, out, (&file, state), put)?;
        unchanged(out, &file, state)?;
        if is_there(work, &key, out.size, &about, digests).await? {
            if matches!(payload, Payload::Bytes(_)) {
                work.progress.done.fetch_add(out.size, Ordering::Relaxed);
            }
            return work.finished(at, Done { state, blake3: digests.blake3, tag: about.tag });
        }
        tries += 1;
        if tries == TRIES {
            let why = "the bucket has other bytes than were sent";
            return Err(BucketError::Damaged { key: work.store.wire.at().of_key(&key), why });
        }
    }
}

/// What came of a write; if that is an error, the file itself may be the reason.
fn accepted<T>(
    work: &Work,
    out: &OutFile,
    (file, state): (&File, State),
    answer: Result<Result<T, Refusal>, BucketError>,
) -> Result<T, BucketError> {
    let refused = |refusal| Err(work.store.refused(refusal, &work.key(&out.path), Aim::Write));
    answer.and_then(|answer| answer.or_else(refused)).map_err(|error| match unchanged(out, file, state) {
        Err(changed @ DataError::Changed { .. }) => changed.into(),
        _ => error,
    })
}

fn unchanged(out: &OutFile, file: &File, state: State) -> Result<(), DataError> {
    let now = State::of(&file.metadata().map_err(|e| out.failed(e))?);
    if now == state { Ok(()) } else { Err(out.changed()) }
}

async fn prepare(work: &Work, out: &OutFile, file: &Arc<File>) -> Result<(Payload, Digests), BucketError> {
    if out.size <= SMALL {
        let mut bytes = vec![0; usize::try_from(out.size).unwrap_or_default()];
        file.read_exact_at(&mut bytes, 0).map_err(|e| out.failed(e))?;
        let mut crc = crc_fast::Digest::new(Crc32Iscsi);
        crc.update(&bytes);
        let digests = Digests {
            blake3: Digest::of(&bytes),
            sha256: [0; 32],
            crc32c: u32::try_from(crc.finalize()).unwrap_or_default(),
            md5: Some(Md5::digest(&bytes).into()),
        };
        return Ok((Payload::Bytes(Bytes::from(bytes)), digests));
    }
    let digests = digests(out, file, 0..out.size).await?;
    let sent = Sent::new(&work.progress.done);
    let (file, length, sha256) = (Arc::clone(file), out.size, digests.sha256);
    Ok((Payload::File(Piece { file, from: 0, length, sha256, sent }), digests))
}

/// Reads a part of a file for its digests.
async fn digests(
    out: &OutFile,
    file: &Arc<File>,
    range: std::ops::Range<u64>,
) -> Result<Digests, BucketError> {
    let file = Arc::clone(file);
    let read = move || -> io::Result<Digests> {
        let (mut blake3, mut sha256) = (blake3::Hasher::new(), Sha256::new());
        let mut crc = crc_fast::Digest::new(Crc32Iscsi);
        let mut buffer = vec![0; READ];
        let mut at = range.start;
        while at < range.end {
            let length = usize::try_from(range.end - at).unwrap_or(READ).min(READ);
            file.read_exact_at(&mut buffer[..length], at)?;
            blake3.update(&buffer[..length]);
            sha256.update(&buffer[..length]);
            crc.update(&buffer[..length]);
            at += length as u64;
        }
        let crc32c = u32::try_from(crc.finalize()).unwrap_or_default();
        Ok(Digests {
            blake3: Digest(*blake3.finalize().as_bytes()),
            sha256: sha256.finalize().into(),
            crc32c,
            md5: None,
        })
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(io::Error::other).and_then(|read| read);
    Ok(read.map_err(|e| out.failed(e))?)
}

/// Whether what the bucket has is what was sent: by a checksum of the answer, else by asking for the object.
async fn is_there(
    work: &Work,
    key: &str,
    size: u64,
    about: &About,
    digests: Digests,
) -> Result<bool, BucketError> {
    if let Some(crc32c) = about.expected.crc32c {
        return Ok(crc32c == digests.crc32c);
    }
    if about.expected.md5.is_some() && about.expected.md5 == digests.md5 {
        return Ok(true);
    }
    let Some(found) = work.store.about(key).await? else { return Ok(false) };
    Ok(found.size == size && (about.tag.is_empty() || found.tag == about.tag))
}

/// Begins, or goes on with, the parts of a large file.
async fn large(work: &Arc<Work>, at: usize, file: Arc<File>, state: State) -> Result<(), BucketError> {
    let out = &work.outbox.files[at];
    let part = PART.max((out.size.div_ceil(PARTS)).next_multiple_of(1 << 20));
    let earlier = work.journal.upload(&out.path);
    let earlier = earlier.filter(|upload| upload.state == state && upload.part == part);
    let upload = match earlier {
        Some(upload) if is_open(work, &out.path, &upload.id).await? => upload,
        _ => {
            let id = work.store.begin(&work.key(&out.path)).await?;
            let upload = Upload { state, id, part, parts: std::collections::HashMap::new() };
            work.journal.add(Event::Begun { path: out.path.clone(), upload: upload.clone() })?;
            work.journal.flush()?;
            upload
        }
    };
    let count = usize::try_from(out.size.div_ceil(part)).unwrap_or(usize::MAX);
    let tags: Vec<_> = (0..count).map(|n| upload.parts.get(&n).cloned()).collect();
    let missing: Vec<_> = (0..count).filter(|n| tags[*n].is_none()).collect();
    let sent = (0..count).filter(|n| tags[*n].is_some()).map(|n| length(out.size, part, n)).sum();
    work.progress.done.fetch_add(sent, Ordering::Relaxed);
    let left = AtomicUsize::new(missing.len() + 1);
    let (tags, digests) = (Mutex::new(tags), Mutex::new(None));
    let large = Arc::new(Large { at, file, state, id: upload.id, part, tags, digests, left });
    let parts = missing.into_iter().map(|n| (u64::MAX - 1 - n as u64, Job::Part(Arc::clone(&large), n)));
    work.queue.push(parts);
    work.queue.push([(u64::MAX, Job::Digest(Arc::clone(&large)))]);
    Ok(())
}

fn length(size: u64, part: u64, n: usize) -> u64 {
    (size - n as u64 * part).min(part)
}

/// Whether an upload that was begun can be gone on with.
async fn is_open(work: &Work, path: &str, id: &str) -> Result<bool, BucketError> {
    let ask = s3::parts(&work.key(path), id);
    Ok(work.store.wire.send(&ask).await?.is_ok())
}

/// Sends one part.
pub(super) async fn part(work: &Arc<Work>, large: &Arc<Large>, n: usize) -> Result<(), BucketError> {
    let out = &work.outbox.files[large.at];
    let (from, length) = (n as u64 * large.part, length(out.size, large.part, n));
    let digests = digests(out, &large.file, from..from + length).await?;
    let (file, sent) = (Arc::clone(&large.file), Sent::new(&work.progress.done));
    let piece = Piece { file, from, length, sha256: digests.sha256, sent };
    let key = work.key(&out.path);
    let ask = s3::part(&key, &large.id, n + 1).payload(Payload::File(piece));
    let response = accepted(work, out, (&large.file, large.state), work.store.wire.send(&ask).await)?;
    let tag = s3::tag(&response);
    unchanged(out, &large.file, large.state)?;
    work.journal.add(Event::Part { path: out.path.clone(), n, tag: tag.clone() })?;
    // Whoever goes on after a death does not send it again.
    work.journal.flush()?;
    locked(&large.tags)[n] = Some(tag);
    large.step(work);
    Ok(())
}

/// Reads a large file for its digest.
pub(super) async fn digest(work: &Arc<Work>, large: &Arc<Large>) -> Result<(), BucketError> {
    let out = &work.outbox.files[large.at];
    let digests = digests(out, &large.file, 0..out.size).await?;
    unchanged(out, &large.file, large.state)?;
    *locked(&large.digests) = Some(digests);
    large.step(work);
    Ok(())
}

impl Large {
    /// One thing more is done; after the last it waits for the other files.
    fn step(self: &Arc<Self>, work: &Work) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            locked(&work.ready).push(Arc::clone(self));
        }
    }
}

/// Makes one object of what was sent of a large file.
pub(super) async fn complete(work: &Arc<Work>, large: &Large) -> Result<(), BucketError> {
    let out = &work.outbox.files[large.at];
    let digests = (*locked(&large.digests)).ok_or_else(|| out.changed())?;
    let tag = match work.provider() {
        Provider::S3 => complete_parts(work, large, out).await?,
        Provider::Gs => complete_resumable(work, large, (out, digests)).await?,
    };
    unchanged(out, &large.file, large.state)?;
    work.finished(large.at, Done { state: large.state, blake3: digests.blake3, tag })?;
    Ok(work.journal.flush()?)
}

async fn complete_parts(work: &Work, large: &Large, out: &OutFile) -> Result<String, BucketError> {
    let key = work.key(&out.path);
    let damaged = || BucketError::Damaged {
        key: work.store.wire.at().of_key(&key),
        why: "the bucket has other bytes than were sent",
    };
    let tags: Option<Vec<String>> = locked(&large.tags).iter().cloned().collect();
    let tags = tags.ok_or_else(damaged)?;
    let expected = joined(&tags);
    let no = join(work, large, (&key, &tags)).await?;
    let there = work.store.about(&key).await?;
    let there = there.filter(|about| about.size == out.size);
    match (no, there, expected) {
        // The answer to an earlier try was lost: what is there tells.
        (Some(no), Some(about), expected) => {
            let is_ours = expected.map_or(no.is_missing(), |expected| about.tag == expected);
            if is_ours { Ok(about.tag) } else { Err(work.store.refused(no, &key, Aim::Write)) }
        }
        (Some(no), None, _) => Err(work.store.refused(no, &key, Aim::Write)),
        (None, Some(about), Some(expected)) if about.tag.contains('-') && about.tag != expected => {
            Err(damaged())
        }
        (None, Some(about), _) => Ok(about.tag),
        (None, None, _) => Err(damaged()),
    }
}

/// Asks for one object of all parts; the refusal if there is one.
async fn join(
    work: &Work,
    large: &Large,
    (key, tags): (&str, &[String]),
) -> Result<Option<Refusal>, BucketError> {
    let body = Payload::Bytes(Bytes::from(s3::completion(tags)));
    let ask = s3::complete(key, &large.id).payload(body);
    let mut retries = work.store.wire.retries();
    loop {
        let response = match work.store.wire.send(&ask).await? {
            Ok(response) => response,
            Err(refusal) => return Ok(Some(refusal)),
        };
        let text = work.store.text(response).await?;
        // An answer that begins well may still say no.
        let Some(refusal) = Refusal::of_body(&text) else {
            return s3::completed(&text).map(|_| None).map_err(|why| work.store.odd(why));
        };
        if !refusal.passes() {
            return Ok(Some(refusal));
        }
        let failed = work.store.refused(refusal, key, Aim::Write);
        retries.after_failure().await.map_err(|()| failed)?;
    }
}

/// The tag that S3 makes of those of the parts, where they are digests.
fn joined(tags: &[String]) -> Option<String> {
    let mut md5 = Md5::new();
    for tag in tags {
        md5.update(of_tag(tag)?);
    }
    let hex = u128::from_be_bytes(md5.finalize().into());
    Some(format!("{hex:032x}-{}", tags.len()))
}

/// Sends a large file to Google but for its last piece, with which the object appears.
async fn resumable(work: &Arc<Work>, at: usize, file: Arc<File>, state: State) -> Result<(), BucketError> {
    let out = &work.outbox.files[at];
    let digests = digests(out, &file, 0..out.size).await?;
    let id = work.store.begin(&work.key(&out.path)).await?;
    let (tags, left) = (Mutex::default(), AtomicUsize::new(1));
    let large =
        Arc::new(Large { at, file, state, id, part: PART, tags, digests: Mutex::new(Some(digests)), left });
    let last = (out.size - 1) / PART * PART;
    let mut from = 0;
    while from < last {
        let response = piece(work, &large, out, from).await?;
        unchanged(out, &large.file, state)?;
        let received = gs::received(&response);
        if received <= from || received > last {
            return Err(work.store.odd("it does not say how much of an upload is there".to_owned()));
        }
        // What is not there of a piece is sent again with the next.
        from = received;
    }
    large.step(work);
    Ok(())
}

/// Sends a piece of a file to Google.
async fn piece(
    work: &Work,
    large: &Large,
    out: &OutFile,
    from: u64,
) -> Result<reqwest::Response, BucketError> {
    let last = (out.size - 1) / PART * PART;
    let end = if from == last { out.size } else { (from + PART).min(last) };
    let (file, sent) = (Arc::clone(&large.file), Sent::new(&work.progress.done));
    let payload = Payload::File(Piece { file, from, length: end - from, sha256: [0; 32], sent });
    let range = format!("bytes {from}-{}/{}", end - 1, out.size);
    let key = work.key(&out.path);
    let ask = gs::piece(&key, &large.id, &range).payload(payload);
    accepted(work, out, (&large.file, large.state), work.store.wire.send(&ask).await)
}

async fn complete_resumable(
    work: &Work,
    large: &Large,
    (out, digests): (&OutFile, Digests),
) -> Result<String, BucketError> {
    let key = work.key(&out.path);
    let response = piece(work, large, out, (out.size - 1) / PART * PART).await?;
    let about = work.store.written(response).await?;
    if is_there(work, &key, out.size, &about, digests).await? {
        return Ok(about.tag);
    }
    let why = "the bucket has other bytes than were sent";
    Err(BucketError::Damaged { key: work.store.wire.at().of_key(&key), why })
}

/// Ends uploads of which nothing will come; those that are gone are fine.
pub(super) async fn abort(work: &super::store::Store, key: &str, id: &str) -> Result<(), BucketError> {
    match work.wire.send(&s3::abort(key, id)).await? {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.is_missing() => Ok(()),
        Err(refusal) => Err(work.refused(refusal, key, Aim::Write)),
    }
}
