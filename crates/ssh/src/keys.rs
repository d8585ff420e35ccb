//! Keys: the one of an installation, those of people, and the file that says which of these are good.
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{self, Algorithm, HashAlg, LineEnding};
use russh::keys::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// Largest file that is read here, in bytes.
const LARGEST: u64 = 1 << 20;
/// First line of the file of good keys.
const VERSION: &str = "vessl-ssh-keys 1";

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// A file.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The text of a key.
    #[error("{0}")]
    Unusable(String),
}

/// Where the keys of an installation are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// In this data directory.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self(data.into())
    }

    /// The directory that changes when keys do.
    pub(crate) fn dir(&self) -> PathBuf {
        self.0.join("ssh")
    }

    fn host_key(&self) -> PathBuf {
        self.0.join("ssh_host_key")
    }

    fn good(&self) -> PathBuf {
        self.dir().join("keys")
    }

    /// Makes the directory, and the installation's own key unless there is one.
    pub fn make(&self) -> Result<PublicHostKey, KeyError> {
        let failed = |what, path: PathBuf| move |source| KeyError::File { what, path, source };
        let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(self.dir());
        made.map_err(failed("make", self.dir()))?;
        if !self.host_key().exists() {
            let text = new_host_key()?;
            write(&self.host_key(), text.as_bytes()).map_err(failed("write", self.host_key()))?;
        }
        let key = self.read_host_key()?;
        let public = PublicKey::new(key.public_key().key_data().clone(), "");
        let text = public.to_openssh().map_err(|error| unusable("the host key", &error))?;
        Ok(PublicHostKey { text, fingerprint: public.fingerprint(HashAlg::Sha256).to_string() })
    }

    /// The installation's own key.
    pub(crate) fn read_host_key(&self) -> Result<PrivateKey, KeyError> {
        let path = self.host_key();
        let failed = |source| KeyError::File { what: "read", path: path.clone(), source };
        let mut text = Zeroizing::new(Vec::new());
        let file = File::open(&path).map_err(failed)?;
        file.take(LARGEST).read_to_end(&mut text).map_err(failed)?;
        let wrong = |error: ssh_key::Error| failed(io::Error::other(error.to_string()));
        PrivateKey::from_openssh(&*text).map_err(wrong)
    }

    /// Says which keys are good from now on, by their fingerprints.
    pub fn set_good<'f>(&self, fingerprints: impl Iterator<Item = &'f str>) -> Result<(), KeyError> {
        let mut text = format!("{VERSION}\n");
        for fingerprint in fingerprints {
            text.push_str(fingerprint);
            text.push('\n');
        }
        let failed = |source| KeyError::File { what: "write", path: self.good(), source };
        write(&self.good(), text.as_bytes()).map_err(failed)
    }

    /// Whether a key is good now. Where that cannot be told, it is not.
    pub(crate) fn is_good(&self, fingerprint: &str) -> bool {
        let mut text = String::new();
        let read = File::open(self.good()).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
        let mut lines = text.lines();
        read.is_ok() && lines.next() == Some(VERSION) && lines.any(|line| line == fingerprint)
    }
}

fn unusable(what: &str, error: &ssh_key::Error) -> KeyError {
    KeyError::Unusable(format!("{what} cannot be used: {error}"))
}

fn new_host_key() -> Result<Zeroizing<String>, KeyError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|error| KeyError::Unusable(format!("no randomness: {error}")))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    let key = PrivateKey::new(pair, "vessl").map_err(|error| unusable("a new host key", &error))?;
    key.to_openssh(LineEnding::LF).map_err(|error| unusable("a new host key", &error))
}

/// Replaces a file as a whole, for the server's user alone.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// What everybody may know of the installation's own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicHostKey {
    /// `ssh-ed25519 AAAA…`.
    pub text: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

/// A key of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonKey {
    /// `ssh-ed25519 AAAA…`, without a comment.
    pub text: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// What stood behind it, like `anna@laptop`.
    pub comment: String,
}

/// Kinds that are taken.
const TAKEN: &str = "Ed25519, ECDSA, and both on a security key";

