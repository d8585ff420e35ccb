//! A blob that is read, wherever it is kept. It must not know what a store is.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::sparse::ReadAt;

/// The bytes of a blob, as they are on disk: nobody has checked them against its name.
#[derive(Debug)]
pub struct Blob {
    file: File,
    path: PathBuf,
    start: u64,
    size: u64,
    at: u64,
}

impl Blob {
    /// `size` bytes of a file from `start` on.
    pub(super) fn part(file: File, path: PathBuf, (start, size): (u64, u64)) -> Self {
        Self { file, path, start, size, at: 0 }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The file that has them, alone or with others; for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl ReadAt for Blob {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let length = to.len().min(left);
        FileExt::read_at(&self.file, &mut to[..length], self.start.saturating_add(at))
    }
}

impl Read for Blob {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = ReadAt::read_at(self, to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Blob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
