//! Why an import from Hugging Face failed, in words for people. Never a token.
use std::io;

use super::Repository;
use crate::problem::is_full;

/// Why a repository cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name, revision, commit or address that cannot be one.
    #[error("`{text}` is no {what}: {why}")]
    Bad {
        /// As written.
        text: String,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// A token that no request can carry.
    #[error("the token of the credential `{credential}` cannot be used: it has characters that no token has")]
    BadToken {
        /// Its name.
        credential: String,
    },
    /// There is none, or none that the caller may know of.
    #[error("there is no {repository}, or it is private ({said}); {hint}")]
    NoRepository {
        /// Kind, name and host.
        repository: String,
        /// In the server's words.
        said: String,
        /// The next step.
        hint: String,
    },
    /// The repository is there, the revision is not.
    #[error("the {repository} has no branch, tag or commit `{revision}`")]
    NoRevision {
        /// Kind, name and host.
        repository: String,
        /// What was asked for.
        revision: String,
    },
    /// The listing names a file that the server does not have.
    #[error("the {repository} lacks `{path}`, which its listing names")]
    NoFile {
        /// Kind, name and host.
        repository: String,
        /// Path in the repository.
        path: String,
    },
    /// Its owner lets in who has accepted conditions.
    #[error("the {repository} is gated; {hint}")]
    Gated {
        /// Kind, name and host.
        repository: String,
        /// The next step.
        hint: String,
    },
    /// The token is not one, or not for this repository; or there is none.
    #[error("the {repository} may not be read ({said}); {hint}")]
    Login {
        /// Kind, name and host.
        repository: String,
        /// In the server's words.
        said: String,
        /// The next step.
        hint: String,
    },
    /// The server limits the rate, and its limit did not end in the time that is waited.
    #[error("the {repository} cannot be fetched now: {said}")]
    Busy {
        /// Kind, name and host.
        repository: String,
        /// In words.
        said: String,
    },
    /// The server, or the one that it sends to, cannot be reached or keeps failing.
    #[error("the {repository} cannot be fetched, the server failed: {said}")]
    Unreachable {
        /// Kind, name and host.
        repository: String,
        /// In words.
        said: String,
    },
    /// Any other answer that is none.
    #[error("the {repository} cannot be fetched: the server answers {said} for {asked}")]
    Answer {
        /// Kind, name and host.
        repository: String,
        /// What was asked for.
        asked: String,
        /// In the server's words.
        said: String,
    },
    /// The list of files cannot be that of a repository.
    #[error("the list of files of the {repository} cannot be used: {why}")]
    Listing {
        /// Kind, name and host.
        repository: String,
        /// What is wrong.
        why: String,
    },
    /// A file has a name that cannot be written, or must not.
    #[error("the {repository} has a file `{path}`, which cannot be written: {why}")]
    BadPath {
        /// Kind, name and host.
        repository: String,
        /// Path in the repository.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The bytes that came are not those of the commit.
    #[error("`{path}` of the {repository} is damaged: {why}")]
    Damaged {
        /// Kind, name and host.
        repository: String,
        /// Path in the repository.
        path: String,
        /// In what way.
        why: String,
    },
    /// No space left.
    #[error("the disk is full: cannot write the files of the {repository}")]
    DiskFull {
        /// Kind, name and host.
        repository: String,
    },
    /// The target could not be written.
    #[error("cannot write `{path}`: {source}")]
    Write {
        /// Inside the target.
        path: String,
        /// The system's word.
        source: io::Error,
    },
    /// A thread or an event loop could not be made.
    #[error("cannot start the import: {0}")]
    Start(io::Error),
    /// The caller wanted no more.
    #[error("stopped")]
    Stopped,
}

impl HubError {
    /// A system error while `path` was written.
    pub(super) fn write(repository: &Repository, path: &str, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::DiskFull { repository: repository.to_string() };
        }
        Self::Write { path: shown(path), source }
    }
}

/// Most characters of a foreign text that are told.
const LONGEST: usize = 200;

/// A text of the server on one line, without control characters and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST).flat_map(plain).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// A character as it is, or by its number if it would do something to a terminal.
fn plain(c: char) -> Vec<char> {
    if c.is_control() { c.escape_unicode().collect() } else { vec![c] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_harmless() {
        assert_eq!(shown("a\u{1b}[31m/ü\n"), "a\\u{1b}[31m/ü\\u{a}");
        assert_eq!(shown(&"x".repeat(201)), "x".repeat(200) + "…");
    }
}
