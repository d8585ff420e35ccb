//! Imports of a plan into the run's root before the commands start: each gets its directory there, or is mounted. How bytes come
//! into a directory is the matter of [`crate::transfer`].
use std::io;
use std::path::Path;
use std::time::Instant;

use nix::fcntl::OFlag;
use vessl_container::rootfs::{Access, Below, Bind, Layer, Merged, Shown as Layered};
use vessl_container::runtime::StartError;
use vessl_core::plan::{ExportPlan, ImportPlan, ImportSource, MountFrom, MountPlan};
use vessl_core::record::{EventKind, Transfer};
use vessl_core::run::EndReason;
use vessl_core::spelling;
use vessl_data::dir::{Dir, Links, proc_path};
use vessl_data::staging::{Staged, Unsynced};
use vessl_data::tree::Top;

use crate::record::commands::Shown;
use crate::transfer::progress::{amount, millis};
use crate::transfer::{self, Moved, TransferContext, TransferError};

/// What must live as long as the run's root file system.
#[derive(Debug, Default)]
pub(crate) struct ImportedVersions {
    /// What is mounted; only its locks matter.
    held: Vec<Staged>,
    /// What is not on disk yet of them.
    pub(crate) unsynced: Vec<Unsynced>,
    /// Where imports are shown that were not copied.
    pub(crate) shown: Vec<Shown>,
    /// Whether it can be shown as the files of the image's user.
    can_show: Option<bool>,
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
    Os(#[from] io::Error),
    /// An exact re-run wants another version.
    #[error("{0}")]
    AnotherVersion(String),
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

    /// As a run that ends by it says it.
    pub(crate) fn code(&self) -> EndReason {
        match self.source {
            Reason::AnotherVersion(_) => EndReason::VersionChanged,
            Reason::Transfer(_) | Reason::Root(_) | Reason::Os(_) => EndReason::ImportFailed,
        }
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
        let result = one(merged, cx, plan, &mut imported).and_then(|brought| as_expected(plan, brought));
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
                    ImportSource::Git { .. } | ImportSource::Hf(_) => {
                        format!("imported `{}`: commit {}, {amount}{how}", plan.path, moved.version)
                    }
                    _ => format!("imported `{}`: {amount}{how}", plan.path),
                });
            }
        }
        cx.record(EventKind::Imported(transfer));
        result.map_err(|reason| ImportError::new(plan, reason))?;
    }
    for mount in &cx.plan.mounts {
        if let MountFrom::Tree { label, manifest } = &mount.source {
            mount_version(merged, cx, (mount, label, manifest), &mut imported)?;
        }
    }
    make_room(cx, &imported);
    Ok(imported)
}

/// Refuses what is not what an exact re-run wants.
fn as_expected<T>(plan: &ImportPlan, (moved, how): (Moved, T)) -> Result<(Moved, T), Reason> {
    match &plan.expected {
        Some(expected) if *expected != moved.version => {
            Err(Reason::AnotherVersion(another(&plan.source, expected, &moved.version)))
        }
        _ => Ok((moved, how)),
    }
}

fn another(source: &ImportSource, expected: &str, found: &str) -> String {
    let short = |version: &str| version.chars().take(SHOWN).collect::<String>();
    let (expected, found) = (short(expected), short(found));
    let what = match source {
        ImportSource::Bucket(_) => {
            "what the bucket holds there is another now (the digest of its keys and ETags"
        }
        _ => "it is another now (its version",
    };
    format!(
        "{what} is `{found}`; this exact re-run needs `{expected}`); bring back what was there, or make the run without `--exact`"
    )
}

/// Digits of a version that are shown.
const SHOWN: usize = 16;

/// Removes from the machine what no run uses, where there is more of it than there shall be.
fn make_room(cx: &TransferContext<'_>, imported: &ImportedVersions) {
    let limit = cx.plan.bounds.cache;
    if limit == 0 || imported.held.iter().all(|staged| !staged.new) {
        return;
    }
    if let Err(error) = cx.sink.staging().and_then(|staging| staging.shrink(limit)) {
        cx.log(format!("what earlier imports brought could not be removed: {error}"));
    }
}