/// Reads the line of a public key, as it is in `id_ed25519.pub`.
pub fn person_key(line: &str) -> Result<PersonKey, KeyError> {
    let line = line.trim();
    if line.contains("PRIVATE KEY") {
        return Err(KeyError::Unusable(
            "this is a private key, which belongs to nobody else: give the file that ends in `.pub`"
                .to_owned(),
        ));
    }
    let make = format!("taken are {TAKEN}: `ssh-keygen -t ed25519` makes one");
    let wrong = |why: &str| KeyError::Unusable(format!("{why}; {make}"));
    if line.lines().count() > 1 {
        return Err(wrong("there is more than one line"));
    }
    match line.split_ascii_whitespace().next() {
        Some("ssh-rsa") => return Err(wrong("keys of the kind RSA are not taken")),
        Some("ssh-dss") => return Err(wrong("keys of the kind DSA are not taken")),
        Some(kind) if kind.contains("-cert-") => return Err(wrong("certificates are not taken")),
        _ => {}
    }
    let key = PublicKey::from_openssh(line).map_err(|_| wrong("this is no line of a public key"))?;
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa { .. }
        | Algorithm::SkEd25519
        | Algorithm::SkEcdsaSha2NistP256 => {}
        other => return Err(wrong(&format!("keys of the kind {other} are not taken"))),
    }
    let bare = PublicKey::new(key.key_data().clone(), "");
    let text = bare.to_openssh().map_err(|error| unusable("the key", &error))?;
    let comment: String = key.comment().to_string().chars().filter(|c| !c.is_control()).take(100).collect();
    Ok(PersonKey { text, fingerprint: bare.fingerprint(HashAlg::Sha256).to_string(), comment })
}

/// Kinds of keys that a client may come with.
pub(crate) fn is_taken(kind: &Algorithm) -> bool {
    let taken: BTreeSet<Algorithm> =
        [Algorithm::Ed25519, Algorithm::SkEd25519, Algorithm::SkEcdsaSha2NistP256].into();
    taken.contains(kind) || matches!(kind, Algorithm::Ecdsa { .. })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHCwfGqtJDRwXb8ShqkOOuAZL4NAXgTJ6jhVkxRUaTyU anna@laptop";

    #[test]
    fn the_key_of_an_installation_is_made_once_and_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        let first = place.make().unwrap();
        assert_eq!(place.make().unwrap(), first);
        assert!(
            first.text.starts_with("ssh-ed25519 ") && first.fingerprint.starts_with("SHA256:"),
            "{first:?}"
        );
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&place.dir()), mode(&place.host_key())), (0o700, 0o600));
    }

    #[test]
    fn keys_are_good_while_the_file_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::new(dir.path());
        place.make().unwrap();
        assert!(!place.is_good("SHA256:a"));
        place.set_good(["SHA256:a", "SHA256:b"].into_iter()).unwrap();
        assert!(place.is_good("SHA256:a") && !place.is_good("SHA256:") && !place.is_good(VERSION));
        place.set_good(["SHA256:b"].into_iter()).unwrap();
        assert!(!place.is_good("SHA256:a") && place.is_good("SHA256:b"));
    }

    #[test]
    fn keys_of_people_are_read_and_others_refused_in_words() {
        let key = person_key(&format!("{ED25519}\n")).unwrap();
        assert_eq!(key.comment, "anna@laptop");
        assert_eq!(key.text, ED25519.rsplit_once(' ').unwrap().0);
        let check = |line: &str, expected: &str| {
            let said = person_key(line).unwrap_err().to_string();
            assert!(said.contains(expected), "{line}: {said}");
        };
        check("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC", "RSA are not taken");
        check("ssh-dss AAAA", "DSA are not taken");
        check("ssh-ed25519-cert-v01@openssh.com AAAA", "certificates");
        check("-----BEGIN OPENSSH PRIVATE KEY-----", "private key");
        check("", "no line of a public key");
        check("ssh-ed25519 AAAA", "no line of a public key");
        check(&format!("{ED25519}\n{ED25519}"), "more than one line");
    }
}
