//! Reads the text of a run file: bounded, from a file or the standard input.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vessl_core::spelling;

use crate::error::{Error, Result};
use crate::session::Source;

/// One byte more than a run file may have, so that the reader of the text sees that it is too large.
const MOST: u64 = (1 << 20) + 1;

/// The bytes of the file.
pub(super) fn read(source: &Source) -> Result<Vec<u8>> {
    let bytes = match source {
        Source::Stdin => to_end(&mut io::stdin().lock(), MOST),
        Source::File(path) => of_file(path, MOST),
    };
    bytes.map_err(|e| Error::Unreadable { path: source.to_string().into(), source: e })
}

/// At most so many bytes of a file, or of a pipe that somebody writes to; nobody is waited for to begin with it.
pub(super) fn of_file(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    let bytes = to_end(&mut file, most)?;
    if bytes.is_empty() && file.metadata()?.file_type().is_fifo() && !has_no_name(&file) {
        return Err(io::Error::other("it is a pipe that nobody writes to"));
    }
    Ok(bytes)
}

/// Whether a pipe is one of a shell, whose writer may have ended without a word.
fn has_no_name(pipe: &File) -> bool {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", pipe.as_raw_fd()));
    link.is_ok_and(|link| link.as_os_str().as_bytes().starts_with(b"pipe:"))
}

fn to_end(from: &mut impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn a_pipe_is_read_if_somebody_writes_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("pipe");
        nix::unistd::mkfifo(&named, Mode::S_IRWXU).unwrap();
        let refused = of_file(&named, 9).unwrap_err().to_string();
        assert_eq!(refused, "it is a pipe that nobody writes to");
        // Both ends, so that opening it waits for nobody.
        let mut both = File::options().read(true).write(true).open(&named).unwrap();
        both.write_all(b"A=1\n").unwrap();
        assert_eq!(of_file(&named, 4).unwrap(), b"A=1\n");
        // What a shell makes of `<(printf A=1)` and `<(true)`.
        for text in ["A=1", ""] {
            let (read, mut write) = io::pipe().unwrap();
            write.write_all(text.as_bytes()).unwrap();
            drop(write);
            let path = format!("/proc/self/fd/{}", read.as_raw_fd());
            assert_eq!(of_file(Path::new(&path), 9).unwrap(), text.as_bytes());
        }
        assert_eq!(of_file(Path::new("/dev/zero"), 3).unwrap(), [0; 3]);
    }
}
