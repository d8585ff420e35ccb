//! The log: append-only segments of records (arrival time, stream, raw bytes), written by one process and read by many
//! straight from the files. It knows no runs and no lines longer than it is told; it never looks into the bytes except
//! to count newlines.
//!
//! # Format, version 1
//!
//! A log is a directory of segments `000000.seg`, `000001.seg`, …. A segment is a sequence of blocks of 64 KiB, the
//! last one shorter. There is no index file: every block says where it stands, so that a byte, a line or a moment is
//! found by binary search over the blocks, and a reader that meets damage goes on at the next block.
//!
//! ```text
//! block   0  "vlog"
//!         4  u16 version (1)        6  u16 zero
//!         8  u64 position           bytes of payload before this block, in the whole log
//!        16  u64 lines              newlines before this block, in the whole log
//!        24  u64 at_ns              time of the block's first record
//!        32  u32 crc32 of bytes 0..32
//!        36  u32 zero
//!        40  records … until the block is full (fewer than 17 bytes left) or the segment ends
//!
//! record  0  u16 length of the payload, at least 1 (end: 0)
//!         2  u8  stream             1 stdout, 2 stderr, 3 system, 255 end of the log
//!         3  u8  zero
//!         4  u32 crc32 of bytes 0..4, 8..16 and the payload
//!         8  u64 at_ns              nanoseconds since 1970, never less than the record before
//!        16  payload
//! ```
//!
//! Numbers are little endian. A record never crosses a block: a longer chunk is written as several records with the
//! same time and stream. A *position* counts payload bytes from the start of the log, so it may point into a record and
//! stays valid however the bytes are laid out. The end record is the last one of a finished log.
//!
//! A log with a limit keeps its first and its last segments; those in between are missing, and nothing else tells of them.
mod frame;
mod reader;
mod search;
mod writer;

pub use reader::{Batch, Reader, Record};
pub use vessl_core::logwire::Stream;
pub use writer::Writer;

use std::io;
use std::path::{Path, PathBuf};

/// Version of the format.
pub const VERSION: u16 = 1;

/// Why a log could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// No space (or quota) left. What was flushed before is intact and the writer may be used again.
    #[error("the disk is full: cannot write the log `{}`", path.display())]
    DiskFull {
        /// The segment.
        path: PathBuf,
    },
    /// Another process writes this log.
    #[error("the log `{}` is being written by another process", path.display())]
    Busy {
        /// The directory.
        path: PathBuf,
    },
    /// The log has its end record; nothing can follow it.
    #[error("the log `{}` is finished", path.display())]
    Finished {
        /// The directory.
        path: PathBuf,
    },
    /// The bytes `from..to` (positions) are lost. The reader stands at `to` and can go on.
    #[error("the log `{}` is damaged: bytes {from} to {to} are lost", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// First position lost.
        from: u64,
        /// First position that is readable again.
        to: u64,
    },
    /// The bytes `from..to` (positions) were left out, because the log has a limit. The reader stands at `to` and can go on.
    #[error("bytes {from} to {to} of the log were left out: it has a limit")]
    LeftOut {
        /// First position left out.
        from: u64,
        /// First position after them.
        to: u64,
    },
    /// Written by a newer version of the product.
    #[error("the log segment `{}` has version {version}, this program reads up to {VERSION}", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Version found.
        version: u16,
    },
    /// Anything else of the operating system.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Os {
        /// The step.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

impl LogError {
    fn os(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::DiskFull { path }
            }
            _ => Self::Os { what, path, source },
        }
    }
}

/// Path of segment `number`.
fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:06}.seg"))
}

/// Numbers of the segments in `dir`, ascending; a missing directory has none.
fn segments(dir: &Path) -> Result<Vec<u32>, LogError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LogError::os("read the log directory", dir)(e)),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(LogError::os("read the log directory", dir))?.file_name();
        let number: Option<u32> = name.to_str().and_then(|n| n.strip_suffix(".seg")?.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests;
