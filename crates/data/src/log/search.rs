//! Finding a place in the segments: the end, a position, a line. Reads block headers of 40 bytes and at the
//! end one block.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{self, BLOCK, BLOCK_HEADER, BlockHeader, Frame, HeaderRead, RECORD_HEADER};
use super::{LogError, Stream, segment_path, segments};
use crate::durable;

/// A place in the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FilePosition {
    /// Segment.
    pub(super) number: u32,
    /// Byte of the segment where a record or a block starts.
    pub(super) offset: u64,
    /// Position of the first payload byte wanted.
    pub(super) position: u64,
    /// Payload bytes of that record that are not wanted.
    pub(super) skip: usize,
}

/// How a log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) number: u32,
    /// End of the last good record in that segment.
    pub(super) offset: u64,
    pub(super) position: u64,
    pub(super) lines: u64,
    pub(super) at_ns: u64,
    /// Whether bytes follow the last newline.
    pub(super) partial: bool,
    pub(super) finished: bool,
}

/// One segment open for reading.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u32,
    pub(super) path: PathBuf,
    file: File,
}

impl Segment {
    /// `Ok(None)` if there is no such segment.
    pub(super) fn open(dir: &Path, number: u32) -> Result<Option<Self>, LogError> {
        let path = segment_path(dir, number);
        match durable::open_file(&path) {
            Ok(file) => Ok(Some(Self { number, path, file })),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(LogError::os("open the log segment", &path)(e)),
        }
    }

    /// Number of blocks, the last one possibly short.
    pub(super) fn blocks(&self) -> Result<u64, LogError> {
        let meta = self.file.metadata().map_err(LogError::os("read the log segment", &self.path))?;
        Ok(meta.len().div_ceil(BLOCK as u64))
    }

    /// Fills `buffer` from `offset` on, as far as the file goes.
    pub(super) fn read(&self, offset: u64, buffer: &mut Vec<u8>, size: usize) -> Result<(), LogError> {
        buffer.resize(size, 0);
        let mut filled = 0;
        while filled < size {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(LogError::os("read the log segment", &self.path)(e)),
            }
        }
        buffer.truncate(filled);
        Ok(())
    }

    /// The header of block `index`, `None` if it is not a good one.
    pub(super) fn header(&self, index: u64) -> Result<Option<BlockHeader>, LogError> {
        let mut bytes = Vec::with_capacity(BLOCK_HEADER);
        self.read(index * BLOCK as u64, &mut bytes, BLOCK_HEADER)?;
        self.check(&bytes)
    }

    pub(super) fn check(&self, bytes: &[u8]) -> Result<Option<BlockHeader>, LogError> {
        match BlockHeader::read(bytes) {
            HeaderRead::Good(header) => Ok(Some(header)),
            HeaderRead::Bad => Ok(None),
            HeaderRead::Newer(version) => Err(LogError::Version { path: self.path.clone(), version }),
        }
    }

    /// The first good block in `from..to`.
    pub(super) fn first_good(&self, from: u64, to: u64) -> Result<Option<(u64, BlockHeader)>, LogError> {
        for index in from..to {
            if let Some(header) = self.header(index)? {
                return Ok(Some((index, header)));
            }
        }
        Ok(None)
    }

    /// The last good block in `from..to`.
    fn last_good(&self, from: u64, to: u64) -> Result<Option<(u64, BlockHeader)>, LogError> {
        for index in (from..to).rev() {
            if let Some(header) = self.header(index)? {
                return Ok(Some((index, header)));
            }
        }
        Ok(None)
    }

    /// The last good block for which `before` holds; `before` holds for a first part of the blocks and not for the rest.
    fn last_before(
        &self,
        before: &dyn Fn(&BlockHeader) -> bool,
    ) -> Result<Option<(u64, BlockHeader)>, LogError> {
        let (mut low, mut high, mut best) = (0, self.blocks()?, None);
        while low < high {
            let middle = low.midpoint(high);
            match self.last_good(low, middle + 1)? {
                Some((index, header)) if !before(&header) => high = index,
                Some(found) => {
                    best = Some(found);
                    low = middle + 1;
                }
                None => low = middle + 1,
            }
        }
        Ok(best)
    }

    /// Calls `visit` with each record of block `index` until it returns false or the records end. Returns the offset
    /// after the last record accepted and whether the end record was met.
    fn walk(
        &self,
        index: u64,
        header: &BlockHeader,
        visit: &mut dyn FnMut(&Visited<'_>) -> bool,
    ) -> Result<(u64, bool), LogError> {
        let base = index * BLOCK as u64;
        let mut block = Vec::new();
        self.read(base, &mut block, BLOCK)?;
        let (mut at, mut position, mut lines) = (BLOCK_HEADER, header.position, header.lines);
        loop {
            let offset = base + at as u64;
            let frame = frame::read_record(&block, at);
            match frame {
                Frame::Data { at_ns, stream, bytes } => {
                    if !visit(&Visited { offset, position, lines, at_ns, stream, bytes }) {
                        return Ok((offset, false));
                    }
                    position += bytes.len() as u64;
                    lines += newlines(bytes);
                    at += frame.size();
                }
                Frame::End => return Ok((offset, true)),
                Frame::Short | Frame::Full | Frame::Bad => return Ok((offset, false)),
            }
        }
    }
}

/// A record met on a walk.
struct Visited<'a> {
    /// Byte of the segment.
    offset: u64,
    /// Payload before it.
    position: u64,
    /// Newlines before it.
    lines: u64,
    at_ns: u64,
    stream: Stream,
    bytes: &'a [u8],
}

