//! A directory or file out of the run: into the store, a volume or a bucket. It must not know under which name a version will be kept.
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use vessl_container::rootfs::nfs::NfsAccess;
use vessl_core::plan::{BucketPlan, ExportTarget, Plan, VolumePlan};
use vessl_core::wire::ProgressKind;
use vessl_data::DataError;
use vessl_data::bucket::Outgoing;
use vessl_data::dir::{Dir, proc_path, real_path};
use vessl_data::tree::{self, Bounds, Copied, Source, Target, Warning, Written};

use super::progress::follow;
use super::{TransferContext, TransferError, bucket, volume};

/// How often an export is tried when somebody outside of the run writes to its files.
const TRIES: u32 = 3;

/// What an export wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    /// The hash of its tree, or what says where it is otherwise.
    pub(crate) version: String,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Number of files and symbolic links.
    pub(crate) files: u64,
    /// Whether there is nothing in it.
    pub(crate) empty: bool,
    /// Links that lead out of the directory and are what they lead to now.
    pub(crate) followed: u64,
    /// What was left out, or leads nowhere; sorted by path.
    pub(crate) warnings: Vec<Warning>,
}

/// The version of what has none: the directory of a volume is what was last written there.
const LIVE: &str = "live";

impl From<Written> for Exported {
    fn from(written: Written) -> Self {
        let Written { version, bytes, files, empty, followed, warnings } = written;
        Self { version: version.to_string(), bytes, files, empty, followed, warnings }
    }
}

impl From<Copied> for Exported {
    fn from(copied: Copied) -> Self {
        let Copied { bytes, files, followed, warnings, .. } = copied;
        Self { version: LIVE.to_owned(), bytes, files, empty: files == 0, followed, warnings }
    }
}

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
    /// The target.
    #[error(transparent)]
    Target(#[from] TransferError),
    /// Nothing that can be stored.
    #[error("it is neither a directory nor a file")]
    Kind,
    /// The machine refused something.
    #[error("{0}")]
    Os(#[from] std::io::Error),
}

/// Takes `found`, a handle of what is at `path` of the container with this root, to its target.
pub(crate) fn export(
    path: &Path,
    root: &Dir,
    found: &OwnedFd,
    target: &ExportTarget,
    cx: &TransferContext<'_>,
) -> Result<Exported, ExportError> {
    let what = What { path, root, found, bounds: bounds(cx.plan) };
    let once = || match target {
        ExportTarget::Volume(volume) => what.to_volume(volume, cx),
        ExportTarget::Bucket(bucket) => what.to_bucket(bucket, cx),
        ExportTarget::Output | ExportTarget::Artifact(_) | ExportTarget::Object { .. } => {
            what.to_store(&target.label(), cx)
        }
    };
    for _ in 1..TRIES {
        match once() {
            Err(ExportError::Data(DataError::Changed { .. })) => {}
            other => return other,
        }
    }
    once()
}

/// What is exported.
struct What<'a> {
    path: &'a Path,
    root: &'a Dir,
    found: &'a OwnedFd,
    bounds: Bounds,
}

impl What<'_> {
    fn to_store(&self, label: &str, cx: &TransferContext<'_>) -> Result<Exported, ExportError> {
        let store = &cx.sink.blobs()?;
        let written = if self.is_dir()? {
            let here = self.here()?;
            let source = Source { root: self.root, path: &here, reader: cx.owner };
            follow(cx, ProgressKind::Export, label, |watch| tree::write(store, source, self.bounds, &watch))
        } else {
            let file = File::open(proc_path(self.found))?;
            let name = Path::new(self.path.file_name().ok_or(ExportError::Kind)?);
            follow(cx, ProgressKind::Export, label, |watch| {
                tree::write_file(store, (name, &file), self.bounds, &watch)
            })
        };
        written.map(Exported::from).map_err(explain)
    }

    fn to_volume(&self, volume: &VolumePlan, cx: &TransferContext<'_>) -> Result<Exported, ExportError> {
        let (to, parts) = (volume::open(volume, NfsAccess::ReadWrite, cx)?, volume::parts(cx));
        let (here, is_dir) = (self.here()?, self.is_dir()?);
        let source = Source { root: self.root, path: &here, reader: cx.owner };
        let target = Target { dir: &to.dir, owner: cx.owner, parts: &parts };
        let copied = follow(cx, ProgressKind::Export, &volume.label, |watch| {
            let copy = if is_dir { tree::copy } else { tree::copy_file };
            copy(source, target, self.bounds, &watch)
        });
        copied.map(Exported::from).map_err(explain)
    }

    fn to_bucket(&self, plan: &BucketPlan, cx: &TransferContext<'_>) -> Result<Exported, ExportError> {
        if self.is_dir()? {
            let here = self.here()?;
            let source = Source { root: self.root, path: &here, reader: cx.owner };
            return Ok(bucket::export(plan, Outgoing::Tree(source), self.bounds, cx)?);
        }
        let file = File::open(proc_path(self.found))?;
        let name = Path::new(self.path.file_name().ok_or(ExportError::Kind)?);
        Ok(bucket::export(plan, Outgoing::File { name, file: &file }, self.bounds, cx)?)
    }

    /// Whether it is a directory; else it is a file.
    fn is_dir(&self) -> Result<bool, ExportError> {
        let kind = std::fs::metadata(proc_path(self.found))?.file_type();
        if kind.is_dir() || kind.is_file() { Ok(kind.is_dir()) } else { Err(ExportError::Kind) }
    }

    /// Where it is below the root, no link on the way.
    fn here(&self) -> Result<PathBuf, ExportError> {
        let (outer, here) = (real_path(self.root)?, real_path(self.found)?);
        Ok(here.strip_prefix(outer).map_err(std::io::Error::other)?.to_owned())
    }
}

fn explain(error: DataError) -> ExportError {
    match error {
        DataError::Limit { .. } => ExportError::Large(error),
        error => error.into(),
    }
}

/// How large one export may be.
fn bounds(plan: &Plan) -> Bounds {
    let or = |bound: u64, all: u64| if bound == 0 { all } else { bound.min(all) };
    let all = Bounds::FORMAT;
    Bounds {
        entries: or(plan.bounds.export_files, all.entries),
        bytes: or(plan.bounds.export_bytes, all.bytes),
    }
}
