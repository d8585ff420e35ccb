//! Giving git a password or key that is in no argument, environment or file: an anonymous file in memory that git's own
//! children open as `/proc/<pid>/fd/<n>` of this process.
use std::fs::File;
use std::io::{Seek, Write};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, fchmod};
use vessl_core::record::Login;

use super::address::{Address, Scheme};
use super::error::GitError;

/// What hosts take as the user of a bare token.
pub const TOKEN_USER: &str = "x-access-token";

/// A secret that can be opened under [`Secret::path`] while this lives.
#[derive(Debug)]
pub(super) struct Secret {
    file: File,
    pub(super) kind: SecretKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretKind {
    /// `username=…`, `password=…` lines, as a credential helper prints them.
    Password,
    /// A private key.
    Key,
}

impl Secret {
    /// The form of `login` that the address needs; none for a file.
    pub(super) fn of(login: &Login, address: &Address) -> Result<Option<Self>, GitError> {
        let bad = |why| Err(GitError::BadLogin { url: address.to_string(), why });
        let (kind, mut text) = match address.scheme() {
            Scheme::File => return Ok(None),
            Scheme::Ssh if !login.password.expose().contains("PRIVATE KEY-----") => {
                return bad("ssh needs a private key");
            }
            Scheme::Ssh => (SecretKind::Key, login.password.expose().trim_end().to_owned()),
            Scheme::Https | Scheme::Http => {
                let user = if login.username.is_empty() { TOKEN_USER } else { &login.username };
                let password = login.password.expose().trim_end_matches(['\r', '\n']);
                if user.chars().chain(password.chars()).any(char::is_control) {
                    return bad("user name or password has control characters");
                }
                (SecretKind::Password, format!("username={user}\npassword={password}"))
            }
        };
        text.push('\n');
        let file =
            anonymous(text.as_bytes()).map_err(|source| GitError::Start { what: "the login", source })?;
        Ok(Some(Self { file, kind }))
    }

    /// Where processes of the same user find it.
    pub(super) fn path(&self) -> String {
        super::through(&self.file).display().to_string()
    }
}

fn anonymous(bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"login", MFdFlags::MFD_CLOEXEC)?);
    // ssh refuses a key that others could read.
    fchmod(&file, Mode::S_IRUSR | Mode::S_IWUSR)?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}
