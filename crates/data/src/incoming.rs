//! Blobs that come in pieces from elsewhere: a file that grows at its end, or many small ones in a row, checked against what was
//! announced before any of it is a blob. It must not know who sends.
//!
//! ```text
//! DIR/<digest>     a blob that has not come as a whole; its length is what is here
//! ```
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::blob::{Batch, Digest, LARGEST_IN_PACK, MODE, Store, hash};
use crate::{DataError, Watch, durable};

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// It would have a gap.
    #[error("only {received} bytes are here: the next piece must begin there, not at {offset}")]
    Gap {
        /// Bytes that are here.
        received: u64,
        /// Where the piece begins.
        offset: u64,
    },
    /// There is more than was announced.
    #[error("more came than the {size} bytes that were announced; nothing of the blob is kept")]
    TooLong {
        /// Bytes that were announced.
        size: u64,
    },
    /// The bytes are others.
    #[error("what came is not `{digest}` but `{found}`; nothing of it is kept")]
    Other {
        /// What was announced.
        digest: Digest,
        /// What came.
        found: Digest,
    },
    /// A frame of a pack is not whole, or larger than it may be.
    #[error("{0}")]
    Frame(String),
    /// The files.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// A blob that comes in pieces. What came stays where it is when this is dropped, also if the process dies.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: File,
    received: u64,
    announced: (Digest, u64),
    /// Of everything that is here; not known of what came before.
    hasher: Option<blake3::Hasher>,
}

