//! Why an import failed, from what git says to words for people.
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::address::{Address, Scheme};

/// Why a git import failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// Not an address that is allowed.
    #[error("`{url}` cannot be imported: {why}")]
    BadAddress {
        /// The address without a password.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not the name of a branch, tag or commit.
    #[error("`{reference}` is not a branch, tag or commit: {why}")]
    BadReference {
        /// As written.
        reference: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The credential does not fit the address.
    #[error("the credential cannot be used for `{url}`: {why}")]
    BadLogin {
        /// The address.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The repository is there, the reference is not.
    #[error("`{url}` has no branch, tag or commit `{reference}`{}", candidates(near))]
    UnknownReference {
        /// The address.
        url: String,
        /// What was asked for.
        reference: String,
        /// Names that are like it.
        near: Vec<String>,
    },
    /// A short commit id that fits several commits.
    #[error("`{reference}` means more than one commit of `{url}`; write more digits")]
    Ambiguous {
        /// The address.
        url: String,
        /// What was asked for.
        reference: String,
    },
    /// No commit at all.
    #[error(
        "`{0}` has no commit yet, and what is not committed is not imported; run `git add` and `git commit` there first"
    )]
    NoCommit(String),
    /// No default branch.
    #[error("`{url}` has no default branch{}", candidates(near))]
    NoDefault {
        /// The address.
        url: String,
        /// Branches it has.
        near: Vec<String>,
    },
    /// The other end wants a login, or another one.
    #[error("`{url}` wants a login that may read it ({said}); {hint}")]
    Login {
        /// The address.
        url: String,
        /// In git's words.
        said: String,
        /// The next step.
        hint: &'static str,
    },
    /// The host has no such repository.
    #[error("there is no repository at `{url}` ({said}); a private one needs a credential that may read it")]
    NotFound {
        /// The address.
        url: String,
        /// In git's words.
        said: String,
    },
    /// This machine has nothing at the path.
    #[error(
        "there is no directory at `{0}`; correct the path, which begins at the run file if it is relative"
    )]
    NoDirectory(String),
    /// A directory of this machine without a repository in or around it.
    #[error(
        "`{0}` is not in a git repository; make it one with `git init` and commit its files, or correct the path"
    )]
    NoRepository(String),
    /// The repository around a directory is not of its owner.
    #[error("the repository around `{url}` belongs to another user; if it is meant, write `file://{}`", path.display())]
    OfAnother {
        /// The address.
        url: String,
        /// The working tree of the repository.
        path: PathBuf,
    },
    /// The repository, or something that it borrows from elsewhere, lies where it may not.
    #[error(
        "`{url}` cannot be imported: it leads to `{}`, which is not below a directory that the administrator allowed ({})",
        path.display(),
        allowed(roots)
    )]
    Outside {
        /// The address.
        url: String,
        /// Where it leads.
        path: PathBuf,
        /// Allowed directories.
        roots: Vec<String>,
    },
    /// The host cannot be reached.
    #[error("cannot reach `{url}`: {said}")]
    Unreachable {
        /// The address.
        url: String,
        /// In git's words.
        said: String,
    },
    /// The host went silent.
    #[error("`{url}` sent nothing for {} s; the import was given up", after.as_secs())]
    Stalled {
        /// The address.
        url: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// No space left.
    #[error("the disk is full: cannot write the files of `{0}`")]
    DiskFull(String),
    /// The caller wanted no more.
    #[error("stopped")]
    Stopped,
    /// git is not there.
    #[error("git is not installed on this machine: install it (`apt install git`)")]
    NoGit,
    /// A process or its pipes could not be made.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
    /// The target could not be written.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// Inside the target.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Anything else that git says.
    #[error("`{url}` cannot be imported: {said}")]
    Other {
        /// The address.
        url: String,
        /// In git's words.
        said: String,
    },
}

fn candidates(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; it has `{}`", names.join("`, `")),
    }
}

fn allowed(roots: &[String]) -> String {
    match roots {
        [] => "none is allowed: see `hostpath_roots` in the server's configuration".to_owned(),
        roots => roots.iter().map(|root| format!("`{root}`")).collect::<Vec<_>>().join(", "),
    }
}

impl GitError {
    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }

    /// Finds the meaning of what git wrote before it failed.
    pub(super) fn from_words(address: &Address, with_login: WithLogin, text: &str) -> Self {
        let (url, said) = (address.to_string(), sentence(text));
        let class = CLASSES.iter().find(|(_, words)| words.iter().any(|word| text.contains(word)));
        match class.map(|(class, _)| *class) {
            Some(Class::Full) => Self::DiskFull(url),
            _ if address.scheme() == Scheme::File => Self::Other { url, said },
            Some(Class::Login) => Self::Login { url, said, hint: with_login.hint() },
            Some(Class::Network) => Self::Unreachable { url, said },
            Some(Class::NotFound) => Self::NotFound { url, said },
            None => Self::Other { url, said },
        }
    }
}

