//! A blob that is being downloaded: it grows at one end while it is read from the other.
//!
//! ```text
//! downloader --append--> window in memory ---------------------------> unpacker     soon downloaded again
//!            --append--> file (tmp/<diff id>/<blob>.part) --read_at--> unpacker     all others
//! ```
//! Writing every blob to disk only to read it once costs a pull from a near registry a tenth of its time. So the first
//! bytes stay in memory until they show how long the whole takes. What would take long to repeat goes to a file, which a
//! later pull continues; the rest never touches the disk, and its downloader waits for the unpacker.
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use vessl_data::locked;

use crate::unpack::InputFailed;

/// Most bytes in memory, also those that show how fast they come.
const WINDOW: usize = 4 << 20;
/// The longest time that is taken to see it.
const TRIAL: Duration = Duration::from_secs(1);

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
    /// The window has room.
    room: Notify,
}

#[derive(Debug)]
struct State {
    received: u64,
    /// How far the reader is.
    read: u64,
    keep: Keep,
    /// The last of what was received: all of it while undecided, what is not read yet if it is not kept, else nothing.
    window: VecDeque<u8>,
    end: End,
    /// Nobody reads any more: somebody failed, and says why.
    is_left: bool,
}

/// Whether the bytes are kept in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keep {
    Undecided,
    Yes,
    No,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Failed,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

impl State {
    /// Bytes of the window that the reader has passed.
    fn passed(&self) -> usize {
        let begins = self.received - self.window.len() as u64;
        usize::try_from(self.read - begins).map_or(self.window.len(), |passed| passed.min(self.window.len()))
    }

    fn forget(&mut self) {
        self.keep = Keep::No;
        self.window.drain(..self.passed());
    }

    /// Writes the whole window to the file.
    fn save(&mut self, file: &File) -> io::Result<()> {
        let (front, back) = self.window.as_slices();
        file.write_all_at(front, 0)?;
        file.write_all_at(back, front.len() as u64)?;
        (self.keep, self.window) = (Keep::Yes, VecDeque::new());
        Ok(())
    }
}

/// The growing end. Dropped before [`Writer::complete`], it fails the reader.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    size: u64,
    again: Duration,
    begun: Option<Instant>,
}

/// The reading end: waits for bytes that are not there yet.
#[derive(Debug)]
pub(super) struct Reader(Arc<Shared>);

/// Opens the part at `path`, with what is there of at most `size` bytes, or makes it. What can be downloaded within
/// `again` is not kept.
pub(super) fn open(path: &Path, size: u64, again: Duration) -> io::Result<(Writer, Reader)> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut received = file.metadata()?.len();
    if received > size {
        file.set_len(0)?;
        received = 0;
    }
    let keep = if received > 0 || again.is_zero() { Keep::Yes } else { Keep::Undecided };
    let most =
        if keep == Keep::Yes { 0 } else { usize::try_from(size).map_or(WINDOW, |size| size.min(WINDOW)) };
    let window = VecDeque::with_capacity(most);
    let state = State { received, read: 0, keep, window, end: End::Open, is_left: false };
    let (state, changed, room) = (Mutex::new(state), Condvar::new(), Notify::new());
    let shared = Arc::new(Shared { file, state, changed, room });
    let reader = Reader(Arc::clone(&shared));
    Ok((Writer { shared, size, again, begun: None }, reader))
}

impl Writer {
    /// Bytes that are there.
    pub(super) fn received(&self) -> u64 {
        self.shared.state().received
    }

    /// Adds bytes at the end, once there is room. Where that fails, a full disk as a rule, the room of what came before is
    /// given back.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.decide(bytes.len()).inspect_err(|_| self.give_up())?;
        while !self.push(bytes).inspect_err(|_| self.give_up())? {
            self.shared.room.notified().await;
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// Decides before `more` bytes are added whether to keep them all, as soon as enough came to tell.
    fn decide(&mut self, more: usize) -> io::Result<()> {
        let passed = self.begun.get_or_insert_with(Instant::now).elapsed();
        let mut state = self.shared.state();
        if state.keep != Keep::Undecided || (state.window.len() + more <= WINDOW && passed < TRIAL) {
            return Ok(());
        }
        let whole = passed.as_nanos() * u128::from(self.size) / u128::from(state.received.max(1));
        if whole > self.again.as_nanos() {
            return state.save(&self.shared.file);
        }
        state.forget();
        Ok(())
    }

    /// Whether there was room.
    fn push(&self, bytes: &[u8]) -> io::Result<bool> {
        let mut state = self.shared.state();
        let is_full = !state.window.is_empty() && state.window.len() + bytes.len() > WINDOW;
        match state.keep {
            Keep::Yes => self.shared.file.write_all_at(bytes, state.received)?,
            _ if state.is_left => {}
            _ if is_full => return Ok(false),
            _ => state.window.extend(bytes),
        }
        state.received += bytes.len() as u64;
        Ok(true)
    }

    fn give_up(&self) {
        self.shared.change(|state| {
            state.received = 0;
            state.window.clear();
            state.end = End::Failed;
        });
        // What cannot be cut is swept by a later pull.
        let _ = self.shared.file.set_len(0);
    }

    /// Says that everything is there.
    pub(super) fn complete(self) {
        self.shared.change(|state| state.end = End::Complete);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.change(|state| {
            if state.end == End::Open {
                state.end = End::Failed;
                if state.keep == Keep::Undecided {
                    // Without it a later pull begins anew.
                    let _ = state.save(&self.shared.file);
                }
            }
        });
    }
}

impl Read for Reader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.state();
        while state.read == state.received && state.end == End::Open {
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.end == End::Failed {
            return Err(io::Error::other(InputFailed));
        }
        let at = state.read;
        let most = usize::try_from(state.received - at).map_or(to.len(), |most| most.min(to.len()));
        let n = if state.keep == Keep::Yes {
            drop(state);
            let n = self.0.file.read_at(&mut to[..most], at)?;
            if n == 0 && most > 0 {
                // It was cut in the meantime.
                return Err(io::Error::other(InputFailed));
            }
            state = self.0.state();
            n
        } else {
            copy(&state.window, state.passed(), &mut to[..most])
        };
        state.read += n as u64;
        if state.keep == Keep::No {
            state.forget();
            if state.window.len() <= WINDOW / 2 {
                self.0.room.notify_one();
            }
        }
        Ok(n)
    }
}

