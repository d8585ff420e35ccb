//! What runs left: names of artifacts with their versions, output files, and their bytes in the content-addressed store.
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, Denied, Scope, allowed};
use vessl_core::ids::{ArtifactName, ProjectRef, RunRef};
use vessl_core::plan::ImportSource;
use vessl_core::run::State;
use vessl_core::spelling;
use vessl_core::wire::{ArtifactView, FileKind, FileView, VersionView};
use vessl_data::blob::{self, Digest};
use vessl_data::dir::Modified;
use vessl_data::sparse::Unpacked;
use vessl_data::tree::{self, Entry, Form, Kind, Manifest};
use vessl_data::{DataError, blob::NotADigest};

use crate::paths::DataDir;
use crate::store::names::{Artifact, Version};
use crate::store::unfinished::Unfinished;
use crate::store::{Store, StoreError};

/// Why something cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The bytes.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The database names a version that is none.
    #[error("the version `{0}` is not a digest")]
    Version(String, #[source] NotADigest),
    /// Reading the bytes.
    #[error("cannot read a file of the store: {0}")]
    Read(#[from] std::io::Error),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// A result of the registry.
pub(crate) type Result<T> = std::result::Result<T, RegistryError>;

/// One file.
#[derive(Debug)]
pub struct Content {
    /// BLAKE3 of what is stored, hex.
    pub digest: String,
    /// Bytes in all.
    pub size: u64,
    /// Those bytes.
    pub bytes: Bytes,
}

/// Bytes that can be read from anywhere.
#[derive(Debug)]
pub enum Bytes {
    /// As they are stored.
    Stored(File),
    /// A file with holes whose packed form is stored.
    Unpacked(Unpacked),
}

/// How a file with holes is wanted. Others are the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// As zeros.
    Zeros,
    /// Left out, in the packed form.
    Packed,
}

/// Which directories of an export are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directories {
    /// Those with nothing in them: the others go without saying.
    Empty,
    /// All.
    All,
}

/// Handle of the registry; cheap to clone.
#[derive(Clone, Debug)]
pub struct Registry {
    store: Arc<Store>,
    blobs: Arc<blob::Store>,
    collecting: Arc<tokio::sync::Mutex<()>>,
    next: Arc<tokio::sync::Mutex<()>>,
}

impl Registry {
    /// Opens the content-addressed store of `data`. Blocks on the disk.
    pub fn open(data: &DataDir, store: Arc<Store>) -> Result<Self> {
        let blobs = Arc::new(blob::Store::open(&data.root().join("blobs"))?);
        Ok(Self { store, blobs, collecting: Arc::default(), next: Arc::default() })
    }

    /// Every file and link that a run exported, and these directories.
    pub async fn files(
        &self,
        caller: &Caller,
        of: &RunRef,
        directories: Directories,
    ) -> Result<Vec<FileView>> {
        allowed(caller, Action::Read, Scope::Project(of.project.clone()))?;
        let run = of.id;
        let outputs = self.store.outputs(run).await?;
        self.blocking(move |blobs| {
            let mut files = Vec::new();
            for output in outputs {
                files.extend(views(blobs, &manifest(blobs, &output.manifest)?, &output.path, directories)?);
            }
            Ok(files)
        })
        .await
    }

