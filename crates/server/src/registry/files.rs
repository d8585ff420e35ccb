//! Files of runs and of versions: listed, and their bytes.
use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::ids::RunRef;
use vessl_core::object::ObjectName;
use vessl_core::spelling;
use vessl_core::wire::{FileKind, FileView};
use vessl_data::blob::{self, Blob, Digest};
use vessl_data::bucket::Reader;
use vessl_data::chunks::{Chunked, Recipe};
use vessl_data::dir::Modified;
use vessl_data::sparse::{ReadAt, Unpacked};
use vessl_data::tree::{self, Entry, Form, Kind, Manifest};
use vessl_data::{DataError, Watch};

use super::{Registry, RegistryError, Result, digest};

/// One file.
#[derive(Debug)]
pub struct Content {
    /// Changes when the bytes do: BLAKE3 of the file or of its packed form, or size and time of what is not kept by its digest.
    pub tag: String,
    /// Bytes in all.
    pub size: u64,
    /// Those bytes.
    pub bytes: Bytes,
}

/// Bytes that can be read from anywhere.
#[derive(Debug)]
pub enum Bytes {
    /// As they are stored.
    Stored(Blob),
    /// A file of a volume.
    Plain(std::fs::File),
    /// A file of a volume that lies in a bucket.
    Object(Box<Reader>),
    /// A file with holes whose packed form is stored.
    Unpacked(Unpacked<Blob>),
    /// A large file whose chunks are stored.
    Chunked(Chunked),
}

impl ReadAt for Bytes {
    fn read_at(&self, to: &mut [u8], at: u64) -> std::io::Result<usize> {
        match self {
            Self::Stored(blob) => blob.read_at(to, at),
            Self::Plain(file) => file.read_at(to, at),
            Self::Object(file) => file.read_at(to, at),
            Self::Unpacked(file) => file.read_at(to, at),
            Self::Chunked(file) => file.read_at(to, at),
        }
    }
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

/// Which files of a version are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Only this, or what is in this directory; empty for all.
    pub path: String,
    /// Whether also what is in the directories that are in it.
    pub recursive: bool,
}

impl Registry {
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
        let manifests = Arc::clone(&self.manifests);
        self.blocking(move |blobs| {
            let found = open(blobs, &*manifests.get(blobs, &output.manifest)?, &path, holes)?;
            found.ok_or_else(|| {
                RegistryError::Missing(format!("there is no file `{path}` in the export `{export}`"))
            })
        })
        .await
    }

    /// Files, links and directories of a version.
    pub async fn version_files(
        &self,
        caller: &Caller,
        (name, version): (&ObjectName, &str),
        listed: Listed,
    ) -> Result<Vec<FileView>> {
        let version = self.version(caller, name, version).await?;
        self.blocking(move |blobs| {
            let manifest = manifest(blobs, &version.manifest)?;
            let within = spelling::path(&listed.path);
            let is_there = within.as_os_str().is_empty() || manifest.get(&within).is_some();
            if !is_there {
                return Err(RegistryError::Missing(format!("there is no `{}` in this version", listed.path)));
            }
            let mut files = Vec::new();
            if within.as_os_str().is_empty() && listed.recursive {
                files.extend(manifest.top().map(|top| top_view(top, "")));
            }
            for entry in manifest.entries() {
                let Ok(rest) = entry.path.strip_prefix(&within) else { continue };
                // A directory is listed by what is in it.
                let is_itself = rest.as_os_str().is_empty() && matches!(entry.kind, Kind::Dir { .. });
                if !is_itself && (listed.recursive || rest.components().count() <= 1) {
                    files.push(view(blobs, entry, "")?);
                }
            }
            Ok(files)
        })
        .await
    }

    /// One file of a version.
    pub async fn version_content(
        &self,
        caller: &Caller,
        (name, version): (&ObjectName, &str),
        path: String,
        holes: Holes,
    ) -> Result<Content> {
        let version = self.version(caller, name, version).await?;
        let manifests = Arc::clone(&self.manifests);
        self.blocking(move |blobs| {
            let found = open(blobs, &*manifests.get(blobs, &version.manifest)?, &path, holes)?;
            found.ok_or_else(|| RegistryError::Missing(format!("there is no file `{path}` in this version")))
        })
        .await
    }
}

