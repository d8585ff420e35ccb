//! Large files in chunks, cut where their content says so: what changed in a file is in few of its chunks, whatever moved. It must
//! not know where a file is from.
//!
//! # Recipe
//!
//! ```text
//! vessl-chunks 1\n
//! 32 bytes: BLAKE3 of the whole file
//! 36 bytes a chunk, in the order of the file: 32 of digest, 4 how long it is (little-endian)
//! ```
//! A recipe is a blob, and so is every chunk. Chunks are cut by `FastCDC` (2020), of 1 MiB on average.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fastcdc::v2020::FastCDC;

use crate::blob::{Digest, LARGEST_IN_PACK, Store};
use crate::sparse::ReadAt;
use crate::{DataError, Watch, locked, pool};

/// Files that are larger are kept in chunks. In bytes, as everything here.
pub const LARGE: u64 = 64 << 20;
/// How large chunks are.
const SMALLEST: usize = 256 << 10;
const AVERAGE: usize = 1 << 20;
const LARGEST: usize = 4 << 20;
/// Bytes that are looked at at once.
const WINDOW: usize = 8 << 20;
/// Longest recipe: that of a file of some TiB.
const LONGEST: u64 = 1 << 28;
const HEAD: &[u8] = b"vessl-chunks 1\n";
const NAME: usize = 32;
const LINE: usize = NAME + 4;

const _: () = assert!(LARGEST as u64 <= LARGEST_IN_PACK && LARGEST < WINDOW);

/// Of which chunks a file is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// BLAKE3 of the whole file.
    pub whole: Digest,
    /// Its chunks, in their order.
    pub chunks: Vec<Chunk>,
}

/// A chunk of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u32,
}

impl Chunk {
    /// Its bytes, verified.
    pub fn read(self, store: &Store) -> Result<Vec<u8>, DataError> {
        store.read(self.digest, LARGEST as u64)
    }
}

impl Recipe {
    /// The text of the blob.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(HEAD.len() + NAME + self.chunks.len() * LINE);
        text.extend_from_slice(HEAD);
        text.extend_from_slice(&self.whole.0);
        for chunk in &self.chunks {
            text.extend_from_slice(&chunk.digest.0);
            text.extend_from_slice(&chunk.size.to_le_bytes());
        }
        text
    }

    /// Reads the text; `None` if it is none.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (whole, lines) = text.strip_prefix(HEAD)?.split_first_chunk::<NAME>()?;
        let (lines, rest) = lines.as_chunks::<LINE>();
        let chunk = |line: &[u8; LINE]| {
            let mut digest = [0; NAME];
            digest.copy_from_slice(&line[..NAME]);
            let size = u32::from_le_bytes([line[32], line[33], line[34], line[35]]);
            (1..=LARGEST as u64).contains(&size.into()).then_some(Chunk { digest: Digest(digest), size })
        };
        let chunks: Option<Vec<Chunk>> = lines.iter().map(chunk).collect();
        let recipe = Self { whole: Digest(*whole), chunks: chunks? };
        (rest.is_empty() && !recipe.chunks.is_empty()).then_some(recipe)
    }

    /// Reads and verifies the recipe of a file of `size` bytes.
    pub fn read(store: &Store, digest: Digest, size: u64) -> Result<Self, DataError> {
        let text = store.read(digest, LONGEST)?;
        let recipe = Self::parse(&text).filter(|recipe| recipe.size() == size);
        recipe.ok_or(DataError::Recipe { digest, size })
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.chunks.iter().map(|chunk| u64::from(chunk.size)).sum()
    }
}

/// What takes in the chunks of a file, one after the other.
pub type Take<'t> = dyn FnMut(Digest, &[u8]) -> Result<(), DataError> + 't;

