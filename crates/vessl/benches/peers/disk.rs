//! A file system of its own on the real disk, empty at the start. ext4 does not use the numbers of deleted files again for
//! some minutes, and whoever makes many files meanwhile spends most of the time in the search for others: what any program
//! of the machine removed just before would be measured with them.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MntFlags, umount2};

use crate::Outcome;
use crate::timing::output;

/// Most that it can hold; it takes from the disk what is in it.
const SIZE: u64 = 30 << 30;

/// The file system.
pub(crate) struct Disk(pub(crate) PathBuf);

impl Disk {
    /// Makes it in a file beside `dir` and mounts it there.
    pub(crate) fn make(dir: &Path) -> Outcome<Self> {
        let image = dir.with_extension("ext4");
        File::create(&image)?.set_len(SIZE)?;
        let mut format = Command::new("mkfs.ext4");
        format.args(["-q", "-F"]).arg(&image);
        output(format)?;
        std::fs::create_dir(dir)?;
        // The kernel must not write empty inode tables beside the measurement.
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o", "loop,noinit_itable"]).arg(&image).arg(dir);
        output(mount)?;
        Ok(Self(dir.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