/// The file at `path`, spelled as it was listed.
fn open(blobs: &blob::Store, manifest: &Manifest, path: &str, holes: Holes) -> Result<Option<Content>> {
    let Some((size, digest, form)) = find(manifest, path) else { return Ok(None) };
    if form == Form::Chunks {
        let recipe = Recipe::read(blobs, digest, size)?;
        let tag = format!("blake3:{}", recipe.whole);
        return Ok(Some(Content { tag, size, bytes: Bytes::Chunked(Chunked::of(blobs, recipe)) }));
    }
    // Nothing goes out that is not what was stored; of what is large, each chunk is looked at when it goes.
    let blob = blobs.open_verified(digest, &Watch::NONE)?;
    let (stored, from) = (blob.size(), blob.path().to_owned());
    let damaged = || DataError::Damaged { digest, path: from.clone() };
    let (size, bytes) = match (form, holes) {
        (Form::Packed, Holes::Zeros) => {
            (size, Bytes::Unpacked(Unpacked::open(blob, size).map_err(|_| damaged())?))
        }
        (Form::Plain, _) if stored != size => return Err(damaged().into()),
        _ => (stored, Bytes::Stored(blob)),
    };
    let kind = if matches!(bytes, Bytes::Unpacked(_)) { "blake3-packed" } else { "blake3" };
    Ok(Some(Content { tag: format!("{kind}:{digest}"), size, bytes }))
}

pub(super) fn manifest(blobs: &blob::Store, version: &str) -> Result<Manifest> {
    Ok(tree::read(blobs, digest(version)?)?)
}

/// What an export holds; a directory that something is in goes without saying.
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
    let says =
        |entry: &&Entry| !(matches!(entry.kind, Kind::Dir { .. }) && full.contains(entry.path.as_path()));
    let top = manifest.top().filter(|_| directories == Directories::All).map(|top| top_view(top, export));
    let inside = manifest.entries().iter().filter(says).map(|entry| view(blobs, entry, export));
    top.map(Ok).into_iter().chain(inside).collect()
}

/// The directory itself.
fn top_view(top: tree::Top, export: &str) -> FileView {
    FileView {
        path: ".".to_owned(),
        export: export.to_owned(),
        kind: FileKind::Directory,
        mode: Some(format!("{:o}", top.mode)),
        modified_at: Timestamp::from_nanosecond(top.modified.nanoseconds()).ok(),
        ..FileView::default()
    }
}

fn view(blobs: &blob::Store, entry: &Entry, export: &str) -> Result<FileView> {
    let text = |path: &Path| spelling::spell(path.as_os_str().as_bytes());
    let modified = entry.modified.map(Modified::nanoseconds);
    let modified_at = modified.and_then(|all| Timestamp::from_nanosecond(all).ok());
    let (path, export) = (text(&entry.path), export.to_owned());
    let named = FileView { path, export, modified_at, ..FileView::default() };
    Ok(match &entry.kind {
        Kind::File { mode, size, digest, form } => {
            let (whole, recipe) = match form {
                Form::Plain | Form::Packed => (*digest, None),
                Form::Chunks => {
                    // The others are listed all the same if it is lost; whoever fetches it is told.
                    let recipe = Recipe::read(blobs, *digest, *size);
                    (recipe.map_or(*digest, |recipe| recipe.whole), Some(digest.to_string()))
                }
            };
            FileView {
                size: *size,
                digest: whole.to_string(),
                packed_size: if *form == Form::Packed { blobs.size(*digest)? } else { None },
                recipe,
                executable: mode & 0o111 != 0,
                mode: Some(format!("{mode:o}")),
                ..named
            }
        }
        Kind::Symlink { target } => FileView { kind: FileKind::Link, target: Some(text(target)), ..named },
        Kind::Dir { mode } => {
            FileView { kind: FileKind::Directory, mode: Some(format!("{mode:o}")), ..named }
        }
    })
}

/// The file at `path`, spelled as it was listed.
fn find(manifest: &Manifest, path: &str) -> Option<(u64, Digest, Form)> {
    let entry = manifest.get(&spelling::path(path))?;
    match entry.kind {
        Kind::File { size, digest, form, .. } => Some((size, digest, form)),
        Kind::Dir { .. } | Kind::Symlink { .. } => None,
    }
}
