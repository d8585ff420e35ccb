//! What a finished export makes of what it is exported to, before the save that binds it.
use std::sync::Arc;

use vessl_core::object::ObjectKind;
use vessl_data::{DataError, tree};

use super::{ControlError, Inner, Result};
use crate::store::runs::{Export, Merged};
use crate::store::versions::Which;

impl Inner {
    /// Puts the exported tree over the newest version of a dataset. The save binds it only if that is the newest still; if not, the
    /// next turn does this again.
    pub(super) async fn merge(&self, export: &mut Export) -> Result<()> {
        let Some(object) = export.object.clone().filter(|object| object.kind == ObjectKind::Dataset) else {
            return Ok(());
        };
        let (store, of) = (&self.parts.store, export.attempt);
        if store.is_exported(of, export.path.clone(), export.manifest.clone()).await? {
            return Ok(());
        }
        let newest = store.version(object.clone(), Which::Newest).await?;
        let base = newest.as_ref().map(|version| version.version);
        let own =
            Merged { base, manifest: export.manifest.clone(), bytes: export.bytes, files: export.files };
        export.merged = Some(match newest {
            None => own,
            Some(newest) => {
                let (blobs, over) = (Arc::clone(&self.parts.blobs), export.manifest.clone());
                let merging = move || {
                    let digest = |text: &str| {
                        text.parse().map_err(|_| DataError::Manifest { line: 0, why: "no digest" })
                    };
                    tree::merge(&blobs, digest(&newest.manifest)?, digest(&over)?)
                };
                let merged =
                    tokio::task::spawn_blocking(merging).await.map_err(|_| ControlError::Stopping)?;
                match merged {
                    Ok(tree) => {
                        let (bytes, files) = (tree.bytes, tree.files);
                        Merged { base, manifest: tree.version.to_string(), bytes, files }
                    }
                    // No turn would ever get further.
                    Err(
                        error @ (DataError::Missing { .. }
                        | DataError::Damaged { .. }
                        | DataError::Manifest { .. }),
                    ) => {
                        tracing::error!(run = of.run.0, dataset = %object, %error, "the export could not be put over the newest version: its own files are the next one");
                        own
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        });
        Ok(())
    }
}
