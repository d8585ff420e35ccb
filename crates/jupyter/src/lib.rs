//! JupyterLab of an interactive run: finds out which Python the image has, makes or finds a kit of wheels for it, starts JupyterLab
//! inside and looks after it. It knows no engine and no API, and what it says goes into files of the run directory and into the log of
//! the run.
//!
//! ```text
//! python (what is inside) ── lock (which wheels) ── kit (index, wheel: fetch, check, unpack) ── lab (start, look, start again)
//!                                                                                                └─ watch (is it used?)
//! ```
//! Whatever is wrong here, the run goes on.
mod http;
mod index;
mod kit;
mod lab;
mod lock;
mod python;
mod tags;
mod told;
mod watch;
mod wheel;

use std::io::Read;
use std::path::Path;

pub use lock::{PYTHONS, requirements};

use kit::Kits;
use lab::Lab;
use told::Told;

/// Why nobody looks after JupyterLab of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A file of the run directory, or the system.
    #[error("cannot {what}: {source}")]
    Os {
        /// The step.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> SessionError {
    move |source| SessionError::Os { what, source }
}

/// Looks after JupyterLab of the run whose directory is `dir`, until its container has ended or nobody has the other end of standard
/// input any more.
pub fn run(data: &Path, dir: &Path) -> Result<(), SessionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(os("start a runtime"))?;
    let result = runtime.block_on(async {
        tokio::select! {
            served = serve(data, dir) => served,
            () = input_ends() => Ok(()),
        }
    });
    // What still blocks (a download, a wait for a lock) ends with the process.
    runtime.shutdown_background();
    result
}

async fn serve(data: &Path, dir: &Path) -> Result<(), SessionError> {
    let token = told::token(dir).map_err(os("read the token of JupyterLab"))?;
    let kits = Kits::of(data);
    Lab::new(Told::of(dir), kits, token).look_after().await;
    Ok(())
}

/// The agent holds the other end.
async fn input_ends() {
    let read = || {
        let mut bytes = [0; 64];
        while std::io::stdin().lock().read(&mut bytes).is_ok_and(|length| length > 0) {}
    };
    // A reader that panicked has ended as well.
    let _ = tokio::task::spawn_blocking(read).await;
}
