//! A blob that is being downloaded: a file (`tmp/<diff id>/<blob>.part`) that grows at one end while it is read from the
//! other. A later pull goes on where it ends.
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use vessl_data::locked;

use crate::unpack::InputFailed;

/// Compressed bytes that came, counted while they come.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) new: AtomicU64,
    pub(super) all: AtomicU64,
}

impl Fetched {
    /// Counts bytes that this pull fetched.
    pub(super) fn add(&self, bytes: u64) {
        self.new.fetch_add(bytes, Ordering::Relaxed);
        self.found(bytes);
    }

    /// Counts bytes that need not be fetched.
    pub(super) fn found(&self, bytes: u64) {
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    /// Something came, or the end.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    received: u64,
    end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Failed,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut locked(&self.state));
        self.changed.notify_all();
    }
}

/// The growing end. Dropped before [`Writer::complete`], it fails the reader.
#[derive(Debug)]
pub(super) struct Writer(Arc<Shared>);

/// The reading end: waits for bytes that are not there yet.
#[derive(Debug)]
pub(super) struct Reader {
    shared: Arc<Shared>,
    at: u64,
}

/// Opens the part at `path`, with what is there of at most `size` bytes, or makes it.
pub(super) fn open(path: &Path, size: u64) -> io::Result<(Writer, Reader)> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut received = file.metadata()?.len();
    if received > size {
        file.set_len(0)?;
        received = 0;
    }
    let state = Mutex::new(State { received, end: End::Open });
    let shared = Arc::new(Shared { file, state, changed: Condvar::new() });
    Ok((Writer(Arc::clone(&shared)), Reader { shared, at: 0 }))
}

impl Writer {
    /// Bytes that are there.
    pub(super) fn received(&self) -> u64 {
        locked(&self.0.state).received
    }

    /// Adds bytes at the end. Where that fails, a full disk as a rule, the room of what came before is given back.
    pub(super) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.file.write_all_at(bytes, self.received()).inspect_err(|_| self.give_up())?;
        self.0.change(|state| state.received += bytes.len() as u64);
        Ok(())
    }

    fn give_up(&self) {
        self.0.change(|state| *state = State { received: 0, end: End::Failed });
        // What cannot be cut is swept by a later pull.
        let _ = self.0.file.set_len(0);
    }

    /// Says that everything is there.
    pub(super) fn complete(self) {
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

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut state = locked(&self.shared.state);
        while self.at == state.received && state.end == End::Open {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.end == End::Failed {
            return Err(io::Error::other(InputFailed));
        }
        let most = usize::try_from(state.received - self.at).map_or(to.len(), |most| most.min(to.len()));
        drop(state);
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

    fn follow(mut reader: Reader) -> std::thread::JoinHandle<io::Result<String>> {
        std::thread::spawn(move || io::read_to_string(&mut reader))
    }

    #[test]
    fn a_reader_follows_the_writer_and_a_later_one_continues() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let (writer, reader) = open(&path, 10).unwrap();
        let reading = follow(reader);
        writer.append(b"hello").unwrap();
        drop(writer);
        assert!(reading.join().unwrap().unwrap_err().get_ref().unwrap().is::<InputFailed>());

        let (writer, reader) = open(&path, 10).unwrap();
        assert_eq!(writer.received(), 5);
        let reading = follow(reader);
        writer.append(b"world").unwrap();
        writer.complete();
        assert_eq!(reading.join().unwrap().unwrap(), "helloworld");
    }

    #[test]
    fn a_part_that_is_too_long_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, "too long").unwrap();
        assert_eq!(open(&path, 3).unwrap().0.received(), 0);
    }
}
