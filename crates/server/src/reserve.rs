//! Space that is set aside for what must be possible on a full disk: to start a server, to end a run, to delete one.
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// Bytes that are set aside.
const SIZE: u64 = 1 << 20;
/// Where less than this is free, nothing is taken.
const ROOM: u64 = 8 * SIZE;

/// The file that holds the space.
#[derive(Clone, Debug)]
pub(crate) struct Reserve(PathBuf);

impl Reserve {
    /// The reserve at `path`, whose directory exists.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Sets the space aside, if there is plenty of it and the file system can.
    pub(crate) fn fill(&self) {
        let is_full = std::fs::metadata(&self.0).is_ok_and(|about| about.len() >= SIZE);
        if is_full || self.free().is_none_or(|free| free < ROOM) {
            return;
        }
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&self.0);
        let size = SIZE.cast_signed();
        let kept = made.map(|file| fallocate(&file, FallocateFlags::empty(), 0, size).is_ok());
        if !kept.unwrap_or(false) {
            self.spend();
        }
    }

    /// Gives the space back; whether there was any.
    pub(crate) fn spend(&self) -> bool {
        std::fs::remove_file(&self.0).is_ok()
    }

    /// Gives it back if the disk is full.
    pub(crate) fn spend_if_full(&self) {
        if self.free().is_some_and(|free| free < SIZE) {
            self.spend();
        }
    }

    /// Bytes that are free, if the system says it.
    fn free(&self) -> Option<u64> {
        let about = statvfs(self.0.parent()?).ok()?;
        Some(about.blocks_available() * about.fragment_size())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn space_is_really_taken_and_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::at(dir.path().join("reserve"));
        assert!(!reserve.spend());
        reserve.fill();
        reserve.fill();
        let taken = std::fs::metadata(dir.path().join("reserve")).unwrap().blocks() * 512;
        assert!(taken >= SIZE, "{taken}");
        reserve.spend_if_full();
        assert!(reserve.spend() && !reserve.spend());
    }
}
