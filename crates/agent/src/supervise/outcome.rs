//! From what happened to the words of the exit record. Pure.
use vessl_core::limits::TimeLimit;
use vessl_core::plan::Plan;
use vessl_core::record::{Ending, Transfer};
use vessl_core::run::{EndReason, Status};
use vessl_core::script;
use vessl_core::units::Span;

use crate::format;
use crate::supervise::scratch::Excess;

/// What happened to one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Facts<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// How the commands ended, or why there were none.
    pub(crate) end: CommandsEnd,
    /// Why they were ended before their time.
    pub(crate) interruption: Option<Interruption>,
    /// Whether the commands had to be killed.
    pub(crate) killed: bool,
    /// Whether the kernel killed for memory.
    pub(crate) oom: bool,
}

/// Exit code of what SIGKILL ended.
const KILLED: i32 = 137;

/// Why a run is ended that would have gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interruption {
    /// Somebody asked for it.
    Asked,
    /// Its time was over.
    TimeOver {
        /// Which limit it was.
        limit: TimeLimit,
        /// How long that was in the end.
        length: Span,
    },
    /// It wrote more into its own file system than it may.
    TooMuch(Excess),
}

/// How the commands ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandsEnd {
    /// They were never started, for this reason.
    Failed(EndReason, String),
    /// They were never started, because somebody asked to stop before.
    Stopped,
    /// The container was there, but the first program could not be run in it.
    Refused {
        /// In words.
        why: String,
        /// 126 or 127.
        exit_code: i32,
    },
    /// The script or the image's program ended.
    Ended {
        /// Exit code, 128+n for a signal.
        exit_code: i32,
        /// The last item that started.
        item: Option<u32>,
        /// What ended it.
        how: Ending,
    },
    /// A session without commands ended.
    Idle,
    /// The container ended before its script.
    Vanished,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// `Completed`, `Failed` or `Terminated`.
    pub(crate) status: Status,
    /// As a code.
    pub(crate) code: EndReason,
    /// In words.
    pub(crate) reason: String,
    /// Of the commands.
    pub(crate) exit_code: Option<i32>,
}

impl Outcome {
    fn completed(reason: String, exit_code: Option<i32>) -> Self {
        Self { status: Status::Completed, code: EndReason::Completed, reason, exit_code }
    }

    fn terminated(reason: String, exit_code: Option<i32>) -> Self {
        Self { status: Status::Terminated, code: EndReason::Terminated, reason, exit_code }
    }

    fn failed(code: EndReason, reason: String, exit_code: Option<i32>) -> Self {
        Self { status: Status::Failed, code, reason, exit_code }
    }
}

/// How the attempt ended. A failed export makes it failed, whatever the commands did; their exit code is kept.
pub(crate) fn with_exports(commands: Outcome, exports: &[Transfer]) -> Outcome {
    let Some(export) = exports.iter().find(|export| export.error.is_some()) else {
        return commands;
    };
    let why = export.error.as_deref().unwrap_or_default();
    let reason = format!("the export of `{}` failed: {why} ({})", export.path, commands.reason);
    // What failed first is what to look for.
    let code = if commands.status == Status::Failed { commands.code } else { EndReason::ExportFailed };
    Outcome::failed(code, reason, commands.exit_code)
}

/// How the commands ended.
pub(crate) fn of_the_commands(facts: &Facts<'_>) -> Outcome {
    match &facts.end {
        CommandsEnd::Failed(code, why) => Outcome::failed(*code, why.clone(), None),
        CommandsEnd::Stopped => {
            Outcome::terminated("terminated before the commands started".to_owned(), None)
        }
        CommandsEnd::Refused { why, exit_code } => {
            Outcome::failed(EndReason::CommandFailed, why.clone(), Some(*exit_code))
        }
        CommandsEnd::Ended { exit_code, item, how } => ended(facts, *exit_code, (*item, *how)),
        CommandsEnd::Idle => session(facts, None),
        CommandsEnd::Vanished => vanished(facts),
    }
}