impl Visited<'_> {
    /// The place after the first `skip` bytes of the payload.
    fn file_position(&self, number: u32, skip: usize) -> FilePosition {
        let position = self.position + skip as u64;
        if skip < self.bytes.len() {
            return FilePosition { number, offset: self.offset, position, skip };
        }
        let size = RECORD_HEADER + self.bytes.len();
        FilePosition { number, offset: self.offset + size as u64, position, skip: 0 }
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// How the log in `dir` ends; `None` if it has no good block.
pub(super) fn tail(dir: &Path) -> Result<Option<Tail>, LogError> {
    for &number in segments(dir)?.iter().rev() {
        let Some(segment) = Segment::open(dir, number)? else { continue };
        let Some((index, header)) = segment.last_good(0, segment.blocks()?)? else { continue };
        let mut tail = Tail {
            number,
            position: header.position,
            lines: header.lines,
            at_ns: header.at_ns,
            ..Tail::default()
        };
        let (offset, finished) = segment.walk(index, &header, &mut |record| {
            tail.position = record.position + record.bytes.len() as u64;
            tail.lines = record.lines + newlines(record.bytes);
            tail.at_ns = record.at_ns;
            tail.partial = record.bytes.last() != Some(&b'\n');
            true
        })?;
        return Ok(Some(Tail { offset, finished, ..tail }));
    }
    Ok(None)
}

/// The first place of the log that can be read.
pub(super) fn start(dir: &Path) -> Result<FilePosition, LogError> {
    for number in segments(dir)? {
        let Some(segment) = Segment::open(dir, number)? else { continue };
        if let Some((index, header)) = segment.first_good(0, segment.blocks()?)? {
            return Ok(FilePosition {
                number,
                offset: index * BLOCK as u64,
                position: header.position,
                skip: 0,
            });
        }
    }
    Ok(FilePosition::default())
}

/// The place of payload byte `wanted`; the end of the log if it has fewer, its start if that byte is gone.
pub(super) fn position(dir: &Path, wanted: u64) -> Result<FilePosition, LogError> {
    locate(dir, &|header| header.position <= wanted, &|record| {
        let end = record.position + record.bytes.len() as u64;
        let skip = usize::try_from(wanted.saturating_sub(record.position)).ok()?;
        (end > wanted).then_some(skip)
    })
}

/// The place right after newline number `line` (from 1); the end of the log if it has fewer.
pub(super) fn after_line(dir: &Path, line: u64) -> Result<FilePosition, LogError> {
    locate(dir, &|header| header.lines < line, &|record| {
        let nth = usize::try_from(line.checked_sub(record.lines + 1)?).ok()?;
        memchr::memchr_iter(b'\n', record.bytes).nth(nth).map(|at| at + 1)
    })
}

/// The start of the last `lines` lines of one stream, at least one; the start of the log if it has fewer. Reads the blocks
/// from the last one back, because their headers count the lines of all streams.
pub(super) fn tail_of(dir: &Path, stream: Stream, lines: u64) -> Result<FilePosition, LogError> {
    // Newlines that are still to be passed; known when the stream's last byte is.
    let mut wanted = None;
    for &number in segments(dir)?.iter().rev() {
        let Some(segment) = Segment::open(dir, number)? else { continue };
        for index in (0..segment.blocks()?).rev() {
            let Some(header) = segment.header(index)? else { continue };
            let (mut starts, mut is_whole) = (Vec::new(), None);
            segment.walk(index, &header, &mut |record| {
                if record.stream == stream {
                    let newlines = memchr::memchr_iter(b'\n', record.bytes);
                    starts.extend(newlines.map(|at| record.file_position(number, at + 1)));
                    is_whole = record.bytes.last().map(|&last| last == b'\n');
                }
                true
            })?;
            let Some(is_whole) = is_whole else { continue };
            let left = wanted.unwrap_or_else(|| lines.saturating_add(u64::from(is_whole)));
            let here = starts.len() as u64;
            if let Some(&file_position) =
                here.checked_sub(left).and_then(|nth| starts.get(usize::try_from(nth).ok()?))
            {
                return Ok(file_position);
            }
            wanted = Some(left - here);
        }
    }
    start(dir)
}

/// Finds the last block for which `before` holds, and in it the first record of which `find` wants something: all but
/// that many first bytes. If it wants none, the place after the block's last record.
fn locate(
    dir: &Path,
    before: &dyn Fn(&BlockHeader) -> bool,
    find: &dyn Fn(&Visited<'_>) -> Option<usize>,
) -> Result<FilePosition, LogError> {
    let Some((segment, index, header)) = last_block(dir, before)? else {
        return start(dir);
    };
    let number = segment.number;
    let mut end = header.position;
    let mut found = None;
    let (offset, _) = segment.walk(index, &header, &mut |record| {
        end = record.position + record.bytes.len() as u64;
        found = find(record).map(|skip| record.file_position(number, skip));
        found.is_none()
    })?;
    Ok(found.unwrap_or(FilePosition { number, offset, position: end, skip: 0 }))
}

/// The last good block of the log for which `before` holds.
fn last_block(
    dir: &Path,
    before: &dyn Fn(&BlockHeader) -> bool,
) -> Result<Option<(Segment, u64, BlockHeader)>, LogError> {
    let numbers = segments(dir)?;
    let (mut low, mut high, mut best) = (0, numbers.len(), None);
    while low < high {
        let middle = low.midpoint(high);
        let segment = Segment::open(dir, numbers[middle])?;
        let first = match &segment {
            Some(segment) => segment.first_good(0, segment.blocks()?)?,
            None => None,
        };
        if first.is_some_and(|(_, header)| before(&header)) {
            best = segment;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let Some(segment) = best else { return Ok(None) };
    Ok(segment.last_before(before)?.map(|(index, header)| (segment, index, header)))
}
