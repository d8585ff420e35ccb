//! Checksums that the other end has of an object, and whether bytes have them. It moves nothing.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc64Nvme};
use md5::{Digest as _, Md5};
use reqwest::Response;

use crate::blob::Digest;

/// Bytes of a file that are read at once.
const READ: usize = 256 << 10;

/// What an object should have. Any of them may be unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) crc64: Option<u64>,
    pub(super) crc32c: Option<u32>,
    pub(super) md5: Option<[u8; 16]>,
    pub(super) blake3: Option<Digest>,
}

impl Expected {
    /// Of the headers of an answer that is about a whole object.
    pub(super) fn of(response: &Response) -> Self {
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| {
            // A checksum of checksums ends in `-N`.
            let bytes = STANDARD.decode(header(name)?).ok()?;
            Some(bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
                .filter(|_| bytes.len() <= 8)
        };
        let google = header("x-goog-hash").unwrap_or_default();
        let google = |name: &str| {
            let mut words = google.split(',').map(str::trim);
            words.find_map(|word| STANDARD.decode(word.strip_prefix(name)?.strip_prefix('=')?).ok())
        };
        let crc32c = google("crc32c").and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
        let crc32c = crc32c.or_else(|| u32::try_from(number("x-amz-checksum-crc32c")?).ok());
        let is_encrypted = header("x-amz-server-side-encryption").is_some_and(|kind| kind.contains("kms"))
            || header("x-amz-server-side-encryption-customer-algorithm").is_some();
        let tag = header("etag").filter(|_| !is_encrypted).and_then(of_tag);
        let md5 = google("md5").and_then(|bytes| bytes.try_into().ok()).or(tag);
        Self { crc64: number("x-amz-checksum-crc64nvme"), crc32c, md5, blake3: None }
    }

    /// What has to be computed while the bytes come; the cheapest that is known, and the digest of an export.
    pub(super) fn plan(&self) -> Sums {
        let crc = self.crc64.is_some() || self.crc32c.is_some();
        Sums {
            crc64: self.crc64.map(|_| crc_fast::Digest::new(Crc64Nvme)),
            crc32c: self.crc32c.map(|_| crc_fast::Digest::new(Crc32Iscsi)),
            md5: self.md5.filter(|_| !crc && self.blake3.is_none()).map(|_| Md5::new()),
            blake3: self.blake3.map(|_| Box::new(blake3::Hasher::new())),
        }
    }

    /// What of it can be computed piece by piece and put together afterwards.
    pub(super) fn of_pieces(&self) -> Self {
        Self { crc64: self.crc64, crc32c: self.crc32c, ..Self::default() }
    }

    /// The rest, for which a file is read as a whole.
    fn of_whole(&self) -> Self {
        let is_known = self.crc64.is_some() || self.crc32c.is_some();
        Self { md5: self.md5.filter(|_| !is_known), blake3: self.blake3, ..Self::default() }
    }

    /// Compares; the error says what does not fit.
    pub(super) fn check(&self, found: Found) -> Result<(), &'static str> {
        let differs = |expected: Option<u64>, found: Option<u64>| found.is_some() && expected != found;
        if differs(self.crc64, found.crc64) {
            return Err("its CRC64 is another");
        }
        if differs(self.crc32c.map(u64::from), found.crc32c) {
            return Err("its CRC32C is another");
        }
        if found.md5.is_some() && self.md5 != found.md5 {
            return Err("its MD5 is another than its ETag says");
        }
        if found.blake3.is_some() && self.blake3 != found.blake3 {
            return Err("its BLAKE3 is another than the list of its export says");
        }
        Ok(())
    }

