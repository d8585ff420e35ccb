//! The exports of an attempt whose commands have ended, by another agent than theirs: because that one died over them, or because some
//! failed. The commands are never started here.
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use vessl_core::network::Network;
use vessl_core::record::{EventKind, ExitRecord, Transfer};
use vessl_core::run::EndReason;
use vessl_core::run::Status;

use super::event_loop::EventLoop;
use super::finish::{self, Written};
use super::setup::error::SetupError;
use super::setup::{self, Attempt};
use super::{NotTaken, attempt, listen, os, started, take_output};
use crate::machine::boot;
use crate::record::commands::CommandsRecord;
use crate::record::events::eprint_line;
use crate::record::run_dir::{DirError, RunDir};

/// Writes what is left of the exports in `dir`; returns when everything is over. A line on standard output says that it is taken. The
/// calling process has one thread.
pub(crate) fn export(data: &Path, dir: &Path) -> Result<(), NotTaken> {
    let dir = RunDir::open(dir)?;
    let lock = dir.lock()?;
    let commands = dir.commands()?.ok_or(NotTaken::NothingLeft)?;
    let ended = dir.exit()?;
    if !dir.take_kept()? {
        return Err(NotTaken::NothingLeft);
    }
    let (attempt, _) = attempt(data, dir, Network::Host)?;
    let sink = &attempt.sink;
    let events = sink.more_events()?;
    let log = sink.more_log(attempt.mask.clone(), attempt.plan.bounds.log)?;
    let mut event_loop = listen(&attempt, events, log)?;
    (event_loop.imports, event_loop.exports) =
        (commands.record.imports.clone(), known(sink.dir(), ended.as_ref())?);
    started(&mut event_loop, &attempt)?;
    writeln!(std::io::stdout(), "{{\"taken\": true}}").map_err(os("tell the server"))?;
    if let Err(error) = take_output(sink.dir()) {
        eprint_line(&format!("there is no `agent.log`: {error}"));
    }
    let record = carry_out(&mut event_loop, &attempt, (commands, ended.as_ref()));
    finish::remove(&attempt, record);
    drop(lock);
    Ok(())
}

/// The results that stay: of an attempt that has ended those that did not fail, else all that its agent noted.
fn known(dir: &RunDir, ended: Option<&ExitRecord>) -> Result<Vec<Transfer>, DirError> {
    if let Some(ended) = ended {
        return Ok(ended.exports.iter().filter(|export| export.error.is_none()).cloned().collect());
    }
    let exported = dir.events()?.into_iter().filter_map(|event| match event.what {
        EventKind::Exported(transfer) => Some(transfer),
        _ => None,
    });
    Ok(exported.collect())
}

fn carry_out(
    event_loop: &mut EventLoop,
    attempt: &Arc<Attempt>,
    (commands, ended): (CommandsRecord, Option<&ExitRecord>),
) -> ExitRecord {
    if let Some(why) = not_whole(&commands) {
        return lost(event_loop, attempt, commands.record, why);
    }
    event_loop.log.report(match ended {
        Some(_) => "the exports that failed are written again, from the files that the run left",
        None => "the agent died over the exports; they go on with another one",
    });
    match setup::again::prepare(event_loop, attempt, &commands) {
        Ok(root) => {
            finish::begin(event_loop);
            if finish::write(event_loop, attempt, &root) == Written::Skipped {
                event_loop.log.report("the rest of the exports is skipped, as asked");
            }
        }
        Err(SetupError::Failed(_, why)) => {
            let why = format!("the run's files cannot be shown again: {why}");
            event_loop.log.report(&why);
            finish::complete(event_loop, &attempt.plan, &why);
        }
        Err(SetupError::Stopped) => {}
    }
    // What was left out failed before, or was never tried because a person did not want it.
    for export in ended.iter().flat_map(|ended| &ended.exports) {
        if event_loop.exports.iter().all(|known| known.path != export.path) {
            event_loop.exports.push(export.clone());
        }
    }
    finish::last_words(event_loop, attempt, commands.record)
}

/// Why what the commands wrote may not be what they wrote any more.
fn not_whole(commands: &CommandsRecord) -> Option<&'static str> {
    let is_same = boot::id().is_ok_and(|now| now == commands.boot_id);
    (!is_same && !commands.is_on_disk)
        .then_some("the machine was started again before what the commands wrote was on disk")
}

fn lost(event_loop: &mut EventLoop, attempt: &Attempt, mut record: ExitRecord, why: &str) -> ExitRecord {
    let words = format!("the run was lost over its exports ({}): {why}", record.reason);
    (record.status, record.reason_code, record.reason) = (Status::Failed, EndReason::Lost, words);
    finish::last_words(event_loop, attempt, record)
}
