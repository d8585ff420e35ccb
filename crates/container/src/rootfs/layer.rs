//! Directories of the machine that are only read, shown in the container as the lower layer of an overlay: as another user's where the
//! kernel can show them so, and over the files of an image.
//!
//! ```text
//! owner     a clone of the mount, whose owners go through the map of a user namespace, read-only, at scratch/lower/N: kernels before
//!           6.15 take no layer that is mounted nowhere
//! files     lowerdir=layer:place at place. An overlay over an overlay works once; the kernel refuses a third
//! ```
//! Nothing is decided by the version of the kernel: it is tried.
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MntFlags;
use vessl_data::dir::{Dir, Kind, open_plain, proc_path, real_path};
use vessl_data::locked;

use super::bind::{self, PLAIN};
use super::{Merged, mountinfo, overlay};
use crate::sys::{self, Attr, Reach};
use crate::userns;

/// A directory of the machine that is to be shown. Nobody writes to it, and root owns everything in it.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Path on the host, without any symbolic link.
    pub source: &'a Path,
    /// User and group that own it in the container; `None` is root.
    pub owner: Option<(u32, u32)>,
    /// What is at the place.
    pub below: Below,
}

/// What is where a directory is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// Nothing.
    Nothing,
    /// Files, which stay in view. A directory of one of the two in the place of something else of the other does not fit.
    Kept,
    /// Files, which stay in view where the directory has nothing of the same name; a git repository among them does not fit.
    Replaced,
}

/// Whether a directory is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It is.
    Yes,
    /// It cannot be, and nothing has changed.
    No {
        /// Why not.
        why: String,
    },
}

/// User namespaces by the owner that root is in them.
pub(super) type Maps = Mutex<BTreeMap<(u32, u32), Arc<OwnedFd>>>;

/// How a kernel says that it does not put an overlay over this.
const REFUSED: [i32; 5] = [libc::EINVAL, libc::ELOOP, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP];

/// What a layer of the machine gets.
const SEALED: Attr = PLAIN.and(Attr::READ_ONLY);

/// What is shown once more over the same scratch is not looked through again: it fitted, and the run has changed it since.
pub(super) fn show(merged: &Merged, layer: &Layer<'_>, (at, path): (&Dir, &Path)) -> io::Result<Shown> {
    let from = open_plain(layer.source, OFlag::O_PATH).map_err(bind::explain_link)?;
    let private = bind::private_dir(merged, "layer", path)?;
    let is_new = !private.join("work").exists();
    let from = Dir::from(match layer.owner {
        None => from,
        Some(owner) => given(merged, &from, owner, &private)?,
    });
    let top = proc_path(&from).display().to_string();
    if layer.below == Below::Nothing {
        overlay::mount(&top, &private, Some(from.as_fd()), at.as_fd())?;
        return Ok(Shown::Yes);
    }
    // What cannot be looked at is for whoever copies to say.
    if is_new {
        let misfit = misfit(&from, at, &private.join("upper"), layer.below);
        if let Some(why) = misfit.unwrap_or_else(|e| Some(format!("it cannot be looked through ({e})"))) {
            return Ok(Shown::No { why });
        }
    }
    let lower = format!("{top}:{}", proc_path(at).display());
    match overlay::mount_over(&lower, &private, at.as_fd()) {
        Err(e) if REFUSED.iter().any(|code| e.raw_os_error() == Some(*code)) => {
            Ok(Shown::No { why: format!("the kernel puts no further layer over what is there ({e})") })
        }
        mounted => mounted.map(|()| Shown::Yes),
    }
}

/// Why `layer` cannot be put over what is `at` a place. The directories that both have are made in the upper layer as the place has
/// them: else they would be the layer's, with its owner.
fn misfit(layer: &Dir, at: &Dir, upper: &Path, below: Below) -> io::Result<Option<String>> {
    let here = real_path(at)?;
    let is_below = |point: &Path| point != here && point.starts_with(&here);
    if mountinfo::read()?.iter().any(|mount| is_below(&mount.point)) {
        // An overlay would show what such a mount covers.
        return Ok(Some("something is mounted below it".to_owned()));
    }
    std::fs::create_dir_all(upper)?;
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        let (over, under) = (layer.dir(&dir)?, at.dir(&dir)?);
        for name in under.names()? {
            let (Some(new), Some(old)) = (over.kind(&name)?, under.kind(&name)?) else { continue };
            let path = dir.join(&name);
            match (new, old) {
                (Kind::Dir, Kind::Dir) if below == Below::Replaced && path == Path::new(".git") => {
                    return Ok(Some("there is a git repository".to_owned()));
                }
                (Kind::Dir, Kind::Dir) => {
                    std::fs::create_dir(upper.join(&path))?;
                    overlay::lend(&upper.join(&path), Some(under.dir(&name)?.as_fd()))?;
                    open.push(path);
                }
                (Kind::Dir, _) | (_, Kind::Dir) if below == Below::Kept => {
                    return Ok(Some(format!("`{}` is a directory in one of the two alone", path.display())));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

/// A directory of root's as `owner`'s, read-only and mounted in scratch.
pub(super) fn given(
    merged: &Merged,
    from: &OwnedFd,
    owner: (u32, u32),
    private: &Path,
) -> io::Result<OwnedFd> {
    let map = {
        let mut maps = locked(&merged.maps);
        match maps.get(&owner) {
            Some(map) => Arc::clone(map),
            None => Arc::clone(maps.entry(owner).or_insert(Arc::new(userns::root_is(owner)?))),
        }
    };
    let tree = clone_for(from, &map)?;
    let place = merged.scratch.join("lower").join(private.file_name().unwrap_or_default());
    std::fs::create_dir_all(&place)?;
    sys::move_mount(tree.as_fd(), sys::open_path(&place)?.as_fd())?;
    Ok(tree)
}

/// A detached, read-only clone of a directory's mount with the owners of a map.
pub(crate) fn clone_for(from: &OwnedFd, map: &OwnedFd) -> io::Result<OwnedFd> {
    let tree = sys::open_tree(from.as_fd(), Path::new(""), Reach::One)?;
    sys::map_owners(tree.as_fd(), map.as_fd(), SEALED)?;
    Ok(tree)
}

pub(super) fn cannot_give(merged: &Merged, owner: (u32, u32)) -> Option<String> {
    let tried = || -> io::Result<()> {
        let private = bind::private_dir(merged, "probe", Path::new("/"))?;
        let (from, target) = (private.join("lower"), private.join("merged"));
        for dir in [&from, &target] {
            std::fs::create_dir_all(dir)?;
        }
        let from = given(merged, &sys::open_path(&from)?, owner, &private)?;
        let (lower, target) = (proc_path(&from).display().to_string(), sys::open_path(&target)?);
        overlay::mount(&lower, &private, Some(from.as_fd()), target.as_fd())?;
        for place in [&private.join("merged"), &real_path(&from)?] {
            nix::mount::umount2(place, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)?;
        }
        Ok(())
    };
    tried().err().map(|error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM) => "only root can show files as another user's".to_owned(),
        _ => format!("the kernel or the file system cannot show files as another user's ({error})"),
    })
}
