//! A reader of a log, also while it is being written. It never waits: a follower watches the directory and reads again.
use std::path::{Path, PathBuf};

use super::frame::{self, BLOCK, BLOCK_HEADER, Frame};
use super::search::{self, FilePosition, Segment};
use super::{LogError, Stream, segment_path, segments};

/// Bytes read at once, and the memory a reader needs.
const READ: usize = 4 * BLOCK;

/// Reads a log from the files, without a lock. Stands at the start when opened.
///
/// To follow a log: read batches until one is empty, then wait until something in [`Reader::dir`] is modified or
/// created (inotify `IN_MODIFY | IN_CREATE`), and read again, until [`Reader::is_finished`]. A writer that was killed
/// leaves no end record: whoever waits must also know whether the writer still lives.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    segment: Option<Segment>,
    cursor: Cursor,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    file_position: FilePosition,
    finished: bool,
}

/// A piece of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Payload bytes of the log before this record.
    pub position: u64,
    /// Where reading goes on after this record; what a client sends back to resume.
    pub next: u64,
    /// Nanoseconds since 1970; never less than that of the record before.
    pub at_ns: u64,
    /// Where it came from.
    pub stream: Stream,
    /// The bytes as they arrived: any number of lines, complete or not; at least one byte.
    pub bytes: &'a [u8],
}

impl Reader {
    /// A reader at the start of the log in `dir`, which may be empty or not exist yet.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let cursor = Cursor { file_position: search::start(dir)?, finished: false };
        Ok(Self { dir: dir.to_owned(), segment: None, cursor, buffer: Vec::new() })
    }

    /// Goes to payload byte `position`, at most to the end of the log.
    pub fn from(&mut self, position: u64) -> Result<(), LogError> {
        self.go(search::position(&self.dir, position)?);
        Ok(())
    }

    /// Goes to the start of the last `lines` lines; a last line without a newline counts. 0 is the end of the log.
    pub fn tail(&mut self, lines: u64) -> Result<(), LogError> {
        let tail = search::tail(&self.dir)?.unwrap_or_default();
        let all = tail.lines + u64::from(tail.partial);
        let file_position = match all.checked_sub(lines) {
            _ if lines == 0 => search::position(&self.dir, tail.position)?,
            None | Some(0) => search::start(&self.dir)?,
            Some(before) => search::after_line(&self.dir, before)?,
        };
        self.go(file_position);
        Ok(())
    }

    /// Goes to the start of the last `lines` lines of one stream; records of other streams follow as well. 0 is the end of
    /// the log.
    pub fn tail_of(&mut self, stream: Stream, lines: u64) -> Result<(), LogError> {
        if lines == 0 {
            return self.tail(0);
        }
        self.go(search::tail_of(&self.dir, stream, lines)?);
        Ok(())
    }

    fn go(&mut self, file_position: FilePosition) {
        self.segment = None;
        self.cursor = Cursor { file_position, finished: false };
    }

    /// The next records that are there, up to 1 MiB of them; empty if there are none (yet). The caller need not take all
    /// of them: the next batch starts with the first one not taken.
    ///
    /// [`LogError::Damaged`] tells once about bytes that are lost, [`LogError::LeftOut`] about those that the limit of the
    /// log cost; the next call goes on behind them.
    pub fn batch(&mut self) -> Result<Batch<'_>, LogError> {
        while !self.cursor.finished {
            let next = if self.fill()? { self.peek()? } else { self.later_segment()? };
            match next {
                Next::Records => break,
                Next::Again => {}
                Next::Nothing => {
                    self.buffer.clear();
                    break;
                }
            }
        }
        if self.cursor.finished {
            self.buffer.clear();
        }
        let base = block_start(self.cursor.file_position.offset);
        Ok(Batch { cursor: &mut self.cursor, bytes: &self.buffer, base })
    }

    /// Where the next record starts; a token for [`Reader::from`].
    pub fn position(&self) -> u64 {
        self.cursor.file_position.position
    }

    /// Whether the reader has passed the end record: nothing will ever follow.
    pub fn is_finished(&self) -> bool {
        self.cursor.finished
    }

    /// The directory that changes when there is more.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Reads from the start of the cursor's block on; false if there is no segment yet.
    fn fill(&mut self) -> Result<bool, LogError> {
        if self.segment.is_none() {
            self.segment = Segment::open(&self.dir, self.cursor.file_position.number)?;
        }
        let Some(segment) = &self.segment else {
            self.buffer.clear();
            return Ok(false);
        };
        segment.read(block_start(self.cursor.file_position.offset), &mut self.buffer, READ)?;
        Ok(true)
    }

    /// Looks at what is under the cursor and moves it over everything that is not a record.
    fn peek(&mut self) -> Result<Next, LogError> {
        let file_position = &mut self.cursor.file_position;
        let mut at = in_block(file_position.offset);
        if at == 0 {
            let segment = self.segment.as_ref().expect("filled");
            if self.buffer.len() < BLOCK_HEADER {
                return self.next_segment();
            }
            match segment.check(&self.buffer)? {
                Some(header) if header.position == file_position.position => {
                    file_position.offset += BLOCK_HEADER as u64;
                    at = BLOCK_HEADER;
                }
                _ => return self.skip_damage(),
            }
        }
        match frame::read_record(&self.buffer, at) {
            Frame::Data { .. } => Ok(Next::Records),
            Frame::End => {
                self.cursor.finished = true;
                Ok(Next::Nothing)
            }
            Frame::Full => {
                file_position.offset = block_start(file_position.offset) + BLOCK as u64;
                Ok(Next::Again)
            }
            Frame::Short => self.next_segment(),
            Frame::Bad => self.skip_damage(),
        }
    }

    /// The segment ended under the cursor: goes to the next one if there is one and this one did not grow before that.
    fn next_segment(&mut self) -> Result<Next, LogError> {
        let number = self.cursor.file_position.number + 1;
        if !segment_path(&self.dir, number).exists() {
            return self.later_segment();
        }
        let seen = self.buffer.len();
        self.fill()?;
        if self.buffer.len() > seen {
            return Ok(Next::Again);
        }
        let Some(next) = Segment::open(&self.dir, number)? else { return Ok(Next::Nothing) };
        match next.first_good(0, next.blocks()?)? {
            Some((0, header)) if header.position == self.cursor.file_position.position => {
                self.go(FilePosition { number, offset: 0, position: header.position, skip: 0 });
                Ok(Next::Again)
            }
            _ => self.skip_damage(),
        }
    }

    /// There is no segment under the cursor, or none after it: goes to the next one that there is, over those that were left
    /// out.
    fn later_segment(&mut self) -> Result<Next, LogError> {
        let from = self.cursor.file_position;
        for number in segments(&self.dir)?.into_iter().filter(|&number| number > from.number) {
            // One that vanishes now was left out too.
            let Some(segment) = Segment::open(&self.dir, number)? else { continue };
            if let Some((index, header)) = segment.first_good(0, segment.blocks()?)? {
                self.go(FilePosition {
                    number,
                    offset: index * BLOCK as u64,
                    position: header.position,
                    skip: 0,
                });
                if header.position == from.position {
                    return Ok(Next::Again);
                }
                return Err(LogError::LeftOut { from: from.position, to: header.position });
            }
        }
        Ok(Next::Nothing)
    }

    /// What is under the cursor cannot be read: goes to the next good block and reports the gap, or stays if there is
    /// none (the end of a write that was torn or is just happening).
    fn skip_damage(&mut self) -> Result<Next, LogError> {
        let from = self.cursor.file_position;
        let mut number = from.number;
        let mut index = from.offset.div_ceil(BLOCK as u64);
        while let Some(segment) = Segment::open(&self.dir, number)? {
            let good = segment.first_good(index, segment.blocks()?)?;
            if let Some((index, header)) = good {
                self.go(FilePosition {
                    number,
                    offset: index * BLOCK as u64,
                    position: header.position,
                    skip: 0,
                });
                if header.position == from.position {
                    return Ok(Next::Again);
                }
                let path = segment.path;
                return Err(LogError::Damaged { path, from: from.position, to: header.position });
            }
            number += 1;
            index = 0;
        }
        Ok(Next::Nothing)
    }
}

