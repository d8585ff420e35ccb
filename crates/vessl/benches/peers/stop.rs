//! Ctrl-C and SIGTERM: the next step fails, so that everything that was started is ended and cleared away.
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;
use crate::http::runtime;

static STOPPED: AtomicBool = AtomicBool::new(false);

/// Catches the signals from now on.
pub(crate) fn watch() -> Outcome<()> {
    let runtime = runtime()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        STOPPED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Fails after a signal.
pub(crate) fn check() -> Outcome<()> {
    if STOPPED.load(Ordering::Relaxed) { Err("stopped by a signal".into()) } else { Ok(()) }
}