fn ended(facts: &Facts<'_>, exit_code: i32, (item, how): (Option<u32>, Ending)) -> Outcome {
    let words = script::ending(&facts.plan.items, exit_code, item, how);
    let code = Some(exit_code);
    match facts.interruption {
        Some(Interruption::Asked) => {
            return Outcome::terminated(format!("terminated; {words}"), code);
        }
        Some(Interruption::TimeOver { limit, length }) => {
            return time_over(facts, (limit, length), code, &format!("; {words}"));
        }
        Some(Interruption::TooMuch(excess)) => {
            return Outcome::failed(EndReason::ScratchLimit, format!("{}; {words}", too_much(excess)), code);
        }
        None => {}
    }
    if exit_code == 0 && item.is_none() && !facts.plan.items.is_empty() {
        // A shell that was told to read nothing (`noexec`, a file of `BASH_ENV`) has done nothing.
        return Outcome::failed(EndReason::CommandFailed, words, code);
    }
    match (exit_code, facts.oom) {
        (0, false) => Outcome::completed(words, code),
        (KILLED, true) => {
            Outcome::failed(EndReason::OutOfMemory, format!("{}; {words}", out_of_memory(facts)), code)
        }
        // Perhaps the reason, perhaps long ago: both facts, and no claim.
        (0, true) => Outcome::completed(words + &killed_on_the_way(facts), code),
        (_, true) => Outcome::failed(EndReason::CommandFailed, words + &killed_on_the_way(facts), code),
        (_, false) => Outcome::failed(EndReason::CommandFailed, words, code),
    }
}

fn session(facts: &Facts<'_>, code: Option<i32>) -> Outcome {
    if facts.interruption == Some(Interruption::Asked) {
        return Outcome::terminated("the session was terminated".to_owned(), code);
    }
    match facts.interruption {
        Some(Interruption::TimeOver { limit, length }) => time_over(facts, (limit, length), code, ""),
        _ => Outcome::completed("the session ended".to_owned(), code),
    }
}

/// A session has served its time; commands that should have come to an end were cut off. `words` say how those ended.
fn time_over(
    facts: &Facts<'_>,
    (limit, length): (TimeLimit, Span),
    code: Option<i32>,
    words: &str,
) -> Outcome {
    match limit {
        TimeLimit::Idle => {
            let words = format!("nobody used the session for {length} (`idle_timeout`)");
            Outcome { code: EndReason::IdleLimit, ..Outcome::completed(words, code) }
        }
        TimeLimit::Runtime => {
            let outcome = if facts.plan.interactive.is_some() {
                Outcome::completed(format!("the session reached its `max_runtime` of {length}"), code)
            } else {
                Outcome::terminated(format!("terminated at its time limit of {length}{words}"), code)
            };
            Outcome { code: EndReason::TimeLimit, ..outcome }
        }
    }
}

/// Killed with everything: by us after the grace, by the kernel for memory, or by somebody on the machine.
fn vanished(facts: &Facts<'_>) -> Outcome {
    let killed = Some(KILLED);
    match (facts.killed, facts.interruption) {
        (true, Some(Interruption::Asked)) => {
            let words = "terminated; the commands did not end in time after SIGTERM and were killed";
            Outcome::terminated(words.to_owned(), killed)
        }
        (true, Some(Interruption::TimeOver { limit, length })) => {
            let words = "; the commands did not end in time after SIGTERM and were killed";
            time_over(facts, (limit, length), killed, words)
        }
        (true, Some(Interruption::TooMuch(excess))) => {
            Outcome::failed(EndReason::ScratchLimit, too_much(excess), killed)
        }
        _ if facts.oom => Outcome::failed(EndReason::OutOfMemory, out_of_memory(facts), killed),
        _ => {
            let words =
                "the container was killed from outside: its first process ended before the commands did";
            Outcome::failed(EndReason::Killed, words.to_owned(), killed)
        }
    }
}

/// What a run is told that writes too much.
pub(crate) fn too_much(excess: Excess) -> String {
    match excess {
        Excess::Bytes { used, limit } => format!(
            "it wrote {} into its own file system, and may have {} there (`scratch_limit` of the server)",
            format::size(used),
            format::size(limit)
        ),
        Excess::Files { used, limit } => format!(
            "it has {used} files in its own file system, and may have {limit} there: nine tenths of what was free at its start"
        ),
    }
}

fn out_of_memory(facts: &Facts<'_>) -> String {
    let limit = facts.plan.resources.memory;
    format!("out of memory: the kernel killed a process at the limit of {}", format::size(limit))
}