/// Most of what git says that is told, in bytes.
const LONGEST: usize = 300;

/// Whether a login was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WithLogin {
    Yes,
    No,
}

impl WithLogin {
    fn hint(self) -> &'static str {
        match self {
            Self::Yes => "check user, password and rights of the credential",
            Self::No => {
                "some hosts also ask where there is no repository; store one with `vessl credential create NAME --kind git` and name it in `credential_name`"
            }
        }
    }
}

/// What a failure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Full,
    Login,
    Network,
    NotFound,
}

/// What git, curl and ssh write in the C locale; the first that fits counts.
const CLASSES: &[(Class, &[&str])] = &[
    (Class::Full, &["No space left on device", "Out of diskspace", "Disk quota exceeded"]),
    (
        Class::Login,
        &[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied (",
            "Host key verification failed",
            "error: 401",
            "error: 403",
            "invalid credentials",
            "Access denied",
        ],
    ),
    (
        Class::Network,
        &[
            "unable to access",
            "Could not resolve",
            "Connection ",
            "timed out",
            "No route to host",
            "Network is unreachable",
        ],
    ),
    (Class::NotFound, &["not found", "does not exist", "does not appear to be a git repository"]),
];

/// The line that says most: the last `fatal:` or `error:`, else the last line that is no progress.
pub(super) fn sentence(text: &str) -> String {
    let says_nothing = |line: &str| line.is_empty() || line.starts_with("fatal: Could not read from remote");
    let lines = || text.split(['\n', '\r']).map(str::trim).filter(|line| !says_nothing(line));
    let marked = |mark: &str| lines().filter_map(|l| l.strip_prefix(mark)).next_back().map(str::trim);
    let ssh = || lines().rfind(|l| l.contains("Permission denied") || l.starts_with("ssh:"));
    let line = ssh()
        .or_else(|| marked("remote: ERROR:"))
        .or_else(|| marked("fatal: "))
        .or_else(|| marked("error: "))
        .or_else(|| lines().next_back())
        .unwrap_or("git failed without a word")
        .trim_end_matches(": terminal prompts disabled");
    if line.len() <= LONGEST {
        return line.to_owned();
    }
    let end = (0..=LONGEST).rev().find(|n| line.is_char_boundary(*n)).unwrap_or(0);
    // Half a word could be half a secret, which nobody knows to hide.
    let end = line[..end].rfind(' ').map_or(0, |space| space + 1);
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::super::address::Files;
    use super::*;

    fn check(text: &str, expected: &str) {
        let address = Address::parse("https://host/a", Files::Refused).unwrap();
        assert_eq!(GitError::from_words(&address, WithLogin::No, text).to_string(), expected);
    }

    #[test]
    fn what_git_says_in_our_words() {
        check(
            "fatal: could not read Username for 'https://host': terminal prompts disabled\n",
            "`https://host/a` wants a login that may read it (could not read Username for 'https://host'); some hosts also ask where there is no repository; store one with `vessl credential create NAME --kind git` and name it in `credential_name`",
        );
        check(
            "remote: Not Found\nfatal: repository 'https://host/a/' not found\n",
            "there is no repository at `https://host/a` (repository 'https://host/a/' not found); a private one needs a credential that may read it",
        );
        check(
            "fatal: unable to access 'https://host/a/': Could not resolve host: host\n",
            "cannot reach `https://host/a`: unable to access 'https://host/a/': Could not resolve host: host",
        );
        check(
            "Receiving objects:  10%\rfatal: write error: No space left on device\nfatal: fetch-pack: invalid index-pack output\n",
            "the disk is full: cannot write the files of `https://host/a`",
        );
        check(
            "git@host: Permission denied (publickey).\nfatal: Could not read from remote repository.\n",
            "`https://host/a` wants a login that may read it (git@host: Permission denied (publickey).); some hosts also ask where there is no repository; store one with `vessl credential create NAME --kind git` and name it in `credential_name`",
        );
        let here = Address::parse("file:///srv/a", Files::Allowed).unwrap();
        let broken = "fatal: '/srv/a' does not appear to be a git repository\nfatal: Could not read from remote repository.\n";
        assert_eq!(
            GitError::from_words(&here, WithLogin::No, broken).to_string(),
            "`file:///srv/a` cannot be imported: '/srv/a' does not appear to be a git repository"
        );
        check("strange\n\n", "`https://host/a` cannot be imported: strange");
        check("", "`https://host/a` cannot be imported: git failed without a word");
        let kept = "long ".repeat(58);
        let text = format!("fatal: {kept}bobby:s3cretw0rd and more\n");
        check(&text, &format!("`https://host/a` cannot be imported: {}", kept + "…"));
        check(&"x".repeat(301), "`https://host/a` cannot be imported: …");
    }
}
