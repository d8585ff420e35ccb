//! The host's own `/` as a lower layer. What is mounted below `/` does not show through an overlay, so each file system
//! is bound on its own, read-only; kernel file systems and other containers' overlays are left out.
//!
//! In a user namespace the kernel refuses an overlay over a directory that has mounts below it (they are locked
//! together, so that nobody looks under them). There the root is put together from one overlay for each directory
//! without mounts, and plain directories on the way to the others.
use std::fs::FileType;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::inside::{self, Make};
use super::mountinfo::{self, MountEntry};
use super::{Merged, bind, overlay};
use nix::fcntl::OFlag;
use vessl_data::blob::Digest;
use vessl_data::dir::{open_plain, proc_path};

use crate::error::{StartError, os};
use crate::sys::{self, Attr, Reach};
use crate::userns;

const SHOWN: Attr = Attr::READ_ONLY.and(Attr::NO_SUID).and(Attr::NO_DEV);

/// Trees that the container has of its own.
const OWN: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];

/// Temporary directories: private and writable where they are mounts.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Kinds of file systems that show the kernel, a device or another container and not files of this machine.
const UNSHOWN: [&str; 22] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// The directories of the host that are there already for `paths`, and the temporary ones.
pub(crate) fn written(paths: &[PathBuf]) -> Vec<PathBuf> {
    let there = |path: &Path| {
        let dirs = path.ancestors().filter_map(|dir| std::fs::canonicalize(dir).ok());
        dirs.into_iter().find(|dir| dir.is_dir())
    };
    let paths = paths.iter().map(PathBuf::as_path).filter(|path| path.is_absolute());
    let dirs = paths.chain(TEMPORARY.iter().map(Path::new)).filter_map(there);
    dirs.filter(|dir| dir.parent().is_some()).collect()
}

/// Mounts `/` of the host below a private layer at `target`.
pub(crate) fn mount(scratch: &Path, target: &Path, written: &[PathBuf]) -> Result<(), StartError> {
    let what = "mount `/` of the host with overlayfs";
    let place = sys::open_path(target).map_err(os("open the mount point"))?;
    let private = scratch.join("root");
    if userns::is_inside() {
        pave(Path::new("/"), &private.join("upper"), written).map_err(os(what))?;
    }
    match overlay::mount("/", &private, None, place.as_fd()) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => tiles(scratch, target, written),
        other => other.map_err(os(what)),
    }
}

/// Makes the directories from `base` to each of `written` in the private layer `upper` of `base`. In a user namespace the kernel
/// could not: it copies a directory with its owner, who may not exist there.
fn pave(base: &Path, upper: &Path, written: &[PathBuf]) -> io::Result<()> {
    for rest in written.iter().filter_map(|dir| dir.strip_prefix(base).ok()) {
        let (mut from, mut to) = (base.to_owned(), upper.to_owned());
        for name in rest {
            from.push(name);
            to.push(name);
            if to.is_dir() {
                continue;
            }
            let like = open_plain(&from, OFlag::O_PATH)?;
            std::fs::create_dir_all(&to)?;
            overlay::lend(&to, Some(like.as_fd()))?;
        }
    }
    Ok(())
}

/// Binds every file system that is mounted below `/`; what is to be `written` on one gets a private layer.
pub(crate) fn show_mounts(merged: &Merged, written: &[PathBuf]) -> Result<(), StartError> {
    let mounts = mountinfo::read().map_err(os("read the mounts of the host"))?;
    let own = std::fs::canonicalize(&merged.scratch).map_err(os("find the scratch directory"))?;
    let temporary: Vec<_> = TEMPORARY.iter().map(Path::new).filter(|dir| is_mount(&mounts, dir)).collect();
    let replaced = |path: &Path| {
        OWN.iter().map(Path::new).chain(temporary.iter().copied()).any(|own| path.starts_with(own))
    };
    let shown = |m: &&MountEntry| {
        is_files(m)
            && !replaced(&m.point)
            && !m.point.starts_with(&own)
            && !is_hidden(&m.point, &merged.hidden)
    };
    let mut whole: Vec<PathBuf> = Vec::new();
    for entry in mounts.iter().filter(shown) {
        if !whole.iter().any(|tree| entry.point.starts_with(tree))
            && show(merged, &entry.point)? == Reach::Tree
        {
            whole.push(entry.point.clone());
        }
        for dir in written.iter().filter(|dir| mount_of(&mounts, dir) == Some(&entry.point)) {
            cover(merged, dir)?;
        }
    }
    let run = sys::new_mount("tmpfs", &[("mode", Some("0755"))], Attr::NO_SUID.and(Attr::NO_DEV));
    place(merged, run, Path::new("/run"))?;
    temporary.into_iter().try_for_each(|path| place(merged, private_temporary(&merged.scratch, path), path))
}

