//! Why a script was not started, in words.
use nix::errno::Errno;

/// What the shell says when a program cannot be run.
const CANNOT_RUN: i32 = 126;

/// Why the script was not started.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) why: String,
    pub(crate) exit_code: i32,
}

impl Refusal {
    /// Something that is there and cannot be run.
    pub(crate) fn new(why: String) -> Self {
        Self { why, exit_code: CANNOT_RUN }
    }

    /// A system call that failed; `what` completes "cannot …".
    pub(crate) fn os(what: &str, error: Errno) -> Self {
        Self::new(format!("cannot {what}: {}", error.desc()))
    }
}
