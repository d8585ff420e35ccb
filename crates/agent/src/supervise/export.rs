//! Exports of a plan out of the run's root after the commands. How a directory becomes a version is the matter of
//! [`crate::transfer`].
use std::path::Path;
use std::time::Instant;

use vessl_container::rootfs::Merged;
use vessl_container::runtime::StartError;
use vessl_core::plan::ExportPlan;
use vessl_core::record::{EventKind, Transfer};
use vessl_core::spelling;
use vessl_data::DataError;

use crate::transfer::progress::{amount, millis, took};
use crate::transfer::{self, ExportError, Exported, TransferContext};

/// Most warnings about single files that are said.
const WARNINGS: usize = 100;

/// Why there is no version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum Reason {
    #[error(transparent)]
    Export(#[from] ExportError),
    #[error(transparent)]
    Root(#[from] StartError),
}

/// Carries out every export of the plan whose path is not in `done`, and records each: with its version, without one if there was
/// nothing to export, or with an error. What is not recorded when this returns was cancelled.
pub(crate) fn rest(merged: &Merged, cx: &TransferContext<'_>, done: &[String]) {
    for plan in cx.plan.exports.iter().filter(|plan| !done.contains(&plan.path)) {
        if cx.is_cancelled() {
            return;
        }
        let mut transfer =
            Transfer { path: plan.path.clone(), label: plan.target.label(), ..Transfer::default() };
        cx.log(format!("exporting `{}` to `{}`", transfer.path, transfer.label));
        let began = Instant::now();
        let result = one(merged, cx, plan);
        transfer.millis = millis(began);
        match result {
            Err(Reason::Export(ExportError::Data(DataError::Stopped))) => return,
            Err(e) => {
                cx.log(format!("cannot export `{}` to `{}`: {e}", transfer.path, transfer.label));
                transfer.error = Some(e.to_string());
            }
            Ok(None) => cx.log(format!("nothing to export: there is no `{}`", plan.path)),
            Ok(Some(written)) if written.empty => {
                cx.log(format!("nothing to export: `{}` is empty", plan.path));
            }
            Ok(Some(written)) => note(cx, &mut transfer, &written),
        }
        cx.record(EventKind::Exported(transfer));
    }
}

fn note(cx: &TransferContext<'_>, transfer: &mut Transfer, written: &Exported) {
    (transfer.bytes, transfer.files) = (written.bytes, written.files);
    transfer.version = Some(written.version.clone());
    for warning in written.warnings.iter().take(WARNINGS) {
        let path = Path::new(&transfer.path).join(&warning.path);
        cx.log(format!("`{}` {}", path.display(), warning.text));
    }
    if let Some(more) = written.warnings.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        cx.log(format!("and {more} more that were left out or are links to nothing"));
    }
    let path = &transfer.path;
    match written.followed {
        0 => {}
        1 => cx.log(format!("a link that leads out of `{path}` became what it leads to")),
        n => cx.log(format!("{n} links that lead out of `{path}` became what they lead to")),
    }
    cx.log(format!("exported `{}`: {} {}", transfer.path, amount(transfer), took(transfer)));
}

/// `None` if there is nothing at the path.
fn one(merged: &Merged, cx: &TransferContext<'_>, plan: &ExportPlan) -> Result<Option<Exported>, Reason> {
    let path = &spelling::path(&plan.path);
    let Some(found) = merged.open(path)? else { return Ok(None) };
    Ok(Some(transfer::export(path, merged.root(), &found, &plan.target, cx)?))
}

#[cfg(test)]
mod tests;