/// Where the file system of `path` is mounted.
fn mount_of<'m>(mounts: &'m [MountEntry], path: &Path) -> Option<&'m PathBuf> {
    let around = mounts.iter().map(|mount| &mount.point).filter(|point| path.starts_with(point));
    around.max_by_key(|point| point.as_os_str().len())
}

/// Puts a private layer over a directory that is shown read-only; where the kernel refuses that, it stays read-only.
fn cover(merged: &Merged, dir: &Path) -> Result<(), StartError> {
    let what = || format!("make `{}` of the host writable for the container alone", dir.display());
    let Some(target) = inside::open(&merged.root, dir).map_err(os(what()))? else { return Ok(()) };
    let Ok(source) = sys::open_path(dir) else { return Ok(()) };
    let lower = proc_path(&source).display().to_string();
    let private = bind::private_dir(merged, "host", dir).map_err(os(what()))?;
    match overlay::mount(&lower, &private, Some(source.as_fd()), target.as_fd()) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EPERM | libc::EACCES)) => Ok(()),
        other => other.map_err(os(what())),
    }
}

fn is_mount(mounts: &[MountEntry], path: &Path) -> bool {
    mounts.iter().any(|mount| mount.point == path)
}

/// Whether a mount shows files of this machine.
fn is_files(mount: &MountEntry) -> bool {
    let kind = mount.fstype.as_str();
    mount.point != Path::new("/") && !UNSHOWN.contains(&kind) && !kind.starts_with("fuse.portal")
}

fn is_hidden(path: &Path, hidden: &[PathBuf]) -> bool {
    hidden.iter().any(|place| path.starts_with(place))
}

/// Binds one mount read-only; tells how much of what is below came along. What this user cannot open is left out.
fn show(merged: &Merged, point: &Path) -> Result<Reach, StartError> {
    let what = || format!("show `{}` of the host", point.display());
    let Some(target) = inside::open(&merged.root, point).map_err(os(what()))? else {
        return Ok(Reach::One);
    };
    let Ok(source) = sys::open_path(point) else { return Ok(Reach::One) };
    let (tree, reach) = match sys::open_tree(source.as_fd(), Path::new(""), Reach::One) {
        // Locked together with what is mounted below it: all or nothing.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
            (sys::open_tree(source.as_fd(), Path::new(""), Reach::Tree).map_err(os(what()))?, Reach::Tree)
        }
        other => (other.map_err(os(what()))?, Reach::One),
    };
    sys::set_attr(tree.as_fd(), SHOWN, reach).map_err(os(what()))?;
    sys::move_mount(tree.as_fd(), target.as_fd()).map_err(os(what()))?;
    Ok(reach)
}

fn place(merged: &Merged, mount: io::Result<OwnedFd>, path: &Path) -> Result<(), StartError> {
    let what = || format!("give the container a `{}` of its own", path.display());
    let mount = mount.map_err(os(what()))?;
    let target = inside::make(&merged.root, path, Make::Dir).map_err(os(what()))?;
    sys::move_mount(mount.as_fd(), target.as_fd()).map_err(os(what()))
}

