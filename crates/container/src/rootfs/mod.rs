//! The root file system: an overlay of the image's layers (or of the host's `/`) with a private upper directory, mounted
//! in the agent's own mount namespace, so that every mount goes when the agent goes.
//!
//! ```text
//! scratch/l/0 …       links to the layers, topmost first (keeps the option string short)
//! scratch/root/       upper and work directory of the root
//! scratch/private/X/  upper and work directory of a private bind, or the copy of a file; named by what it is for and where
//! scratch/lower/X     a directory of the machine with other owners, for a private bind
//! scratch/merged      the mounted root
//! ```
//! Mounted anew over the same scratch, also by another process and after a reboot, it shows what was written before.
//! It must not know what runs in it.
mod bind;
mod hidden;
mod host;
pub(crate) mod inside;
pub(crate) mod layer;
pub(crate) mod mountinfo;
pub mod nfs;
mod overlay;

pub use inside::plain;
pub use layer::{Below, Layer, Shown};

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use vessl_data::dir::{Dir, proc_path};

use crate::error::{StartError, os};
use crate::sys;

/// What a root file system is made of.
#[derive(Clone, Debug)]
pub struct Rootfs {
    /// Lower layers, lowest first; for `host://` this is `/`.
    pub layers: Vec<PathBuf>,
    /// Private directory for upper, work and merged; must be on a file system that overlayfs accepts as upper.
    pub scratch: PathBuf,
    /// Host paths that must never be visible (covered by an empty read-only tmpfs): in `host://` and in every bind that
    /// would show them, under whatever name. A bind of something inside a hidden path is the caller's own and works.
    pub hidden: Vec<PathBuf>,
    /// Whether `/` of the host is shown: file systems mounted below it are bound one by one, read-only, but `/proc`,
    /// `/sys`, `/dev` (the container's own) and `/run` and mounted temporary directories (private and empty).
    pub host: bool,
    /// Paths of the host below which the container shall be able to write where it shows the host, in its private layer:
    /// also on file systems of their own, and where an ordinary user has a directory in somebody else's.
    pub written: Vec<PathBuf>,
}

/// A mounted root file system.
#[derive(Debug)]
pub struct Merged {
    /// Its path as this process sees it.
    pub path: PathBuf,
    /// Handle of its root.
    root: Dir,
    scratch: PathBuf,
    /// Host paths under which something hidden can be seen.
    hidden: Vec<PathBuf>,
    /// Numbers of the binds whose files are the host's.
    binds: Mutex<Vec<u64>>,
    /// Names in `scratch/private` that are taken by now.
    private: Mutex<Vec<String>>,
    /// Maps that show root's files as somebody else's.
    maps: layer::Maps,
}

/// One bind; source and target are resolved safely (`openat2`, no symbolic link leads out of the root file system).
#[derive(Clone, Debug)]
pub struct Bind {
    /// Path on the host, without any symbolic link (canonicalise it first: a link swapped in afterwards is refused).
    pub source: PathBuf,
    /// Absolute path in the container; made if missing.
    pub target: PathBuf,
    /// Who sees writes.
    pub access: Access,
}

/// Who sees writes to a bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Writes are refused.
    ReadOnly,
    /// Writes reach the source.
    Shared,
    /// Writes go to the run's own scratch (an overlay over the source, for a file a copy); the source never changes. File
    /// systems mounted below the source do not show.
    Private,
}

impl Rootfs {
    /// Mounts the overlay at `scratch/merged`.
    pub fn mount(&self) -> Result<Merged, StartError> {
        let path = self.scratch.join("merged");
        let made = std::fs::create_dir_all(&path);
        made.map_err(os(format!("make `{}`", path.display())))?;
        let places = hidden::places(&self.hidden)?;
        let written = if self.host { host::written(&self.written) } else { Vec::new() };
        if self.host {
            host::mount(&self.scratch, &path, &written)?;
        } else {
            overlay::layers(&self.layers, &self.scratch, &path)?;
        }
        let root = sys::open_path(&path).map_err(os(format!("open `{}`", path.display())))?;
        let (scratch, root) = (self.scratch.clone(), root.into());
        let (binds, private, maps) = (Mutex::default(), Mutex::default(), layer::Maps::default());
        let merged = Merged { path, root, scratch, hidden: places, binds, private, maps };
        if self.host {
            host::show_mounts(&merged, &written)?;
            hidden::cover_all(&merged)?;
        }
        Ok(merged)
    }
}

impl Merged {
    /// Applies one bind. An error names source and target.
    pub fn bind(&self, bind: &Bind) -> Result<(), StartError> {
        bind::bind(self, bind, None)
    }

    /// The same of a directory of root's that is shown as `owner`'s, and read-only whatever the bind says.
    pub fn bind_as(&self, bind: &Bind, owner: (u32, u32)) -> Result<(), StartError> {
        bind::bind(self, bind, Some(owner))
    }

    /// Opens a directory of the container, made if it is missing, in which nobody but the run can change anything: what lies in a
    /// bind of the host's files gets an empty directory of the run's own over it. Everything is to be done by the descriptor: in
    /// a bind others can give the path another meaning at any time. `owner` gets the directory if it is empty.
    pub fn private_dir(&self, path: &Path, owner: Option<(u32, u32)>) -> Result<Dir, StartError> {
        let dir = inside::make(&self.root, path, inside::Make::Dir);
        let dir = dir.and_then(|dir| bind::cover(self, dir, path)).and_then(|dir| given(dir, owner));
        dir.map_err(os(format!("make `{}` in the container", path.display())))
    }

    /// Shows a directory of the host at `path`, which is one of [`Merged::private_dir`]; writes go to the run's scratch.
    pub fn show_layer(&self, layer: &Layer<'_>, (at, path): (&Dir, &Path)) -> Result<Shown, StartError> {
        layer::show(self, layer, (at, path)).map_err(os(format!("show `{}`", layer.source.display())))
    }

    /// Why this machine cannot show a directory of root's as `owner`'s, if that is so: tried in scratch.
    pub fn cannot_give(&self, owner: (u32, u32)) -> Option<String> {
        layer::cannot_give(self, owner)
    }

    /// The root of the container.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Opens a path of the container as the container would see it (links resolve inside the root), `O_PATH`.
    /// `Ok(None)` if it does not exist.
    pub fn open(&self, path: &Path) -> Result<Option<OwnedFd>, StartError> {
        inside::open(&self.root, path).map_err(os(format!("open `{}` in the container", path.display())))
    }

    /// Opens a directory of the container. One that is not there is made. `owner` gets it if it is new or empty: then
    /// there is nothing of the image in it that could be lost. Parents that are made are root's.
    pub fn make_dir(&self, path: &Path, owner: Option<(u32, u32)>) -> Result<Dir, StartError> {
        let dir = inside::make(&self.root, path, inside::Make::Dir);
        let dir = dir.and_then(|dir| given(dir, owner));
        dir.map_err(os(format!("make `{}` in the container", path.display())))
    }
}

/// Gives an empty directory to `owner`.
fn given(dir: OwnedFd, owner: Option<(u32, u32)>) -> io::Result<Dir> {
    if let Some((uid, gid)) = owner {
        let here = proc_path(&dir);
        if std::fs::read_dir(&here)?.next().is_none() {
            std::os::unix::fs::chown(here, Some(uid), Some(gid))?;
        }
    }
    Ok(dir.into())
}
