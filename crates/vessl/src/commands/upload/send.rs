//! Sends what a server lacks of some files: small ones, and chunks of large ones, many at a time, others by themselves and from where
//! they stopped, several at once. It makes no version.
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use vessl_data::blob::Digest;
use vessl_data::locked;

use super::local::{Item, Local, Part};
use crate::client::{Announced, Client, Pieces, UploadRef};
use crate::error::{Error, Result};
use crate::output::progress::Bars;
use crate::session::Session;

/// A blob of at least so many bytes is sent by itself, unless it is a chunk.
const LARGE: u64 = 1 << 20;
/// Most bytes of blobs that are sent together, and most of those blobs.
const PACK: u64 = 16 << 20;
const IN_PACK: usize = 4096;
/// Bytes of a large file that are read at once.
const PIECE: usize = 256 << 10;
/// What is sent at the same time.
const AT_ONCE: usize = 4;
/// Digests that are asked about at once.
const ASKED: usize = 40_000;
/// How often a blob is tried again of which nothing came.
const TRIES: u32 = 5;
/// The pause before that.
const AGAIN: Duration = Duration::from_millis(200);

/// A blob, and one of the files that it is of.
#[derive(Clone, Copy, Debug)]
struct Blob {
    digest: Digest,
    local: usize,
    item: usize,
    part: Part,
    stored: u64,
}

impl Blob {
    fn is_large(&self) -> bool {
        self.stored >= LARGE && !matches!(self.part, Part::Chunk(_))
    }
}

/// What is sent as one.
#[derive(Debug)]
enum Parcel {
    Pack(Vec<Blob>),
    Large(Blob),
}

/// What all who send work with.
#[derive(Debug)]
struct Work {
    locals: Arc<Vec<Local>>,
    upload: UploadRef,
    parcels: Mutex<VecDeque<Parcel>>,
    /// Bytes that are on the server, with those that were before.
    moved: Arc<AtomicU64>,
    /// Those of large files that were there before.
    before: AtomicU64,
}

/// Sends what the server lacks. Gives the number of bytes that were sent.
pub(super) async fn send_missing(
    client: &mut Client,
    locals: &Arc<Vec<Local>>,
    upload: &UploadRef,
    session: &Session,
) -> Result<u64> {
    let blobs = missing(client, upload, blobs(locals)).await?;
    let files: HashSet<(usize, usize)> = blobs.iter().map(|blob| (blob.local, blob.item)).collect();
    let (count, total) = (files.len(), blobs.iter().map(|blob| blob.stored).sum());
    if blobs.is_empty() {
        return Ok(0);
    }
    let work = Arc::new(Work {
        locals: Arc::clone(locals),
        upload: upload.clone(),
        parcels: Mutex::new(parcels(blobs)),
        moved: Arc::default(),
        before: AtomicU64::new(0),
    });
    let mut at_work = JoinSet::new();
    for _ in 0..AT_ONCE.min(locked(&work.parcels).len()) {
        at_work.spawn(send_waiting(client.another(), Arc::clone(&work)));
    }
    let all = async {
        while let Some(ended) = at_work.join_next().await {
            ended.map_err(|e| Error::Bug(format!("an upload ended: {e}")))??;
        }
        Ok::<_, Error>(())
    };
    let label = if count == 1 { "upload 1 file".to_owned() } else { format!("upload {count} files") };
    Bars::or_lines(&session.out).follow(&label, (&work.moved, total), all).await?;
    Ok(work.moved.load(Relaxed).saturating_sub(work.before.load(Relaxed)))
}

/// Every content once.
fn blobs(locals: &[Local]) -> Vec<Blob> {
    let mut seen = HashSet::new();
    let mut blobs = Vec::new();
    for (local, of) in locals.iter().enumerate() {
        for (n, item) in of.items.iter().enumerate() {
            let new = item.blobs().into_iter().filter(|(digest, ..)| seen.insert(*digest));
            blobs.extend(new.map(|(digest, stored, part)| Blob { digest, local, item: n, part, stored }));
        }
    }
    blobs
}

async fn missing(client: &mut Client, upload: &UploadRef, blobs: Vec<Blob>) -> Result<Vec<Blob>> {
    let by_digest: HashMap<String, Blob> =
        blobs.iter().map(|blob| (blob.digest.to_string(), *blob)).collect();
    let mut missing = Vec::new();
    for asked in blobs.chunks(ASKED) {
        let digests = asked.iter().map(|blob| blob.digest.to_string()).collect();
        let lacks = client.missing(upload, digests).await?;
        missing.extend(lacks.iter().filter_map(|digest| by_digest.get(digest)).copied());
    }
    // As they lie in the directories.
    missing.sort_unstable_by_key(|blob| {
        let at = if let Part::Chunk(at) = blob.part { at } else { 0 };
        (blob.local, blob.item, at)
    });
    Ok(missing)
}

/// The large ones first, so that nobody is left with one at the end.
fn parcels(blobs: Vec<Blob>) -> VecDeque<Parcel> {
    let (mut large, small): (Vec<_>, Vec<_>) = blobs.into_iter().partition(Blob::is_large);
    large.sort_by_key(|blob| std::cmp::Reverse(blob.stored));
    let mut parcels: VecDeque<Parcel> = large.into_iter().map(Parcel::Large).collect();
    let mut pack: Vec<Blob> = Vec::new();
    let mut bytes = 0;
    for blob in small {
        if !pack.is_empty() && (bytes + blob.stored > PACK || pack.len() == IN_PACK) {
            parcels.push_back(Parcel::Pack(std::mem::take(&mut pack)));
            bytes = 0;
        }
        bytes += blob.stored;
        pack.push(blob);
    }
    if !pack.is_empty() {
        parcels.push_back(Parcel::Pack(pack));
    }
    parcels
}

