//! Why the commands of a run never start.
use std::error::Error;

use crate::job::JobError;

/// What stands between the start of an agent and the start of the commands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Halt {
    /// Something failed; in words.
    Failed(String),
    /// Somebody asked to stop.
    Stopped,
}

impl Halt {
    /// A failure with the chain of its causes.
    pub(crate) fn because(error: impl Error) -> Self {
        Self::Failed(chain(&error))
    }

    /// A failure of `what`, with the chain of its causes.
    pub(crate) fn of(what: &str, error: impl Error) -> Self {
        Self::Failed(format!("{what}: {}", chain(&error)))
    }
}

impl From<JobError> for Halt {
    fn from(error: JobError) -> Self {
        Self::because(error)
    }
}

/// `error` and its causes in one line, without Rust's `(os error N)`, which says no more than the words before it. A cause
/// that the text above it already says is not said again.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    without_numbers(&text)
}

fn without_numbers(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once(')').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: std::io::Error,
    }

    fn check(text: &'static str, expected: &str) {
        let error = Told { text, source: std::io::Error::other("no space") };
        assert_eq!(Halt::because(error), Halt::Failed(expected.to_owned()));
    }

    #[test]
    fn causes_are_said_once() {
        check("cannot write", "cannot write: no space");
        check("cannot write: no space", "cannot write: no space");
        check("`x`: Not found (os error 2); later (os error 5)", "`x`: Not found; later: no space");
    }
}
