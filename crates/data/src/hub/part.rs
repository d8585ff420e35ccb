//! A file of the commit while it comes: made new in the target, written at its end, its digest taken on the way.
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, PermissionsExt, fchown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

use super::digest::Hash;
use super::listing::Listed;
use crate::Owner;
use crate::dir::Dir;
use crate::fetch::Sink;

/// Files of at least so many bytes get their room before their bytes come.
const LARGE: u64 = 1 << 20;
/// What a file gets: everybody may read it.
const FILE_MODE: u32 = 0o644;
/// What a directory gets.
const DIR_MODE: u32 = 0o755;

/// Where the files go: a directory that nobody else writes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target<'a> {
    pub(super) dir: &'a Dir,
    pub(super) owner: Option<Owner>,
}

impl Target<'_> {
    /// Makes a file and the directories above it; `AlreadyExists` or `NotADirectory` if something else has one of the names.
    pub(super) fn create(&self, path: &Path, size: u64) -> io::Result<File> {
        let file = match self.dir.create_file(path, FILE_MODE) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make_parents(path)?;
                self.dir.create_file(path, FILE_MODE)?
            }
            made => made?,
        };
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
        if let Some((uid, gid)) = self.owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        if size >= LARGE {
            reserve(&file, size)?;
        }
        Ok(file)
    }

    fn make_parents(&self, path: &Path) -> io::Result<()> {
        let mut above: Vec<_> = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
        above.reverse();
        for dir in above {
            self.dir.make_dir(dir, DIR_MODE)?;
            // The mask of the process may have taken something away.
            let mode = Mode::from_bits_truncate(DIR_MODE);
            fchmodat(self.dir, dir, mode, FchmodatFlags::FollowSymlink)?;
            if let Some(owner) = self.owner {
                self.dir.give(dir, owner)?;
            }
        }
        Ok(())
    }
}

/// Takes the room of a file, so that a full disk is found before its bytes are fetched. Not every file system can.
fn reserve(file: &File, size: u64) -> io::Result<()> {
    let size = i64::try_from(size).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, size) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => Ok(()),
        other => Ok(other?),
    }
}

/// A file that grows.
pub(super) struct Part<'a> {
    file: File,
    listed: &'a Listed,
    hash: Hash,
    received: u64,
    /// Bytes that were told; those of a second try are not told again.
    told: u64,
    /// Called with the number of bytes that came for the first time.
    progress: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Part<'a> {
    pub(super) fn new(file: File, listed: &'a Listed, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        let hash = listed.expected.begin(listed.size);
        Self { file, listed, hash, received: 0, told: 0, progress }
    }

    /// Forgets what came; an error in words if it was not what it should be.
    pub(super) fn check(&mut self) -> io::Result<Result<(), String>> {
        let hash = std::mem::replace(&mut self.hash, self.listed.expected.begin(self.listed.size));
        let checked = self.listed.expected.check(hash);
        if checked.is_err() {
            self.file.set_len(0)?;
            self.received = 0;
        }
        Ok(checked)
    }
}

impl Sink for Part<'_> {
    fn received(&self) -> u64 {
        self.received
    }

    async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.received)?;
        self.hash.update(bytes);
        self.received += bytes.len() as u64;
        if let Some(new @ 1..) = self.received.checked_sub(self.told) {
            self.told = self.received;
            (self.progress)(new);
        }
        Ok(())
    }
}
