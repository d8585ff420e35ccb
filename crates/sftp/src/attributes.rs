//! What is said of a file, and what a client wants it to be.
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{UtimensatFlags, futimens, utimensat};
use nix::sys::time::TimeSpec;

use crate::packet::{Reply, Request, Status};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const MODE: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;
/// The bits of a mode that can be set.
const SETTABLE: u32 = 0o7777;

/// Says what a file is.
pub(crate) fn put(reply: &mut Reply, about: &Metadata) {
    reply.number(SIZE | OWNER | MODE | TIMES);
    reply.large(about.size());
    reply.number(about.uid());
    reply.number(about.gid());
    reply.number(about.mode());
    // The version has 32 bits for seconds since 1970.
    let seconds = |at: i64| u32::try_from(at.max(0)).unwrap_or(u32::MAX);
    reply.number(seconds(about.atime()));
    reply.number(seconds(about.mtime()));
}

/// What a client wants; nothing is left as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    size: Option<u64>,
    owner: Option<(u32, u32)>,
    pub(crate) mode: Option<u32>,
    times: Option<(u32, u32)>,
}

impl Wanted {
    pub(crate) fn read(request: &mut Request<'_>) -> Result<Self, Status> {
        let flags = request.number()?;
        let mut wanted = Self::default();
        if flags & SIZE != 0 {
            wanted.size = Some(request.large()?);
        }
        if flags & OWNER != 0 {
            wanted.owner = Some((request.number()?, request.number()?));
        }
        if flags & MODE != 0 {
            wanted.mode = Some(request.number()? & SETTABLE);
        }
        if flags & TIMES != 0 {
            wanted.times = Some((request.number()?, request.number()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..request.number()? {
                request.text()?;
                request.text()?;
            }
        }
        Ok(wanted)
    }

    /// Makes an open file so.
    pub(crate) fn set(&self, file: &File) -> Result<(), Status> {
        if let Some(size) = self.size {
            file.set_len(size)?;
        }
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::fchown(file, Some(uid), Some(gid))?;
        }
        // After the owner, whose change takes bits away.
        if let Some(mode) = self.mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        if let Some((accessed, changed)) = self.times {
            futimens(file, &time(accessed), &time(changed))?;
        }
        Ok(())
    }

    /// Makes what is at a path so.
    pub(crate) fn set_at(&self, path: &Path) -> Result<(), Status> {
        if let Some(size) = self.size {
            let flags = OFlag::O_NONBLOCK.bits();
            OpenOptions::new().write(true).custom_flags(flags).open(path)?.set_len(size)?;
        }
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::chown(path, Some(uid), Some(gid))?;
        }
        if let Some(mode) = self.mode {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        self.set_times(path, UtimensatFlags::FollowSymlink)
    }

    /// The same for a link itself, which has neither a size nor a mode of its own.
    pub(crate) fn set_at_link(&self, path: &Path) -> Result<(), Status> {
        if self.size.is_some() {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        if let Some((uid, gid)) = self.owner {
            std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
        }
        let is_link = path.symlink_metadata()?.file_type().is_symlink();
        if let Some(mode) = self.mode.filter(|_| !is_link) {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        self.set_times(path, UtimensatFlags::NoFollowSymlink)
    }

    fn set_times(&self, path: &Path, how: UtimensatFlags) -> Result<(), Status> {
        if let Some((accessed, changed)) = self.times {
            utimensat(AT_FDCWD, path, &time(accessed), &time(changed), how)?;
        }
        Ok(())
    }
}

fn time(seconds: u32) -> TimeSpec {
    TimeSpec::new(seconds.into(), 0)
}