async fn send_waiting(mut client: Client, work: Arc<Work>) -> Result<()> {
    loop {
        let next = locked(&work.parcels).pop_front();
        let sent = match next {
            None => return Ok(()),
            Some(Parcel::Pack(blobs)) => send_pack(&mut client, &work, blobs).await,
            Some(Parcel::Large(blob)) => send_large(&mut client, &work, blob).await,
        };
        if sent.is_err() {
            locked(&work.parcels).clear();
            return sent;
        }
    }
}

async fn send_pack(client: &mut Client, work: &Arc<Work>, blobs: Vec<Blob>) -> Result<()> {
    let bytes = blobs.iter().map(|blob| blob.stored).sum();
    let reader = Arc::clone(work);
    let pack = tokio::task::spawn_blocking(move || reader.pack(&blobs)).await;
    let pack = pack.map_err(|e| Error::Bug(format!("the reader of files ended: {e}")))??;
    client.put_pack(&work.upload, pack).await?;
    work.moved.fetch_add(bytes, Relaxed);
    Ok(())
}

async fn send_large(client: &mut Client, work: &Arc<Work>, blob: Blob) -> Result<()> {
    let mut tries = 0;
    let mut counted = 0;
    loop {
        let here = client.blob(&work.upload, blob.digest).await?;
        let offset = if here.complete { blob.stored } else { here.received };
        if tries == 0 {
            work.before.fetch_add(offset, Relaxed);
            work.moved.fetch_add(offset, Relaxed);
        }
        if here.complete {
            return Ok(());
        }
        tries = if offset > counted { 1 } else { tries + 1 };
        counted = offset;
        let (reader, announced) =
            (Arc::clone(work), Announced { digest: blob.digest, size: blob.stored, offset });
        let read = move |pieces: Pieces| reader.large(blob, offset, &pieces);
        match client.put_blob(&work.upload, announced, &work.moved, read).await {
            Ok(state) if state.complete => return Ok(()),
            // The connection was lost, or somebody else's request is just ending; what came is there.
            Ok(_)
            | Err(Error::Unreachable { .. } | Error::NoAnswer { .. } | Error::Refused { status: 409, .. })
                if tries < TRIES =>
            {
                tokio::time::sleep(AGAIN).await;
            }
            Ok(_) => return Err(client.lost("it does not take in a large file as a whole")),
            Err(error) => return Err(error),
        }
    }
}

impl Work {
    fn of(&self, blob: Blob) -> (&Local, &Item) {
        let local = &self.locals[blob.local];
        (local, &local.items[blob.item])
    }

    /// Small blobs one after the other: of each its digest, its length and its bytes. Blocks.
    fn pack(&self, blobs: &[Blob]) -> Result<Bytes> {
        let mut pack = Vec::new();
        for blob in blobs {
            let (local, item) = self.of(*blob);
            pack.extend_from_slice(&blob.digest.0);
            pack.extend_from_slice(&blob.stored.to_le_bytes());
            pack.extend_from_slice(&local.read_part(item, (blob.part, blob.stored))?);
        }
        Ok(pack.into())
    }

    /// A large blob from an offset on. Blocks.
    fn large(&self, blob: Blob, offset: u64, to: &Pieces) -> Result<()> {
        let (local, item) = self.of(blob);
        if blob.part == Part::Recipe {
            let recipe = local.read_part(item, (blob.part, blob.stored))?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(recipe.len());
            for piece in recipe[from..].chunks(PIECE) {
                if to.blocking_send(Ok(Bytes::copy_from_slice(piece))).is_err() {
                    break;
                }
            }
            return Ok(());
        }
        let read = local.read(item, (offset, PIECE), |bytes| to.blocking_send(Ok(bytes.into())).is_ok());
        if read.is_err() {
            // The server must not take what came for the whole.
            let _ = to.blocking_send(Err(std::io::Error::other("the file cannot be read any more")));
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_travel_together_and_large_ones_first() {
        let part = Part::Whole;
        let blob = |stored| Blob { digest: Digest([0; 32]), local: 0, item: 0, part, stored };
        let check = |sizes: &[u64], expected: &[&[u64]]| {
            let parcels = parcels(sizes.iter().map(|size| blob(*size)).collect());
            let shown: Vec<Vec<u64>> = parcels
                .iter()
                .map(|parcel| match parcel {
                    Parcel::Pack(blobs) => blobs.iter().map(|blob| blob.stored).collect(),
                    Parcel::Large(blob) => vec![blob.stored],
                })
                .collect();
            assert_eq!(shown, expected, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[1, 2, 0], &[&[1, 2, 0]]);
        check(&[1, LARGE, 2, LARGE + 1], &[&[LARGE + 1], &[LARGE], &[1, 2]]);
        let most = LARGE - 1;
        check(&[most; 17], &[&[most; 16], &[most]]);
        let many = parcels(vec![blob(0); IN_PACK + 1]);
        assert_eq!(many.len(), 2);
    }
}
