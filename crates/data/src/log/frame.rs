//! Blocks and records as bytes. No files here.
use super::Stream;

/// Bytes of a block.
pub(super) const BLOCK: usize = 64 * 1024;
/// Bytes of a block's header.
pub(super) const BLOCK_HEADER: usize = 40;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 16;
/// Stream byte of the end record.
const END: u8 = 255;
const MARK: [u8; 4] = *b"vlog";

/// Where a block stands in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) position: u64,
    pub(super) lines: u64,
    pub(super) at_ns: u64,
}

/// What the first bytes of a block turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderRead {
    Good(BlockHeader),
    Newer(u16),
    Bad,
}

impl BlockHeader {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MARK);
        out.extend_from_slice(&super::VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        for number in [self.position, self.lines, self.at_ns] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    pub(super) fn read(bytes: &[u8]) -> HeaderRead {
        if bytes.len() < BLOCK_HEADER
            || bytes[..4] != MARK
            || crc32fast::hash(&bytes[..32]) != u32_at(bytes, 32)
        {
            return HeaderRead::Bad;
        }
        match u16_at(bytes, 4) {
            super::VERSION => HeaderRead::Good(Self {
                position: u64_at(bytes, 8),
                lines: u64_at(bytes, 16),
                at_ns: u64_at(bytes, 24),
            }),
            version => HeaderRead::Newer(version),
        }
    }
}

/// One record found in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    /// Payload bytes.
    Data { at_ns: u64, stream: Stream, bytes: &'a [u8] },
    /// The log ends here.
    End,
    /// The bytes stop before the record does, or there are none.
    Short,
    /// The block has no room for another record.
    Full,
    /// All bytes are there and they are wrong.
    Bad,
}

impl Frame<'_> {
    /// Bytes the record takes in the block.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Data { bytes, .. } => RECORD_HEADER + bytes.len(),
            Self::End => RECORD_HEADER,
            Self::Short | Self::Full | Self::Bad => 0,
        }
    }
}

/// Appends a data record; the caller has made sure that it fits the block and is not empty.
pub(super) fn write_data(out: &mut Vec<u8>, at_ns: u64, stream: Stream, payload: &[u8]) {
    write_record(out, at_ns, stream as u8, payload);
}

/// Appends the end record.
pub(super) fn write_end(out: &mut Vec<u8>, at_ns: u64) {
    write_record(out, at_ns, END, &[]);
}

fn write_record(out: &mut Vec<u8>, at_ns: u64, stream: u8, payload: &[u8]) {
    let len = u16::try_from(payload.len()).expect("a record fits its block").to_le_bytes();
    let head = [len[0], len[1], stream, 0];
    let time = at_ns.to_le_bytes();
    out.extend_from_slice(&head);
    out.extend_from_slice(&checksum(&head, &time, payload).to_le_bytes());
    out.extend_from_slice(&time);
    out.extend_from_slice(payload);
}

/// Reads the record at `offset` of a block of which `block` is what the file has so far.
pub(super) fn read_record(block: &[u8], offset: usize) -> Frame<'_> {
    if BLOCK - offset < RECORD_HEADER + 1 {
        return Frame::Full;
    }
    let bytes = &block[offset.min(block.len())..];
    if bytes.len() < RECORD_HEADER {
        return Frame::Short;
    }
    let end = RECORD_HEADER + usize::from(u16_at(bytes, 0));
    if offset + end > BLOCK {
        return Frame::Bad;
    }
    let Some(payload) = bytes.get(RECORD_HEADER..end) else {
        return Frame::Short;
    };
    if checksum(&bytes[..4], &bytes[8..16], payload) != u32_at(bytes, 4) {
        return Frame::Bad;
    }
    match (Stream::from_byte(bytes[2]), bytes[2], payload.is_empty()) {
        (Some(stream), _, false) => Frame::Data { at_ns: u64_at(bytes, 8), stream, bytes: payload },
        (None, END, true) => Frame::End,
        _ => Frame::Bad,
    }
}

fn checksum(head: &[u8], time: &[u8], payload: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(head);
    hash.update(time);
    hash.update(payload);
    hash.finalize()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