/// Cuts a file, and gives every chunk with its digest to `take`. Errors call the file `name`.
pub fn cut(file: &File, name: &Path, watch: &Watch<'_>, take: &mut Take<'_>) -> Result<Recipe, DataError> {
    let whole = Mutex::new(blake3::Hasher::new());
    let mut window = vec![0; WINDOW];
    let (mut filled, mut offset) = (0, 0);
    let mut chunks = Vec::new();
    loop {
        watch.check()?;
        let more = fill(file, &mut window[filled..], offset).map_err(DataError::os("read", name))?;
        let new = filled..filled + more;
        (filled, offset) = (new.end, offset + more as u64);
        let pieces = pieces(&window[..filled], filled < WINDOW);
        // The whole file is hashed beside its chunks.
        let digests: Vec<Mutex<Option<Digest>>> = pieces.iter().map(|_| Mutex::new(None)).collect();
        let jobs: Vec<Option<usize>> = std::iter::once(None).chain((0..pieces.len()).map(Some)).collect();
        pool::each(&jobs, |job| {
            match job {
                None => drop(locked(&whole).update(&window[new.clone()])),
                Some(n) => *locked(&digests[*n]) = Some(Digest::of(pieces[*n])),
            }
            Ok::<_, DataError>(())
        })?;
        let mut used = 0;
        for (piece, digest) in pieces.iter().zip(digests) {
            let digest = digest.into_inner().ok().flatten().unwrap_or_else(|| Digest::of(piece));
            take(digest, piece)?;
            chunks.push(Chunk { digest, size: u32::try_from(piece.len()).unwrap_or(u32::MAX) });
            used += piece.len();
        }
        (watch.progress)(more as u64, None);
        if filled < WINDOW {
            let whole = Digest(*locked(&whole).finalize().as_bytes());
            return Ok(Recipe { whole, chunks });
        }
        window.copy_within(used..filled, 0);
        filled -= used;
    }
}

