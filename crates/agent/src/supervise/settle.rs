//! What imports brought goes to disk while the commands run. Who is killed over it leaves it marked: later runs of this boot of the
//! machine bring it to disk, and after another boot it is imported anew.
use std::time::Instant;

use vessl_core::text::chain;
use vessl_data::staging::Unsynced;

use super::event_loop::EventLoop;
use crate::record::events::eprint_line;
use crate::task::{Task, TaskEvent};

/// Begins to bring it to disk; nothing if there is nothing, or no thread for it.
pub(super) fn begin(unsynced: Vec<Unsynced>) -> Option<Task<()>> {
    if unsynced.is_empty() {
        return None;
    }
    let task = Task::start(move |reporter, _| {
        for one in unsynced {
            if let Err(error) = one.settle() {
                reporter.report(TaskEvent::Line(format!(
                    "what was imported could not be written to the disk of this machine: {}; this run had it from memory, later ones import it again",
                    chain(&error)
                )));
            }
        }
    });
    task.inspect_err(|error| eprint_line(&format!("what was imported is not written to disk now: {error}")))
        .ok()
}

/// Waits until it is there; not long once somebody asked to stop.
pub(super) fn end(event_loop: &mut EventLoop, settling: Option<Task<()>>) {
    let Some(task) = settling else { return };
    if let Err(error) = event_loop.attend(task, |event_loop| event_loop.stop.map(|_| Instant::now())) {
        eprint_line(&format!("it is not known whether what was imported is on disk: {error}"));
    }
}
