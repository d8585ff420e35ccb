//! What a commit brings into a directory: counted, and given to its owner.
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::command::{Git, Output};
use super::{GitError, Request};
use crate::Owner;
use crate::dir::Dir;

/// The entries of a commit as `git ls-tree` lists them.
pub(super) struct Brought(Vec<u8>);

impl Brought {
    pub(super) fn list(git: &Git<'_>, commit: &str) -> Result<Self, GitError> {
        git.run(&["ls-tree", "-r", "-t", "-l", "-z", commit], Output::Large).map(Self)
    }

    /// Size and path of every entry; directories and submodules have no size.
    fn entries(&self) -> impl Iterator<Item = (Option<u64>, &Path)> {
        self.0.split(|b| *b == 0).filter_map(|entry| {
            // mode SP type SP object SP+ size TAB path; what has no size has a `-`.
            let (about, path) = entry.split_at_checked(memchr::memchr(b'\t', entry)?)?;
            let size = String::from_utf8_lossy(about).split_whitespace().nth(3)?.parse().ok();
            Some((size, Path::new(OsStr::from_bytes(&path[1..]))))
        })
    }

    /// Size and path of every file and symbolic link.
    pub(super) fn files(&self) -> impl Iterator<Item = (u64, &Path)> {
        self.entries().filter_map(|(size, path)| Some((size?, path)))
    }

    /// Path and commit of every submodule.
    pub(super) fn submodules(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.split(|b| *b == 0).filter_map(|entry| {
            let (about, path) = entry.split_at_checked(memchr::memchr(b'\t', entry)?)?;
            let commit =
                std::str::from_utf8(about).ok()?.strip_prefix("160000 commit ")?.split(' ').next()?;
            Some((Path::new(OsStr::from_bytes(&path[1..])), commit))
        })
    }

    /// Bytes and number of the commit's files.
    pub(super) fn measure(&self) -> (u64, u64) {
        self.files().fold((0, 0), |(sum, count), (size, _)| (sum + size, count + 1))
    }

    /// What the check-out makes or replaces in `dest`: everything but the directories that are there now.
    pub(super) fn new_paths(&self, dest: &Dir) -> Vec<&Path> {
        let is_new = |(size, path): &(Option<u64>, &Path)| size.is_some() || dest.dir(path).is_err();
        self.entries().filter(is_new).map(|(_, path)| path).collect()
    }
}

/// Makes `owner` the owner of these paths, following no link.
pub(super) fn give(request: &Request<'_>, paths: &[&Path], owner: Owner) -> Result<(), GitError> {
    for path in paths {
        if (request.watch.stop)() {
            return Err(GitError::Stopped);
        }
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        request
            .dest
            .dir(parent)
            .and_then(|dir| dir.give(Path::new(name), owner))
            .map_err(|error| GitError::write(path, error))?;
    }
    Ok(())
}
