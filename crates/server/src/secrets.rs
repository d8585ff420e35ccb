//! Secrets at rest: XChaCha20-Poly1305 with a key file; a sealed value only opens under the name it was sealed for.
//!
//! ```text
//! sealed = version (1 byte) ‖ nonce (24 bytes) ‖ ciphertext and tag        associated data = the name
//! ```
//! It never shows a value: no `Debug`, no text in errors.
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use vessl_core::credential::CredentialKind;
use vessl_core::ids::OrganizationName;
use vessl_core::record::Login;
use vessl_core::secret::{Secret, expose};
use vessl_data::durable;
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 24;
const KEY: usize = 32;

/// Why a secret cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The key file cannot be used.
    #[error("cannot use the key file `{path}`: {why}")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There are sealed values and no key.
    #[error(
        "the key file `{path}` is gone, and the stored secrets cannot be read without it: put it back from a copy; if there \
         is none, make a new one with `(umask 077; head -c 32 /dev/urandom > '{path}')` and store the secrets again"
    )]
    Lost {
        /// The file.
        path: PathBuf,
    },
    /// A sealed value does not open: another key, another name, or damaged.
    #[error(
        "the stored value of `{0}` cannot be opened with this `secret.key`: was the key replaced? store it again"
    )]
    Sealed(String),
    /// What is stored are no keys.
    #[error("the keys of `{0}` cannot be read; store them again")]
    Keys(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// What is sealed of keys of a store with the S3 API; of everything else it is the value itself.
#[derive(Serialize, Deserialize)]
struct Keys {
    #[serde(serialize_with = "expose")]
    secret_key: Secret,
    #[serde(default, serialize_with = "expose")]
    session_token: Option<Secret>,
}

/// Keys of a store with the S3 API as one value.
pub(crate) fn keys(secret_key: Secret, session_token: Option<Secret>) -> serde_json::Result<Secret> {
    serde_json::to_string(&Keys { secret_key, session_token }).map(Secret::from)
}

/// What a stored value is sealed for: `class` is the word of its class.
pub(crate) fn bound(organization: &OrganizationName, class: &str, name: &str) -> String {
    format!("{organization}/{class}/{name}")
}

/// Seals and opens values.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    digest_key: Zeroizing<[u8; KEY]>,
    pass_key: Zeroizing<[u8; KEY]>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(..)")
    }
}

impl Vault {
    /// Reads the key file, which must belong to this user alone, or makes it.
    pub fn open(path: &Path) -> Result<Self, SecretError> {
        let key = match read_private(path, KEY) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_key(path)?,
            Err(error) => return Err(unusable(path, &error)),
        };
        let key: Zeroizing<[u8; KEY]> = Zeroizing::new(
            key.as_slice().try_into().map_err(|_| unusable(path, &"it does not hold exactly 32 bytes"))?,
        );
        let digest_key = Zeroizing::new(blake3::derive_key("vessl 2025 submit digest", key.as_slice()));
        let pass_key =
            Zeroizing::new(blake3::derive_key("vessl 2026-11 passes to ports of runs", key.as_slice()));
        Ok(Self { cipher: XChaCha20Poly1305::new(key.as_ref().into()), digest_key, pass_key })
    }

    /// Seals `value` for `name`.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(SecretError::Random)?;
        let payload = Payload { msg: value, aad: name.as_bytes() };
        let sealed = self
            .cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| SecretError::Sealed(name.to_owned()))?;
        Ok([&[VERSION], nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed for `name`.
    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Result<Secret, SecretError> {
        let wrong = || SecretError::Sealed(name.to_owned());
        let (version, rest) = sealed.split_first().ok_or_else(wrong)?;
        if *version != VERSION || rest.len() < NONCE {
            return Err(wrong());
        }
        let (nonce, msg) = rest.split_at(NONCE);
        let payload = Payload { msg, aad: name.as_bytes() };
        let plain = self.cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| wrong())?;
        String::from_utf8(plain).map(Secret::from).map_err(|_| wrong())
    }

    /// Opens a stored value of this kind; of what is no credential there is no kind.
    pub(crate) fn login(
        &self,
        bound: &str,
        kind: Option<CredentialKind>,
        username: Option<String>,
        sealed: &[u8],
    ) -> Result<Login, SecretError> {
        let password = self.unseal(bound, sealed)?;
        let username = username.unwrap_or_default();
        if kind != Some(CredentialKind::S3) {
            return Ok(Login { username, password, session_token: None });
        }
        let keys = serde_json::from_str::<Keys>(password.expose());
        let Keys { secret_key, session_token } = keys.map_err(|_| SecretError::Keys(bound.to_owned()))?;
        Ok(Login { username, password: secret_key, session_token })
    }

    /// What nobody else can make of `text`. Hashes are compared in constant time.
    pub(crate) fn sign(&self, text: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.pass_key, text.as_bytes())
    }

    /// A digest that tells equal inputs without giving anything away to who has no key.
    pub fn digest(&self, bytes: &[u8]) -> Vec<u8> {
        blake3::keyed_hash(&self.digest_key, bytes).as_bytes().to_vec()
    }
}

/// The bytes of a file that belongs to this user alone, at most `most` and one more.
pub(crate) fn read_private(path: &Path, most: usize) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other(
            "others may read it: `chmod 600` it, and replace what it protects",
        ));
    }
    if about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(std::io::Error::other("it belongs to another user"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn make_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let mut key = Zeroizing::new(vec![0; KEY]);
    getrandom::fill(&mut key).map_err(SecretError::Random)?;
    durable::write_atomic(path, &key, 0o600).map_err(|error| unusable(path, &error))?;
    Ok(key)
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> SecretError {
    SecretError::Key { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &tempfile::TempDir) -> Vault {
        Vault::open(&dir.path().join("secret.key")).unwrap()
    }

    #[test]
    fn a_value_opens_under_its_own_name_and_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let sealed = vault(&dir).seal("org/secret/A", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(vault(&dir).unseal("org/secret/A", &sealed).unwrap().expose(), "hunter2");
        assert!(vault(&dir).unseal("org/secret/B", &sealed).is_err());
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(&dir);
        let sealed = vault.seal("a", b"value").unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(vault.unseal("a", &damaged).is_err(), "byte {at}");
            assert!(vault.unseal("a", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        vault(&dir);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Vault::open(&path).unwrap_err().to_string().contains("others may read it"));
    }
}