/// Mounts a version of the store where it can only be read, and records it as an import.
fn mount_version(
    merged: &Merged,
    cx: &TransferContext<'_>,
    (mount, label, manifest): (&MountPlan, &str, &str),
    imported: &mut ImportedVersions,
) -> Result<(), ImportError> {
    let began = Instant::now();
    let mut transfer = Transfer { path: mount.path.clone(), label: label.to_owned(), ..Transfer::default() };
    let shown = bind_version(merged, cx, (mount, label, manifest), imported.can_show);
    transfer.millis = millis(began);
    match &shown {
        Err(error) => transfer.error = Some(error.to_string()),
        Ok((moved, _)) => {
            (transfer.bytes, transfer.files) = (moved.bytes, moved.files);
            transfer.version = Some(moved.version.clone());
            cx.log(format!("mounted `{label}` at `{}`: {}", mount.path, amount(&transfer)));
        }
    }
    cx.record(EventKind::Imported(transfer));
    let (_, mut staged) = shown.map_err(|source| {
        let text = format!("cannot mount `{label}` at `{}`: {source}", mount.path);
        ImportError { text, source }
    })?;
    imported.unsynced.extend(staged.take_unsynced());
    imported.held.push(staged);
    Ok(())
}

fn bind_version(
    merged: &Merged,
    cx: &TransferContext<'_>,
    (mount, label, manifest): (&MountPlan, &str, &str),
    can_show: Option<bool>,
) -> Result<(Moved, Staged), Reason> {
    let (moved, staged) = transfer::stage_version(label, manifest, cx)?;
    let (source, target) = (staged.path.canonicalize()?, spelling::path(&mount.path));
    let bind = Bind { source, target, access: Access::ReadOnly };
    // A file that only its owner may read is for the image's user to read.
    let can_show = |owner| can_show.unwrap_or_else(|| merged.cannot_give(owner).is_none());
    match cx.owner.filter(|owner| can_show(*owner)) {
        Some(owner) => merged.bind_as(&bind, owner)?,
        None => merged.bind(&bind)?,
    }
    Ok((moved, staged))
}

/// Shows again what the imports of an earlier agent of the attempt showed, as far as its exports can have it in view. Nothing is brought.
pub(crate) fn show_again(
    merged: &Merged,
    cx: &TransferContext<'_>,
    shown: &[Shown],
) -> Result<ImportedVersions, ImportError> {
    let mut imported = ImportedVersions::default();
    for plan in &cx.plan.imports {
        let key = shown.iter().find(|one| one.path == plan.path).map(|one| one.key.as_str());
        let staged = show_one(merged, cx, plan, key).map_err(|reason| ImportError::new(plan, reason))?;
        imported.held.extend(staged);
    }
    for mount in &cx.plan.mounts {
        if let MountFrom::Tree { label, manifest } = &mount.source {
            let bound = bind_version(merged, cx, (mount, label, manifest), None);
            let failed = |source| {
                let text = format!("cannot mount `{label}` at `{}`: {source}", mount.path);
                ImportError { text, source }
            };
            imported.held.push(bound.map_err(failed)?.1);
        }
    }
    Ok(imported)
}

