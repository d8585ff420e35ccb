//! Files of volumes that lie in buckets. What comes is kept on this machine until all of it is here; what goes out is not. Everything here
//! blocks.
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tempfile::TempDir;
use vessl_core::object::VolumeRef;
use vessl_core::spelling;
use vessl_core::wire::registry::VolumeCopied;
use vessl_core::wire::{FileKind, FileView};
use vessl_data::blob::Digest;
use vessl_data::bucket::{
    self, Addition, BucketFile, Empty, Identity, Import, Location, ManifestUse, Outgoing, Recursive, Session,
};
use vessl_data::dir::{Dir, Modified};
use vessl_data::fetch::RetryPolicy;
use vessl_data::{Watch, durable, locked, tree};

use super::files::{Bytes, Content, Listed};
use super::volume_files::{inside, missing};
use super::{RegistryError, Result, random_name};

/// A volume that lies in a bucket.
#[derive(Clone, Debug)]
pub(super) struct VolumeBucket {
    pub(super) location: Location,
    pub(super) identity: Identity,
    pub(super) volume: VolumeRef,
    /// Who changes it, in words for the list of an export.
    pub(super) who: String,
    /// Held by whoever changes that list.
    pub(super) listing: Arc<Mutex<()>>,
    /// A directory of this machine for what is on its way.
    pub(super) scratch: PathBuf,
}

impl VolumeBucket {
    fn session(&self) -> Result<Session> {
        // Somebody waits for the answer.
        let policy = RetryPolicy { retries: 4, ..RetryPolicy::default() };
        Ok(Session::open_with(self.location.clone(), self.identity.clone(), &policy)?)
    }

    /// The directory for what is on its way.
    pub(super) fn scratch(&self) -> Result<Dir> {
        durable::create_dir_all(&self.scratch, 0o700)?;
        Ok(Dir::open(&self.scratch)?)
    }

    /// The name there of a file that has not come as a whole.
    pub(super) fn part_name(&self, path: &Path) -> PathBuf {
        let VolumeRef { organization, .. } = &self.volume;
        let mut name = format!("{organization} {} ", self.volume).into_bytes();
        name.extend_from_slice(path.as_os_str().as_bytes());
        Digest::of(&name).to_string().into()
    }

    /// Files and directories.
    pub(super) fn list(&self, listed: &Listed) -> Result<Vec<FileView>> {
        let path = if listed.path.is_empty() { PathBuf::new() } else { inside(&listed.path)? };
        let recursive = if listed.recursive { Recursive::Yes } else { Recursive::No };
        let files = self.session()?.files(key(&path)?, recursive, tree::MAX_ENTRIES)?;
        let files = files.ok_or_else(|| missing(&listed.path))?;
        Ok(files.into_iter().map(view).collect())
    }

    /// One file.
    pub(super) fn content(&self, text: &str) -> Result<Content> {
        let path = inside(text)?;
        let Some(reader) = self.session()?.read(key(&path)?)? else {
            return Err(match self.session()?.kind(key(&path)?)? {
                None => missing(text),
                Some(_) => is_directory(text, ""),
            });
        };
        let (tag, size) = (format!("{}-{}", reader.size(), reader.tag()), reader.size());
        Ok(Content { tag, size, bytes: Bytes::Object(Box::new(reader)) })
    }

    /// Puts a file that is here as a whole.
    pub(super) fn put(&self, path: &Path, file: &File) -> Result<VolumeCopied> {
        key(path)?;
        self.add(Outgoing::File { name: path, file }, Path::new(""))
    }

    /// Puts files into a directory.
    pub(super) fn add(&self, what: Outgoing<'_>, to: &Path) -> Result<VolumeCopied> {
        self.scratch()?;
        let journal = self.scratch.join(format!("journal-{}", random_name()?));
        let session = self.session()?;
        let want = Addition { what, to: key(to)?, journal: &journal, who: &self.who, watch: &Watch::NONE };
        let added = session.add(&want)?;
        let _one = locked(&self.listing);
        session.amend(&added.change)?;
        let notes = added.warnings.iter().map(|warning| {
            format!("`{}` {}", spelling::spell(warning.path.as_os_str().as_bytes()), warning.text)
        });
        Ok(VolumeCopied { files: added.files, bytes: added.bytes, notes: notes.collect() })
    }

    /// Deletes a file; a directory only with `recursive`.
    pub(super) fn delete(&self, Listed { path: text, recursive }: &Listed) -> Result<()> {
        let path = inside(text)?;
        let session = self.session()?;
        match session.kind(key(&path)?)? {
            None => return Err(missing(text)),
            Some(bucket::FileKind::Directory) if !recursive => {
                return Err(is_directory(text, "delete it with `recursive`"));
            }
            Some(_) => {}
        }
        let _one = locked(&self.listing);
        session.remove(key(&path)?)?;
        Ok(())
    }

    /// Brings a file or directory here. The path is that of the file in the directory that is made; empty if that itself is meant.
    pub(super) fn fetch(&self, path: &Path) -> Result<Fetched> {
        let below = key(path)?;
        let text = spelling::spell(path.as_os_str().as_bytes());
        let kind = self.session()?.kind(below)?.ok_or_else(|| missing(&text))?;
        self.scratch()?;
        let dir = tempfile::Builder::new().prefix("copy-").tempdir_in(&self.scratch)?;
        let mut location = self.location.clone();
        location.prefix = [location.prefix.trim_end_matches('/'), below].join("/");
        let (empty, name) = match kind {
            bucket::FileKind::Directory => (Empty::IsFine, PathBuf::new()),
            bucket::FileKind::File => (Empty::IsError, path.file_name().unwrap_or_default().into()),
        };
        let session = Session::open(location, self.identity.clone())?;
        let into = Dir::open(dir.path())?;
        let imported = session.import(&Import {
            into: &into,
            previous: None,
            owner: None,
            manifest: ManifestUse::Ignore,
            empty,
            watch: &Watch::NONE,
        })?;
        Ok(Fetched { dir, name, notes: imported.left_out })
    }
}

/// What was brought here; it goes with this.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) dir: TempDir,
    /// The file in it; empty if the directory itself is meant.
    pub(super) name: PathBuf,
    /// What did not come.
    pub(super) notes: Vec<String>,
}

/// A path as part of a key.
fn key(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        let text = spelling::spell(path.as_os_str().as_bytes());
        RegistryError::Malformed(format!("`{text}` is not UTF-8, and a bucket takes no other names"))
    })
}

fn is_directory(text: &str, hint: &str) -> RegistryError {
    RegistryError::refused(format!("`{}` is a directory", text.escape_debug()), hint)
}

fn view(file: BucketFile) -> FileView {
    let BucketFile { path, kind, size, written, known } = file;
    let kind = match kind {
        bucket::FileKind::File => FileKind::File,
        bucket::FileKind::Directory => FileKind::Directory,
    };
    let modified = known.and_then(|known| known.modified).map(Modified::nanoseconds);
    FileView {
        path: spelling::spell(path.as_bytes()),
        kind,
        size,
        digest: known.map(|known| known.digest.to_string()).unwrap_or_default(),
        executable: known.is_some_and(|known| known.mode & 0o111 != 0),
        mode: known.map(|known| format!("{:o}", known.mode)),
        modified_at: match modified {
            Some(all) => Timestamp::from_nanosecond(all).ok(),
            None => written.parse().ok(),
        },
        ..FileView::default()
    }
}