/// Fills `to` from what comes after the first `skip` bytes of `window`.
fn copy(window: &VecDeque<u8>, skip: usize, to: &mut [u8]) -> usize {
    let (front, back) = window.as_slices();
    let part = if skip < front.len() { &front[skip..] } else { &back[skip - front.len()..] };
    let n = part.len().min(to.len());
    to[..n].copy_from_slice(&part[..n]);
    n
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_left = true;
        if state.keep != Keep::Yes {
            (state.keep, state.window) = (Keep::No, VecDeque::new());
        }
        drop(state);
        self.0.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    /// Bytes of a blob, none like its neighbours.
    fn bytes(size: usize) -> Vec<u8> {
        (0..=250_u8).cycle().take(size).collect()
    }

    fn append(writer: &mut Writer, bytes: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for chunk in bytes.chunks(100_000) {
            runtime.block_on(writer.append(chunk)).unwrap();
        }
    }

    fn follow(mut reader: Reader) -> std::thread::JoinHandle<io::Result<Vec<u8>>> {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        })
    }

    /// What is in the file after `came` of `size` bytes, and whether the reader saw them all.
    fn kept(came: usize, size: usize, again: Duration) -> u64 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let (mut writer, reader) = open(&path, size as u64, again).unwrap();
        let reading = follow(reader);
        append(&mut writer, &bytes(came));
        let kept = std::fs::metadata(&path).unwrap().len();
        if came == size {
            writer.complete();
            assert_eq!(reading.join().unwrap().unwrap(), bytes(size));
        } else {
            drop(writer);
            assert!(reading.join().unwrap().unwrap_err().get_ref().unwrap().is::<InputFailed>());
        }
        kept
    }

    #[test]
    fn what_is_soon_downloaded_again_never_touches_the_disk() {
        assert_eq!(kept(5 * WINDOW, 5 * WINDOW, LONG), 0);
    }

    #[test]
    fn what_takes_long_is_kept_from_its_first_byte() {
        let size = 3 * WINDOW;
        assert_eq!(kept(size, size, Duration::from_nanos(1)), size as u64);
        assert_eq!(kept(1000, size, Duration::ZERO), 1000);
    }

    #[test]
    fn a_reader_follows_the_writer_and_a_later_one_continues() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let (mut writer, reader) = open(&path, 10, LONG).unwrap();
        let reading = follow(reader);
        append(&mut writer, b"hello");
        drop(writer);
        assert!(reading.join().unwrap().unwrap_err().get_ref().unwrap().is::<InputFailed>());

        let (mut writer, mut reader) = open(&path, 10, LONG).unwrap();
        assert_eq!(writer.received(), 5);
        append(&mut writer, b"world");
        writer.complete();
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "helloworld");
    }

    #[test]
    fn a_writer_waits_for_a_slow_reader_and_not_for_one_that_left() {
        let dir = tempfile::tempdir().unwrap();
        let size = 4 * WINDOW;
        let (mut writer, mut reader) = open(&dir.path().join("p"), size as u64, LONG).unwrap();
        let writing = std::thread::spawn(move || {
            append(&mut writer, &bytes(size));
            writer.received()
        });
        let mut some = vec![0; WINDOW / 8];
        reader.read_exact(&mut some).unwrap();
        assert_eq!(some, bytes(WINDOW / 8));
        assert!(reader.0.state().window.len() <= WINDOW);
        drop(reader);
        assert_eq!(writing.join().unwrap(), size as u64);
    }

    #[test]
    fn a_part_that_is_too_long_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        std::fs::write(&path, "too long").unwrap();
        assert_eq!(open(&path, 3, LONG).unwrap().0.received(), 0);
    }
}
