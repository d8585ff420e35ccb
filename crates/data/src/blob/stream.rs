//! Bytes on their way from one place to another, hashed meanwhile. It must not know where blobs are kept.
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::Digest;
use crate::sparse::{self, UnpackError};
use crate::{DataError, Watch};

/// Bytes read and hashed at once.
const CHUNK: usize = 1 << 20;

/// Why a copy ended early; the side that failed decides what is said.
pub(crate) enum Stop {
    Read(io::Error),
    Write(io::Error),
    Asked,
}

impl Stop {
    pub(crate) fn at(self, from: &Path, to: &Path) -> DataError {
        match self {
            Self::Read(e) => DataError::os("read", from)(e),
            Self::Write(e) => DataError::os("write", to)(e),
            Self::Asked => DataError::Stopped,
        }
    }
}

/// Copies `source` to its end and returns digest and size.
pub(crate) fn copy_hashing(
    source: &mut dyn Read,
    mut to: &File,
    watch: &Watch<'_>,
) -> Result<(Digest, u64), Stop> {
    read_hashing(source, watch, &mut |bytes| to.write_all(bytes))
}

/// Digest and size of what `source` gives.
pub(crate) fn hash_all(source: &mut dyn Read, watch: &Watch<'_>) -> Result<(Digest, u64), Stop> {
    read_hashing(source, watch, &mut |_| Ok(()))
}

/// Digest and size of a file from its first byte on.
pub(crate) fn hash(mut file: &File, watch: &Watch<'_>) -> Result<(Digest, u64), Stop> {
    file.seek(SeekFrom::Start(0)).map_err(Stop::Read)?;
    hash_all(&mut file, watch)
}

fn read_hashing(
    source: &mut dyn Read,
    watch: &Watch<'_>,
    write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<(Digest, u64), Stop> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        watch.check().map_err(|_| Stop::Asked)?;
        let n = match source.read(&mut buffer) {
            Ok(0) => return Ok((Digest(*hasher.finalize().as_bytes()), size)),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Stop::Read(e)),
        };
        hasher.update(&buffer[..n]);
        write(&buffer[..n]).map_err(Stop::Write)?;
        size += n as u64;
        (watch.progress)(n as u64, None);
    }
}

/// Hashes what is read.
struct Hashing<R>(R, blake3::Hasher);

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.0.read(to)?;
        self.1.update(&to[..n]);
        Ok(n)
    }
}

/// Writes the file of `size` bytes whose packed form is `packed`, and returns the digest of that form.
pub(crate) fn unpack_hashing(
    packed: &mut dyn Read,
    size: u64,
    to: &File,
    watch: &Watch<'_>,
) -> Result<Digest, Stop> {
    let mut reader = BufReader::with_capacity(CHUNK, Hashing(packed, blake3::Hasher::new()));
    let mut told = 0;
    let mut each = |more| {
        told += more;
        (watch.progress)(more, None);
        !(watch.stop)()
    };
    sparse::unpack(&mut reader, size, to, &mut each).map_err(|failed| match failed {
        UnpackError::Read(e) => Stop::Read(e),
        UnpackError::Write(e) => Stop::Write(e),
    })?;
    watch.check().map_err(|_| Stop::Asked)?;
    (watch.progress)(size.saturating_sub(told), None);
    Ok(Digest(*reader.into_inner().1.finalize().as_bytes()))
}

/// Copies without bringing the bytes into this process; false if the kernel cannot. Nothing useful is in `to` then, but its cursor is at the start.
pub(crate) fn copy_in_kernel(source: &File, to: &File, watch: &Watch<'_>) -> Result<bool, Stop> {
    let (mut from, mut at) = (0_i64, 0_i64);
    loop {
        watch.check().map_err(|_| Stop::Asked)?;
        match nix::fcntl::copy_file_range(source, Some(&mut from), to, Some(&mut at), 64 * CHUNK) {
            Ok(0) => return Ok(true),
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(
                nix::Error::EXDEV
                | nix::Error::EINVAL
                | nix::Error::ENOSYS
                | nix::Error::EOPNOTSUPP
                | nix::Error::EPERM,
            ) if at == 0 => return Ok(false),
            Err(e) => return Err(Stop::Write(e.into())),
        }
    }
}
