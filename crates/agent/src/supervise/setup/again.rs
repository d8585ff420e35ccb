//! The root file system of an attempt whose commands have ended, once more: from the files that they left, for its exports.
use std::sync::Arc;
use std::time::Instant;

use vessl_core::record::EventKind;
use vessl_core::run::EndReason;

use super::{Attempt, Base, Root, base, is_above, mounts};
use crate::record::commands::CommandsRecord;
use crate::supervise::event_loop::EventLoop;
use crate::supervise::import;
use crate::supervise::setup::error::SetupError;
use crate::task::Task;
use crate::transfer::TransferContext;

/// Mounts it as it was when the commands ended; nothing is brought and nothing is made.
pub(in crate::supervise) fn prepare(
    event_loop: &mut EventLoop,
    attempt: &Arc<Attempt>,
    commands: &CommandsRecord,
) -> Result<Root, SetupError> {
    let plan = &attempt.plan;
    let Base { merged, user, image, hidden } = base(event_loop, attempt)?;
    same_image(attempt)?;
    let (above, others): (Vec<_>, Vec<_>) = plan.mounts.iter().partition(|mount| is_above(mount, plan));
    let volumes = attempt.sink.data().join("volumes");
    let own = mounts::Own { hidden: &hidden, volumes: &volumes, stop: &|| false };
    mounts::mount_all(&merged, &above, &own)?;
    let (shared, there, owner) = (attempt.clone(), merged.clone(), user.owner());
    let shown = commands.shown.clone();
    let task = Task::start(move |reporter, cancel| {
        let cx = TransferContext { owner, ..shared.transfer_context(reporter, cancel) };
        import::show_again(&there, &cx, &shown)
    })?;
    let unwanted =
        |event_loop: &mut EventLoop| event_loop.stop.filter(|stop| !stop.export).map(|_| Instant::now());
    let imported = event_loop.attend(task, unwanted)?.map_err(SetupError::because)?;
    mounts::mount_all(&merged, &others, &own)?;
    Ok(Root { merged, config: image.config, user, imported, _hold: image.hold })
}

/// What the name of an image leads to may have changed since the run started with it.
fn same_image(attempt: &Attempt) -> Result<(), SetupError> {
    let events = attempt.sink.dir().events().map_err(SetupError::because)?;
    let mut digests = events.into_iter().filter_map(|event| match event.what {
        EventKind::Image { digest, .. } => Some(digest),
        _ => None,
    });
    let first = digests.next();
    match (first, digests.next_back()) {
        (Some(then), Some(now)) if then != now => {
            let words = format!(
                "the image is not the one that the run started with: it is {now} now, and was {then}"
            );
            Err(SetupError::Failed(EndReason::ImageFailed, words))
        }
        _ => Ok(()),
    }
}
