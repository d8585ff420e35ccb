//! After the commands: exports, the verdict, the exit record, and only then the removal of what was made.
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use vessl_container::runtime;
use vessl_core::plan::{ExportPlan, ExportTarget, Plan};
use vessl_core::record::{EventKind, ExitRecord, Phase, RECORD_VERSION, Transfer};
use vessl_core::run::Status;
use vessl_core::text::chain;
use vessl_data::durable;

use super::export;
use crate::format;
use crate::machine::boot;
use crate::record::commands::{COMMANDS_VERSION, CommandsRecord};
use crate::record::events::eprint_line;
use crate::record::run_dir::RunDir;
use crate::supervise::event_loop::EventLoop;
use crate::supervise::outcome::{CommandsEnd, Facts, Interruption, Outcome, of_the_commands, with_exports};
use crate::supervise::setup::{Attempt, Root};
use crate::supervise::watch::ExecutionResult;
use crate::task::{Task, TaskEvent};
use crate::transfer::TransferContext;

/// Between two tries to write the exit record on a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl ExecutionResult {
    /// An attempt whose commands never started.
    pub(crate) fn never(end: CommandsEnd) -> Self {
        Self { end, started_at: None, interruption: None, killed: false, oom: false, usage: None }
    }
}

/// Writes the exports, all within the limit once somebody asked to stop.
pub(crate) fn export(
    event_loop: &mut EventLoop,
    attempt: &Arc<Attempt>,
    root: &Root,
    execution: &mut ExecutionResult,
) {
    if attempt.plan.exports.is_empty() || execution.started_at.is_none() {
        return;
    }
    if event_loop.stop.is_some_and(|stop| !stop.export) {
        event_loop.log.report("exports are skipped, as asked");
        return;
    }
    note_commands(event_loop, attempt, (root, &*execution));
    if write(event_loop, attempt, root) == Written::Skipped {
        event_loop.log.report("the rest of the exports is skipped, as asked");
        execution.interruption = Some(Interruption::Asked);
    }
}

/// Notes what another agent needs that goes on with the exports. Without that nobody goes on, which is no reason not to begin.
fn note_commands(
    event_loop: &mut EventLoop,
    attempt: &Attempt,
    (root, execution): (&Root, &ExecutionResult),
) {
    let mut noted = CommandsRecord {
        v: COMMANDS_VERSION,
        record: of_commands(event_loop, attempt, execution),
        boot_id: boot::id().unwrap_or_default(),
        is_on_disk: false,
        shown: root.imported.shown.clone(),
    };
    let note = |noted: &CommandsRecord| {
        if let Err(error) = attempt.sink.dir().write_commands(noted) {
            eprint_line(&format!("nobody can go on with the exports after this agent: {}", chain(&error)));
        }
    };
    // At once: the wait for the disk is as long as what was written is large, and whoever dies in it has successors too.
    note(&noted);
    begin(event_loop);
    let to_bucket = |export: &ExportPlan| matches!(export.target, ExportTarget::Bucket(_));
    if !attempt.plan.exports.iter().any(to_bucket) {
        return;
    }
    // A bucket takes long enough that the machine may not live to see the end of it.
    if let Err(e) = durable::sync_file_system(&attempt.scratch) {
        return eprint_line(&format!("not synced: {e}"));
    }
    noted.is_on_disk = true;
    note(&noted);
}

/// Whether all exports were to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Yes: each has a result.
    All,
    /// Somebody asked to leave the rest out, which has no result.
    Skipped,
}

/// Tells that exports are next: an agent that dies from here on has a successor, if it has noted what that needs.
pub(crate) fn begin(event_loop: &mut EventLoop) {
    event_loop.events.add(EventKind::Phase { phase: Phase::Exporting });
}

/// Writes the exports that have no result yet.
pub(crate) fn write(event_loop: &mut EventLoop, attempt: &Arc<Attempt>, root: &Root) -> Written {
    let plan = &attempt.plan;
    let (shared, merged, owner) = (attempt.clone(), root.merged.clone(), root.user.owner());
    let done: Vec<String> = event_loop.exports.iter().map(|export| export.path.clone()).collect();
    let task = Task::start(move |reporter, cancel| {
        let cx = TransferContext { owner, ..shared.transfer_context(reporter, cancel) };
        export::rest(&merged, &cx, &done);
    });
    let mut deadline = None;
    let limit = |event_loop: &mut EventLoop| {
        let stop = event_loop.stop?;
        let allowed = if stop.export { Duration::from_millis(plan.export_limit.0) } else { Duration::ZERO };
        let asked = Instant::now();
        if stop.export && deadline.is_none() {
            let words = "exports may take another";
            event_loop.log.report(&format!(
                "{words} {}; a terminate with `--no-export` leaves them out",
                plan.export_limit
            ));
        }
        let known: &mut Instant = deadline.get_or_insert(asked + allowed);
        *known = (*known).min(asked + allowed);
        deadline
    };
    let result = task.and_then(|task| event_loop.attend(task, limit));
    if event_loop.stop.is_some_and(|stop| !stop.export) {
        return Written::Skipped;
    }
    let why = match result {
        Err(error) => error.to_string(),
        Ok(()) if deadline.is_some() => {
            format!(
                "the time limit of {} for exports was over (`export_time` of the server)",
                plan.export_limit
            )
        }
        Ok(()) => "it ended without a result".to_owned(),
    };
    complete(event_loop, plan, &why);
    Written::All
}

