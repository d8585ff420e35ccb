//! How the files of a layout are opened: as they are named, or below one of some directories alone, whatever links say and whoever
//! changes them meanwhile.
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::OFlag;
use vessl_data::dir::{Dir, Links};

use crate::sys;

/// A way to files.
#[derive(Clone, Debug)]
pub(crate) enum Confinement {
    /// To all of this machine.
    Anywhere,
    /// To what lies below a directory.
    Below(Arc<Root>),
    /// To one file that is open and may have no name, whatever the path.
    Opened(Arc<File>),
}

/// A directory of the machine that holds what may be opened.
#[derive(Debug)]
pub(crate) struct Root {
    dir: Dir,
    path: PathBuf,
}

/// A path that lies below none of the roots.
#[derive(Debug)]
pub(crate) struct Outside(PathBuf);

impl Outside {
    /// In words that complete "the image cannot be used: ".
    pub(crate) fn explain(&self, roots: &[PathBuf]) -> String {
        let roots: Vec<String> = roots.iter().map(|root| format!("`{}`", root.display())).collect();
        let allowed = if roots.is_empty() {
            "none is allowed: see `hostpath_roots` in the server's configuration".to_owned()
        } else {
            roots.join(", ")
        };
        format!(
            "it leads to `{}`, which is not below a directory that the administrator allowed ({allowed})",
            self.0.display()
        )
    }
}

impl Confinement {
    /// The way to `path` and what lies in it, below one of `roots`, and where it is without links. A root that is not there holds
    /// nothing.
    pub(crate) fn to(path: &Path, roots: &[PathBuf]) -> io::Result<Result<(Self, PathBuf), Outside>> {
        let real = path.canonicalize()?;
        let below = |root: &PathBuf| root.canonicalize().ok().filter(|root| real.starts_with(root));
        let Some(root) = roots.iter().find_map(below) else { return Ok(Err(Outside(real))) };
        let dir = sys::open_path(&root)?.into();
        Ok(Ok((Self::Below(Arc::new(Root { dir, path: root })), real)))
    }

    /// Opens a file for reading. Links are followed where they stay below the root.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        let root = match self {
            Self::Anywhere => return File::open(path),
            Self::Opened(file) => return file.try_clone(),
            Self::Below(root) => root,
        };
        let below = path.strip_prefix(&root.path).map_err(|_| io::ErrorKind::InvalidInput)?;
        // To open a pipe must not wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let opened = root.dir.resolve(below, flags, Links::Beneath);
        opened.map(File::from).map_err(|error| explain(error.into(), &root.path))
    }
}

fn explain(error: io::Error, root: &Path) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EXDEV | libc::ELOOP) => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "a symbolic link is absolute or leads out of `{}`, below which the image must lie; make it relative",
                root.display()
            ),
        ),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_opened_but_what_lies_below_a_root() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        for name in ["in/layout", "out"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        for name in ["in/shared", "in/layout/f", "out/f"] {
            fs::write(base.join(name), name).unwrap();
        }
        symlink("../shared", base.join("in/layout/near")).unwrap();
        symlink("../../out/f", base.join("in/layout/far")).unwrap();
        symlink(base.join("out"), base.join("in/layout/dir")).unwrap();
        symlink("in/layout", base.join("way")).unwrap();
        symlink("../out", base.join("in/gone")).unwrap();
        let roots = [base.join("in"), base.join("not-there")];
        let (confinement, real) = Confinement::to(&base.join("way"), &roots).unwrap().unwrap();
        assert_eq!(real, base.join("in/layout"));
        let read = |name: &str| {
            let mut text = String::new();
            confinement
                .open(&real.join(name))
                .and_then(|mut file| file.read_to_string(&mut text))
                .map(|_| text)
        };
        assert_eq!(read("f").unwrap(), "in/layout/f");
        assert_eq!(read("near").unwrap(), "in/shared");
        for name in ["far", "dir/f"] {
            let error = read(name).unwrap_err().to_string();
            assert!(error.contains("leads out of `"), "{name}: {error}");
        }
        assert_eq!(read("none").unwrap_err().kind(), io::ErrorKind::NotFound);
        let outside =
            |path: &str, roots: &[PathBuf]| Confinement::to(&base.join(path), roots).unwrap().unwrap_err();
        let said = outside("in/gone/f", &roots).explain(&roots);
        assert!(said.contains(&format!("`{}`", base.join("out/f").display())), "{said}");
        assert!(outside("in", &[]).explain(&[]).contains("none is allowed"));
        // A directory that is replaced by a link after the look.
        fs::rename(base.join("in/layout"), base.join("in/old")).unwrap();
        symlink("../out", base.join("in/layout")).unwrap();
        assert!(read("f").is_err());
    }
}
