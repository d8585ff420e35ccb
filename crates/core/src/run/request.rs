//! What a person may ask of a run and what the rules answer. It changes what was asked, never where the run stands.
use jiff::Timestamp;

use super::{Answer, Ask, Asked, DEFAULT_GRACE_S, MAX_GRACE_S, Retries, Run, State, Terminate};
use crate::ids::Nonce;

/// Answers `ask` for `run` at `now`.
pub fn request(run: &Run, ask: Ask, now: Timestamp) -> Answer {
    match ask {
        Ask::Terminate { grace_s, export } => {
            terminate(run, &Terminate { at: now, grace_s: grace_s.unwrap_or(DEFAULT_GRACE_S), export })
        }
        Ask::Restart { nonce } => restart(run, nonce),
        Ask::Export { failed, kept } => export(run, failed, kept),
        Ask::Delete => delete(run),
    }
}

fn terminate(run: &Run, asked: &Terminate) -> Answer {
    if let State::Ended { verdict, .. } = &run.state {
        return Answer::AlreadySo(format!("run {} is already {}", run.id.0, verdict.status.word()));
    }
    if asked.grace_s > MAX_GRACE_S {
        return Answer::Denied(format!(
            "a grace of {} s is too long: at most {MAX_GRACE_S} s",
            asked.grace_s
        ));
    }
    let wanted = match &run.asked.terminate {
        None => asked.clone(),
        Some(known) => stronger(known, asked),
    };
    if run.asked.terminate.as_ref().is_some_and(|known| same(known, &wanted)) {
        return Answer::AlreadySo(format!("run {} is already being terminated", run.id.0));
    }
    let mut run = run.clone();
    run.asked.terminate = Some(wanted);
    Answer::Accepted(Box::new(run))
}

/// A second terminate can only make the first one quicker: the shorter grace counts, and exports once skipped stay skipped.
fn stronger(known: &Terminate, asked: &Terminate) -> Terminate {
    Terminate {
        at: asked.at,
        grace_s: known.grace_s.min(asked.grace_s),
        export: known.export && asked.export,
    }
}

fn same(known: &Terminate, wanted: &Terminate) -> bool {
    (known.grace_s, known.export) == (wanted.grace_s, wanted.export)
}

/// A new attempt of a run that has ended, however it ended, with all of its retries.
fn restart(run: &Run, nonce: Nonce) -> Answer {
    let id = run.id.0;
    match &run.state {
        State::Ended { removed: true, .. } => {
            let retries = Retries { used: 0, ..run.retries };
            Answer::Accepted(Box::new(run.next_attempt(nonce, retries)))
        }
        State::Ended { .. } => still_cleaned_up(run),
        State::Retrying { .. } => {
            Answer::Denied(format!("the next attempt of run {id} follows without being asked for"))
        }
        State::Queued | State::Pending { .. } | State::Active { .. } | State::Exporting { .. } => {
            Answer::Denied(format!(
                "run {id} is {}, and only a run that has ended can be started again; end it first: `vessl run terminate --wait {id}`",
                run.status().word()
            ))
        }
    }
}

/// The exports that failed, again, from the files that are kept.
fn export(run: &Run, failed: usize, kept: bool) -> Answer {
    let id = run.id.0;
    let State::Ended { verdict, placement, started_at, ended_at, removed, .. } = &run.state else {
        return match &run.state {
            State::Exporting { .. } => {
                Answer::AlreadySo(format!("the exports of run {id} are being written"))
            }
            _ => Answer::Denied(format!(
                "run {id} is {} and has not ended: its exports are written when its commands have",
                run.status().word()
            )),
        };
    };
    match (removed, failed, kept) {
        (false, ..) => still_cleaned_up(run),
        (true, 0, _) => Answer::Denied(format!("no export of run {id} failed: there is nothing to repeat")),
        (true, _, false) => Answer::Denied(format!(
            "the files of run {id} are not there any more, so that its exports cannot be written from them; `vessl run restart {id}` makes them anew"
        )),
        (true, _, true) => Answer::Accepted(Box::new(Run {
            state: State::Exporting {
                verdict: verdict.clone(),
                placement: placement.clone(),
                started_at: *started_at,
                before: Some(*ended_at),
                tries: 0,
            },
            // What was asked of the commands is done.
            asked: Asked::default(),
            ..run.clone()
        })),
    }
}

fn still_cleaned_up(run: &Run) -> Answer {
    let id = run.id.0;
    let on = run.placement().map(|placement| format!(" on `{}`", placement.node)).unwrap_or_default();
    Answer::Denied(format!(
        "run {id} has ended and is still being cleaned up{on}; try again when that is done"
    ))
}

fn delete(run: &Run) -> Answer {
    let id = run.id.0;
    match &run.state {
        State::Ended { removed: true, .. } => Answer::Accepted(Box::new(run.clone())),
        State::Ended { .. } => still_cleaned_up(run),
        _ if run.asked.terminate.is_some() => Answer::Denied(format!(
            "run {id} is being terminated and has not ended yet; try again when it has: `vessl run read {id}` shows it"
        )),
        _ => Answer::Denied(format!(
            "run {id} is {}; terminate it first: `vessl run terminate {id}`",
            run.status().word()
        )),
    }
}