fn killed_on_the_way(facts: &Facts<'_>) -> String {
    let limit = format::size(facts.plan.resources.memory);
    format!("; on the way the kernel killed a process for memory (the limit is {limit})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn exited(exit_code: i32) -> CommandsEnd {
        CommandsEnd::Ended { exit_code, item: Some(1), how: Ending::Item }
    }

    struct Case {
        end: CommandsEnd,
        flags: &'static [&'static str],
        export_error: Option<&'static str>,
    }

    fn check(case: Case, status: Status, exit_code: Option<i32>, reason: &str) {
        let plan = Plan { max_runtime: Some(Span(7_200_000)), ..testing::plan(&["true"]) };
        let error = case.export_error.map(str::to_owned);
        let exports = [Transfer { path: "/output".to_owned(), error, ..Transfer::default() }];
        let has = |flag| case.flags.contains(&flag);
        let facts = Facts {
            plan: &plan,
            end: case.end,
            interruption: match (has("stopped"), has("out of time"), has("too much")) {
                (true, ..) => Some(Interruption::Asked),
                (_, true, _) => {
                    Some(Interruption::TimeOver { limit: TimeLimit::Runtime, length: Span(7_200_000) })
                }
                (.., true) => Some(Interruption::TooMuch(Excess::Bytes { used: 3 << 20, limit: 1 << 20 })),
                _ => None,
            },
            killed: has("killed"),
            oom: has("oom"),
        };
        let found = with_exports(of_the_commands(&facts), &exports);
        assert_eq!((found.status, found.reason.as_str(), found.exit_code), (status, reason, exit_code));
        assert_eq!(found.code == EndReason::Completed, status == Status::Completed, "{found:?}");
        let is_ended = matches!(found.code, EndReason::Terminated | EndReason::TimeLimit);
        assert_eq!(is_ended, status == Status::Terminated, "{found:?}");
    }

    fn plain(end: CommandsEnd, flags: &'static [&'static str]) -> Case {
        Case { end, flags, export_error: None }
    }

    #[test]
    fn commands_that_end_by_themselves() {
        use Status::{Completed, Failed};
        check(plain(exited(0), &[]), Completed, Some(0), "the command ended with exit code 0");
        check(plain(exited(3), &[]), Failed, Some(3), "the command ended with exit code 3");
        check(
            plain(exited(137), &["oom"]),
            Failed,
            Some(137),
            "out of memory: the kernel killed a process at the limit of 953.6 MiB; the command ended with exit code 137 (SIGKILL)",
        );
        check(
            plain(exited(0), &["oom"]),
            Completed,
            Some(0),
            "the command ended with exit code 0; on the way the kernel killed a process for memory (the limit is 953.6 MiB)",
        );
        check(
            plain(exited(7), &["oom"]),
            Failed,
            Some(7),
            "the command ended with exit code 7; on the way the kernel killed a process for memory (the limit is 953.6 MiB)",
        );
    }

    #[test]
    fn commands_that_are_ended() {
        use Status::{Failed, Terminated};
        check(
            plain(exited(143), &["stopped"]),
            Terminated,
            Some(143),
            "terminated; the command ended with exit code 143 (SIGTERM)",
        );
        check(
            plain(CommandsEnd::Vanished, &["stopped", "killed"]),
            Terminated,
            Some(137),
            "terminated; the commands did not end in time after SIGTERM and were killed",
        );
        check(
            plain(CommandsEnd::Vanished, &["stopped", "killed", "oom"]),
            Terminated,
            Some(137),
            "terminated; the commands did not end in time after SIGTERM and were killed",
        );
        check(
            plain(CommandsEnd::Vanished, &["stopped", "oom"]),
            Failed,
            Some(137),
            "out of memory: the kernel killed a process at the limit of 953.6 MiB",
        );
        check(
            plain(CommandsEnd::Vanished, &["oom"]),
            Failed,
            Some(137),
            "out of memory: the kernel killed a process at the limit of 953.6 MiB",
        );
        check(
            plain(CommandsEnd::Vanished, &[]),
            Failed,
            Some(137),
            "the container was killed from outside: its first process ended before the commands did",
        );
        let words = "it wrote 3.0 MiB into its own file system, and may have 1.0 MiB there (`scratch_limit` of the server)";
        let ended = format!("{words}; the command ended with exit code 143 (SIGTERM)");
        check(plain(exited(143), &["too much"]), Failed, Some(143), &ended);
        check(plain(CommandsEnd::Vanished, &["too much", "killed"]), Failed, Some(137), words);
        let words = "terminated at its time limit of 2h; the command ended with exit code 143 (SIGTERM)";
        check(plain(exited(143), &["out of time"]), Terminated, Some(143), words);
        check(plain(CommandsEnd::Idle, &["stopped"]), Terminated, None, "the session was terminated");
    }

    #[test]
    fn commands_that_never_started() {
        use Status::{Failed, Terminated};
        check(
            plain(CommandsEnd::Failed(EndReason::ImageFailed, "no image".to_owned()), &[]),
            Failed,
            None,
            "no image",
        );
        check(
            plain(CommandsEnd::Stopped, &["stopped"]),
            Terminated,
            None,
            "terminated before the commands started",
        );
        let refused = CommandsEnd::Refused { why: "no shell".to_owned(), exit_code: 127 };
        check(plain(refused, &[]), Failed, Some(127), "no shell");
    }

    #[test]
    fn a_failed_export_fails_the_run_and_keeps_the_exit_code() {
        let case = Case { end: exited(0), flags: &[], export_error: Some("the disk is full") };
        let reason = "the export of `/output` failed: the disk is full (the command ended with exit code 0)";
        check(case, Status::Failed, Some(0), reason);
    }
}
