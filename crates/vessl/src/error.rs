//! Why a command could not be done: kind, message, cause, hint, problems of a file. It prints nothing.
use std::io;
use std::path::PathBuf;

use vessl_core::text::without_os_numbers;
use vessl_core::wire::{ErrorBody, Problem, in_words};

/// Result of everything in this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line asks for something that makes no sense.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// A run file has problems.
    #[error("{}", in_words(.problems))]
    File { problems: Vec<Problem>, name: String },
    /// A file that the command needs cannot be read.
    #[error("cannot read `{}`: {}", .path.display(), plain(.source))]
    Unreadable { path: PathBuf, source: io::Error },
    /// The settings file is wrong.
    #[error("`{}` is not a valid settings file: {message}", .path.display())]
    Settings { path: PathBuf, message: String },
    /// No server answers.
    #[error("cannot reach the server at {address}: {reason}")]
    Unreachable { address: String, reason: String, hint: String },
    /// The server is there and takes too long.
    #[error("the server at {address} did not answer within {seconds} seconds")]
    NoAnswer { address: String, seconds: u64 },
    /// The background server did not start.
    #[error("the server did not start: {reason}")]
    NoStart { reason: String, log: PathBuf },
    /// The server in the foreground could not go on.
    #[error("{0}")]
    Server(String),
    /// The server understood and said no.
    #[error("{}", .body.message)]
    Refused { status: u16, body: Box<ErrorBody> },
    /// The server answered with something that is not its protocol.
    #[error("the server at {address} gave an answer that vessl does not understand: {reason}")]
    Protocol { address: String, reason: String },
    /// The operating system refused.
    #[error("cannot {what}: {}", plain(.source))]
    Os { what: String, source: io::Error },
    /// A file was written to while it was read.
    #[error("`{path}` changed while it was read")]
    Changed { path: String },
    /// A file that came back is not what the server promised.
    #[error("{message}")]
    Damaged { message: String, hint: String },
    /// A program was not started in a run.
    #[error("{why}")]
    NotStarted { why: String, exit: u8 },
    /// Files were not copied into or out of a run, or not all of them.
    #[error("cannot copy: {why}")]
    Copy { why: String },
    /// A program in a run cannot be followed any more.
    #[error("the session is lost: {why}")]
    Lost { why: String },
    /// An invariant of the program does not hold.
    #[error("{0}")]
    Bug(String),
    /// The reader of the standard output went away.
    #[error("the reader of the output went away")]
    BrokenPipe,
}

/// What exit codes are made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Something on this machine failed.
    Local,
    /// Wrong usage.
    Usage,
    /// The run file is wrong.
    File,
    /// No server, or none that can be used.
    Unreachable,
    /// The server said no.
    Refused,
    /// A bug.
    Bug,
    /// Nobody reads the output.
    BrokenPipe,
}

impl Error {
    /// An operating system error with the step that failed, such as "write the file".
    pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Os { what, source }
    }

    /// An error that says that a thing of the server does not exist.
    pub(crate) fn not_found(message: String, hint: &str) -> Self {
        let body = ErrorBody {
            code: "not_found".to_owned(),
            message,
            hint: Some(hint.to_owned()),
            problems: Vec::new(),
        };
        Self::Refused { status: 404, body: Box::new(body) }
    }

    /// The server understood, and this is not to be had.
    pub(crate) fn refused(code: &str, message: String, hint: String) -> Self {
        let body = ErrorBody { code: code.to_owned(), message, hint: Some(hint), problems: Vec::new() };
        Self::Refused { status: 409, body: Box::new(body) }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Usage { .. } | Self::Settings { .. } => Kind::Usage,
            Self::File { .. } | Self::Unreadable { .. } => Kind::File,
            Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::NoStart { .. }
            | Self::Protocol { .. }
            | Self::Lost { .. } => Kind::Unreachable,
            Self::Refused { body, .. } if body.code == "spec_invalid" => Kind::File,
            Self::Refused { body, .. } if body.code == "internal" => Kind::Bug,
            Self::Refused { .. } => Kind::Refused,
            Self::Os { .. }
            | Self::Changed { .. }
            | Self::Damaged { .. }
            | Self::Server(_)
            | Self::NotStarted { .. }
            | Self::Copy { .. } => Kind::Local,
            Self::Bug(_) => Kind::Bug,
            Self::BrokenPipe => Kind::BrokenPipe,
        }
    }

    /// A word that programs can tell errors apart by; it never changes its meaning.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Usage { .. } => "usage",
            Self::File { .. } => "spec_invalid",
            Self::Unreadable { .. } => "unreadable",
            Self::Settings { .. } => "settings_invalid",
            Self::Unreachable { .. } => "unreachable",
            Self::NoAnswer { .. } => "no_answer",
            Self::NoStart { .. } => "not_started",
            Self::Server(_) => "server_failed",
            Self::Refused { body, .. } => &body.code,
            Self::Protocol { .. } => "protocol",
            Self::Os { .. } => "system",
            Self::Changed { .. } => "changed",
            Self::Damaged { .. } => "damaged",
            Self::NotStarted { .. } => "program_not_started",
            Self::Copy { .. } => "not_copied",
            Self::Lost { .. } => "session_lost",
            Self::Bug(_) => "internal",
            Self::BrokenPipe => "broken_pipe",
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } | Self::Unreachable { hint, .. } | Self::Damaged { hint, .. } => {
                Some(hint.clone())
            }
            Self::NoAnswer { .. } => {
                Some("perhaps it still does what it was asked: look before you ask again".to_owned())
            }
            Self::NoStart { log, .. } => Some(format!("its log is `{}`", log.display())),
            Self::Refused { body, .. } => body.hint.clone(),
            Self::Protocol { .. } => {
                Some("perhaps this is no vessl server, or one of another version; `--server URL`, `VESSL_SERVER` or `vessl configure server URL` names another".to_owned())
            }
            Self::Changed { .. } => {
                Some("nothing was made of it; run the same command again when nobody writes there: what has come is not sent again".to_owned())
            }
            Self::Settings { .. } => Some("correct it, or remove it and run `vessl configure`".to_owned()),
            Self::Bug(_) => {
                Some("this is a bug in vessl; please report it with the command that led here".to_owned())
            }
            _ => None,
        }
        .filter(|hint| !hint.is_empty())
    }

    /// The name of the run file that is wrong, if one is.
    pub(crate) fn file(&self) -> Option<&str> {
        if let Self::File { name, .. } = self { Some(name) } else { None }
    }

    /// Problems of a run file, if there are any.
    pub(crate) fn problems(&self) -> &[Problem] {
        match self {
            Self::File { problems, .. } => problems,
            Self::Refused { body, .. } => &body.problems,
            _ => &[],
        }
    }
}

/// The system's words, from a small letter on.
fn plain(source: &io::Error) -> String {
    let text = without_os_numbers(&source.to_string());
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_words_are_plain() {
        assert_eq!(plain(&io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
