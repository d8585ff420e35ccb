//! Files with holes by what they hold, so that moving them takes time and room by their data.
//!
//! # Packed form
//!
//! The pieces of data in the order of the file: where the piece begins and how long it is (8 bytes each, little-endian), then its
//! bytes. A piece is one or more blocks of 4 KiB that are not all zero (the last block of the file may be shorter), as many as stand
//! side by side, but none crosses a multiple of 64 KiB. So there is one packed form of a content, whatever file system it is on. The
//! size of the file stands elsewhere.
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// What is a hole or not as a whole.
const BLOCK: usize = 4 << 10;
/// Bytes looked at at once, and the longest piece.
const WINDOW: usize = 64 << 10;
/// Bytes before every piece.
const HEAD: usize = 16;

/// Bytes that can be read from anywhere.
pub trait ReadAt {
    /// Reads from `at` on; nothing only at the end.
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize>;

    /// Reads as much as is asked for.
    fn read_exact_at(&self, mut to: &mut [u8], mut at: u64) -> io::Result<()> {
        while !to.is_empty() {
            match self.read_at(to, at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    to = &mut to[read..];
                    at += read as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl ReadAt for File {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        FileExt::read_at(self, to, at)
    }
}

/// Whether a file has a hole. A file system that does not tell has none.
pub fn has_holes(file: &File) -> io::Result<bool> {
    let size = file.metadata()?.len();
    Ok(seek(file, 0, Whence::SeekHole, None)?.is_some_and(|hole| hole < size))
}

/// The next data or hole from `at` on, `None` if there is none; where the file system does not know, `unknown`.
fn seek(file: &File, at: u64, whence: Whence, unknown: Option<u64>) -> io::Result<Option<u64>> {
    let offset = i64::try_from(at).map_err(io::Error::other)?;
    match lseek(file, offset, whence) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => Ok(unknown),
        Err(e) => Err(e.into()),
    }
}

/// The packed form of a file, as it is read.
#[derive(Debug)]
pub struct Packed<'f> {
    file: &'f File,
    size: u64,
    at: u64,
    window: Vec<u8>,
    ready: Vec<u8>,
    sent: usize,
}

impl<'f> Packed<'f> {
    /// Of the first `size` bytes of a file.
    pub fn of(file: &'f File, size: u64) -> Self {
        Self { file, size, at: 0, window: vec![0; WINDOW], ready: Vec::new(), sent: 0 }
    }

    /// Where the next data is.
    fn next(&self) -> io::Result<Option<u64>> {
        let data = seek(self.file, self.at, Whence::SeekData, Some(self.at))?;
        Ok(data.filter(|data| *data < self.size))
    }

    /// Finds the next pieces; false at the end.
    fn find(&mut self) -> io::Result<bool> {
        (self.sent, self.ready) = (0, std::mem::take(&mut self.ready));
        self.ready.clear();
        while self.ready.is_empty() {
            let Some(data) = self.next()? else {
                return Ok(false);
            };
            let window = WINDOW as u64;
            let from = data / window * window;
            let length = usize::try_from((self.size - from).min(window)).map_err(io::Error::other)?;
            FileExt::read_exact_at(self.file, &mut self.window[..length], from)?;
            pieces(&self.window[..length], from, &mut self.ready);
            self.at = from + window;
        }
        Ok(true)
    }
}

impl Read for Packed<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.sent == self.ready.len() && !self.find()? {
            return Ok(0);
        }
        let length = to.len().min(self.ready.len() - self.sent);
        to[..length].copy_from_slice(&self.ready[self.sent..self.sent + length]);
        self.sent += length;
        Ok(length)
    }
}

/// Appends the pieces of a window that begins at `from`.
fn pieces(window: &[u8], from: u64, packed: &mut Vec<u8>) {
    const ZERO: [u8; BLOCK] = [0; BLOCK];
    let mut begin = None;
    let mut end = |begin: &mut Option<usize>, end: usize| {
        if let Some(begin) = begin.take() {
            packed.extend_from_slice(&(from + begin as u64).to_le_bytes());
            packed.extend_from_slice(&((end - begin) as u64).to_le_bytes());
            packed.extend_from_slice(&window[begin..end]);
        }
    };
    for (n, block) in window.chunks(BLOCK).enumerate() {
        if *block == ZERO[..block.len()] {
            end(&mut begin, n * BLOCK);
        } else {
            begin.get_or_insert(n * BLOCK);
        }
    }
    end(&mut begin, window.len());
}

