//! A directory or file into the store. It must not know under which name the version will be kept.
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use vessl_core::plan::Plan;
use vessl_core::wire::ProgressKind;
use vessl_data::DataError;
use vessl_data::blob::Store;
use vessl_data::dir::{Dir, proc_path, real_path};
use vessl_data::tree::{self, Source, Written};

use super::TransferContext;
use super::progress::follow;

/// How often an export is tried when somebody outside of the run writes to its files.
const TRIES: u32 = 3;

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ExportError {
    /// The store, or the files.
    #[error(transparent)]
    Data(#[from] DataError),
    /// It is larger than the server allows.
    #[error("{0} (`export_bytes` and `export_files` of the server)")]
    Large(DataError),
    /// Nothing that can be stored.
    #[error("it is neither a directory nor a file")]
    Kind,
    /// The machine refused something.
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

/// Stores `found`, a handle of what is at `path` of the container with this root; `label` names the target.
pub(crate) fn export(
    path: &Path,
    root: &Dir,
    found: &OwnedFd,
    label: &str,
    cx: &TransferContext<'_>,
) -> Result<Written, ExportError> {
    let store = cx.sink.blobs()?;
    let once = || write(path, (root, found), (&store, label), cx);
    for _ in 1..TRIES {
        match once() {
            Err(ExportError::Data(DataError::Changed { .. })) => {}
            other => return other,
        }
    }
    once()
}

fn write(
    path: &Path,
    (root, found): (&Dir, &OwnedFd),
    (store, label): (&Store, &str),
    cx: &TransferContext<'_>,
) -> Result<Written, ExportError> {
    let kind = std::fs::metadata(proc_path(found))?.file_type();
    let written = if kind.is_dir() {
        let (outer, here) = (real_path(root)?, real_path(found)?);
        let here = here.strip_prefix(outer).map_err(std::io::Error::other)?;
        let source = Source { root, path: here, reader: cx.owner };
        follow(cx, ProgressKind::Export, label, |watch| tree::write(store, source, bounds(cx.plan), &watch))
    } else if kind.is_file() {
        let file = File::open(proc_path(found))?;
        let name = Path::new(path.file_name().ok_or(ExportError::Kind)?);
        follow(cx, ProgressKind::Export, label, |watch| {
            tree::write_file(store, (name, &file), bounds(cx.plan), &watch)
        })
    } else {
        return Err(ExportError::Kind);
    };
    written.map_err(|error| match error {
        DataError::Limit { .. } => ExportError::Large(error),
        error => error.into(),
    })
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
