//! The exit codes: the one place where kinds of errors become numbers. It prints nothing.
use std::process::ExitCode;

use vessl_core::run::Status;
use vessl_core::wire::RunView;

use crate::error::{Error, Kind};

/// The table that `vessl --help` and `docs/cli.md` show.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done; with --watch or --wait: the run completed
  1    something on this machine failed, or the run failed without an exit code
       of its own
  N    with --watch or --wait: the exit code of the run's commands; 143 for a
       terminated run without one, or with 0
  2    wrong usage, or a wrong setting
  3    the run file is wrong or cannot be read
  4    the server cannot be reached, or what answers there is no vessl server
  5    the server refused the request
  70   a bug in vessl
  130  Ctrl-C; a run that was being watched goes on
  141  the reader of the output went away";

/// Everything went well.
pub(crate) const OK: Exit = Exit(0);
/// Something that was checked is not as it should be.
pub(crate) const FAILED: Exit = Exit(1);
/// The run file is wrong.
pub(crate) const BAD_FILE: Exit = Exit(3);
/// There is no server.
pub(crate) const UNREACHABLE: Exit = Exit(4);
/// A person pressed Ctrl-C.
pub(crate) const INTERRUPTED: Exit = Exit(130);

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// The exit code of an error.
pub(crate) fn of_error(error: &Error) -> Exit {
    if let Error::NotStarted { exit, .. } = error {
        return Exit(*exit);
    }
    Exit(match error.kind() {
        Kind::Local => 1,
        Kind::Usage => 2,
        Kind::File => 3,
        Kind::Unreachable => 4,
        Kind::Refused => 5,
        Kind::Bug => 70,
        Kind::BrokenPipe => 141,
    })
}

/// The exit code that stands for several runs that ended: that of the first that did not complete.
pub(crate) fn of_runs(runs: &[RunView]) -> Exit {
    runs.iter().map(of_run).find(|exit| *exit != OK).unwrap_or(OK)
}

/// The exit code that stands for a run that ended. A run that did not complete never gives 0.
pub(crate) fn of_run(run: &RunView) -> Exit {
    let own = run.exit_code.and_then(|code| u8::try_from(code).ok());
    match (run.status, own) {
        (Status::Completed, _) => OK,
        (_, Some(code)) if code != 0 => Exit(code),
        (Status::Terminated, _) => Exit(143),
        _ => FAILED,
    }
}