    /// One file that a run exported at `export`.
    pub async fn content(
        &self,
        caller: &Caller,
        of: &RunRef,
        (export, path): (String, String),
        holes: Holes,
    ) -> Result<Content> {
        allowed(caller, Action::Read, Scope::Project(of.project.clone()))?;
        let run = of.id;
        let outputs = self.store.outputs(run).await?;
        let output = outputs
            .into_iter()
            .find(|output| output.path == export)
            .ok_or_else(|| RegistryError::Missing(format!("run {} exported nothing at `{export}`", run.0)))?;
        self.blocking(move |blobs| {
            let manifest = manifest(blobs, &output.manifest)?;
            let (size, digest, form) = find(&manifest, &path).ok_or_else(|| {
                RegistryError::Missing(format!("there is no file `{path}` in the export `{export}`"))
            })?;
            let file = blobs.open_blob(digest)?;
            let stored = file.metadata()?.len();
            let damaged = || DataError::Damaged { digest, path: blobs.path(digest) };
            let (size, bytes) = match (form, holes) {
                (Form::Plain, _) if stored != size => return Err(damaged().into()),
                (Form::Plain, _) | (Form::Packed, Holes::Packed) => (stored, Bytes::Stored(file)),
                (Form::Packed, Holes::Zeros) => {
                    (size, Bytes::Unpacked(Unpacked::open(file, size).map_err(|_| damaged())?))
                }
            };
            Ok(Content { digest: digest.to_string(), size, bytes })
        })
        .await
    }

    /// Artifacts of a project, each with its newest version.
    pub async fn artifacts(&self, caller: &Caller, project: &ProjectRef) -> Result<Vec<ArtifactView>> {
        allowed(caller, Action::Read, Scope::Project(project.clone()))?;
        let found = self.store.artifacts(project.organization.clone()).await?.into_iter();
        let found = found.filter(|artifact| artifact.name.project == project.project);
        let newest = |artifact: Artifact| ArtifactView {
            name: artifact.name.name,
            versions: vec![version_view(artifact.newest)],
        };
        Ok(found.map(newest).collect())
    }

    /// One artifact with its history.
    pub async fn artifact(&self, caller: &Caller, full: ArtifactName) -> Result<ArtifactView> {
        allowed(caller, Action::Read, Scope::Project(full.project()))?;
        let name = full.name.clone();
        let versions = self.store.versions(full).await?;
        if versions.is_empty() {
            return Err(RegistryError::Missing(format!(
                "there is no artifact `{name}`; `vessl artifact list` shows those there are"
            )));
        }
        Ok(ArtifactView { name, versions: versions.into_iter().map(version_view).collect() })
    }

    /// Forgets one version of an artifact, or all of it. Files of the runs that made them stay with those.
    pub async fn delete_artifact(
        &self,
        caller: &Caller,
        full: ArtifactName,
        version: Option<u64>,
    ) -> Result<()> {
        allowed(caller, Action::Run, Scope::Project(full.project()))?;
        let name = full.name.clone();
        if self.store.delete_versions(full, version).await? > 0 {
            return Ok(());
        }
        let of = version.map(|number| format!("version {number} of the ")).unwrap_or_default();
        let hint = "`vessl artifact list` shows those there are";
        Err(RegistryError::Missing(format!("there is no {of}artifact `{name}`; {hint}")))
    }

