//! Versions: made from what another one has and what changes, found by number or alias, compared, deleted.
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use vessl_core::access::{Action, Caller, allowed};
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::spec::labels;
use vessl_core::spelling;
use vessl_core::wire::FileKind;
use vessl_core::wire::registry::{
    DifferenceKind, FileChange, FileDifference, FilePut, ObjectUpdate, VersionCreate, VersionView,
};
use vessl_data::DataError;
use vessl_data::blob::{self, Digest};
use vessl_data::chunks::Recipe;
use vessl_data::dir::Modified;
use vessl_data::locked;
use vessl_data::sparse::Unpacked;
use vessl_data::tree::{self, Edit, Entry, Form, Kind, Manifest};

use super::files::manifest;
use super::objects::{check, check_update, to_delete};
use super::uploads::{UploadRef, read_digest, since};
use super::{Registry, RegistryError, Result};
use crate::store::StoreError;
use crate::store::objects::About;
use crate::store::uploads::Upload;
use crate::store::versions::{Base, NewVersion, Tree, Which};

/// How often a version is made anew because another one came in between; a run can end at any moment, but not all of them do.
const TRIES: u32 = 100;
/// Bits of permissions that may be said of a file and of a directory.
const MODES: (u32, u32) = (0o777, 0o3777);

impl Registry {
    /// All versions of a thing, newest first.
    pub async fn versions(&self, caller: &Caller, name: &ObjectName) -> Result<Vec<VersionView>> {
        allowed(caller, Action::Read, name.scope())?;
        match self.store.versions(name.clone()).await? {
            Some(versions) => Ok(versions),
            None => self.known(name).await.map(|_| Vec::new()),
        }
    }

    /// One version, by number, by alias, or the newest as `latest`.
    pub async fn version(&self, caller: &Caller, name: &ObjectName, version: &str) -> Result<VersionView> {
        allowed(caller, Action::Read, name.scope())?;
        if let Some(found) = self.store.version(name.clone(), which(version)).await? {
            return Ok(found);
        }
        self.known(name).await?;
        let shown: String = version.chars().take(120).collect();
        Err(RegistryError::Missing(format!("there is no version `{}` of `{name}`", shown.escape_debug())))
    }

    /// Makes a version: all of its changes, or nothing. Answers false if the same upload had made it before.
    pub async fn create_version(
        &self,
        caller: &Caller,
        name: &ObjectName,
        new: VersionCreate,
    ) -> Result<(VersionView, bool)> {
        allowed(caller, Action::Run, name.scope())?;
        let VersionCreate { upload, base, changes, name: own, description, tags, metadata } = new;
        let about = About { description, tags, metadata };
        check(&about)?;
        if let Some(own) = &own {
            labels::check_name(own).map_err(RegistryError::Malformed)?;
        }
        self.known(name).await?;
        // One at a time: a repeated request waits for the first one, and finds what that made.
        let lock = self.lock(name);
        let _one = lock.lock().await;
        let brought = upload.is_some();
        let upload = match upload {
            None => self.new_upload(caller, &name.organization, Some(name.to_string())).await?,
            Some(id) => {
                if let Some(made) = self.store.version_by_upload(name.clone(), id.clone()).await? {
                    return Ok((made, false));
                }
                self.living(caller, &UploadRef { organization: name.organization.clone(), id }).await?
            }
        };
        let wanted = Wanted { base, changes: Arc::new(changes), own, about };
        let made = self.make(caller, name, &upload, &wanted).await;
        match &made {
            Ok(_) => self.clear_upload(&upload.id).await,
            Err(_) if !brought => self.forget_upload(upload.id).await?,
            Err(_) => {}
        }
        made.map(|made| (made, true))
    }

    /// Changes what is said of a version.
    pub async fn update_version(
        &self,
        caller: &Caller,
        (name, version): (&ObjectName, &str),
        change: ObjectUpdate,
    ) -> Result<VersionView> {
        allowed(caller, Action::Run, name.scope())?;
        check_update(&change)?;
        let found = self.version(caller, name, version).await?;
        self.store.update_version(name.clone(), found.version, change).await?;
        self.version(caller, name, &found.version.to_string()).await
    }

    /// Forgets one version. What unfinished runs import stays until they end.
    pub async fn delete_version(&self, caller: &Caller, name: &ObjectName, version: &str) -> Result<()> {
        allowed(caller, to_delete(name.kind), name.scope())?;
        let found = self.version(caller, name, version).await?;
        self.refuse_read(name, &found.manifest).await?;
        self.store.delete_version(name.clone(), found.version).await?;
        Ok(())
    }

    /// Refuses what an unfinished run reads.
    pub(super) async fn refuse_read(&self, name: &ObjectName, manifest: &str) -> Result<()> {
        let Some(run) = self.reader_of(manifest).await? else { return Ok(()) };
        let hint = format!("wait for its end, or `vessl run terminate {}`", run.0);
        let message = format!("the run {} has not ended and uses this version of `{name}`", run.0);
        Err(RegistryError::refused(message, &hint))
    }