/// What is under the cursor.
enum Next {
    Records,
    Again,
    Nothing,
}

/// Records read at once; borrows the reader's memory.
#[derive(Debug)]
pub struct Batch<'a> {
    cursor: &'a mut Cursor,
    bytes: &'a [u8],
    /// Offset in the segment of the first byte; a block starts there.
    base: u64,
}

impl<'a> Iterator for Batch<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let file_position = &mut self.cursor.file_position;
        loop {
            let start = usize::try_from(block_start(file_position.offset) - self.base).ok()?;
            let block = self.bytes.get(start..self.bytes.len().min(start + BLOCK))?;
            let at = in_block(file_position.offset);
            if at == 0 {
                // A block that does not fit is left to `Reader::batch`, which says why.
                let frame::HeaderRead::Good(header) = frame::BlockHeader::read(block) else { return None };
                if header.position != file_position.position {
                    return None;
                }
                file_position.offset += BLOCK_HEADER as u64;
                continue;
            }
            let frame = frame::read_record(block, at);
            match frame {
                Frame::Data { at_ns, stream, bytes } => {
                    let bytes = &bytes[file_position.skip.min(bytes.len())..];
                    let position = file_position.position;
                    file_position.position += bytes.len() as u64;
                    file_position.offset += frame.size() as u64;
                    file_position.skip = 0;
                    return Some(Record { position, next: file_position.position, at_ns, stream, bytes });
                }
                Frame::Full => file_position.offset = block_start(file_position.offset) + BLOCK as u64,
                Frame::End | Frame::Short | Frame::Bad => return None,
            }
        }
    }
}

fn block_start(offset: u64) -> u64 {
    offset - offset % BLOCK as u64
}

fn in_block(offset: u64) -> usize {
    usize::try_from(offset % BLOCK as u64).expect("below BLOCK")
}