fn show_one(
    merged: &Merged,
    cx: &TransferContext<'_>,
    plan: &ImportPlan,
    key: Option<&str>,
) -> Result<Option<Staged>, Reason> {
    let path = spelling::path(&plan.path);
    let into = merged.private_dir(&path, cx.owner)?;
    let Some(key) = key else { return Ok(None) };
    let found = match key.parse() {
        Ok(key) => cx.sink.staging().and_then(|staging| staging.get(key)).map_err(TransferError::from)?,
        Err(_) => None,
    };
    let near = |export: &ExportPlan| {
        let (export, import) = (Path::new(&export.path), Path::new(&plan.path));
        export.starts_with(import) || import.starts_with(export)
    };
    match found {
        Some(staged) => {
            let (source, below) = (staged.path.canonicalize()?, below(&into, &plan.source)?);
            let layer = Layer { source: &source, owner: cx.owner, below };
            match merged.show_layer(&layer, (&into, &path))? {
                Layered::Yes => Ok(Some(staged)),
                Layered::No { why } => Err(io::Error::other(why).into()),
            }
        }
        None if cx.plan.exports.iter().any(near) => {
            let words = "what was imported there is not kept on this machine any more (`cache_limit`)";
            Err(io::Error::other(words).into())
        }
        None => Ok(None),
    }
}

/// What was moved, and what is to be said of how. What is staged is shown as a layer below the run's own, over an empty place or over
/// files; where that cannot be it is copied.
fn one(
    merged: &Merged,
    cx: &TransferContext<'_>,
    plan: &ImportPlan,
    imported: &mut ImportedVersions,
) -> Result<(Moved, String), Reason> {
    // Git runs programs that the files in its directory name, so nobody else may write there; and an import is a copy that the
    // machine does not get.
    let path = spelling::path(&plan.path);
    let into = merged.private_dir(&path, cx.owner)?;
    let below = below(&into, &plan.source)?;
    let beside = if below == Below::Nothing { "" } else { " beside the files there" };
    let mut staged = if imported.can_show(merged, cx) { transfer::stage(&plan.source, cx)? } else { None };
    if let Some((moved, mut found)) = staged.take() {
        imported.unsynced.extend(found.take_unsynced());
        let source = found.path.canonicalize()?;
        match merged.show_layer(&Layer { source: &source, owner: cx.owner, below }, (&into, &path))? {
            Layered::Yes => {
                let how = if found.new { "" } else { ", nothing copied: it is here already" };
                imported.shown.extend(Shown::of(plan, &found));
                imported.held.push(found);
                if below == Below::Nothing {
                    settle(merged, &path, moved.top)?;
                }
                return Ok((moved, format!("{beside}{how}")));
            }
            Layered::No { why } => {
                cx.log(format!("`{}` is copied: {why}", plan.path));
                staged = Some((moved, found));
            }
        }
    }
    let (moved, unsynced) = transfer::copy(&plan.source, staged, &into, cx)?;
    imported.unsynced.extend(unsynced);
    if below == Below::Nothing {
        settle(merged, &path, moved.top)?;
    }
    Ok((moved, beside.to_owned()))
}

/// What is at a place, as an import of this kind meets it: git takes the place of what is in its way.
fn below(into: &Dir, source: &ImportSource) -> io::Result<Below> {
    Ok(match source {
        _ if std::fs::read_dir(proc_path(into))?.next().is_none() => Below::Nothing,
        ImportSource::Git { .. } => Below::Replaced,
        _ => Below::Kept,
    })
}

impl ImportedVersions {
    /// Whether what is staged can be shown as the run's; looked at once, and said where it cannot.
    fn can_show(&mut self, merged: &Merged, cx: &TransferContext<'_>) -> bool {
        let Some(owner) = cx.owner else { return true };
        *self.can_show.get_or_insert_with(|| {
            let why_not = merged.cannot_give(owner);
            if let Some(why) = &why_not {
                cx.log(format!("imports are copied for the user {} of the image: {why}", owner.0));
            }
            why_not.is_none()
        })
    }
}

/// Lets the directory that is seen at `path` be as its source was.
fn settle(merged: &Merged, path: &Path, top: Option<Top>) -> io::Result<()> {
    let Some(top) = top else { return Ok(()) };
    let shown = merged.root().resolve(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Links::InRoot)?;
    top.apply(&Dir::from(shown))
}

#[cfg(test)]
mod tests;