    /// What two versions have that is not the same, by path.
    pub async fn diff(
        &self,
        caller: &Caller,
        name: &ObjectName,
        (from, to): (&str, &str),
    ) -> Result<Vec<FileDifference>> {
        let from = self.version(caller, name, from).await?.manifest;
        let to = self.version(caller, name, to).await?.manifest;
        self.blocking(move |blobs| Ok(differences(&manifest(blobs, &from)?, &manifest(blobs, &to)?))).await
    }

    /// Makes a version from what its base is now, until nobody else was faster.
    async fn make(
        &self,
        caller: &Caller,
        name: &ObjectName,
        upload: &Upload,
        wanted: &Wanted,
    ) -> Result<VersionView> {
        for _ in 0..TRIES {
            let (base, of) = self.base(name, wanted.base).await?;
            let (changes, since) = (Arc::clone(&wanted.changes), since(upload));
            let tree = self.blocking(move |blobs| {
                let edit = match of {
                    Some(of) => Edit::of(manifest(blobs, &of)?),
                    None => Edit::default(),
                };
                let changed = changed(blobs, edit, &changes, since)?.finish()?;
                let written = tree::store_manifest(blobs, &changed)?;
                let (bytes, files) = (written.bytes, written.files);
                Ok(Tree { manifest: written.version.to_string(), bytes, files })
            });
            let new = NewVersion {
                object: name.clone(),
                base,
                tree: tree.await?,
                name: wanted.own.clone(),
                about: wanted.about.clone(),
                made: self.made(caller),
                upload: upload.id.clone(),
            };
            match self.store.add_version(new).await {
                Err(StoreError::Moved(_)) => {}
                other => return Ok(other?),
            }
        }
        Err(RegistryError::refused(format!("`{name}` gets new versions all the time"), "try again"))
    }

    /// What a version is made from, with its tree.
    async fn base(&self, name: &ObjectName, base: Option<u64>) -> Result<(Base, Option<String>)> {
        match base {
            Some(0) => Ok((Base::Nothing, None)),
            None if name.kind != ObjectKind::Dataset => Ok((Base::Nothing, None)),
            None => {
                let newest = self.store.version(name.clone(), Which::Newest).await?;
                let number = newest.as_ref().map(|version| version.version);
                Ok((Base::Newest(number), newest.map(|version| version.manifest)))
            }
            Some(number) => {
                let found = self.store.version(name.clone(), Which::Number(number)).await?;
                let missing = || RegistryError::Missing(format!("there is no version {number} of `{name}`"));
                Ok((Base::Number(number), Some(found.ok_or_else(missing)?.manifest)))
            }
        }
    }

    fn lock(&self, name: &ObjectName) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = locked(&self.making);
        making.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = making.get(name).and_then(std::sync::Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        making.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// A version that is wanted.
struct Wanted {
    base: Option<u64>,
    changes: Arc<Vec<FileChange>>,
    own: Option<String>,
    about: About,
}

/// How a version is named. What cannot be an alias is none that is there.
fn which(version: &str) -> Which {
    match version {
        "latest" => Which::Newest,
        digits if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Which::Number(digits.parse().unwrap_or(u64::MAX))
        }
        alias => Which::Alias(alias.to_owned()),
    }
}

/// A tree after the changes, for which all blobs must be here.
fn changed(
    blobs: &blob::Store,
    mut edit: Edit,
    changes: &[FileChange],
    since: std::time::SystemTime,
) -> Result<Edit> {
    let mut digests = Vec::new();
    for (n, change) in changes.iter().enumerate() {
        let failed = |error: RegistryError| match error {
            RegistryError::Malformed(why) => RegistryError::Malformed(format!("`changes[{n}]`: {why}")),
            other => other,
        };
        let done = match change {
            FileChange::Put(put) => entry(put).and_then(|entry| {
                if let Kind::File { digest, .. } = entry.kind {
                    digests.push(digest);
                }
                Ok(edit.put(entry)?)
            }),
            FileChange::Copy { from, to } => {
                edit.copy(&spelling::path(from), &spelling::path(to)).map_err(RegistryError::from)
            }
            FileChange::Delete { path } => edit.delete(&spelling::path(path)).map_err(RegistryError::from),
        };
        done.map_err(failed)?;
    }
    all_here(blobs, &digests, since)?;
    let mut chunks = Vec::new();
    for change in changes {
        if let FileChange::Put(put) = change {
            chunks.extend(check_blob(blobs, put)?);
        }
    }
    all_here(blobs, &chunks, since)?;
    Ok(edit)
}

/// Refuses what names blobs that are not here.
fn all_here(blobs: &blob::Store, digests: &[Digest], since: std::time::SystemTime) -> Result<()> {
    let missing = blobs.missing(digests, since)?;
    let Some(first) = missing.first() else { return Ok(()) };
    let more = if missing.len() == 1 { String::new() } else { format!(" and {} others", missing.len() - 1) };
    let hint = "ask which are missing, put them, and try again";
    Err(RegistryError::refused(format!("the blob `{first}`{more} is not here"), hint))
}

fn entry(put: &FilePut) -> Result<Entry> {
    let path = match put.path.as_str() {
        "" => return Err(RegistryError::Malformed("an empty path cannot be in a tree".to_owned())),
        "." => PathBuf::new(),
        path => spelling::path(path),
    };
    let malformed = |why: String| RegistryError::Malformed(format!("`{}`: {why}", put.path.escape_debug()));
    let mode = |default: u32, most: u32| match &put.mode {
        None => Ok(default),
        Some(text) => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| mode & !most == 0)
            .ok_or_else(|| malformed(format!("`{}` are no permission bits", text.escape_debug()))),
    };
    let kind = match put.kind {
        FileKind::File => Kind::File {
            mode: mode(0o644, MODES.0)?,
            size: put.size,
            digest: read_digest(&put.digest)?,
            form: match (put.packed, put.chunked) {
                (false, false) => Form::Plain,
                (true, false) => Form::Packed,
                (false, true) => Form::Chunks,
                (true, true) => {
                    return Err(malformed("it is stored packed or in chunks, not both".to_owned()));
                }
            },
        },
        FileKind::Directory => Kind::Dir { mode: mode(0o755, MODES.1)? },
        FileKind::Link => {
            let target = put.target.as_deref().ok_or_else(|| malformed("a link has a target".to_owned()))?;
            Kind::Symlink { target: spelling::path(target) }
        }
    };
    let modified = put.modified_at.map(Timestamp::as_nanosecond);
    Ok(Entry { path, kind, modified: modified.and_then(Modified::from_nanoseconds) })
}

