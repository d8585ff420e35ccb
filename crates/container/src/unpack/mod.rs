//! One layer from a compressed tar stream into a directory that overlayfs can use as a lower directory.
//!
//! The stream is hostile until proven otherwise: every path is resolved inside the directory by the kernel, sizes and
//! counts are bounded, whatever is not understood is refused. It knows neither registries nor the store, and it does not
//! check the digest of the compressed stream: its caller reads that stream and does.
//!
//! ```text
//! input → [thread: gunzip | unzstd | as it is] → blocks → sha256 of the tar → entries → files
//! ```
mod decode;
mod path;
pub(crate) mod tar;
mod tree;
mod whiteouts;

use std::io::{self, Read};
use std::path::Path;

use crate::threads::ThreadGroup;
use vessl_core::reference::Digest;

pub(crate) use decode::{is_compressed, open as decompress};
pub use path::EntryName;

/// Bounds of one layer.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unpacked bytes of the tar stream.
    pub bytes: u64,
    /// Unpacked bytes per compressed byte, once more than `free` bytes came out.
    pub ratio: u64,
    /// Unpacked bytes that are never a bomb.
    pub free: u64,
    /// Entries.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, ratio: 250, free: 1 << 30, entries: 4_000_000 }
    }
}

impl Limits {
    /// Unpacked bytes allowed for `compressed` bytes.
    pub(crate) fn allowed(&self, compressed: u64) -> u64 {
        self.bytes.min(self.free.max(compressed.saturating_mul(self.ratio)))
    }
}

/// What a layer was.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// SHA-256 of the uncompressed tar.
    pub diff: Digest,
    /// Bytes of all regular files.
    pub size: u64,
    /// Whether it hides everything below it (an opaque root directory, which overlayfs itself does not honour).
    pub covers: bool,
    /// What could not be done here, in words; empty as a rule.
    pub notes: Vec<String>,
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// An entry that no honest layer has.
    #[error("entry `{entry}` {reason}")]
    Refused {
        /// Name of the entry, shortened.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The stream is not a layer.
    #[error("{0}")]
    Format(String),
    /// It is larger than its bounds.
    #[error("it unpacks to more than {0}")]
    TooBig(String),
    /// The operating system refused.
    #[error("cannot {doing} `{entry}`: {source}")]
    Os {
        /// The step.
        doing: &'static str,
        /// Name of the entry, shortened.
        entry: String,
        /// The system's word.
        source: io::Error,
    },
    /// The input failed; its owner knows why.
    #[error("the stream ended early")]
    Input,
}

impl UnpackError {
    fn refused(entry: &[u8], reason: impl Into<String>) -> Self {
        Self::Refused { entry: shown(entry), reason: reason.into() }
    }

    fn os(doing: &'static str, entry: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Os { doing, entry: shown(entry), source: source.into() }
    }
}

/// A reader that fails with this inside its error says: the input failed, not its content.
#[derive(Debug, thiserror::Error)]
#[error("the input failed")]
pub struct InputFailed;

/// A name as people can read it, at most 200 characters.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut short: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Unpacks a layer of `compressed` bytes into `dir`, which must exist and be empty. Whiteouts become overlayfs's own
/// marks. On an error `dir` is left half full; the caller removes it.
pub fn layer(
    input: impl Read + Send,
    compressed: u64,
    dir: &Path,
    limits: &Limits,
) -> Result<Unpacked, UnpackError> {
    let threads = ThreadGroup::default();
    std::thread::scope(|scope| {
        let mut stream = decode::Stream::start(scope, &threads, input, limits.allowed(compressed))?;
        let mut tree = tree::Tree::open(dir)?;
        let size = entries(&mut stream, &mut tree, limits.entries)?;
        let diff = stream.finish()?;
        let (covers, notes) = tree.finish()?;
        Ok(Unpacked { diff, size, covers, notes })
    })
}

fn entries(stream: &mut decode::Stream, tree: &mut tree::Tree, most: u64) -> Result<u64, UnpackError> {
    let mut tar = tar::Tar::new(stream);
    let mut size = 0;
    let mut count = 0;
    while let Some(entry) = tar.next()? {
        count += 1;
        if count > most {
            return Err(UnpackError::TooBig(format!("{most} files")));
        }
        size += entry.size;
        tree.add(&entry, &mut tar)?;
    }
    Ok(size)
}