/// Reads one after the other what can be read from anywhere.
struct Reader<'s, S> {
    source: &'s S,
    at: u64,
}

impl<S: ReadAt> Read for Reader<'_, S> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Where a piece is: in the file and in the packed form.
#[derive(Clone, Copy, Debug)]
struct Piece {
    offset: u64,
    length: usize,
    at: u64,
}

/// Reads the head of the next piece, which begins at `end` or behind it; `None` at the end.
fn head(packed: &mut dyn Read, end: u64, size: u64) -> io::Result<Option<(u64, usize)>> {
    let mut head = [0; HEAD];
    let mut filled = 0;
    while filled < HEAD {
        match packed.read(&mut head[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let [offset, length] = [0, 8].map(|at| {
        let mut word = [0; 8];
        word.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(word)
    });
    let fits = offset.checked_add(length).is_some_and(|behind| behind <= size);
    let length = usize::try_from(length).ok().filter(|length| (1..=WINDOW).contains(length));
    match length {
        Some(length) if fits && offset >= end => Ok(Some((offset, length))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the packed form of the file is not one")),
    }
}

/// Which side of an unpacking failed.
#[derive(Debug)]
pub enum UnpackError {
    /// The packed form.
    Read(io::Error),
    /// The file.
    Write(io::Error),
}

/// Writes the file of `size` bytes that a packed form is of into an empty file; `each` is told how many bytes were written, and
/// ends it with false.
pub fn unpack(
    packed: &mut dyn Read,
    size: u64,
    to: &File,
    each: &mut dyn FnMut(u64) -> bool,
) -> Result<(), UnpackError> {
    let mut piece = vec![0; WINDOW];
    let mut end = 0;
    while let Some((offset, length)) = head(packed, end, size).map_err(UnpackError::Read)? {
        packed.read_exact(&mut piece[..length]).map_err(UnpackError::Read)?;
        to.write_all_at(&piece[..length], offset).map_err(UnpackError::Write)?;
        end = offset + length as u64;
        if !each(length as u64) {
            return Ok(());
        }
    }
    to.set_len(size).map_err(UnpackError::Write)
}

/// A packed form that is read like the file itself, anywhere.
#[derive(Debug)]
pub struct Unpacked<S = File> {
    packed: S,
    pieces: Vec<Piece>,
    size: u64,
}

impl<S: ReadAt> Unpacked<S> {
    /// Looks for the pieces; takes time and room by their number.
    pub fn open(packed: S, size: u64) -> io::Result<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut reader = Reader { source: &packed, at: 0 };
        let mut end = 0;
        while let Some((offset, length)) = head(&mut reader, end, size)? {
            pieces.push(Piece { offset, length, at: reader.at });
            reader.at += length as u64;
            end = offset + length as u64;
        }
        Ok(Self { packed, pieces, size })
    }
}

impl<S: ReadAt> ReadAt for Unpacked<S> {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let length = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX).min(to.len());
        let to = &mut to[..length];
        to.fill(0);
        let end = at + length as u64;
        let first = self.pieces.partition_point(|piece| piece.offset + piece.length as u64 <= at);
        for piece in self.pieces[first..].iter().take_while(|piece| piece.offset < end) {
            let (from, until) = (piece.offset.max(at), (piece.offset + piece.length as u64).min(end));
            let place = |offset: u64| usize::try_from(offset - at).map_err(io::Error::other);
            let target = &mut to[place(from)?..place(until)?];
            self.packed.read_exact_at(target, piece.at + (from - piece.offset))?;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of `size` bytes with this data, as it is packed; and back.
    fn check(size: u64, data: &[(u64, Vec<u8>)], expected: &[(u64, usize)]) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for (at, bytes) in data {
            file.write_all_at(bytes, *at).unwrap();
        }
        let mut packed = Vec::new();
        Packed::of(&file, size).read_to_end(&mut packed).unwrap();
        let (mut found, mut end, mut rest) = (Vec::new(), 0, &packed[..]);
        while let Some((offset, length)) = head(&mut rest, end, size).unwrap() {
            found.push((offset, length));
            end = offset + length as u64;
            rest = &rest[length..];
        }
        assert_eq!(found, expected, "{size}");
        let back = tempfile::tempfile().unwrap();
        let mut written = 0;
        let mut each = |more| {
            written += more;
            true
        };
        unpack(&mut &packed[..], size, &back, &mut each).unwrap();
        assert_eq!(written, expected.iter().map(|(_, length)| *length as u64).sum::<u64>());
        assert_eq!(back.metadata().unwrap().len(), size);
        let kept = tempfile::tempfile().unwrap();
        kept.write_all_at(&packed, 0).unwrap();
        let view = Unpacked::open(kept, size).unwrap();
        for at in [0, 1, 4095, 65_535, 100_000, size.saturating_sub(5), size] {
            let ([mut one, mut two, mut three], n) =
                ([vec![1; 70_000], vec![2; 70_000], vec![3; 70_000]], at.min(size));
            let lengths = [
                FileExt::read_at(&file, &mut one, n).unwrap(),
                FileExt::read_at(&back, &mut two, n).unwrap(),
                view.read_at(&mut three, n).unwrap(),
            ];
            assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
            assert!(
                one[..lengths[0]] == two[..lengths[0]] && one[..lengths[0]] == three[..lengths[0]],
                "{size} {at}"
            );
        }
    }

    #[test]
    fn files_by_their_data() {
        check(0, &[], &[]);
        check(3, &[(0, b"abc".to_vec())], &[(0, 3)]);
        check(1 << 20, &[], &[]);
        check(1 << 20, &[(0, vec![1; 1 << 17])], &[(0, 1 << 16), (1 << 16, 1 << 16)]);
        check((1 << 20) + 5, &[(1 << 20, b"last".to_vec())], &[(1 << 20, 5)]);
        // Zeros that are written are as good as a hole.
        check(
            1 << 20,
            &[(8192, vec![0; 1 << 17]), (8192, vec![1]), (20_000, vec![1; 8192])],
            &[(8192, 4096), (16_384, 12_288)],
        );
        // As large as a file of many file systems can be: only what is there takes time.
        check(15 << 40, &[(12 << 40, b"12345678".to_vec())], &[(12 << 40, 4096)]);
    }

    #[test]
    fn holes_are_seen() {
        let file = tempfile::tempfile().unwrap();
        assert!(!has_holes(&file).unwrap());
        file.write_all_at(&[1; 10_000], 0).unwrap();
        assert!(!has_holes(&file).unwrap());
        file.set_len(1 << 20).unwrap();
        assert!(has_holes(&file).unwrap());
    }

    #[test]
    fn what_is_no_packed_form_is_refused() {
        let piece = |offset: u64, length: u64, bytes: usize| {
            [&offset.to_le_bytes()[..], &length.to_le_bytes(), &vec![1; bytes]].concat()
        };
        let refused = |packed: &[u8]| {
            let to = tempfile::tempfile().unwrap();
            let failed = unpack(&mut &packed[..], 100, &to, &mut |_| true);
            assert!(matches!(failed, Err(UnpackError::Read(_))), "{packed:?}");
            let kept = tempfile::tempfile().unwrap();
            kept.write_all_at(packed, 0).unwrap();
            Unpacked::open(kept, 100).is_ok_and(|view| view.read_at(&mut [0; 100], 0).is_ok())
        };
        for packed in [
            piece(0, 0, 0),
            piece(90, 11, 11),
            piece(u64::MAX, 2, 2),
            piece(0, u64::MAX, 2),
            piece(0, 1 << 20, 1 << 20),
            [piece(5, 5, 5), piece(9, 2, 2)].concat(),
            piece(0, 5, 4),
            vec![0; 5],
        ] {
            assert!(!refused(&packed), "{packed:?}");
        }
    }
}