/// Refuses a file whose blob is not what is said of it; answers of which chunks it is made.
fn check_blob(blobs: &blob::Store, put: &FilePut) -> Result<Vec<Digest>> {
    if put.kind != FileKind::File {
        return Ok(Vec::new());
    }
    let digest: Digest = read_digest(&put.digest)?;
    let (path, size) = (put.path.escape_debug(), put.size);
    let refused = |why: String| Err(RegistryError::Malformed(format!("`{path}`: {why}")));
    if put.packed {
        return match Unpacked::open(blobs.open_blob(digest)?, size) {
            Ok(_) => Ok(Vec::new()),
            Err(_) => refused(format!("the blob is not the packed form of a file of {size} bytes")),
        };
    }
    if put.chunked {
        let recipe = match Recipe::read(blobs, digest, size) {
            Err(DataError::Recipe { .. }) => {
                return refused(format!("the blob is not the recipe of a file of {size} bytes"));
            }
            recipe => recipe?,
        };
        for chunk in &recipe.chunks {
            let (digest, size) = (chunk.digest, u64::from(chunk.size));
            if blobs.size(digest)?.is_some_and(|stored| stored != size) {
                return refused(format!("the chunk `{digest}` has not the {size} bytes of the recipe"));
            }
        }
        return Ok(recipe.chunks.into_iter().map(|chunk| chunk.digest).collect());
    }
    match blobs.size(digest)? {
        Some(stored) if stored != size => refused(format!("the blob has {stored} bytes, not {size}")),
        _ => Ok(Vec::new()),
    }
}

/// Files and links that are not the same, and directories that hold nothing or have other permissions.
fn differences(from: &Manifest, to: &Manifest) -> Vec<FileDifference> {
    let full = |manifest: &Manifest| -> HashSet<PathBuf> {
        manifest.entries().iter().filter_map(|entry| entry.path.parent()).map(Path::to_owned).collect()
    };
    let (full_from, full_to) = (full(from), full(to));
    let tells = |entry: &Entry, full: &HashSet<PathBuf>| {
        !matches!(entry.kind, Kind::Dir { .. }) || !full.contains(&entry.path)
    };
    let mut found = Vec::new();
    for entry in from.entries() {
        match to.get(&entry.path) {
            None if tells(entry, &full_from) => {
                found.push(difference(entry, DifferenceKind::Removed, size(entry), None));
            }
            Some(after) if after.kind != entry.kind => {
                found.push(difference(entry, DifferenceKind::Changed, size(entry), size(after)));
            }
            _ => {}
        }
    }
    let new = to.entries().iter().filter(|entry| from.get(&entry.path).is_none() && tells(entry, &full_to));
    found.extend(new.map(|entry| difference(entry, DifferenceKind::Added, None, size(entry))));
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn difference(
    entry: &Entry,
    change: DifferenceKind,
    before: Option<u64>,
    after: Option<u64>,
) -> FileDifference {
    use std::os::unix::ffi::OsStrExt;
    FileDifference { path: spelling::spell(entry.path.as_os_str().as_bytes()), change, before, after }
}

fn size(entry: &Entry) -> Option<u64> {
    match entry.kind {
        Kind::File { size, .. } => Some(size),
        Kind::Dir { .. } | Kind::Symlink { .. } => None,
    }
}