/// Every export of the plan has a result.
pub(crate) fn complete(event_loop: &mut EventLoop, plan: &Plan, why: &str) {
    for export in &plan.exports {
        if event_loop.exports.iter().any(|known| known.path == export.path) {
            continue;
        }
        let (label, error) = (export.target.label(), Some(why.to_owned()));
        let transfer = Transfer { path: export.path.clone(), label, error, ..Transfer::default() };
        event_loop.on_task_event(TaskEvent::Event(EventKind::Exported(transfer)));
    }
}

/// Writes the record of an attempt, see [`last_words`].
pub(crate) fn conclude(
    event_loop: &mut EventLoop,
    attempt: &Attempt,
    execution: &ExecutionResult,
) -> ExitRecord {
    let record = of_commands(event_loop, attempt, execution);
    last_words(event_loop, attempt, record)
}

/// The record as far as the commands go.
fn of_commands(event_loop: &EventLoop, attempt: &Attempt, execution: &ExecutionResult) -> ExitRecord {
    let plan = &attempt.plan;
    let outcome = of_the_commands(&Facts {
        plan,
        end: execution.end.clone(),
        interruption: execution.interruption,
        killed: execution.killed,
        oom: execution.oom,
    });
    ExitRecord {
        v: RECORD_VERSION,
        run: plan.run,
        attempt: plan.attempt,
        nonce: plan.nonce,
        status: outcome.status,
        reason_code: outcome.code,
        reason: event_loop.log.masked(&outcome.reason),
        exit_code: outcome.exit_code,
        oom: execution.oom,
        started_at: execution.started_at,
        ended_at: Timestamp::now(),
        imports: event_loop.imports.clone(),
        exports: Vec::new(),
        usage: execution.usage,
        cleanup: None,
    }
}

/// Writes the last words: what the log has so far, events, exit record, and only then the log's last line, in this order. So
/// a log never tells of an end that is not on disk, and the record never stands without the output before it. Who is killed
/// before the last line leaves it to the removal. `record` is of the commands.
pub(crate) fn last_words(
    event_loop: &mut EventLoop,
    attempt: &Attempt,
    mut record: ExitRecord,
) -> ExitRecord {
    let commands = Outcome {
        status: record.status,
        code: record.reason_code,
        reason: record.reason,
        exit_code: record.exit_code,
    };
    let mut outcome = with_exports(commands, &event_loop.exports);
    if event_loop.log.lost_in_all() > 0 {
        let amount = format::size(event_loop.log.lost_in_all());
        outcome.reason =
            format!("{}; {amount} of its output are lost: the log could not be written", outcome.reason);
    }
    (record.status, record.reason_code) = (outcome.status, outcome.code);
    record.reason = event_loop.log.masked(&outcome.reason);
    record.exports.clone_from(&event_loop.exports);
    record.ended_at = Timestamp::now();
    // From here on the space that was kept for this may be used.
    attempt.sink.dir().release();
    event_loop.log.sync();
    if let Err(error) = event_loop.events.flush() {
        eprint_line(&format!("the last events are lost: {error}"));
    }
    write_exit(&record, attempt);
    event_loop.log.report(&last_line(&record));
    event_loop.log.finish();
    record
}

/// What the log of an ended run ends with.
pub(crate) fn last_line(record: &ExitRecord) -> String {
    let status = word(record.status);
    let repeats = record.reason.starts_with(status);
    if repeats { record.reason.clone() } else { format!("{status}: {}", record.reason) }
}

/// However long the disk takes: without its record the run would be lost. What the run wrote into its own root goes first
/// if it takes the room: exports are done.
fn write_exit(record: &ExitRecord, attempt: &Attempt) {
    let mut told = false;
    while let Err(error) = attempt.sink.dir().write_exit(record) {
        if !std::mem::replace(&mut told, true) {
            eprint_line(&format!("the exit record waits: {}", chain(&error)));
            if let Err(error) = runtime::remove(&attempt.plan.unit(), &attempt.scratch) {
                eprint_line(&format!("cannot make room for it: {}", attempt.mask.text(&chain(&error))));
            }
            continue;
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Completed => "completed",
        Status::Terminated => "terminated",
        _ => "failed",
    }
}

/// Removes container, mounts, cgroup and scratch. A failure is added to the record and never changes the verdict.
pub(crate) fn remove(attempt: &Attempt, mut record: ExitRecord) {
    let dir = attempt.sink.dir();
    let removed = leave(dir, &attempt.plan.unit(), Some(&record));
    if let Err(error) = removed {
        let words = attempt.mask.text(&chain(&*error));
        eprint_line(&format!("cannot clean up: {words}"));
        record.cleanup = Some(words);
        if let Err(error) = dir.write_exit(&record) {
            eprint_line(&format!("cannot add it to the exit record: {}", chain(&error)));
        }
    }
    if let Err(error) = dir.tidy() {
        eprint_line(&chain(&error));
    }
}

/// Removes container, mounts, cgroup, and scratch, which is kept for the exports that failed.
pub(crate) fn leave(
    dir: &RunDir,
    unit: &str,
    record: Option<&ExitRecord>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let scratch = dir.scratch();
    let failed = record.is_some_and(|record| record.exports.iter().any(|export| export.error.is_some()));
    if failed
        && scratch.exists()
        && let Some(commands) = dir.commands()?
    {
        runtime::release(unit, &scratch)?;
        match dir.keep_scratch(&commands) {
            Ok(()) => return Ok(()),
            Err(error) => eprint_line(&format!("the run's files are not kept: {}", chain(&error))),
        }
    }
    Ok(runtime::remove(unit, &scratch)?)
}