/// A directory of scratch for temporary files.
fn private_temporary(scratch: &Path, path: &Path) -> io::Result<OwnedFd> {
    let dir = scratch.join("tmp").join(path.strip_prefix("/").unwrap_or(path));
    std::fs::create_dir_all(&dir)?;
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777))?;
    let tree = sys::open_tree(sys::open_path(&dir)?.as_fd(), Path::new(""), Reach::One)?;
    sys::set_attr(tree.as_fd(), Attr::NO_SUID.and(Attr::NO_DEV), Reach::One)?;
    Ok(tree)
}

/// A root put together from overlays.
struct Tiles<'a> {
    scratch: &'a Path,
    written: &'a [PathBuf],
    mounts: Vec<MountEntry>,
    count: u32,
}

/// Fine if it was there before: the tiles of an earlier mount over the same scratch.
fn once(made: io::Result<()>) -> io::Result<()> {
    match made {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// So many overlays at most; a directory past them is bound read-only.
const TILES: u32 = 256;

fn tiles(scratch: &Path, target: &Path, written: &[PathBuf]) -> Result<(), StartError> {
    let what = "put the host's `/` together from overlays";
    let base = scratch.join("tiles");
    std::fs::create_dir_all(&base).map_err(os(what))?;
    std::fs::set_permissions(&base, std::fs::Permissions::from_mode(0o755)).map_err(os(what))?;
    let tree = sys::open_tree(sys::open_path(&base).map_err(os(what))?.as_fd(), Path::new(""), Reach::One)
        .map_err(os(what))?;
    sys::set_attr(tree.as_fd(), Attr::NO_SUID.and(Attr::NO_DEV), Reach::One).map_err(os(what))?;
    sys::move_mount(tree.as_fd(), sys::open_path(target).map_err(os(what))?.as_fd()).map_err(os(what))?;
    let mut mounts = mountinfo::read().map_err(os("read the mounts of the host"))?;
    mounts.retain(|m| !m.point.starts_with(target));
    Tiles { scratch, written, mounts, count: 0 }.fill(Path::new("/"), target).map_err(os(what))
}

impl Tiles<'_> {
    /// Shows what is in `source`, a directory with mounts below it, at `target`.
    fn fill(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let Ok(entries) = std::fs::read_dir(source) else { return Ok(()) };
        for entry in entries.flatten() {
            let target = target.join(entry.file_name());
            match entry.file_type().and_then(|kind| self.show(kind, &entry.path(), &target)) {
                // What has gone in between, or what this user may not see, is left out.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn show(&mut self, kind: FileType, from: &Path, to: &Path) -> io::Result<()> {
        if kind.is_symlink() {
            once(std::os::unix::fs::symlink(std::fs::read_link(from)?, to))
        } else if kind.is_dir() {
            self.directory(from, to)
        } else if kind.is_file() {
            once(std::fs::File::create_new(to).map(drop))?;
            show_plain(from, to)
        } else {
            Ok(())
        }
    }

    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let lower = sys::open_path(from)?;
        let is_new = !to.exists();
        once(std::fs::create_dir(to))?;
        if is_mount(&self.mounts, from) || OWN.iter().any(|own| from == Path::new(own)) {
            return Ok(());
        }
        if self.mounts.iter().any(|m| m.point.starts_with(from)) {
            if is_new {
                overlay::lend(to, Some(lower.as_fd()))?;
            }
            return self.fill(from, to);
        }
        self.count += 1;
        if self.count > TILES {
            return show_plain(from, to);
        }
        let place = Digest::of(from.as_os_str().as_bytes()).to_string();
        let private = self.scratch.join("root").join(&place[..16]);
        pave(from, &private.join("upper"), self.written)?;
        let shown = proc_path(&lower).display().to_string();
        overlay::mount(&shown, &private, Some(lower.as_fd()), sys::open_path(to)?.as_fd())
    }
}

fn show_plain(from: &Path, to: &Path) -> io::Result<()> {
    let tree = sys::open_tree(sys::open_path(from)?.as_fd(), Path::new(""), Reach::Tree)?;
    sys::set_attr(tree.as_fd(), SHOWN, Reach::Tree)?;
    sys::move_mount(tree.as_fd(), sys::open_path(to)?.as_fd())
}
