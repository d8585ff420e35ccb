//! The volumes of the built-in storage in a backup: copied as they are, with owners, and brought back where there is nothing.
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};
use vessl_data::dir::{Dir, Kind};
use vessl_data::tree::{self, Bounds, Source, Target};
use vessl_data::{DataError, Watch};

use super::{BackupError, Result, entries, failed, make_dir, name};

/// How often a volume is copied of which a file changes meanwhile.
const TRIES: u32 = 3;
/// What has not come as a whole, in the topmost directory of a volume.
const HIDDEN: &str = ".vessl-";

/// The directories of all volumes.
pub(super) fn all(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for organization in entries(root)? {
        found.extend(entries(&organization)?);
    }
    Ok(found)
}

/// Copies all volumes to a place where nothing is; answers how many there are.
pub(super) fn copy(from: &Path, to: &Path) -> Result<usize> {
    let volumes = all(from)?;
    for volume in &volumes {
        let target = to.join(volume.strip_prefix(from).unwrap_or(volume));
        copy_volume(volume, &target)?;
    }
    Ok(volumes.len())
}

/// Brings back what is missing or empty; answers how many those are, and the names of the others.
pub(super) fn restore(from: &Path, to: &Path) -> Result<(usize, Vec<String>)> {
    let (mut count, mut left) = (0, Vec::new());
    for volume in all(from)? {
        let target = to.join(volume.strip_prefix(from).unwrap_or(&volume));
        if entries(&target)?.is_empty() {
            copy_volume(&volume, &target)?;
            count += 1;
        } else {
            left.push(shown(&volume));
        }
    }
    Ok((count, left))
}

/// `ORGANIZATION/VOLUME`.
fn shown(volume: &Path) -> String {
    format!("{}/{}", volume.parent().map(name).unwrap_or_default(), name(volume))
}

fn copy_volume(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    let open = |path: &Path| Dir::open(path).map_err(failed("open", path));
    let (source, target) = (open(from)?, open(to)?);
    let mut tries = 0;
    loop {
        tries += 1;
        let what = Source { root: &source, path: Path::new(""), reader: None };
        let into = Target { dir: &target, owner: None, parts: Path::new(".vessl-backup") };
        match tree::copy(what, into, Bounds::FORMAT, &Watch::NONE) {
            Ok(_) => break,
            Err(DataError::Changed { .. }) if tries < TRIES => {}
            Err(source) => return Err(BackupError::Volume { volume: shown(from), source }),
        }
    }
    for file in entries(to)?.iter().filter(|path| name(path).starts_with(HIDDEN)) {
        target.remove(Path::new(&name(file))).map_err(failed("remove", file))?;
    }
    own(&source, &target).map_err(failed("give its owners to", to))?;
    let mode = from.metadata().map_err(failed("read", from))?.permissions().mode() & 0o7777;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).map_err(failed("protect", to))
}

/// Gives everything the owner that it has at its source; what that lacks by now keeps its own.
fn own(source: &Dir, target: &Dir) -> io::Result<()> {
    for name in target.names()? {
        let Some(stat) = source.stat(&name)? else { continue };
        let owner = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        match fchownat(target, &name, owner.0, owner.1, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // A server that is not root has files of its own alone.
            Ok(()) | Err(nix::Error::EPERM | nix::Error::EINVAL) => {}
            Err(error) => return Err(error.into()),
        }
        if Kind::of(&stat) == Kind::Dir
            && let (Ok(from), Ok(to)) = (source.dir(&name), target.dir(&name))
        {
            own(&from, &to)?;
        }
    }
    Ok(())
}
