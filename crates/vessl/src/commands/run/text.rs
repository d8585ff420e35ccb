//! Reads the text of a run file: bounded, from a file or the standard input.
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use vessl_core::spelling;

use crate::error::{Error, Result};
use crate::session::Source;

/// One byte more than a run file may have, so that the reader of the text sees that it is too large.
const MOST: u64 = (1 << 20) + 1;

/// The bytes of the file.
pub(super) fn read(source: &Source) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let done = match source {
        Source::Stdin => std::io::stdin().lock().take(MOST).read_to_end(&mut bytes),
        Source::File(path) => {
            std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_end(&mut bytes))
        }
    };
    match done {
        Ok(_) => Ok(bytes),
        Err(e) => Err(Error::Unreadable { path: source.to_string().into(), source: e }),
    }
}

/// The directory of the file, for paths in it that are relative to it; of standard input, the current directory.
pub(super) fn base(source: &Source) -> Option<String> {
    let dir = match source {
        Source::Stdin => Path::new("."),
        Source::File(path) => {
            path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
        }
    };
    Some(spelling::spell(dir.canonicalize().ok()?.as_os_str().as_bytes()))
}
