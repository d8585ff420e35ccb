//! The lock of a data directory: one server, or one restore, at a time.
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;

use crate::ServerError;
use crate::paths::DataDir;
use crate::reserve::Reserve;

/// Takes the lock of the data directory and writes our process id into it.
pub(crate) fn take(data: &DataDir, reserve: &Reserve) -> Result<File, ServerError> {
    let path = data.lock();
    let failed = |source| ServerError::file("lock", path.display(), source);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // An owner that has not written its number yet is named without it.
            let _ = (&mut file).take(20).read_to_string(&mut pid);
            return Err(ServerError::Taken { data: data.root().to_owned(), pid: pid.trim().parse().ok() });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    reserve.spend_if_full();
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
