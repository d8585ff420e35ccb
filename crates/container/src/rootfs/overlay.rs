//! overlayfs mounts. All directories are named through descriptors, so that no path needs escaping and many layers fit
//! into the one page that the kernel takes as options.
use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use vessl_data::dir::proc_path;

use crate::error::{StartError, os};
use crate::{sys, userns};

/// Mounts image layers, lowest first, at `target`.
pub(crate) fn layers(layers: &[PathBuf], scratch: &Path, target: &Path) -> Result<(), StartError> {
    let links = scratch.join("l");
    link_layers(layers, &links).map_err(os(format!("prepare `{}`", links.display())))?;
    let links = sys::open_path(&links).map_err(os("open the layer links"))?;
    let base = proc_path(&links);
    let mut lower = String::new();
    for index in 0..layers.len().max(1) {
        let separator = if index == 0 { "" } else { ":" };
        let _ = write!(lower, "{separator}{}/{index}", base.display());
    }
    let target = sys::open_path(target).map_err(os("open the mount point"))?;
    // The image's set-user-id programs work, unless the container may have no new privileges.
    let flags = MsFlags::MS_NODEV;
    mount_as(flags, (&lower, &scratch.join("root")), None, target.as_fd())
        .map_err(os("mount the layers with overlayfs"))
}

/// `dir/0` is the topmost layer. An image without layers has one empty layer.
fn link_layers(layers: &[PathBuf], dir: &Path) -> io::Result<()> {
    // Those of an earlier mount.
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::fs::create_dir_all(dir)?;
    if layers.is_empty() {
        return std::fs::create_dir_all(dir.join("0"));
    }
    for (index, layer) in layers.iter().rev().enumerate() {
        symlink(std::path::absolute(layer)?, dir.join(index.to_string()))?;
    }
    Ok(())
}

/// Mounts one overlay: `lower` in option syntax, the private part in `private/{upper,work}`, which are made. The root of
/// the mount gets mode and owner of `like`, else mode 0755. Device files do not work on it: a container gets its devices
/// in `/dev` alone. Set-user-id files give nothing on it: what it shows is the machine's.
pub(crate) fn mount(
    lower: &str,
    private: &Path,
    like: Option<BorrowedFd<'_>>,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    mount_as(MsFlags::MS_NODEV | MsFlags::MS_NOSUID, (lower, private), like, target)
}

fn mount_as(
    flags: MsFlags,
    (lower, private): (&str, &Path),
    like: Option<BorrowedFd<'_>>,
    target: BorrowedFd<'_>,
) -> io::Result<()> {
    let (upper, work) = (private.join("upper"), private.join("work"));
    let is_new = !work.exists();
    // What an earlier mount left there forbids another one; it holds no files.
    match crate::remove::remove_dir_all(&work) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => std::fs::create_dir_all(&work)?,
    }
    std::fs::create_dir_all(&upper)?;
    if is_new {
        // The upper directory lends its attributes to the root of the mount.
        lend(&upper, like)?;
    }
    let private = sys::open_path(private)?;
    let fd = private.as_raw_fd();
    let mut options =
        format!("lowerdir={lower},upperdir=/proc/self/fd/{fd}/upper,workdir=/proc/self/fd/{fd}/work");
    if userns::is_inside() {
        options.push_str(",userxattr");
    }
    // Whoever needs scratch after the machine's next boot syncs it as a whole, so single syncs need not reach the disk (since Linux 5.10).
    match mount_with(&format!("{options},volatile"), flags, target) {
        Err(nix::Error::EINVAL) => mount_with(&options, flags, target)?,
        other => other?,
    }
    Ok(())
}

/// Gives a directory mode and owner of `like`, else mode 0755.
pub(crate) fn lend(upper: &Path, like: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let like = like.map(nix::sys::stat::fstat).transpose()?;
    if let Some(stat) = &like {
        // An owner who does not exist in this user namespace cannot be set; root of the namespace stands for him.
        match std::os::unix::fs::chown(upper, Some(stat.st_uid), Some(stat.st_gid)) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied) => {
                return Err(e);
            }
            _ => {}
        }
    }
    let mode = like.map_or(0o755, |stat| stat.st_mode & 0o7777);
    std::fs::set_permissions(upper, std::fs::Permissions::from_mode(mode))
}

fn mount_with(options: &str, flags: MsFlags, target: BorrowedFd<'_>) -> nix::Result<()> {
    nix::mount::mount(Some("overlay"), &proc_path(&target), Some("overlay"), flags, Some(options))
}