impl Incoming {
    /// Bytes of a blob that are in `dir`.
    pub fn received(dir: &Path, digest: Digest) -> Result<u64, DataError> {
        let path = dir.join(digest.to_string());
        match std::fs::symlink_metadata(&path) {
            Ok(meta) => Ok(meta.len()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// Goes on at `offset`; what is here behind it is forgotten, and comes again. One caller at a time.
    pub fn open(dir: &Path, announced: (Digest, u64), offset: u64) -> Result<Self, IncomingError> {
        durable::create_dir_all(dir, 0o700).map_err(DataError::os("make", dir))?;
        let path = dir.join(announced.0.to_string());
        let opened = new_file(&path, OpenOptions::new().read(true).write(true).create(true).truncate(false));
        let mut file = opened.map_err(DataError::os("write", &path))?;
        let failed = || DataError::os("write", &path);
        let received = file.metadata().map_err(failed())?.len();
        if offset > received {
            return Err(IncomingError::Gap { received, offset });
        }
        file.set_len(offset).map_err(failed())?;
        file.seek(SeekFrom::Start(offset)).map_err(failed())?;
        let hasher = (offset == 0).then(blake3::Hasher::new);
        Ok(Self { path, file, received: offset, announced, hasher })
    }

    /// Appends some bytes. After an error nothing but this blob is harmed.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), IncomingError> {
        let size = self.announced.1;
        if size.saturating_sub(self.received) < bytes.len() as u64 {
            self.forget();
            return Err(IncomingError::TooLong { size });
        }
        if let Err(error) = self.file.write_all(bytes) {
            if crate::is_full(&error) {
                // What is here would keep the disk full until somebody goes on with it, who cannot.
                self.forget();
            }
            return Err(DataError::os("write", &self.path)(error).into());
        }
        self.received += bytes.len() as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        Ok(())
    }

    /// Makes it a blob if everything is here; answers how much is. Its bytes and its name are on disk if it is a blob.
    pub fn finish(self, store: &Store) -> Result<u64, IncomingError> {
        let (digest, size) = self.announced;
        if self.received < size {
            return Ok(self.received);
        }
        let found = match &self.hasher {
            Some(hasher) => Digest(*hasher.finalize().as_bytes()),
            None => hash(&self.file, &Watch::NONE).map_err(|stop| stop.at(&self.path, &self.path))?.0,
        };
        if found != digest {
            self.forget();
            return Err(IncomingError::Other { digest, found });
        }
        self.file.sync_all().map_err(DataError::os("write", &self.path))?;
        store.adopt(self.path, digest, size)?;
        Ok(size)
    }

    /// What it holds is of no use. If it cannot be removed, the next one who begins at 0 does.
    fn forget(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Many small blobs that come one after the other and are on disk together, with one sync. None of them is a blob before.
#[derive(Debug)]
pub struct Pack {
    batch: Batch,
    count: usize,
    /// What has come and is no whole frame yet.
    rest: Vec<u8>,
}

/// Bytes of the head of a frame: the digest, and how many bytes follow.
const HEAD: usize = 40;

impl Pack {
    /// A pack that has nothing yet.
    pub fn begin(store: &Store) -> Result<Self, DataError> {
        Ok(Self { batch: Batch::begin(store)?, count: 0, rest: Vec::new() })
    }

    /// Takes in what came next: frames of 32 bytes of digest, 8 bytes of length (little-endian), and so many bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), IncomingError> {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((digest, size)) = self.head(at)? {
            let Some(content) = self.rest.get(at + HEAD..at + HEAD + size) else { break };
            let found = Digest::of(content);
            if found != digest {
                return Err(IncomingError::Other { digest, found });
            }
            self.batch.add(digest, content)?;
            self.count += 1;
            at += HEAD + size;
        }
        self.rest.drain(..at);
        Ok(())
    }

    /// Makes all of them blobs; answers how many came. All of it is on disk then.
    pub fn finish(self) -> Result<usize, IncomingError> {
        if !self.rest.is_empty() {
            return Err(IncomingError::Frame(
                "the body ends in the middle of a blob; nothing of it is kept".to_owned(),
            ));
        }
        self.batch.finish()?;
        Ok(self.count)
    }

    fn head(&self, at: usize) -> Result<Option<(Digest, usize)>, IncomingError> {
        let Some(head) = self.rest.get(at..at + HEAD) else { return Ok(None) };
        let (mut digest, mut length) = ([0; 32], [0; 8]);
        digest.copy_from_slice(&head[..32]);
        length.copy_from_slice(&head[32..]);
        let length = u64::from_le_bytes(length);
        match usize::try_from(length) {
            Ok(size) if length <= LARGEST_IN_PACK => Ok(Some((Digest(digest), size))),
            _ => Err(IncomingError::Frame(format!(
                "a blob of a pack has at most {LARGEST_IN_PACK} bytes, not {length}: put it by itself"
            ))),
        }
    }
}

/// A file with the mode of a blob.
fn new_file(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options.mode(MODE).open(path)?;
    // The mask of the process may have taken some of it away.
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> (tempfile::TempDir, Store, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("blobs")).unwrap();
        let incoming = dir.path().join("uploads/u");
        (dir, store, incoming)
    }

    const TEXT: &[u8] = b"0123456789";

    #[test]
    fn a_blob_comes_in_pieces_and_again() {
        let (_dir, store, from) = opened();
        let announced = (Digest::of(TEXT), 10);
        // Each piece: where it begins, what it brings, how much is here afterwards.
        for (offset, until, expected) in [(0, 4, 4), (4, 4, 4), (2, 7, 7), (7, 10, 10)] {
            let mut incoming = Incoming::open(&from, announced, offset).unwrap();
            incoming.append(&TEXT[usize::try_from(offset).unwrap()..until]).unwrap();
            assert_eq!(incoming.finish(&store).unwrap(), expected);
            assert_eq!(store.has(announced.0).unwrap(), expected == 10);
        }
        assert_eq!(Incoming::received(&from, announced.0).unwrap(), 0);
        assert_eq!(store.read(announced.0, 10).unwrap(), TEXT);
        let gap = Incoming::open(&from, announced, 3).unwrap_err().to_string();
        assert_eq!(gap, "only 0 bytes are here: the next piece must begin there, not at 3");
        let again = Incoming::open(&from, announced, 0).and_then(|mut incoming| {
            incoming.append(TEXT)?;
            incoming.finish(&store)
        });
        assert_eq!(again.unwrap(), 10);
    }

    #[test]
    fn what_is_not_as_announced_is_no_blob_and_nothing_of_it_stays() {
        let (_dir, store, from) = opened();
        let check = |size: u64, bytes: &[u8], expected: &str| {
            let announced = (Digest::of(TEXT), size);
            let said = Incoming::open(&from, announced, 0).and_then(|mut incoming| {
                incoming.append(bytes)?;
                incoming.finish(&store)
            });
            assert!(said.unwrap_err().to_string().starts_with(expected));
            assert_eq!(Incoming::received(&from, announced.0).unwrap(), 0);
            assert!(!store.has(announced.0).unwrap());
        };
        check(10, b"012345678x", "what came is not `");
        check(9, TEXT, "more came than the 9 bytes");
        check(9, b"012345678", "what came is not `");
    }

    #[test]
    fn a_pack_is_all_or_nothing() {
        let (dir, store, _) = opened();
        let frame =
            |bytes: &[u8]| [&Digest::of(bytes).0[..], &(bytes.len() as u64).to_le_bytes(), bytes].concat();
        let body = [frame(b"one"), frame(b""), frame(b"one"), frame(&[7; 5000])].concat();
        let mut pack = Pack::begin(&store).unwrap();
        body.chunks(39).for_each(|piece| pack.append(piece).unwrap());
        assert!(!store.has(Digest::of(b"one")).unwrap());
        assert_eq!(pack.finish().unwrap(), 4);
        for bytes in [&b"one"[..], b"", &[7; 5000]] {
            assert_eq!(store.read(Digest::of(bytes), 5000).unwrap(), bytes);
        }
        let check = |body: &[u8], expected: &str| {
            let mut pack = Pack::begin(&store).unwrap();
            let said = pack.append(body).and_then(|()| pack.finish());
            assert!(said.unwrap_err().to_string().starts_with(expected));
            assert!(!store.has(Digest::of(b"two")).unwrap());
            assert_eq!(std::fs::read_dir(dir.path().join("blobs/tmp")).unwrap().count(), 0);
        };
        check(&[frame(b"two"), frame(b"three")[..44].to_vec()].concat(), "the body ends in the middle");
        let mut wrong = [frame(b"two"), frame(b"three")].concat();
        *wrong.last_mut().unwrap() = b'x';
        check(&wrong, "what came is not `");
        check(&[&[0; 32][..], &[0xff; 8]].concat(), "a blob of a pack has at most 4194304 bytes, not 18446");
    }
}
