//! Exports: directories and files of the run's root become versions of the content-addressed store after the commands. It
//! must not know under which name a version will be kept.
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Instant;

use vessl_container::runtime::StartError;
use vessl_core::plan::{ExportPlan, ExportTarget, Plan};
use vessl_core::record::{EventKind, Transfer};
use vessl_data::DataError;
use vessl_data::blob::Store;
use vessl_data::dir::{Dir, proc_path};
use vessl_data::tree::{self, Written};

use crate::follow::{amount, follow, millis, took};
use crate::ground::Ground;

/// How often an export is tried when somebody outside of the run writes to its files.
const TRIES: u32 = 3;
/// Most warnings about single files that are said.
const WARNINGS: usize = 5;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
enum ExportError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("{0} (`export_bytes` and `export_files` of the server)")]
    Large(DataError),
    #[error(transparent)]
    Root(#[from] StartError),
    #[error("it is neither a directory nor a file")]
    Kind,
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

/// Carries out every export of the plan and records each: with its version, without one if there was nothing to export, or
/// with an error. What is not recorded when this returns was cancelled.
pub(crate) fn run(ground: &Ground<'_>) {
    for plan in &ground.plan.exports {
        if ground.is_cancelled() {
            return;
        }
        let mut transfer =
            Transfer { path: plan.path.clone(), label: label(&plan.target), ..Transfer::default() };
        ground.say(format!("exporting `{}` to `{}`", transfer.path, transfer.label));
        let began = Instant::now();
        let result = one(ground, plan, &transfer.label);
        transfer.millis = millis(began);
        match result {
            Err(ExportError::Data(DataError::Stopped)) => return,
            Err(e) => {
                ground.say(format!("cannot export `{}` to `{}`: {e}", transfer.path, transfer.label));
                transfer.error = Some(e.to_string());
            }
            Ok(None) => ground.say(format!("nothing to export: there is no `{}`", plan.path)),
            Ok(Some(written)) if written.empty => {
                ground.say(format!("nothing to export: `{}` is empty", plan.path));
            }
            Ok(Some(written)) => note(ground, &mut transfer, &written),
        }
        ground.record(EventKind::Exported(transfer));
    }
}

/// How people name a target.
pub(crate) fn label(target: &ExportTarget) -> String {
    match target {
        ExportTarget::Output => "vessl-artifact://".to_owned(),
        ExportTarget::Artifact { organization, project, name } => {
            format!("vessl-artifact://{organization}/{project}/{name}")
        }
    }
}

fn note(ground: &Ground<'_>, transfer: &mut Transfer, written: &Written) {
    (transfer.bytes, transfer.files) = (written.bytes, written.files);
    transfer.version = Some(written.version.to_string());
    for warning in written.skipped.iter().take(WARNINGS) {
        let path = Path::new(&transfer.path).join(&warning.path);
        ground.say(format!("`{}` was left out: it is {}", path.display(), warning.why));
    }
    if let Some(more) = written.skipped.len().checked_sub(WARNINGS).filter(|more| *more > 0) {
        ground.say(format!("and {more} more were left out"));
    }
    ground.say(format!("exported `{}`: {} {}", transfer.path, amount(transfer), took(transfer)));
}

/// `None` if there is nothing at the path.
fn one(ground: &Ground<'_>, plan: &ExportPlan, label: &str) -> Result<Option<Written>, ExportError> {
    let store = Store::open(&ground.data.join("blobs"))?;
    let path = Path::new(&plan.path);
    let Some(found) = ground.merged.open(path)? else { return Ok(None) };
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match write(ground, &store, path, &found, label) {
            Err(ExportError::Data(DataError::Changed { .. })) if tries > 0 => {}
            Err(ExportError::Data(error @ DataError::Limit { .. })) => return Err(ExportError::Large(error)),
            other => return other.map(Some),
        }
    }
}

fn write(
    ground: &Ground<'_>,
    store: &Store,
    path: &Path,
    found: &OwnedFd,
    label: &str,
) -> Result<Written, ExportError> {
    let kind = std::fs::metadata(proc_path(found))?.file_type();
    if kind.is_dir() {
        let dir = Dir::from(found.try_clone()?);
        return Ok(follow(ground, "export", label, |watch| {
            tree::write(store, &dir, bounds(ground.plan), &watch)
        })?);
    }
    if !kind.is_file() {
        return Err(ExportError::Kind);
    }
    let file = File::open(proc_path(found))?;
    let name = Path::new(path.file_name().ok_or(ExportError::Kind)?);
    Ok(follow(ground, "export", label, |watch| {
        tree::write_file(store, (name, &file), bounds(ground.plan), &watch)
    })?)
}

/// How large one export may be.
fn bounds(plan: &Plan) -> tree::Bounds {
    let or = |bound: u64, all: u64| if bound == 0 { all } else { bound.min(all) };
    let all = tree::Bounds::FORMAT;
    tree::Bounds {
        entries: or(plan.bounds.export_files, all.entries),
        bytes: or(plan.bounds.export_bytes, all.bytes),
    }
}

#[cfg(test)]
mod tests;