    /// Removes bytes that no run and no artifact needs any more. Safe beside running exports, which go first: what a
    /// writer keeps from being removed is left for the next time.
    pub async fn collect(&self) -> Result<()> {
        // One that waits already will see everything that there is to collect.
        let Ok(next) = self.next.try_lock() else { return Ok(()) };
        let _one = self.collecting.lock().await;
        drop(next);
        // First of all: what a run that is submitted from now on puts is not touched.
        let mut before = SystemTime::now();
        let Unfinished { runs: unfinished, unreadable } = self.store.unfinished().await?;
        // Nobody knows what bytes it needs.
        if let Some(run) = unreadable.into_iter().next() {
            return Err(StoreError::from(Box::new(run)).into());
        }
        let mut keep = self.store.manifests().await?;
        for stored in &unfinished {
            // One that waits has no agent yet, and what that puts will be younger than this.
            if stored.doc.run.state != State::Queued {
                before = before.min(SystemTime::from(stored.doc.created_at));
            }
            let plan = self.store.run_texts(stored.id()).await?.map(|texts| texts.plan);
            keep.extend(plan.into_iter().flat_map(|plan| plan.imports).filter_map(
                |import| match import.source {
                    ImportSource::Tree { manifest, .. } => Some(manifest),
                    _ => None,
                },
            ));
        }
        self.blocking(move |blobs| {
            let keep = keep.iter().map(|version| digest(version)).collect::<Result<Vec<_>>>()?;
            let (_, lost) = tree::collect(blobs, &keep, before)?;
            for error in lost {
                tracing::warn!(%error, "a version is lost: delete the run that it belongs to");
            }
            Ok(())
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&blob::Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let blobs = Arc::clone(&self.blobs);
        let done = tokio::task::spawn_blocking(move || work(&blobs));
        done.await.map_err(|_| RegistryError::Stopping)?
    }
}

fn digest(version: &str) -> Result<Digest> {
    version.parse().map_err(|error| RegistryError::Version(version.to_owned(), error))
}

fn manifest(blobs: &blob::Store, version: &str) -> Result<Manifest> {
    Ok(tree::read(blobs, digest(version)?)?)
}

/// What an export holds; a directory that something is in goes without saying.
fn version_view(version: Version) -> VersionView {
    VersionView {
        version: version.number,
        manifest: version.manifest,
        bytes: version.bytes,
        files: version.files,
        run: version.run,
        name: None,
        description: None,
        tags: Vec::new(),
        metadata: std::collections::BTreeMap::new(),
        created_by: None,
        created_at: version.created_at,
    }
}

fn views(
    blobs: &blob::Store,
    manifest: &Manifest,
    export: &str,
    directories: Directories,
) -> Result<Vec<FileView>> {
    let full: HashSet<_> = match directories {
        Directories::All => HashSet::new(),
        Directories::Empty => manifest.entries().iter().filter_map(|entry| entry.path.parent()).collect(),
    };
    let text = |path: &Path| spelling::spell(path.as_os_str().as_bytes());
    let view = |entry: &Entry| -> Result<Option<FileView>> {
        let modified = entry.modified.map(Modified::nanoseconds);
        let modified_at = modified.and_then(|all| Timestamp::from_nanosecond(all).ok());
        let (path, export) = (text(&entry.path), export.to_owned());
        let named = FileView { path, export, modified_at, ..FileView::default() };
        Ok(match &entry.kind {
            Kind::File { mode, size, digest, form } => Some(FileView {
                size: *size,
                digest: digest.to_string(),
                packed_size: match form {
                    Form::Plain => None,
                    Form::Packed => blobs.size(*digest)?,
                },
                executable: mode & 0o111 != 0,
                mode: Some(format!("{mode:o}")),
                ..named
            }),
            Kind::Symlink { target } => {
                Some(FileView { kind: FileKind::Link, target: Some(text(target)), ..named })
            }
            Kind::Dir { .. } if full.contains(entry.path.as_path()) => None,
            Kind::Dir { mode } => {
                Some(FileView { kind: FileKind::Directory, mode: Some(format!("{mode:o}")), ..named })
            }
        })
    };
    let top = manifest.top().filter(|_| directories == Directories::All).map(|top| FileView {
        path: ".".to_owned(),
        export: export.to_owned(),
        kind: FileKind::Directory,
        mode: Some(format!("{:o}", top.mode)),
        modified_at: Timestamp::from_nanosecond(top.modified.nanoseconds()).ok(),
        ..FileView::default()
    });
    let inside = manifest.entries().iter().filter_map(|entry| view(entry).transpose());
    top.map(Ok).into_iter().chain(inside).collect()
}

/// The file at `path`, spelled as it was listed.
fn find(manifest: &Manifest, path: &str) -> Option<(u64, Digest, Form)> {
    let entry = manifest.get(Path::new(OsStr::from_bytes(&spelling::read(path))))?;
    match entry.kind {
        Kind::File { size, digest, form, .. } => Some((size, digest, form)),
        Kind::Dir { .. } | Kind::Symlink { .. } => None,
    }
}
