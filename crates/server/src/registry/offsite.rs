//! The blobs in their bucket: pushed there in the background, taken off the disk, removed there, compared with what is noted.
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use vessl_data::Watch;
use vessl_data::blob::{Digest, Stay};
use vessl_data::offsite::{Compared, OffsiteError};
use vessl_data::tree;

use super::{Registry, RegistryError, Result, digest};
use crate::needs::manifests;
use crate::offsite::{Bucket, words};

/// How often it is looked for what agents have put.
const EVERY: Duration = Duration::from_secs(10);
/// How often the bucket is listed.
const COMPARED: Duration = Duration::from_hours(24);
/// Pauses after failures: they double.
const PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

impl Registry {
    /// Keeps the bucket up until the server stops. Nothing else waits for it.
    pub(crate) async fn keep_offsite(self, id: String, stop: CancellationToken) {
        let Some(bucket) = self.bucket.clone() else { return };
        let (mut failures, mut compared) = (0_u32, None);
        while !stop.is_cancelled() {
            let pause = match self.turn(&bucket, &id, &mut compared, &stop).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(
                            bucket = bucket.standing().bucket,
                            "the bucket of the blobs works again"
                        );
                    }
                    failures = 0;
                    bucket.stands(None, None);
                    EVERY
                }
                Err(_) if stop.is_cancelled() => return,
                Err(error) => {
                    let why = crate::chain(&error);
                    tracing::warn!(error = why, "blobs cannot be kept in their bucket; tried again");
                    bucket.stands(None, Some(why));
                    failures = failures.saturating_add(1);
                    PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = bucket.wake.notified(), if failures == 0 => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One of everything.
    async fn turn(
        &self,
        bucket: &Arc<Bucket>,
        id: &str,
        compared: &mut Option<Instant>,
        stop: &CancellationToken,
    ) -> Result<()> {
        let is_due = compared.is_none_or(|at: Instant| at.elapsed() >= COMPARED);
        let (to, id, stop) = (Arc::clone(bucket), id.to_owned(), stop.clone());
        self.blocking(move |_| {
            let backlog = to.offsite.backlog()?;
            to.stands(Some(backlog), to.standing().problem);
            if is_due {
                to.offsite.claim(&id)?;
                tell(&to.offsite.compare()?);
            }
            to.offsite.bury()?;
            let pushed = to.offsite.push(&Watch { progress: &|_, _| {}, stop: &|| stop.is_cancelled() })?;
            if pushed.units > 0 {
                let bytes = words(pushed.bytes);
                tracing::info!(
                    files = pushed.units,
                    bytes,
                    bucket = to.standing().bucket,
                    "blobs were put into their bucket"
                );
            }
            to.stands(Some(to.offsite.backlog()?), None);
            Ok(())
        })
        .await?;
        if is_due {
            *compared = Some(Instant::now());
        }
        self.make_room(bucket).await
    }

    /// Takes off the disk what is above the limit.
    async fn make_room(&self, bucket: &Arc<Bucket>) -> Result<()> {
        let of = Arc::clone(bucket);
        let is_full = self.blocking(move |_| Ok(of.limit > 0 && of.offsite.here()? > of.limit)).await?;
        if !is_full {
            return Ok(());
        }
        let _turn = bucket.turn.lock().await;
        let mut held = Vec::new();
        for stored in self.unfinished().await? {
            let texts = self.store.run_texts(stored.id()).await?;
            held.extend(texts.iter().flat_map(|texts| manifests(&texts.plan)));
        }
        let versions = self.store.manifests().await?;
        let bucket = Arc::clone(bucket);
        self.blocking(move |blobs| {
            let held: HashSet<String> = held.into_iter().collect();
            let mut stay: HashMap<Digest, Stay> = HashMap::new();
            for version in held.iter().chain(versions.iter().filter(|version| !held.contains(*version))) {
                // What is lost is told of elsewhere, and keeps nothing here.
                let Ok(needs) = tree::needs(blobs, digest(version)?) else { continue };
                for name in needs.names {
                    stay.entry(name).or_insert(Stay::Itself);
                }
                if held.contains(version) {
                    stay.extend(needs.content.into_iter().map(|content| (content, Stay::Unit)));
                }
            }
            let stays = |digest| stay.get(&digest).copied().unwrap_or(Stay::May);
            let freed = bucket.offsite.evict(bucket.limit, &stays)?;
            if freed.count > 0 {
                let bytes = words(freed.bytes);
                tracing::info!(
                    files = freed.count,
                    bytes,
                    "blobs left this machine; they are in their bucket"
                );
            }
            Ok(())
        })
        .await
    }
}

fn tell(compared: &Compared) {
    if compared.adopted > 0 {
        tracing::info!(files = compared.adopted, "the bucket has blobs that were not known here");
    }
    if compared.again > 0 {
        tracing::warn!(
            files = compared.again,
            "blobs are not in their bucket any more; they are put there again"
        );
    }
    for file in &compared.lost {
        tracing::error!(
            file,
            "a blob is neither in the bucket nor on this machine: `vessl server fsck` says whose it is"
        );
    }
}

impl From<OffsiteError> for RegistryError {
    fn from(error: OffsiteError) -> Self {
        match error {
            OffsiteError::Data(error) => error.into(),
            error => Self::Bucket(error),
        }
    }
}
