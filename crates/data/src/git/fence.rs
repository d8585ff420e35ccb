//! Opening what lies below some directories of this machine and nothing else, whatever its links say and whoever changes them
//! meanwhile. What those directories are is said by the caller.
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::through;
use crate::dir::{Dir, Kind};

/// Directories of this machine below which a repository and everything that it borrows from elsewhere must lie.
#[derive(Debug)]
pub struct Fence {
    roots: Vec<FencedDir>,
    names: Vec<String>,
    scratch: PathBuf,
}

/// Why something is not opened.
#[derive(Debug)]
pub(super) enum NotInside {
    /// It leads there, which is below none of the directories.
    Outside(PathBuf),
    /// The system's word.
    Os(io::Error),
}

impl From<io::Error> for NotInside {
    fn from(error: io::Error) -> Self {
        Self::Os(error)
    }
}

/// A directory below one of the roots.
#[derive(Debug)]
pub(super) struct FencedDir {
    dir: Dir,
    /// Where it is, without links.
    pub(super) path: PathBuf,
}

impl Fence {
    /// A root that is not there holds nothing. `scratch` is a directory that nobody else may enter, with room for the small files
    /// of a repository.
    pub fn new(roots: &[String], scratch: &Path) -> Self {
        let open = |name: &String| {
            let path = Path::new(name).canonicalize().ok()?;
            Some(FencedDir { dir: Dir::open(&path).ok()?, path })
        };
        let names = roots.to_vec();
        let roots = roots.iter().filter_map(open).collect();
        Self { roots, names, scratch: scratch.to_owned() }
    }

    /// The roots as they were given.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Opens a directory, links followed.
    pub(super) fn dir(&self, path: &Path) -> Result<FencedDir, NotInside> {
        let (root, real) = self.root_of(path)?;
        let dir = root.dir.dir(real.strip_prefix(&root.path).unwrap_or(&real))?;
        Ok(FencedDir { dir, path: real })
    }

    /// Opens a regular file, links followed.
    fn file(&self, path: &Path) -> Result<File, NotInside> {
        let (root, real) = self.root_of(path)?;
        Ok(root.dir.file(real.strip_prefix(&root.path).unwrap_or(&real))?)
    }

    /// The root that `path` lies below, and where it is without links. What is opened below the root afterwards follows none: a link
    /// that came in between is refused.
    fn root_of(&self, path: &Path) -> Result<(&FencedDir, PathBuf), NotInside> {
        let real = path.canonicalize()?;
        match self.roots.iter().find(|root| real.starts_with(&root.path)) {
            Some(root) => Ok((root, real)),
            None => Err(NotInside::Outside(real)),
        }
    }
}

impl FencedDir {
    /// The directory of this name in it; `None` if there is nothing or something else. A link is followed inside the fence.
    pub(super) fn dir(&self, fence: &Fence, name: &str) -> Result<Option<Self>, NotInside> {
        let path = Path::new(name);
        let opened = match self.dir.dir(path) {
            // Of a link at the end the kernel says that it is no directory.
            Err(_) if self.is_link(path) => fence.dir(&self.path.join(path)),
            other => other.map(|dir| Self { dir, path: self.path.join(path) }).map_err(NotInside::from),
        };
        there(opened)
    }

    /// The directory of this name in it that is no link.
    pub(super) fn plain_dir(&self, name: &str) -> Option<Self> {
        let dir = self.dir.dir(Path::new(name)).ok()?;
        Some(Self { dir, path: self.path.join(name) })
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { dir: self.dir.try_clone()?, path: self.path.clone() })
    }

    /// The regular file of this name in it, in the same way.
    pub(super) fn file(&self, fence: &Fence, name: &str) -> Result<Option<File>, NotInside> {
        let opened = match self.dir.file(Path::new(name)) {
            Err(_) if self.is_link(Path::new(name)) => fence.file(&self.path.join(name)),
            other => other.map_err(NotInside::from),
        };
        there(opened)
    }

    fn is_link(&self, name: &Path) -> bool {
        self.dir.kind(name).is_ok_and(|kind| kind == Some(Kind::Symlink))
    }

    /// What is in it. A name that is not UTF-8 is none of git's.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(through(&self.dir))?;
        let names: Vec<OsString> = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }
}

fn there<T>(opened: Result<T, NotInside>) -> Result<Option<T>, NotInside> {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    match opened {
        Ok(it) => Ok(Some(it)),
        Err(NotInside::Os(error)) if matches!(error.kind(), NotFound | NotADirectory | InvalidInput) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_inside_alone() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for name in ["in/sub", "also", "out/sub"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        for name in ["in/sub/f", "also/f", "out/f", "in/plain"] {
            fs::write(base.join(name), name).unwrap();
        }
        let link = |target: &str, name: &str| symlink(target, base.join(name)).unwrap();
        link("sub/f", "in/near");
        link("../also/f", "in/other-root");
        link("../out/f", "in/far");
        link(base.join("out").to_str().unwrap(), "in/far-dir");
        link("/proc/self/root", "in/magic");
        link("nowhere", "in/dangling");
        link(base.join("in").to_str().unwrap(), "root-by-link");
        let root = |name: &str| base.join(name).display().to_string();
        let fence = Fence::new(&[root("root-by-link"), root("also"), root("not-there")], &base);
        let inside = fence.dir(&base.join("in")).unwrap();
        let said = |name: &str| match inside.file(&fence, name) {
            Ok(None) => "nothing".to_owned(),
            Ok(Some(mut file)) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            }
            Err(NotInside::Outside(path)) => {
                format!("outside {}", path.strip_prefix(&base).unwrap().display())
            }
            Err(NotInside::Os(error)) => error.to_string(),
        };
        for (name, expected) in [
            ("plain", "in/plain"),
            ("sub/f", "in/sub/f"),
            ("near", "in/sub/f"),
            ("other-root", "also/f"),
            ("far", "outside out/f"),
            ("dangling", "nothing"),
            ("none", "nothing"),
            ("sub", "nothing"),
        ] {
            assert_eq!(said(name), expected, "{name}");
        }
        assert!(matches!(inside.dir(&fence, "far-dir"), Err(NotInside::Outside(_))));
        assert!(matches!(inside.dir(&fence, "magic"), Err(NotInside::Outside(_))));
        assert!(matches!(fence.dir(&base), Err(NotInside::Outside(_))));
        assert!(matches!(fence.dir(&base.join("in/../out")), Err(NotInside::Outside(_))));
        assert_eq!(inside.dir(&fence, "sub").unwrap().unwrap().names().unwrap(), ["f"]);
    }
}
