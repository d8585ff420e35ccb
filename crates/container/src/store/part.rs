//! A blob that is being downloaded: a file that grows at one end while it is read from the other, and that a later pull
//! continues.
//!
//! ```text
//! downloader --append--> file (tmp/<diff id>/<blob>.part) --read_at--> unpacker
//! ```
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::unpack::InputFailed;

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug)]
struct State {
    written: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Failed,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

/// The growing end. Dropped before [`Writer::complete`], it fails the reader.
#[derive(Debug)]
pub(crate) struct Writer(Arc<Shared>);

/// The reading end: waits for bytes that are not there yet.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    at: u64,
}

/// Opens the part at `path`, with what is there of at most `size` bytes, or makes it.
pub(super) fn open(path: &Path, size: u64) -> io::Result<(Writer, Reader)> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut written = file.metadata()?.len();
    if written > size {
        file.set_len(0)?;
        written = 0;
    }
    let state = Mutex::new(State { written, end: End::Open });
    let shared = Arc::new(Shared { file, state, changed: Condvar::new() });
    Ok((Writer(Arc::clone(&shared)), Reader { shared, at: 0 }))
}

impl Writer {
    /// Bytes that are there.
    pub(crate) fn len(&self) -> u64 {
        self.0.state().written
    }

    /// Adds bytes at the end. Where that fails, a full disk as a rule, the room of what came before is given back.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.len();
        if let Err(error) = self.0.file.write_all_at(bytes, at) {
            self.0.change(|state| *state = State { written: 0, end: End::Failed });
            // What cannot be cut is swept by a later pull.
            let _ = self.0.file.set_len(0);
            return Err(error);
        }
        self.0.change(|state| state.written += bytes.len() as u64);
        Ok(())
    }

    /// Says that everything is there.
    pub(crate) fn complete(self) {
        self.0.change(|state| state.end = End::Complete);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.change(|state| {
            if state.end == End::Open {
                state.end = End::Failed;
            }
        });
    }
}

impl Reader {
    /// Waits until there is something at `at`: how far it can be read, `None` at the end.
    fn wait(&self) -> io::Result<Option<u64>> {
        let mut state = self.shared.state();
        loop {
            match *state {
                State { end: End::Failed, .. } => return Err(io::Error::other(InputFailed)),
                State { written, .. } if written > self.at => return Ok(Some(written)),
                State { end: End::Complete, .. } => return Ok(None),
                State { end: End::Open, .. } => {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let Some(until) = self.wait()? else { return Ok(0) };
        let most = usize::try_from(until - self.at).unwrap_or(usize::MAX).min(to.len());
        let n = self.shared.file.read_at(&mut to[..most], self.at)?;
        if n == 0 && most > 0 {
            // It was cut in the meantime.
            return Err(io::Error::other(InputFailed));
        }
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_follows_the_writer_and_a_later_one_continues() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let (mut writer, mut reader) = open(&path, 10).unwrap();
        let follow = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        writer.append(b"hello").unwrap();
        drop(writer);
        let error = follow.join().unwrap().unwrap_err();
        assert!(error.get_ref().unwrap().is::<InputFailed>());

        let (mut writer, mut reader) = open(&path, 10).unwrap();
        assert_eq!(writer.len(), 5);
        writer.append(b"world").unwrap();
        writer.complete();
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "helloworld");
    }

    #[test]
    fn a_part_that_is_too_long_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, "too long").unwrap();
        assert_eq!(open(&path, 3).unwrap().0.len(), 0);
    }
}