    /// Compares the bytes of a file, as far as that was not done piece by piece.
    pub(super) fn check_file(&self, file: &File, size: u64) -> io::Result<Result<(), &'static str>> {
        let rest = self.of_whole();
        if rest == Self::default() {
            return Ok(Ok(()));
        }
        Ok(rest.check(rest.of_file(file, size)?))
    }

    /// What a file has of what is known.
    pub(super) fn of_file(&self, file: &File, size: u64) -> io::Result<Found> {
        let mut sums = self.plan();
        let mut buffer = vec![0; READ];
        let mut at = 0;
        while at < size {
            let length = usize::try_from(size - at).unwrap_or(READ).min(READ);
            file.read_exact_at(&mut buffer[..length], at)?;
            sums.update(&buffer[..length]);
            at += length as u64;
        }
        Ok(sums.finish(size))
    }
}

/// The MD5 that a tag is, if it looks like one.
pub(super) fn of_tag(tag: &str) -> Option<[u8; 16]> {
    let tag = tag.trim_matches('"');
    if tag.len() != 32 {
        return None;
    }
    let mut md5 = [0; 16];
    for (n, byte) in md5.iter_mut().enumerate() {
        *byte = u8::from_str_radix(tag.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(md5)
}

/// Sums while bytes come.
#[derive(Default)]
pub(super) struct Sums {
    crc64: Option<crc_fast::Digest>,
    crc32c: Option<crc_fast::Digest>,
    md5: Option<Md5>,
    blake3: Option<Box<blake3::Hasher>>,
}

/// What some bytes have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    crc64: Option<u64>,
    crc32c: Option<u64>,
    md5: Option<[u8; 16]>,
    blake3: Option<Digest>,
    length: u64,
}

impl Sums {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for crc in [&mut self.crc64, &mut self.crc32c].into_iter().flatten() {
            crc.update(bytes);
        }
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(bytes);
        }
    }

    pub(super) fn finish(self, length: u64) -> Found {
        Found {
            crc64: self.crc64.map(|crc| crc.finalize()),
            crc32c: self.crc32c.map(|crc| crc.finalize()),
            md5: self.md5.map(|md5| md5.finalize().into()),
            blake3: self.blake3.map(|hash| Digest(*hash.finalize().as_bytes())),
            length,
        }
    }
}

impl Found {
    /// Of these bytes and those that come after them.
    pub(super) fn and(self, next: Self) -> Self {
        let join = |algorithm, one: Option<u64>, two: Option<u64>| {
            Some(crc_fast::checksum_combine(algorithm, one?, two?, next.length))
        };
        Self {
            crc64: join(Crc64Nvme, self.crc64, next.crc64),
            crc32c: join(Crc32Iscsi, self.crc32c, next.crc32c),
            length: self.length + next.length,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_pieces_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
        let any = Expected { crc64: Some(0), crc32c: Some(0), ..Expected::default() };
        let of = |bytes: &[u8]| {
            let mut sums = any.plan();
            sums.update(bytes);
            sums.finish(bytes.len() as u64)
        };
        let whole = of(&bytes);
        let pieces = bytes.chunks(30_001).map(of).reduce(Found::and).unwrap();
        assert_eq!((pieces.crc64, pieces.crc32c, pieces.length), (whole.crc64, whole.crc32c, 100_000));
        let right = Expected { crc64: whole.crc64, ..Expected::default() };
        assert_eq!(right.check(pieces), Err("its CRC32C is another"));
        // The check values of the two polynomials.
        assert_eq!(
            (of(b"123456789").crc64, of(b"123456789").crc32c),
            (Some(0xae8b_1486_0a79_9888), Some(0xe306_9283))
        );
    }

    #[test]
    fn tags_that_are_an_md5() {
        assert_eq!(of_tag("\"d41d8cd98f00b204e9800998ecf8427e\"").map(|md5| md5[0]), Some(0xd4));
        assert_eq!(of_tag("d41d8cd98f00b204e9800998ecf8427e-2"), None);
        assert_eq!(of_tag("1700000000000000"), None);
        assert_eq!(of_tag("zz1d8cd98f00b204e9800998ecf8427e"), None);
    }
}
