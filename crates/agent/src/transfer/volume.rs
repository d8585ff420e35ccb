//! Directories of the machine: volumes, and what is staged, where it cannot be shown.
use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use vessl_container::rootfs::nfs::{self, Export, NfsAccess, NfsMount, Patience};
use vessl_core::plan::{VolumePlace, VolumePlan};
use vessl_core::spelling;
use vessl_core::wire::ProgressKind;
use vessl_data::dir::{Dir, open_plain, proc_path, real_path};
use vessl_data::staging::Staged;
use vessl_data::tree::{self, Bounds, Copied, Source, Target};
use vessl_data::{DataError, Watch};

use super::progress::follow;
use super::{Moved, TransferContext, TransferError};

/// Name of the files on their way, in the directory that is copied to.
pub(super) fn parts(cx: &TransferContext<'_>) -> PathBuf {
    PathBuf::from(format!(".vessl-{}", cx.plan.unit()))
}

/// A volume's directory.
pub(super) struct Volume {
    pub(super) dir: Dir,
    /// What it is read or written through.
    _mount: Option<NfsMount>,
}

/// Opens a volume, so that no link leads out of its storage.
pub(super) fn open(
    volume: &VolumePlan,
    access: NfsAccess,
    cx: &TransferContext<'_>,
) -> Result<Volume, TransferError> {
    let failed = |error: &dyn std::fmt::Display| {
        TransferError::Plan(format!("the volume `{}` cannot be opened: {error}", volume.label))
    };
    match &volume.place {
        VolumePlace::Path { root, volume: name, roots } => {
            let root = storage(&spelling::path(root), roots.as_deref(), cx).map_err(|e| failed(&e))?;
            // What nobody but runs can reach may be written to by a run of any user.
            let mode = if roots.is_none() { 0o777 } else { 0o755 };
            make(&root, Path::new(name), mode, access).map_err(|e| failed(&e))?;
            let dir = root.dir(Path::new(name)).map_err(|e| failed(&e))?;
            outside_of_ours(&dir, roots.is_some(), cx).map_err(|e| failed(&e))?;
            Ok(Volume { dir, _mount: None })
        }
        VolumePlace::Nfs { server, path, volume: name } => {
            let stop = || cx.is_cancelled();
            let mount =
                Export::new(server, path)?.mount(access, &Patience { limit: nfs::LIMIT, stop: &stop })?;
            let root = mount.dir().map_err(|e| failed(&e))?;
            make(&root, Path::new(name), 0o755, access).map_err(|e| failed(&e))?;
            let dir = root.dir(Path::new(name)).map_err(|e| failed(&e))?;
            Ok(Volume { dir, _mount: Some(mount) })
        }
    }
}

/// The directory of a storage: that of the built-in one, or one that lies below an allowed root, links and all. Nothing can be swapped
/// below it once it is looked at.
fn storage(path: &Path, roots: Option<&[String]>, cx: &TransferContext<'_>) -> io::Result<Dir> {
    if roots.is_none() {
        std::fs::create_dir_all(path)?;
    }
    let real = path.canonicalize()?;
    let below = |root: &Path| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    let is_allowed = match roots {
        None => below(&cx.sink.data().join("volumes")),
        Some(roots) => roots.iter().any(|root| below(Path::new(root))),
    };
    if !is_allowed {
        let words = format!(
            "`{}` leads to `{}`, which is not below a directory that the administrator allowed (`hostpath_roots`)",
            path.display(),
            real.display()
        );
        return Err(io::Error::other(words));
    }
    open_plain(&real, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(Dir::from)
}

/// Refuses a directory of the machine that is, holds or lies in the product's own data.
fn outside_of_ours(dir: &Dir, is_of_machine: bool, cx: &TransferContext<'_>) -> io::Result<()> {
    let (real, own) = (real_path(dir)?, cx.sink.data().canonicalize()?);
    if is_of_machine && (real.starts_with(&own) || own.starts_with(&real)) {
        return Err(io::Error::other("it holds the product's own data, or lies in it"));
    }
    Ok(())
}

/// Makes the directory of a volume that is written to for the first time, with these permissions.
fn make(root: &Dir, name: &Path, mode: u32, access: NfsAccess) -> io::Result<()> {
    if access == NfsAccess::ReadOnly || root.stat(name)?.is_some() {
        return Ok(());
    }
    root.make_dir(name, mode)?;
    fchmod(root.dir(name)?, Mode::from_bits_truncate(mode)).map_err(Into::into)
}

pub(super) fn import(
    volume: &VolumePlan,
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Moved, TransferError> {
    let from = open(volume, NfsAccess::ReadOnly, cx)?;
    let copied = copy(&volume.label, (&from.dir, tree::copy_volume), into, cx)?;
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
    copy("", (&dir, tree::copy), into, cx).map(|_| ())
}

/// [`tree::copy`], or the same of a volume.
type HowToCopy = fn(Source<'_>, Target<'_>, Bounds, &Watch<'_>) -> Result<Copied, DataError>;

fn copy(
    label: &str,
    (from, how): (&Dir, HowToCopy),
    into: &Dir,
    cx: &TransferContext<'_>,
) -> Result<Copied, TransferError> {
    let parts = parts(cx);
    // What `into` is opened by may be its path alone.
    let into = Dir::open(&proc_path(into)).map_err(DataError::os("open", "."))?;
    let target = Target { dir: &into, owner: cx.owner, parts: &parts };
    let source = Source { root: from, path: Path::new(""), reader: None };
    let copied =
        follow(cx, ProgressKind::Import, label, |watch| how(source, target, Bounds::FORMAT, &watch))?;
    Ok(copied)
}
