//! What an export consists of: the files of a directory, with links followed, because a bucket has none. It sends nothing.
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use serde::{Deserialize, Serialize};

use super::MANIFEST;
use super::keys::{Place, place};
use super::manifest::{DirEntry, LinkEntry, TopEntry, entry as entry_time};
use super::plain::PlainFile;
use crate::dir::{self, Dir, Links, real_path};
use crate::tree::{Bounds, Everything, Found, Kind, Source, Warning, WhatIsWhole, walk};
use crate::{DataError, Watch};

/// Longest key, in bytes.
const LONGEST_KEY: usize = 1024;

/// What is exported.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// A directory. Links that lead out of it become what they lead to, and so do links to files inside.
    Tree(Source<'a>),
    /// The same of a volume, without what is on its way into it.
    Volume(Source<'a>),
    /// One open file, under this name.
    File {
        /// Its name in the bucket.
        name: &'a Path,
        /// The file.
        file: &'a File,
    },
}

/// All that is to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) top: Option<TopEntry>,
    pub(super) files: Vec<OutFile>,
    pub(super) dirs: Vec<DirEntry>,
    pub(super) links: Vec<LinkEntry>,
    pub(super) warnings: Vec<Warning>,
    /// Links that lead out, and are what they lead to.
    pub(super) followed: u64,
    pub(super) bytes: u64,
}

/// A file that is to be sent.
#[derive(Debug)]
pub(super) struct OutFile {
    /// Below the prefix.
    pub(super) path: String,
    origin: Origin,
    pub(super) size: u64,
    pub(super) mode: u32,
}

#[derive(Debug)]
enum Origin {
    /// Below the root of the source.
    Below(PathBuf),
    Open(Arc<File>),
}

/// What shows whether a file was written to: size, times of its content and of its status (seconds, nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State(pub(super) u64, i64, i64, i64, i64);

impl State {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self(meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
    }

    pub(super) fn modified(self) -> (i64, u32) {
        (self.1, u32::try_from(self.2).unwrap_or_default())
    }
}

impl OutFile {
    /// Opens it for reading, with its state.
    pub(super) fn open(&self, root: Option<&Dir>) -> Result<(Arc<File>, State), DataError> {
        let file = match (&self.origin, root) {
            (Origin::Open(file), _) => Arc::clone(file),
            (Origin::Below(path), Some(root)) => Arc::new(root.file(path).map_err(|e| self.failed(e))?),
            (Origin::Below(_), None) => return Err(DataError::Changed { path: self.path.clone().into() }),
        };
        let state = State::of(&file.metadata().map_err(|e| self.failed(e))?);
        if state.0 == self.size { Ok((file, state)) } else { Err(self.changed()) }
    }

    pub(super) fn changed(&self) -> DataError {
        DataError::Changed { path: self.path.clone().into() }
    }

    pub(super) fn failed(&self, e: std::io::Error) -> DataError {
        match e.kind() {
            std::io::ErrorKind::NotFound
            | std::io::ErrorKind::InvalidInput
            | std::io::ErrorKind::UnexpectedEof => self.changed(),
            _ => DataError::os("read", &self.path)(e),
        }
    }
}

