//! A file or a directory of the container to standard output, or from standard input to one: started by `vessl run cp` as the run's
//! user, so that no image needs `tar`. For SSH a server of SFTP, in the same way, and the end of sockets that were made for it.
use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::process::ExitCode;

use vessl_copy::{Copied, CopyError, pack, unpack};

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// Carries out a verb; what was left out, or what went wrong, goes to standard error.
pub(crate) fn run(verb: &OsStr, paths: &[OsString]) -> ExitCode {
    let copied = match (verb.to_str(), paths) {
        (Some("pack"), [path]) => pack(Path::new(path), BufWriter::with_capacity(PIECE, io::stdout().lock())),
        (Some("unpack"), [path]) => unpack_all(Path::new(path)),
        (Some("sftp"), []) => return sftp(),
        (Some("unlink"), paths) => {
            paths.iter().map(Path::new).for_each(unlink);
            return ExitCode::SUCCESS;
        }
        _ => return ExitCode::from(2),
    };
    let mut errors = io::stderr().lock();
    match copied {
        Ok(Copied { left_out, .. }) => {
            // Nobody is there to be told if this fails.
            for sentence in left_out {
                drop(writeln!(errors, "left out: {sentence}"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            drop(writeln!(errors, "{error}"));
            ExitCode::FAILURE
        }
    }
}

fn unpack_all(path: &Path) -> Result<Copied, CopyError> {
    let mut input = io::stdin().lock();
    let copied = unpack(&mut input, path)?;
    // Behind an archive come zeros; whoever writes them shall not find that nobody reads.
    let _ = io::copy(&mut input, &mut io::sink());
    Ok(copied)
}

fn sftp() -> ExitCode {
    match vessl_sftp::serve(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Removes a socket, and its directory if that has nothing else.
fn unlink(path: &Path) {
    let is_socket = path.symlink_metadata().is_ok_and(|about| about.file_type().is_socket());
    // What cannot be removed stays until the container goes.
    if is_socket
        && std::fs::remove_file(path).is_ok()
        && let Some(dir) = path.parent()
        && dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"vessl-ssh-"))
    {
        let _ = std::fs::remove_dir(dir);
    }
}
