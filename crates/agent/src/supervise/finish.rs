//! After the commands: exports, the verdict, the exit record, and only then the removal of what was made.
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use vessl_container::rootfs::Merged;
use vessl_container::runtime;
use vessl_core::plan::ExportPlan;
use vessl_core::record::{EventKind, ExitRecord, Phase, RECORD_VERSION, Transfer};
use vessl_core::run::Status;
use vessl_core::text::chain;
use vessl_data::Owner;

use super::export;
use crate::format;
use crate::record::events::eprint_line;
use crate::supervise::event_loop::EventLoop;
use crate::supervise::outcome::{CommandsEnd, Facts, Interruption, evaluate};
use crate::supervise::setup::Attempt;
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
    (merged, owner): (&Arc<Merged>, Option<Owner>),
    execution: &mut ExecutionResult,
) {
    let plan = &attempt.plan;
    if plan.exports.is_empty() || execution.started_at.is_none() {
        return;
    }
    if event_loop.stop.is_some_and(|stop| !stop.export) {
        event_loop.log.report("exports are skipped, as asked");
        return;
    }
    event_loop.events.add(EventKind::Phase { phase: Phase::Exporting });
    let (shared, merged) = (attempt.clone(), merged.clone());
    let task = Task::start(move |reporter, cancel| {
        export::run(&merged, &TransferContext { owner, ..shared.transfer_context(reporter, cancel) });
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
        event_loop.log.report("the rest of the exports is skipped, as asked");
        execution.interruption = Some(Interruption::Asked);
        return;
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
    for export in &plan.exports {
        complete(event_loop, export, &why);
    }
}

/// Every export of the plan has a result.
fn complete(event_loop: &mut EventLoop, export: &ExportPlan, why: &str) {
    if event_loop.exports.iter().any(|known| known.path == export.path) {
        return;
    }
    let (label, error) = (export.target.label(), Some(why.to_owned()));
    let transfer = Transfer { path: export.path.clone(), label, error, ..Transfer::default() };
    event_loop.on_task_event(TaskEvent::Event(EventKind::Exported(transfer)));
}

/// Writes the last words: what the log has so far, events, exit record, and only then the log's last line, in this order. So
/// a log never tells of an end that is not on disk, and the record never stands without the output before it. Who is killed
/// before the last line leaves it to the removal.
pub(crate) fn conclude(
    event_loop: &mut EventLoop,
    attempt: &Attempt,
    execution: &ExecutionResult,
) -> ExitRecord {
    let dir = attempt.sink.dir();
    let plan = &attempt.plan;
    let facts = Facts {
        plan,
        end: execution.end.clone(),
        interruption: execution.interruption,
        killed: execution.killed,
        oom: execution.oom,
        exports: &event_loop.exports,
    };
    let mut outcome = evaluate(&facts);
    if event_loop.log.lost_in_all() > 0 {
        let amount = format::size(event_loop.log.lost_in_all());
        outcome.reason =
            format!("{}; {amount} of its output are lost: the log could not be written", outcome.reason);
    }
    let record = ExitRecord {
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
        exports: event_loop.exports.clone(),
        usage: execution.usage,
        cleanup: None,
    };
    // From here on the space that was kept for this may be used.
    dir.release();
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
    let removed = runtime::remove(&attempt.plan.unit(), &attempt.scratch);
    if let Err(error) = removed {
        let words = attempt.mask.text(&chain(&error));
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