/// Looks at everything that is to be sent.
pub(super) fn collect(
    what: Outgoing<'_>,
    prefix: &str,
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Outbox, DataError> {
    let mut outbox = Outbox::default();
    match what {
        Outgoing::File { name, file } => {
            let meta = file.metadata().map_err(DataError::os("read", name))?;
            let file = file.try_clone().map_err(DataError::os("read", name))?;
            let origin = Origin::Open(Arc::new(file));
            outbox.file(name, prefix, (origin, meta.len(), meta.mode() & 0o777));
        }
        Outgoing::Tree(source) | Outgoing::Volume(source) => {
            let walked = match what {
                Outgoing::Volume(_) => walk(source, bounds, &mut WhatIsWhole, watch)?,
                _ => walk(source, bounds, &mut Everything, watch)?,
            };
            (outbox.warnings, outbox.followed) = (walked.warnings, walked.followed);
            let (mode, modified) = (walked.top.mode & 0o777, entry_time(Some(walked.top.modified)));
            outbox.top = Some(TopEntry { mode, modified });
            for found in walked.found {
                outbox.add(source.root, prefix, found)?;
            }
        }
    }
    if outbox.bytes > bounds.bytes {
        let limit = format!("more than {} bytes in all", bounds.bytes);
        return Err(DataError::Limit { path: PathBuf::from("."), limit });
    }
    outbox.warnings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(outbox)
}

impl Outbox {
    /// Files below the root of the source, each to its own path.
    pub(super) fn of_files(files: &[PlainFile]) -> Self {
        let file = |file: &PlainFile| OutFile {
            path: file.path.clone(),
            origin: Origin::Below(PathBuf::from(&file.path)),
            size: file.size,
            mode: 0o644,
        };
        let bytes = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
        Self { files: files.iter().map(file).collect(), bytes, ..Self::default() }
    }

    fn add(&mut self, root: &Dir, prefix: &str, Found { entry, from }: Found) -> Result<(), DataError> {
        match entry.kind {
            Kind::Dir { mode } => {
                if let Some(path) = self.key(&entry.path, prefix) {
                    self.dirs.push(DirEntry {
                        path,
                        mode: mode & 0o777,
                        modified: entry_time(entry.modified),
                    });
                }
            }
            Kind::File { mode, size, .. } => {
                self.file(&entry.path, prefix, (Origin::Below(from), size, mode));
            }
            Kind::Symlink { target } => self.link(root, prefix, (entry.path, from), &target)?,
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, prefix: &str, (origin, size, mode): (Origin, u64, u32)) {
        let Some(path) = self.key(path, prefix) else { return };
        self.bytes = self.bytes.saturating_add(size);
        self.files.push(OutFile { path, origin, size, mode });
    }

    /// A link inside of the directory: to a file it is that file again, to a directory it stands in the list of the export.
    fn link(
        &mut self,
        root: &Dir,
        prefix: &str,
        (path, from): (PathBuf, PathBuf),
        target: &Path,
    ) -> Result<(), DataError> {
        // What the walk said of it is said better here.
        self.warnings.retain(|warning| warning.path != path);
        let found = root.resolve(&from, OFlag::O_PATH, Links::InRoot);
        let Ok(found) = found else {
            self.warn(
                path,
                format!("was left out: it is a link to `{}`, where there is nothing", target.display()),
            );
            return Ok(());
        };
        let about = fstat(&found).map_err(DataError::os("follow", &path))?;
        match dir::Kind::of(&about) {
            dir::Kind::File => {
                let failed = DataError::os("follow", &path);
                let here = real_path(root).map_err(failed)?;
                let real = real_path(&found).map_err(DataError::os("follow", &path))?;
                let Ok(real) = real.strip_prefix(&here) else { return Err(DataError::Changed { path }) };
                let size = u64::try_from(about.st_size).unwrap_or_default();
                self.file(&path, prefix, (Origin::Below(real.to_owned()), size, about.st_mode & 0o777));
            }
            dir::Kind::Dir => {
                let text = format!(
                    "is a link to the directory `{}`: it stands in the list of the export alone",
                    target.display()
                );
                if let (Some(path), Some(target)) = (self.key(&path, prefix), target.to_str()) {
                    self.links.push(LinkEntry { path, target: target.to_owned() });
                }
                self.warn(path, text);
            }
            _ => self.warn(path, "was left out: it is a link to a socket, pipe or device".to_owned()),
        }
        Ok(())
    }

    /// The path as part of a key; a warning if it cannot be one.
    fn key(&mut self, path: &Path, prefix: &str) -> Option<String> {
        let why = match path.to_str() {
            None => "its name is not UTF-8, and a bucket takes no other",
            Some(MANIFEST) => "an export puts its own list there",
            Some(text) if text.len() + prefix.len() > LONGEST_KEY => {
                "a key of a bucket has at most 1024 bytes"
            }
            Some(text) if place(text) != Ok(Place::File(text)) => "its name has control characters",
            Some(text) => return Some(text.to_owned()),
        };
        self.warn(path.to_owned(), format!("was left out: {why}"));
        None
    }

    fn warn(&mut self, path: PathBuf, text: String) {
        self.warnings.push(Warning { path, text });
    }
}
