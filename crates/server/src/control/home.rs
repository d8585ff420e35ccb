//! What a run reads and is in the bucket of the blobs alone comes home before its agent starts.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use vessl_core::ids::RunId;
use vessl_core::plan::Plan;
use vessl_core::wire::RunEventKind;
use vessl_data::blob::Digest;
use vessl_data::offsite::{Amount, OffsiteError};
use vessl_data::{DataError, Watch, locked};

use super::{ControlError, DriverHandle, Inner, Result};
use crate::needs::read_by_agent;
use crate::offsite::{Bucket, words};

/// Blobs on their way home, until it is dropped.
#[derive(Debug)]
pub(super) struct Coming {
    stop: Arc<AtomicBool>,
    done: Arc<Mutex<Option<std::result::Result<(), OffsiteError>>>>,
    words: String,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    /// Sees to it that everything is on this machine that an agent will read. `ControlError::Coming` while it is on its way: the driver
    /// is woken when it is there. Any other error is why it will not come.
    pub(super) async fn come_home(
        self: &Arc<Self>,
        run: RunId,
        plan: &Plan,
        coming: &mut Option<Coming>,
        handle: &Arc<DriverHandle>,
    ) -> Result<()> {
        let Some(bucket) = &self.parts.bucket else { return Ok(()) };
        if let Some(known) = coming.take() {
            let done = locked(&known.done).take();
            match done {
                None => {
                    let words = known.words.clone();
                    *coming = Some(known);
                    return Err(ControlError::Coming(words));
                }
                Some(Ok(())) => {}
                Some(Err(error)) => return Err(ControlError::Away(error)),
            }
        }
        let (digests, away) = self.away_of(bucket, plan).await?;
        if away.units == 0 {
            return Ok(());
        }
        let words = format!("bringing {} home from `{}`", words(away.bytes), bucket.offsite.location());
        tracing::info!(run = run.0, "{words}");
        self.note(run, RunEventKind::BroughtHome, &words).await?;
        let new = Coming { stop: Arc::default(), done: Arc::default(), words: words.clone() };
        let (stop, done) = (Arc::clone(&new.stop), Arc::clone(&new.done));
        let (bucket, handle) = (Arc::clone(bucket), Arc::clone(handle));
        tokio::spawn(async move {
            let brought = bring(bucket, digests, stop).await;
            *locked(&done) = Some(brought);
            handle.wake.notify_one();
        });
        *coming = Some(new);
        Err(ControlError::Coming(words))
    }

    /// What a run reads that is not here. What is here stays from now on, because the run has not ended.
    async fn away_of(&self, bucket: &Arc<Bucket>, plan: &Plan) -> Result<(Vec<Digest>, Amount)> {
        let _turn = bucket.turn.lock().await;
        let (bucket, blobs, versions) =
            (Arc::clone(bucket), Arc::clone(&self.parts.blobs), read_by_agent(plan));
        let looked = tokio::task::spawn_blocking(move || bucket.away_of(&blobs, &versions));
        looked.await.map_err(|_| ControlError::Stopping)?.map_err(ControlError::Away)
    }

    /// Brings home what a run that waits will read, as long as it waits.
    pub(super) async fn fetch_home(&self, run: RunId, plan: &Plan) -> Result<()> {
        let Some(bucket) = &self.parts.bucket else { return Ok(()) };
        let (digests, away) = self.away_of(bucket, plan).await?;
        if away.units == 0 {
            return Ok(());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut changes = self.allocator.changes();
        let coming = bring(Arc::clone(bucket), digests, Arc::clone(&stop));
        tokio::pin!(coming);
        loop {
            tokio::select! {
                brought = &mut coming => return brought.map_err(ControlError::Away),
                _ = changes.changed() => {
                    if !self.allocator.has(run) {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}

async fn bring(
    bucket: Arc<Bucket>,
    digests: Vec<Digest>,
    stop: Arc<AtomicBool>,
) -> std::result::Result<(), OffsiteError> {
    let work = move || {
        bucket
            .offsite
            .bring(&digests, &Watch { progress: &|_, _| {}, stop: &|| stop.load(Ordering::Relaxed) })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(DataError::Stopped.into()))
}
