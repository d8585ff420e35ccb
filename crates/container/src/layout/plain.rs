//! Archives that were compressed as a whole (`docker save | gzip`): their plain bytes, in a file without a name that is gone with
//! whoever reads it.
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::archive::Archive;
use crate::error::StoreError;
use crate::unpack::{self, Limits};

/// Bytes that are written at once; between two the caller may stop it.
const BLOCK: usize = 1 << 20;
/// Compressed bytes up to which a whole archive is looked at before a run is taken: about a second.
const LOOKED_AT: u64 = 64 << 20;

/// Where an archive may be unpacked, how far, and until when.
#[derive(Clone, Copy)]
pub(crate) struct Scratch<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) limits: &'a Limits,
    pub(crate) cancel: &'a AtomicBool,
}

/// Whether a file is compressed in a way that can be read.
pub(super) fn is_compressed(file: &File) -> io::Result<bool> {
    let mut magic = [0; 4];
    let n = file.read_at(&mut magic, 0)?;
    Ok(unpack::is_compressed(&magic[..n]))
}

/// The plain bytes of a compressed archive; `named` names it in errors.
pub(super) fn unpack(archive: &File, named: &Path, scratch: Scratch<'_>) -> Result<File, StoreError> {
    let failed = |e: io::Error| StoreError::io("unpack an archive in", scratch.dir, e);
    let damaged = |e: &dyn std::fmt::Display| StoreError::Corrupt {
        what: format!("`{}`", named.display()),
        reason: format!("it cannot be decompressed: {e}"),
    };
    let mut plain = tempfile::tempfile_in(scratch.dir).map_err(failed)?;
    let allowed = scratch.limits.allowed(archive.metadata().map_err(failed)?.len());
    let mut input = unpack::decompress(archive).map_err(|e| damaged(&e))?.take(allowed + 1);
    let mut block = vec![0; BLOCK];
    let mut size = 0;
    loop {
        if scratch.cancel.load(Ordering::Relaxed) {
            return Err(StoreError::Cancelled);
        }
        let n = input.read(&mut block).map_err(|e| damaged(&e))?;
        size += n as u64;
        if n == 0 {
            break;
        }
        if size > allowed {
            return Err(damaged(&format!(
                "more than {allowed} bytes came out, which no honest image of its size has"
            )));
        }
        plain.write_all(&block[..n]).map_err(failed)?;
    }
    plain.rewind().map_err(failed)?;
    Ok(plain)
}

/// Looks at the begin of a compressed archive that is too large to look at all of it; true if that is how it is.
pub(super) fn is_large_and_begins_well(archive: &File) -> Result<bool, String> {
    if archive.metadata().map_err(|e| e.to_string())?.len() <= LOOKED_AT {
        return Ok(false);
    }
    let begin = unpack::decompress(archive).map_err(|e| e.to_string())?;
    Archive::begins(begin).map(|()| true)
}
