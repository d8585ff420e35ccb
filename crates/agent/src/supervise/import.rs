//! Imports of a plan into the run's root before the commands start: each gets its directory there, or is mounted. How bytes come
//! into a directory is the matter of [`crate::transfer`].
use std::path::Path;
use std::time::Instant;

use nix::fcntl::OFlag;
use vessl_container::rootfs::Merged;
use vessl_container::runtime::StartError;
use vessl_core::plan::{ImportPlan, ImportSource};
use vessl_core::record::{EventKind, Transfer};
use vessl_core::spelling;
use vessl_data::dir::{Dir, Links, proc_path};
use vessl_data::tree::{Checkout, Top};

use crate::transfer::progress::{amount, millis};
use crate::transfer::{self, Moved, TransferContext, TransferError};

/// What must live as long as the run's root file system.
#[derive(Debug, Default)]
pub(crate) struct ImportedVersions {
    /// Versions that are mounted; only their locks matter.
    held: Vec<Checkout>,
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct ImportError {
    text: String,
    source: Reason,
}

/// What failed inside an import.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Reason {
    /// The transfer.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// The run's root file system.
    #[error(transparent)]
    Root(#[from] StartError),
    /// The machine refused something.
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

impl ImportError {
    /// Names path, source and reason, each once.
    fn new(import: &ImportPlan, source: Reason) -> Self {
        let (path, label, why) = (&import.path, import.source.label(), source.to_string());
        let text = if why.contains(label) {
            format!("cannot import `{path}`: {why}")
        } else {
            format!("cannot import `{label}` to `{path}`: {why}")
        };
        Self { text, source }
    }
}

/// Carries out every import of the plan in order, and records each. The first that fails ends it.
pub(crate) fn run(merged: &Merged, cx: &TransferContext<'_>) -> Result<ImportedVersions, ImportError> {
    let mut imported = ImportedVersions::default();
    for plan in &cx.plan.imports {
        let began = Instant::now();
        let label = plan.source.label().to_owned();
        cx.log(format!("importing `{label}` to `{}`", plan.path));
        let mut transfer = Transfer { path: plan.path.clone(), label, ..Transfer::default() };
        let result = one(merged, cx, plan, &mut imported);
        transfer.millis = millis(began);
        match &result {
            Err(error) => transfer.error = Some(error.to_string()),
            Ok((moved, how)) => {
                (transfer.bytes, transfer.files) = (moved.bytes, moved.files);
                transfer.version = Some(moved.version.clone());
                transfer.missing.clone_from(&moved.missing);
                for missing in &moved.missing {
                    cx.log(format!("`{}`: {missing}", plan.path));
                }
                let amount = amount(&transfer);
                cx.log(match &plan.source {
                    ImportSource::Git { .. } => {
                        format!("imported `{}`: commit {}, {amount}", plan.path, moved.version)
                    }
                    ImportSource::Tree { .. } => format!("imported `{}`: {amount}{how}", plan.path),
                });
            }
        }
        cx.record(EventKind::Imported(transfer));
        result.map_err(|reason| ImportError::new(plan, reason))?;
    }
    Ok(imported)
}

/// What was moved, and what is to be said of how. A version is mounted over an empty place if root owns it, else copied.
fn one(
    merged: &Merged,
    cx: &TransferContext<'_>,
    plan: &ImportPlan,
    imported: &mut ImportedVersions,
) -> Result<(Moved, &'static str), Reason> {
    // Git runs programs that the files in its directory name, so nobody else may write there; and an import is a copy that the
    // machine does not get.
    let path = spelling::path(&plan.path);
    let into = merged.private_dir(&path, cx.owner)?;
    let was_empty = std::fs::read_dir(proc_path(&into))?.next().is_none();
    if let ImportSource::Tree { label, manifest } = &plan.source
        && was_empty
        && cx.owner.is_none()
    {
        let (moved, checkout) = transfer::checkout(label, manifest, cx)?;
        merged.show_private(&checkout.path.canonicalize()?, &into)?;
        settle(merged, &path, moved.top)?;
        let how = if checkout.new { "" } else { ", nothing copied: it is here already" };
        imported.held.push(checkout);
        return Ok((moved, how));
    }
    let moved = transfer::import(&plan.source, &into, cx)?;
    if was_empty {
        settle(merged, &path, moved.top)?;
    }
    Ok((moved, if was_empty { "" } else { " beside the files there" }))
}

/// Lets the directory that is seen at `path` be as its source was.
fn settle(merged: &Merged, path: &Path, top: Option<Top>) -> Result<(), std::io::Error> {
    let Some(top) = top else { return Ok(()) };
    let shown = merged.root().resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Links::InRoot)?;
    top.apply(&Dir::from(shown))
}

#[cfg(test)]
mod tests;