/// Reads until there is no room or no more; how much there was.
fn fill(file: &File, to: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < to.len() {
        match FileExt::read_at(file, &mut to[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// The chunks that are in a window as a whole; at the end of the file all that is there.
fn pieces(window: &[u8], is_end: bool) -> Vec<&[u8]> {
    let cutter = FastCDC::new(window, SMALLEST, AVERAGE, LARGEST);
    let (mut pieces, mut at) = (Vec::new(), 0);
    while at < window.len() && (is_end || window.len() - at >= LARGEST) {
        let (_, end) = cutter.cut(at, window.len() - at);
        pieces.push(&window[at..end]);
        at = end;
    }
    pieces
}

/// A file in chunks that is read like the file itself, anywhere. What is read is verified.
#[derive(Debug)]
pub struct Chunked {
    store: Store,
    recipe: Recipe,
    /// Where each chunk ends.
    ends: Vec<u64>,
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl Chunked {
    /// The file of a recipe that was read.
    pub fn of(store: &Store, recipe: Recipe) -> Self {
        let ends = recipe.chunks.iter().scan(0, |end, chunk| {
            *end += u64::from(chunk.size);
            Some(*end)
        });
        Self { store: store.clone(), ends: ends.collect(), last: Mutex::new(None), recipe }
    }

    fn chunk(&self, n: usize) -> io::Result<Arc<Vec<u8>>> {
        if let Some((_, bytes)) = locked(&self.last).as_ref().filter(|(last, _)| *last == n) {
            return Ok(Arc::clone(bytes));
        }
        let chunk = self.recipe.chunks[n];
        let bytes = chunk.read(&self.store).map_err(io::Error::other)?;
        if bytes.len() != chunk.size as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the recipe of the file is not one"));
        }
        let bytes = Arc::new(bytes);
        *locked(&self.last) = Some((n, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

impl ReadAt for Chunked {
    fn read_at(&self, to: &mut [u8], at: u64) -> io::Result<usize> {
        let n = self.ends.partition_point(|end| *end <= at);
        let Some(end) = self.ends.get(n).filter(|_| !to.is_empty()) else { return Ok(0) };
        let bytes = self.chunk(n)?;
        let left = usize::try_from(end - at).map_err(io::Error::other)?;
        let length = left.min(to.len());
        let from = bytes.len() - left;
        to[..length].copy_from_slice(&bytes[from..from + length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without any order, the same for the same seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn cut_bytes(bytes: &[u8]) -> Recipe {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut all = Vec::new();
        let take = &mut |digest, piece: &[u8]| {
            assert_eq!(Digest::of(piece), digest);
            all.extend_from_slice(piece);
            Ok(())
        };
        let recipe = cut(&file, Path::new("f"), &Watch::NONE, take).unwrap();
        assert!(all == bytes);
        assert_eq!((recipe.size(), recipe.whole), (bytes.len() as u64, Digest::of(bytes)));
        assert_eq!(Recipe::parse(&recipe.text()).as_ref(), Some(&recipe));
        recipe
    }

    #[test]
    fn chunks_are_the_same_however_the_file_is_read_and_around_a_change() {
        let bytes = noise(1, 40 << 20);
        let recipe = cut_bytes(&bytes);
        // As one whole, without windows.
        let whole: Vec<usize> =
            FastCDC::new(&bytes, SMALLEST, AVERAGE, LARGEST).map(|chunk| chunk.length).collect();
        assert_eq!(recipe.chunks.iter().map(|chunk| chunk.size as usize).collect::<Vec<_>>(), whole);
        let mut changed = bytes.clone();
        changed.splice((20 << 20)..(20 << 20) + 5, *b"0123456789");
        let other = cut_bytes(&changed);
        let new = other.chunks.iter().filter(|chunk| !recipe.chunks.contains(chunk)).count();
        assert!((1..=3).contains(&new), "{new}");
        cut_bytes(&noise(2, WINDOW));
        cut_bytes(&vec![0; WINDOW + 1]);
        cut_bytes(b"x");
    }

    #[test]
    fn what_is_no_recipe_is_refused() {
        let chunk = |size| Chunk { digest: Digest([7; 32]), size };
        let recipe = Recipe { whole: Digest([1; 32]), chunks: vec![chunk(1), chunk(4 << 20)] };
        let text = recipe.text();
        assert_eq!(Recipe::parse(&text), Some(recipe));
        for length in 0..text.len() {
            // One chunk less is a recipe too, of another file.
            let is_one = length == HEAD.len() + NAME + LINE;
            assert_eq!(Recipe::parse(&text[..length]).is_some(), is_one, "{length}");
        }
        for chunks in [vec![], vec![chunk(0)], vec![chunk((4 << 20) + 1)], vec![chunk(u32::MAX)]] {
            assert_eq!(Recipe::parse(&Recipe { whole: Digest([1; 32]), chunks }.text()), None);
        }
        assert_eq!(Recipe::parse(&[b"vessl-chunks 2\n", &text[HEAD.len()..]].concat()), None);
    }

    #[test]
    fn a_file_in_chunks_is_read_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let pieces = [&b"one"[..], b"second", b"3"];
        let chunks = pieces.iter().map(|piece| Chunk {
            digest: store.put_bytes(piece).unwrap().digest,
            size: u32::try_from(piece.len()).unwrap(),
        });
        let whole = pieces.concat();
        let recipe = Recipe { whole: Digest::of(&whole), chunks: chunks.collect() };
        let file = Chunked::of(&store, recipe.clone());
        for from in 0..whole.len() {
            for to in from..=whole.len() {
                let mut read = vec![0; to - from];
                file.read_exact_at(&mut read, from as u64).unwrap();
                assert_eq!(read, whole[from..to]);
            }
        }
        assert_eq!(file.read_at(&mut [0; 4], 10).unwrap(), 0);
        std::fs::write(store.path(Digest::of(b"second")), "SECOND").unwrap();
        let file = Chunked::of(&store, recipe);
        let failed = file.read_exact_at(&mut [0; 10], 0).unwrap_err().to_string();
        assert!(failed.contains("is damaged"), "{failed}");
    }
}
