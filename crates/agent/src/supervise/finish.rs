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

use super::export::{self, label};
use crate::format;
use crate::record::events::eprint_line;
use crate::supervise::event_loop::Desk;
use crate::supervise::outcome::{Cut, End, Facts, judge};
use crate::supervise::setup::Attempt;
use crate::supervise::watch::Watched;
use crate::task::{Job, Note};

/// Between two tries to write the exit record on a full disk.
const TRY_AGAIN: Duration = Duration::from_secs(1);

impl Watched {
    /// An attempt whose commands never started.
    pub(crate) fn never(end: End) -> Self {
        Self { end, started_at: None, cut: None, killed: false, oom: false }
    }
}

/// Writes the exports, all within the limit once somebody asked to stop.
pub(crate) fn export(desk: &mut Desk, attempt: &Arc<Attempt>, merged: &Arc<Merged>, watched: &mut Watched) {
    let plan = &attempt.plan;
    if plan.exports.is_empty() || watched.started_at.is_none() {
        return;
    }
    if desk.stop.is_some_and(|stop| !stop.export) {
        desk.log.say("exports are skipped, as asked");
        return;
    }
    desk.events.add(EventKind::Phase { phase: Phase::Exporting });
    let (shared, merged) = (attempt.clone(), merged.clone());
    let job = Job::start(move |teller, cancel| {
        export::run(&merged, &shared.transfer_context(teller, cancel));
    });
    let mut deadline = None;
    let limit = |desk: &mut Desk| {
        let stop = desk.stop?;
        let allowed = if stop.export { Duration::from_millis(plan.export_limit.0) } else { Duration::ZERO };
        let asked = Instant::now();
        if stop.export && deadline.is_none() {
            let words = "exports may take another";
            desk.log.say(&format!(
                "{words} {}; a terminate with `--no-export` leaves them out",
                plan.export_limit
            ));
        }
        let known: &mut Instant = deadline.get_or_insert(asked + allowed);
        *known = (*known).min(asked + allowed);
        deadline
    };
    let result = job.and_then(|job| desk.attend(job, limit));
    if desk.stop.is_some_and(|stop| !stop.export) {
        desk.log.say("the rest of the exports is skipped, as asked");
        watched.cut = Some(Cut::Asked);
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
        complete(desk, export, &why);
    }
}

/// Every export of the plan has a result.
fn complete(desk: &mut Desk, export: &ExportPlan, why: &str) {
    if desk.exports.iter().any(|known| known.path == export.path) {
        return;
    }
    let (label, error) = (label(&export.target), Some(why.to_owned()));
    let transfer = Transfer { path: export.path.clone(), label, error, ..Transfer::default() };
    desk.note(Note::Event(EventKind::Exported(transfer)));
}

/// Writes the last words: what the log has so far, events, exit record, and only then the log's last line, in this order. So
/// a log never tells of an end that is not on disk, and the record never stands without the output before it. Who is killed
/// before the last line leaves it to the removal.
pub(crate) fn conclude(desk: &mut Desk, attempt: &Attempt, watched: &Watched) -> ExitRecord {
    let dir = attempt.sink.dir();
    let plan = &attempt.plan;
    let facts = Facts {
        plan,
        end: watched.end.clone(),
        cut: watched.cut,
        killed: watched.killed,
        oom: watched.oom,
        exports: &desk.exports,
    };
    let mut judged = judge(&facts);
    if desk.log.lost_in_all() > 0 {
        let amount = format::size(desk.log.lost_in_all());
        judged.reason =
            format!("{}; {amount} of its output are lost: the log could not be written", judged.reason);
    }
    let record = ExitRecord {
        v: RECORD_VERSION,
        run: plan.run,
        attempt: plan.attempt,
        nonce: plan.nonce,
        status: judged.status,
        reason: desk.log.masked(&judged.reason),
        exit_code: judged.exit_code,
        oom: watched.oom,
        started_at: watched.started_at,
        ended_at: Timestamp::now(),
        imports: desk.imports.clone(),
        exports: desk.exports.clone(),
        cleanup: None,
    };
    // From here on the space that was kept for this may be used.
    dir.release();
    desk.log.sync();
    if let Err(error) = desk.events.flush() {
        eprint_line(&format!("the last events are lost: {error}"));
    }
    write_exit(&record, attempt);
    desk.log.say(&last_line(&record));
    desk.log.finish();
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
