//! The one writer of a log: encodes chunks into blocks, writes them in large pieces, survives a full disk.
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::frame::{self, BLOCK, BLOCK_HEADER, BlockHeader, RECORD_HEADER};
use super::search::{self, Tail};
use super::{LogError, Stream, segment_path, segments};
use crate::durable;

/// A segment that has this many bytes is followed by a new one.
const SEGMENT: u64 = 256 * 1024 * 1024;
/// Fewest segments of a log with a limit: half of them keep its begin, the others its end.
const PARTS: u64 = 8;
/// Encoded bytes held back before they are written without being asked.
const BUFFER: usize = 256 * 1024;

/// Appends to a log. Nothing is visible to readers before [`Writer::flush`] (called by itself every 256 KiB).
///
/// After any error the writer stays usable: what was accepted is kept in memory and written by the next flush that
/// succeeds; the files never hold a half record for longer than one call.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    /// Holds the lock; dropped last.
    lock: File,
    /// Whether the directory's own entry is on disk.
    is_placed: bool,
    segment: Segment,
    /// The segment before, not yet known to be on disk.
    unsynced: Option<File>,
    /// Encoded, not yet in the file.
    buffer: Vec<u8>,
    position: u64,
    lines: u64,
    at_ns: u64,
    finished: bool,
    size: Size,
}

/// How large a log and its segments may become.
#[derive(Clone, Copy, Debug)]
struct Size {
    /// Bytes of a segment.
    segment: u64,
    /// Segments from the first one on that are kept.
    begin: u32,
    /// Segments up to the last one that are kept; what is between the two goes.
    end: u32,
}

impl Size {
    const UNBOUNDED: Self = Self { segment: SEGMENT, begin: u32::MAX, end: u32::MAX };

    /// Segments for a log of about `limit` bytes. It takes up to one block more for each of them.
    fn of(limit: u64) -> Self {
        let segment = (limit / PARTS).clamp(BLOCK as u64, SEGMENT);
        let all = u32::try_from(limit / segment).unwrap_or(u32::MAX).max(2);
        Self { segment, begin: all / 2, end: all - all / 2 }
    }

    /// The segment that goes when segment `newest` is begun.
    fn surplus(self, newest: u32) -> Option<u32> {
        newest.checked_sub(self.end).filter(|&number| number >= self.begin)
    }
}

#[derive(Debug)]
struct Segment {
    number: u32,
    path: PathBuf,
    file: File,
    /// Bytes of complete records in the file.
    len: u64,
}

impl Segment {
    fn create(dir: &Path, number: u32) -> Result<Self, LogError> {
        let path = segment_path(dir, number);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(LogError::os("create the log segment", &path))?;
        Ok(Self { number, path, file, len: 0 })
    }
}

