//! Bytes that are put at their place in a file that only grows: the form in which an agent elsewhere sends its record.
//!
//! ```text
//! file   0 ───────── length
//! put         offset ───────── end     what overlaps is there already and stays; the rest is appended and synced
//! put                      ·  offset ── end     a gap: refused
//! ```
use std::fs::OpenOptions;
use std::io::{Error, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Puts `bytes` at `offset`; answers the length of the file then, which is on disk. Repeating it changes nothing.
pub(super) fn put(path: &Path, offset: u64, bytes: &[u8]) -> std::io::Result<u64> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let there = length.checked_sub(offset).ok_or_else(|| gap(offset, length))?;
    let new = usize::try_from(there).ok().and_then(|there| bytes.get(there..)).unwrap_or_default();
    file.write_all(new)?;
    // Also where nothing is new: the sync may be what failed the first time.
    file.sync_data()?;
    Ok(length + new.len() as u64)
}

fn gap(offset: u64, length: u64) -> Error {
    let words = format!("byte {offset} was sent, but the file has only {length}: send from there");
    Error::new(ErrorKind::InvalidInput, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_again_changes_nothing_and_a_gap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let check = |offset, bytes: &str, length, text: &str| {
            assert_eq!(put(&path, offset, bytes.as_bytes()).unwrap(), length, "{offset} {bytes}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        };
        check(0, "", 0, "");
        check(0, "abc", 3, "abc");
        check(0, "abc", 3, "abc");
        check(0, "ab", 3, "abc");
        check(1, "bcd", 4, "abcd");
        check(4, "e", 5, "abcde");
        check(0, "abcdef", 6, "abcdef");
        let said = put(&path, 7, b"h").unwrap_err().to_string();
        assert_eq!(said, "byte 7 was sent, but the file has only 6: send from there");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abcdef");
    }
}
