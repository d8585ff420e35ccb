//! What a commit says the bytes of a file come to: the SHA-256 of content that is stored beside git, else git's own name of it.
use std::fmt::Write as _;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The digest that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// SHA-256 of the content, in hexadecimal digits.
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the content: git's object id.
    GitBlob(String),
}

impl Expected {
    pub(super) fn sha256(hex: &str) -> Option<Self> {
        is_hex(hex, 64).then(|| Self::Sha256(hex.to_owned()))
    }

    pub(super) fn git_blob(hex: &str) -> Option<Self> {
        is_hex(hex, 40).then(|| Self::GitBlob(hex.to_owned()))
    }

    /// Begins to look at a file of `size` bytes.
    pub(super) fn begin(&self, size: u64) -> Hash {
        match self {
            Self::Sha256(_) => Hash::Sha256(Sha256::new()),
            Self::GitBlob(_) => Hash::GitBlob(Sha1::new().chain_update(format!("blob {size}\0"))),
        }
    }

    /// An error in words if `hash` has come to something else.
    pub(super) fn check(&self, hash: Hash) -> Result<(), String> {
        let (Self::Sha256(hex) | Self::GitBlob(hex)) = self;
        let (name, found) = match hash {
            Hash::Sha256(hash) => ("SHA-256", in_hex(&hash.finalize())),
            Hash::GitBlob(hash) => ("git object id", in_hex(&hash.finalize())),
        };
        if found == *hex { Ok(()) } else { Err(format!("its {name} should be {hex} and is {found}")) }
    }
}

/// A digest of the bytes so far.
pub(super) enum Hash {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hash {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }
}

/// Whether a text is so many hexadecimal digits, as git writes them.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_digests_are_those_that_git_and_lfs_write() {
        let check = |expected: Expected, content: &[u8]| {
            let mut hash = expected.begin(content.len() as u64);
            content.chunks(3).for_each(|part| hash.update(part));
            expected.check(hash)
        };
        // `git hash-object` and `sha256sum` of the same bytes.
        let empty = Expected::git_blob("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").unwrap();
        assert_eq!(check(empty.clone(), b""), Ok(()));
        let hello = Expected::git_blob("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!(check(hello, b"hello\n"), Ok(()));
        let lfs = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(check(Expected::sha256(lfs).unwrap(), b"hello\n"), Ok(()));
        let said = check(Expected::sha256(lfs).unwrap(), b"hello").unwrap_err();
        assert!(said.starts_with(&format!("its SHA-256 should be {lfs} and is ")), "{said}");
        assert!(check(empty, b"x").is_err());
        for hex in ["", "E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391", &lfs[1..]] {
            assert!(Expected::git_blob(hex).is_none() && Expected::sha256(hex).is_none());
        }
    }
}
