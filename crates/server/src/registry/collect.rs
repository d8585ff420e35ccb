//! What nobody needs any more: which bytes must stay, and which runs use what.
use std::time::SystemTime;

use jiff::ToSpan;
use vessl_core::ids::{OrganizationName, RunId};
use vessl_core::plan::Plan;
use vessl_core::run::State;
use vessl_data::tree;

use super::{Registry, Result, digest};
use crate::needs::{each, manifests, parts};
use crate::store::StoreError;
use crate::store::runs::StoredRun;
use crate::store::unfinished::Unfinished;
use crate::store::uploads::Upload;

impl Registry {
    /// Removes bytes that no run and no version needs any more. Safe beside running exports and uploads, which go first: what a
    /// writer keeps from being removed is left for the next time.
    pub async fn collect(&self) -> Result<()> {
        // One that waits already will see everything that there is to collect.
        let Ok(next) = self.next.try_lock() else { return Ok(()) };
        let _one = self.collecting.lock().await;
        drop(next);
        // First of all: what a run that is submitted from now on puts is not touched.
        let mut before = SystemTime::now();
        // The roots come after those who make new ones: what ended between the two looks is a root.
        for upload in self.living_uploads().await? {
            before = before.min(SystemTime::from(upload.created_at));
        }
        let unfinished = self.unfinished().await?;
        let mut keep = self.store.manifests().await?;
        for stored in &unfinished {
            // One that waits has no agent yet, and what that puts will be younger than this.
            if stored.doc.run.state != State::Queued {
                before = before.min(SystemTime::from(stored.doc.created_at));
            }
            let plan = self.store.run_texts(stored.id()).await?.map(|texts| texts.plan);
            keep.extend(plan.iter().flat_map(manifests));
        }
        self.blocking(move |blobs| {
            let keep = keep.iter().map(|version| digest(version)).collect::<Result<Vec<_>>>()?;
            let (_, lost) = tree::collect(blobs, &keep, before)?;
            for error in lost {
                tracing::warn!(%error, "a version is lost: delete it, or the run that it belongs to");
            }
            Ok(())
        })
        .await?;
        if let Some(bucket) = &self.bucket {
            bucket.wake.notify_one();
        }
        Ok(())
    }

    /// The runs that have not ended. An error if one of them cannot be read: nobody knows what it needs.
    pub(super) async fn unfinished(&self) -> Result<Vec<StoredRun>> {
        let Unfinished { runs, unreadable } = self.store.unfinished().await?;
        match unreadable.into_iter().next() {
            Some(run) => Err(StoreError::from(Box::new(run)).into()),
            None => Ok(runs),
        }
    }

    /// Uploads that go on. The others are ended, and what came of them is removed.
    async fn living_uploads(&self) -> Result<Vec<Upload>> {
        let uploads = self.uploads.clone();
        // Before the rows: a directory is made after its row.
        let dirs = self.blocking(move |_| {
            let dirs = std::fs::read_dir(uploads)?;
            Ok(dirs.map(|dir| Ok(dir?.file_name())).collect::<std::io::Result<Vec<_>>>()?)
        });
        let dirs = dirs.await?;
        let (living, over): (Vec<Upload>, Vec<Upload>) =
            self.store.uploads().await?.into_iter().partition(|upload| self.is_living(upload));
        for upload in over {
            self.store.end_upload(upload.id).await?;
        }
        for dir in dirs.iter().filter_map(|dir| dir.to_str()) {
            if !living.iter().any(|upload| upload.id == dir) {
                self.clear_upload(dir).await;
            }
        }
        Ok(living)
    }

    /// Whether an upload has not been left alone for a day.
    pub(super) fn is_living(&self, upload: &Upload) -> bool {
        upload.touched_at.checked_add(24.hours()).is_ok_and(|end| end > self.now())
    }

    /// The run of an organization, or of any, that has not ended and whose file names this address or something inside it.
    pub(super) async fn user_of(
        &self,
        address: &str,
        of: Option<&OrganizationName>,
    ) -> Result<Option<RunId>> {
        // One that has ended and is still being cleaned up has got what it wanted, and is bound to what it exported.
        for stored in self.unfinished().await?.into_iter().filter(|stored| !stored.status().is_final()) {
            if of.is_some_and(|of| *of != stored.project.organization) {
                continue;
            }
            let texts = self.store.run_texts(stored.id()).await?;
            if texts.is_some_and(|texts| addresses(&texts.plan).iter().any(|named| names(named, address))) {
                return Ok(Some(stored.id()));
            }
        }
        Ok(None)
    }

    /// A run that has not ended and reads this manifest.
    pub(super) async fn reader_of(&self, manifest: &str) -> Result<Option<RunId>> {
        for stored in self.unfinished().await?.into_iter().filter(|stored| !stored.status().is_final()) {
            let texts = self.store.run_texts(stored.id()).await?;
            if texts.is_some_and(|texts| manifests(&texts.plan).iter().any(|named| named == manifest)) {
                return Ok(Some(stored.id()));
            }
        }
        Ok(None)
    }
}

/// Whether a text of a plan is this address, or leads into what it names.
fn names(text: &str, address: &str) -> bool {
    text.strip_prefix(address).is_some_and(|rest| {
        !rest.starts_with(|next: char| next.is_ascii_alphanumeric() || matches!(next, '-' | '_' | '.'))
    })
}

/// Every text of a plan that may be an address.
fn addresses(plan: &Plan) -> Vec<String> {
    let mut texts: Vec<String> = plan.exports.iter().map(|export| export.target.label()).collect();
    for part in parts(plan) {
        each(&part, &mut |_, value| texts.extend(value.as_str().map(str::to_owned)));
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_whole() {
        let check =
            |text: &str, expected: bool| assert_eq!(names(text, "vessl-dataset://o/d"), expected, "{text}");
        check("vessl-dataset://o/d", true);
        check("vessl-dataset://o/d/sub", true);
        check("vessl-dataset://o/d#3", true);
        check("vessl-dataset://o/data", false);
        check("vessl-dataset://o/d-2", false);
        check("vessl-model://o/d", false);
    }
}
