//! The index of a pack: which blobs are in it, and where. It must not know where packs are kept.
//!
//! ```text
//! vessl-pack 1\n
//! 40 bytes a blob, sorted by digest: 32 of digest, 4 where it begins, 4 how long it is (little-endian)
//! ```
//! There is exactly one index for what is in a pack. Its BLAKE3 is the name of the pack, so an index that is cut or damaged is known
//! for it.
use super::Digest;

/// Most bytes of a pack.
pub const LARGEST_PACK: u64 = 64 << 20;
const HEAD: &[u8] = b"vessl-pack 1\n";
const ENTRY: usize = 40;

/// Where a blob is in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Name of the blob.
    pub digest: Digest,
    /// Where it begins.
    pub offset: u32,
    /// Its bytes.
    pub size: u32,
}

impl Packed {
    /// The byte behind it.
    pub fn end(self) -> u64 {
        u64::from(self.offset) + u64::from(self.size)
    }
}

/// The text of an index with these entries.
pub fn print(entries: &mut [Packed]) -> Vec<u8> {
    entries.sort_unstable_by_key(|entry| entry.digest);
    let mut text = Vec::with_capacity(HEAD.len() + entries.len() * ENTRY);
    text.extend_from_slice(HEAD);
    for entry in entries {
        text.extend_from_slice(&entry.digest.0);
        text.extend_from_slice(&entry.offset.to_le_bytes());
        text.extend_from_slice(&entry.size.to_le_bytes());
    }
    text
}

/// Reads an index; `None` if it is none.
pub fn parse(text: &[u8]) -> Option<Vec<Packed>> {
    let (body, rest) = text.strip_prefix(HEAD)?.as_chunks::<ENTRY>();
    let entries: Vec<Packed> = body.iter().map(entry).collect();
    let sorted = entries.is_sorted_by(|a, b| a.digest < b.digest);
    let fits = entries.iter().all(|entry| entry.end() <= LARGEST_PACK);
    (rest.is_empty() && !entries.is_empty() && sorted && fits).then_some(entries)
}

fn entry(bytes: &[u8; ENTRY]) -> Packed {
    let mut digest = [0; 32];
    digest.copy_from_slice(&bytes[..32]);
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Packed { digest: Digest(digest), offset: word(32), size: word(36) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_comes_back_and_anything_else_is_none() {
        let entry = |n: u8, offset, size| Packed { digest: Digest([n; 32]), offset, size };
        let text = print(&mut [entry(3, 5, 7), entry(1, 0, 5)]);
        assert_eq!(parse(&text).unwrap(), [entry(1, 0, 5), entry(3, 5, 7)]);
        let refused = |what: &str, text: &[u8]| assert_eq!(parse(text), None, "{what}");
        for length in 0..text.len() {
            // One blob less is an index too, but of another name.
            if length != HEAD.len() + ENTRY {
                refused("cut", &text[..length]);
            }
        }
        refused("longer", &[&text[..], b"x"].concat());
        refused("another version", &[b"vessl-pack 2\n", &text[HEAD.len()..]].concat());
        let mut unsorted = text.clone();
        unsorted[HEAD.len()] = 9;
        refused("unsorted", &unsorted);
        refused("twice", &print(&mut [entry(1, 0, 5), entry(1, 5, 5)]));
        refused("behind the end", &print(&mut [entry(1, u32::MAX, u32::MAX)]));
        refused("too long", &print(&mut [entry(1, 1, 64 << 20)]));
        assert!(parse(&print(&mut [entry(1, 0, 64 << 20)])).is_some());
    }
}
