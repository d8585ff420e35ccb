//! What lies at a place of a bucket, as files and directories: directories are those that something is in. It moves nothing.
use std::collections::{BTreeMap, HashMap};

use super::error::BucketError;
use super::keys::{Place, above, place};
use super::manifest::{FileEntry, Manifest, modified};
use super::store::{About, Depth, Listed, Store};
use super::{MANIFEST, Session};
use crate::blob::Digest;
use crate::dir::Modified;
use crate::tree::ON_ITS_WAY;

/// Longest list of an export that is read for a listing, in bytes; above it, a listing has what the bucket itself tells.
const LONGEST: u64 = 64 << 20;

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// An object.
    File,
    /// What keys have in common up to a `/`.
    Directory,
}

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFile {
    /// From the place on.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes of a file.
    pub size: u64,
    /// When it was written, as the bucket says it (RFC 3339); may be empty.
    pub written: String,
    /// What the list of an export says of it.
    pub known: Option<Known>,
}

/// What a bucket does not keep of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Permission bits.
    pub mode: u32,
    /// When its content was last modified.
    pub modified: Option<Modified>,
    /// BLAKE3.
    pub digest: Digest,
}

impl Session {
    /// What is in a directory of the place, or the one file of that path, sorted by path; `None` if there is neither. Everything below
    /// it with `recursive`; an error if that is more than `most`. Keys that can be no paths, and what exports of ours keep beside their
    /// files, are left out.
    pub fn files(
        &self,
        path: &str,
        recursive: Recursive,
        most: usize,
    ) -> Result<Option<Vec<BucketFile>>, BucketError> {
        self.runtime.block_on(files(&self.store, path, recursive, most))
    }

    /// What is at a path of the place; `None` if there is nothing. Where both are, the directory is meant.
    pub fn kind(&self, path: &str) -> Result<Option<FileKind>, BucketError> {
        self.runtime.block_on(async {
            let prefix = below(&self.store, path);
            let page = self.store.page((&prefix, Depth::Level), None).await?;
            if path.is_empty() || !page.objects.is_empty() {
                return Ok(Some(FileKind::Directory));
            }
            Ok(object(&self.store, path).await?.map(|_| FileKind::File))
        })
    }
}

/// Whether a listing has what lies in directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recursive {
    /// What is in the directory itself.
    No,
    /// Everything below it.
    Yes,
}

/// What the keys below a directory of the place begin with.
pub(super) fn below(store: &Store, path: &str) -> String {
    let place = store.wire.at().directory();
    if path.is_empty() { place } else { format!("{place}{path}/") }
}

/// The object at a path of the place.
pub(super) async fn object(store: &Store, path: &str) -> Result<Option<About>, BucketError> {
    store.about(&format!("{}{path}", store.wire.at().directory())).await
}

/// Whether there is an object at a path of the place, by the listing: not every server knows a directory that is asked for as an object.
pub(super) async fn is_object(store: &Store, path: &str) -> Result<bool, BucketError> {
    let key = format!("{}{path}", store.wire.at().directory());
    // Of all keys that begin with it, it is the first itself.
    let page = store.page((&key, Depth::Level), None).await?;
    Ok(page.objects.iter().any(|object| object.key.as_deref() == Ok(key.as_str())))
}

async fn files(
    store: &Store,
    path: &str,
    recursive: Recursive,
    most: usize,
) -> Result<Option<Vec<BucketFile>>, BucketError> {
    let prefix = below(store, path);
    let list = list_of(store).await?;
    let depth = if recursive == Recursive::Yes { Depth::All } else { Depth::Level };
    let mut found = Finding { path, recursive, list: list.as_ref(), files: BTreeMap::new(), is_there: false };
    let mut from = None;
    loop {
        let page = store.page((&prefix, depth), from.as_deref()).await?;
        for listed in page.objects {
            found.add(&prefix, listed);
        }
        if found.files.len() > most {
            let limit = format!("more than {most} files; list a directory of it");
            return Err(crate::DataError::Limit { path: path.into(), limit }.into());
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    if found.is_there || path.is_empty() {
        return Ok(Some(found.files.into_values().collect()));
    }
    let Some(about) = object(store, path).await? else { return Ok(None) };
    let known = found.known(path, about.size, &about.tag);
    let (path, kind) = (path.to_owned(), FileKind::File);
    Ok(Some(vec![BucketFile { path, kind, size: about.size, written: String::new(), known }]))
}

/// The list that an export left at the place, if it is not too long.
async fn list_of(store: &Store) -> Result<Option<HashMap<String, FileEntry>>, BucketError> {
    let key = format!("{}{MANIFEST}", store.wire.at().directory());
    let about = match store.about(&key).await {
        Ok(about) => about,
        // Who may list need not be allowed to read.
        Err(BucketError::Denied { .. }) => None,
        Err(error) => return Err(error),
    };
    if about.is_none_or(|about| about.size > LONGEST) {
        return Ok(None);
    }
    let read = store.read(&key, usize::try_from(LONGEST).unwrap_or(usize::MAX)).await?;
    let list = read.and_then(|(text, _)| Manifest::parse(&text).ok());
    Ok(list.map(|list| list.files.into_iter().map(|file| (file.path.clone(), file)).collect()))
}

/// What a listing has found.
struct Finding<'a> {
    path: &'a str,
    recursive: Recursive,
    list: Option<&'a HashMap<String, FileEntry>>,
    files: BTreeMap<String, BucketFile>,
    /// Whether any key lies below the directory.
    is_there: bool,
}

impl Finding<'_> {
    fn add(&mut self, prefix: &str, Listed { key, size, tag, modified }: Listed) {
        self.is_there = true;
        let Some(rest) = key.as_deref().ok().and_then(|key| key.strip_prefix(prefix)) else { return };
        if self.path.is_empty() && rest.starts_with(ON_ITS_WAY) {
            return;
        }
        match (place(rest), self.recursive, rest.split_once('/')) {
            (Err(_) | Ok(Place::Top), ..) => {}
            // Not every server knows levels.
            (Ok(_), Recursive::No, Some((first, _))) => self.directory(first),
            (Ok(Place::Dir(dir)), ..) => {
                above(dir).for_each(|dir| self.directory(dir));
                self.directory(dir);
            }
            (Ok(Place::File(file)), ..) => {
                above(file).for_each(|dir| self.directory(dir));
                let path = self.full(file);
                let known = self.known(&path, size, &tag);
                let file =
                    BucketFile { path: path.clone(), kind: FileKind::File, size, written: modified, known };
                self.files.entry(path).or_insert(file);
            }
        }
    }

    fn directory(&mut self, rest: &str) {
        let path = self.full(rest);
        let (kind, written) = (FileKind::Directory, String::new());
        let directory = BucketFile { path: path.clone(), kind, size: 0, written, known: None };
        self.files.entry(path).or_insert(directory);
    }

    fn full(&self, rest: &str) -> String {
        if self.path.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.path) }
    }

    /// What the list of an export says, if it is of the very content that is there.
    fn known(&self, path: &str, size: u64, tag: &str) -> Option<Known> {
        let entry = self.list?.get(path)?;
        let is_same = entry.size == size && !tag.is_empty() && entry.tag == tag;
        is_same.then(|| Known {
            mode: entry.mode & 0o777,
            modified: modified(entry.modified),
            digest: entry.blake3,
        })
    }
}
