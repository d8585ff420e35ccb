//! A file or a directory of the container to standard output, or from standard input to one: started by `vessl run cp` as the run's
//! user, so that no image needs `tar`.
use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use vessl_copy::{Copied, CopyError, pack, unpack};

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// Carries out a verb; what was left out, or what went wrong, goes to standard error.
pub(crate) fn run(verb: &OsStr, path: &OsStr) -> ExitCode {
    let path = Path::new(path);
    let copied = match verb.to_str() {
        Some("pack") => pack(path, BufWriter::with_capacity(PIECE, io::stdout().lock())),
        Some("unpack") => unpack_all(path),
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
