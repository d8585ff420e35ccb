//! Directories of the machine: volumes, and what is staged, where it cannot be shown.
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use vessl_core::plan::{VolumePlace, VolumePlan};
use vessl_core::spelling;
use vessl_core::wire::ProgressKind;
use vessl_data::DataError;
use vessl_data::dir::{Dir, Links, proc_path};
use vessl_data::staging::Staged;
use vessl_data::tree::{self, Bounds, Copied, Source, Target};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// Name of the files on their way, in the directory that is copied to.
pub(super) fn parts(cx: &TransferContext<'_>) -> PathBuf {
    PathBuf::from(format!(".vessl-{}", cx.plan.unit()))
}

/// A volume's directory, opened so that no link leads out of its storage.
pub(super) fn open(volume: &VolumePlan) -> Result<Dir, TransferError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        TransferError::Plan(format!("the volume `{}` {what}: {error}", volume.label))
    };
    match &volume.place {
        VolumePlace::Path { root, volume: name } => {
            let root = Dir::open(&spelling::path(root)).map_err(|e| failed("cannot be opened", &e))?;
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let dir = root.resolve(Path::new(name), flags, Links::Refused);
            dir.map(Dir::from).map_err(|e| failed("cannot be opened", &e.desc()))
        }
        VolumePlace::Nfs { .. } => {
            Err(failed("cannot be copied", &"its storage is an NFS export; mount it instead"))
        }
    }
}

pub(super) fn import(
    volume: &VolumePlan,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Moved, TransferError> {
    let dir = open(volume)?;
    let copied = copy(&volume.label, &dir, into, ProgressKind::Import, cx)?;
    let missing =
        copied.warnings.iter().map(|warning| format!("`{}` {}", warning.path.display(), warning.text));
    Ok(Moved {
        version: String::new(),
        bytes: copied.bytes,
        files: copied.files,
        missing: missing.collect(),
        top: Some(copied.top),
    })
}

/// Copies what is staged into a directory.
pub(super) fn copy_staged(
    staged: &Staged,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<(), TransferError> {
    let dir = Dir::open(&staged.path).map_err(DataError::os("open", &staged.path))?;
    copy("", &dir, into, ProgressKind::Import, cx).map(|_| ())
}

fn copy(
    label: &str,
    from: &Dir,
    into: &Dir,
    kind: ProgressKind,
    cx: &TransferContext<'_>,
) -> Result<Copied, TransferError> {
    let parts = parts(cx);
    // What `into` is opened by may be its path alone.
    let into = Dir::open(&proc_path(into)).map_err(DataError::os("open", "."))?;
    let target = Target { dir: &into, owner: cx.owner, parts: &parts };
    let source = Source { root: from, path: Path::new(""), reader: None };
    let copied = follow(cx, kind, label, |watch| tree::copy(source, target, Bounds::FORMAT, &watch))?;
    Ok(copied)
}
