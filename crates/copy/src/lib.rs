//! A file or a directory as a stream of bytes, a tar archive, and back: what `vessl run cp` and init say to each other. Both sides take
//! an archive for hostile: nothing of it lands anywhere but below the place that was named.
//!
//! Names are as with `cp -r`: what goes to a directory that is there goes into it; anything else takes the name that was given.
mod pack;
mod unpack;

use std::io;
use std::path::PathBuf;

pub use pack::pack;
pub use unpack::unpack;

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What cannot be copied: sockets, pipes, devices. A sentence each.
    pub left_out: Vec<String>,
}

/// Why not all of it was copied.
#[derive(Debug)]
pub struct CopyError {
    /// The step, such as "read".
    pub what: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl std::fmt::Display for CopyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} `{}`: {}", self.what, self.path.display(), self.source)
    }
}

impl std::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn failed(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> CopyError {
    let path = path.into();
    move |source| CopyError { what, path, source }
}

#[cfg(test)]
mod tests;
