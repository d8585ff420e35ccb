//! The list of files that an export puts beside them, last of all. Who reads it has the whole export. It moves nothing.
//!
//! JSON, version 1. Paths are sorted and relative to where the list lies.
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::keys::above;
use crate::blob::Digest;
use crate::dir::Modified;

/// The version of the format.
const VERSION: u32 = 1;
/// Longest list that is read, in bytes.
pub(super) const LONGEST: usize = 512 << 20;

/// An export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) v: u32,
    /// Whose export it is.
    pub(super) who: String,
    /// The directory itself, if it was one.
    #[serde(default)]
    pub(super) top: Option<TopEntry>,
    pub(super) files: Vec<FileEntry>,
    /// Directories, also those with nothing in them.
    pub(super) dirs: Vec<DirEntry>,
    /// Links to directories of the same export.
    #[serde(default)]
    pub(super) links: Vec<LinkEntry>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileEntry {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) blake3: Digest,
    /// What the bucket called this content then.
    pub(super) tag: String,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
    /// Whose export wrote it, if it was there before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DirEntry {
    pub(super) path: String,
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
}

/// The directory that was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TopEntry {
    /// Permission bits.
    pub(super) mode: u32,
    /// Seconds since 1970 and nanoseconds.
    pub(super) modified: (i64, u32),
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkEntry {
    pub(super) path: String,
    pub(super) target: String,
}

/// A time of the list as directories have it; `None` if it is none.
pub(super) fn modified((seconds, nanos): (i64, u32)) -> Option<Modified> {
    (nanos < 1_000_000_000).then_some(Modified { seconds, nanos })
}

/// A time as the list has it.
pub(super) fn entry(at: Option<Modified>) -> (i64, u32) {
    at.map_or((0, 0), |at| (at.seconds, at.nanos))
}

impl Manifest {
    pub(super) fn new(who: &str) -> Self {
        Self {
            v: VERSION,
            who: who.to_owned(),
            top: None,
            files: Vec::new(),
            dirs: Vec::new(),
            links: Vec::new(),
        }
    }

    pub(super) fn text(&mut self) -> Vec<u8> {
        self.sort();
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    fn sort(&mut self) {
        self.files.sort_by(|a, b| a.path.cmp(&b.path));
        self.dirs.sort_by(|a, b| a.path.cmp(&b.path));
        self.links.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Reads one; the error says why it is none.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            v: u32,
        }
        let head: Head = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if head.v != VERSION {
            return Err(format!("it has version {}, and this program knows version {VERSION}", head.v));
        }
        let mut manifest: Self = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        manifest.sort();
        Ok(manifest)
    }

    pub(super) fn file(&self, path: &str) -> Option<&FileEntry> {
        let at = self.files.binary_search_by(|file| file.path.as_str().cmp(path)).ok()?;
        Some(&self.files[at])
    }

    /// The files that this export wrote.
    pub(super) fn own(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(|file| file.from.is_none())
    }

    /// Takes over what an earlier export left and this one has not replaced, as it stays in the bucket.
    pub(super) fn keep(&mut self, before: &Self) {
        let files: HashSet<&str> = self.files.iter().map(|file| file.path.as_str()).collect();
        let links: HashSet<&str> = self.links.iter().map(|link| link.path.as_str()).collect();
        let dirs: HashSet<&str> = self.dirs.iter().map(|dir| dir.path.as_str()).collect();
        let is_free = |path: &str| {
            let taken = |path: &str| files.contains(path) || links.contains(path);
            !taken(path) && !dirs.contains(path) && !above(path).any(taken)
        };
        let kept_files: Vec<_> = before
            .files
            .iter()
            .filter(|file| is_free(&file.path))
            .map(|file| FileEntry {
                from: file.from.clone().or_else(|| Some(before.who.clone())),
                ..file.clone()
            })
            .collect();
        let kept_dirs: Vec<_> = before.dirs.iter().filter(|dir| is_free(&dir.path)).cloned().collect();
        let kept_links: Vec<_> = before.links.iter().filter(|link| is_free(&link.path)).cloned().collect();
        self.files.extend(kept_files);
        self.dirs.extend(kept_dirs);
        self.links.extend(kept_links);
    }
}