impl Writer {
    /// Opens the log in `dir` (made with mode 0700 if missing) for appending, and cuts what a crash tore off.
    ///
    /// [`LogError::Busy`] while another writer has it, [`LogError::Finished`] if it has its end record.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        Self::open_sized(dir, Size::UNBOUNDED)
    }

    /// The same for a log of which about `limit` bytes are kept: its begin and its end. Readers are told what is left out
    /// in between.
    pub fn open_bounded(dir: &Path, limit: u64) -> Result<Self, LogError> {
        Self::open_sized(dir, Size::of(limit))
    }

    /// Takes the end record from a log that has one, so that it can be opened for appending again.
    pub fn take_end(dir: &Path) -> Result<(), LogError> {
        let Some(tail) = search::tail(dir)?.filter(|tail| tail.finished) else { return Ok(()) };
        let path = segment_path(dir, tail.number);
        let file = File::options().write(true).open(&path);
        let cut = file.and_then(|file| file.set_len(tail.offset).and_then(|()| file.sync_all()));
        cut.map_err(LogError::os("cut the log segment", &path))
    }

    #[cfg(test)]
    pub(super) fn open_with(dir: &Path, segment: u64) -> Result<Self, LogError> {
        Self::open_sized(dir, Size { segment, ..Size::UNBOUNDED })
    }

    fn open_sized(dir: &Path, size: Size) -> Result<Self, LogError> {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        make.map_err(LogError::os("make the log directory", dir))?;
        let lock = File::open(dir).map_err(LogError::os("open the log directory", dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LogError::Busy { path: dir.to_owned() }),
            Err(TryLockError::Error(e)) => return Err(LogError::os("lock the log directory", dir)(e)),
        }
        let (segment, tail) = open_last(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            lock,
            is_placed: false,
            segment,
            unsynced: None,
            buffer: Vec::with_capacity(BUFFER + 2 * BLOCK),
            position: tail.position,
            lines: tail.lines,
            at_ns: tail.at_ns,
            finished: false,
            size,
        })
    }

    /// Appends one chunk that arrived at `at_ns` (nanoseconds since 1970; a time that runs backwards is recorded as the
    /// latest one seen). A chunk may hold any bytes and any number of lines; it should be of the size of a read, up to
    /// about 1 MiB. An error means that nothing of the chunk was accepted.
    pub fn append(&mut self, at_ns: u64, stream: Stream, chunk: &[u8]) -> Result<(), LogError> {
        self.make_room()?;
        self.at_ns = self.at_ns.max(at_ns);
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = self.begin_record() - RECORD_HEADER;
            let (now, later) = rest.split_at(rest.len().min(room));
            frame::write_data(&mut self.buffer, self.at_ns, stream, now);
            self.position += now.len() as u64;
            self.lines += memchr::memchr_iter(b'\n', now).count() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Makes everything appended so far visible to readers.
    pub fn flush(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(e) = self.segment.file.write_all_at(&self.buffer, self.segment.len) {
            // Half of a record may be there. If it cannot be cut now, readers wait for its rest, and the next flush
            // writes over it.
            let _ = self.segment.file.set_len(self.segment.len);
            return Err(LogError::os("write the log segment", &self.segment.path)(e));
        }
        self.segment.len += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Flushes and waits until everything is on disk.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.flush()?;
        for file in self.unsynced.iter().chain([&self.segment.file]) {
            file.sync_data().map_err(LogError::os("sync the log segment", &self.segment.path))?;
        }
        self.unsynced = None;
        self.lock.sync_all().map_err(LogError::os("sync the log directory", &self.dir))?;
        if !self.is_placed {
            let above = durable::parent(&self.dir);
            durable::sync_dir(above).map_err(LogError::os("sync the directory of the log", above))?;
            self.is_placed = true;
        }
        Ok(())
    }

    /// Writes the end record and waits until everything is on disk. May be repeated after an error; appending after it
    /// is refused.
    pub fn finish(&mut self) -> Result<(), LogError> {
        if !self.finished {
            self.make_room()?;
            self.begin_record();
            frame::write_end(&mut self.buffer, self.at_ns);
            self.finished = true;
        }
        self.sync()
    }

    /// Position after everything appended.
    pub fn position(&self) -> u64 {
        self.position
    }

    #[cfg(test)]
    pub(super) fn swap_file(&mut self, file: File) -> File {
        std::mem::replace(&mut self.segment.file, file)
    }

    fn make_room(&mut self) -> Result<(), LogError> {
        if self.finished {
            return Err(LogError::Finished { path: self.dir.clone() });
        }
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        if self.segment.len + self.buffer.len() as u64 >= self.size.segment {
            self.flush()?;
            self.rotate()?;
        }
        Ok(())
    }

    /// The segment before the last one had the time of a whole segment to reach the disk, so this rarely waits.
    fn rotate(&mut self) -> Result<(), LogError> {
        let next = Segment::create(&self.dir, self.segment.number + 1)?;
        let done = std::mem::replace(&mut self.segment, next);
        if let Some(file) = self.unsynced.replace(done.file) {
            file.sync_data().map_err(LogError::os("sync the log segment", &done.path))?;
        }
        self.size.surplus(self.segment.number).map_or(Ok(()), |number| self.leave_out(number))
    }

    /// Removes a segment between the begin and the end that are kept; whoever reads it goes on until it is read.
    fn leave_out(&self, number: u32) -> Result<(), LogError> {
        let path = segment_path(&self.dir, number);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(LogError::os("remove the log segment", &path)),
        }
    }

    /// Makes sure that the block under the cursor takes at least a record header and one byte; returns its free bytes.
    fn begin_record(&mut self) -> usize {
        let block = BLOCK as u64;
        let used =
            usize::try_from((self.segment.len + self.buffer.len() as u64) % block).expect("below BLOCK");
        let free = BLOCK - used;
        if used > 0 && free > RECORD_HEADER {
            return free;
        }
        if used > 0 {
            self.buffer.resize(self.buffer.len() + free, 0);
        }
        BlockHeader { position: self.position, lines: self.lines, at_ns: self.at_ns }.write(&mut self.buffer);
        BLOCK - BLOCK_HEADER
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure; a caller that cares calls `flush` or `finish`.
        let _ = self.flush();
    }
}

/// The last segment, cut after its last good record, and where the log stands there.
fn open_last(dir: &Path) -> Result<(Segment, Tail), LogError> {
    let Some(&number) = segments(dir)?.last() else {
        return Ok((Segment::create(dir, 0)?, Tail::default()));
    };
    let tail = search::tail(dir)?.unwrap_or_default();
    if tail.finished {
        return Err(LogError::Finished { path: dir.to_owned() });
    }
    let path = segment_path(dir, number);
    let file =
        File::options().write(true).open(&path).map_err(LogError::os("open the log segment", &path))?;
    let len = if tail.number == number { tail.offset } else { 0 };
    file.set_len(len).map_err(LogError::os("cut the log segment", &path))?;
    Ok((Segment { number, path, file, len }, tail))
}
