//! The fetch verb: brings what a run imports onto the machine while the run waits for its place. The run's own imports find it there, or
//! wait for what is on its way. Nothing is promised: one that fails is tried again by the run.
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use vessl_core::ahead::{FetchOrder, FetchStep, Fetched};
use vessl_data::{DataError, durable};

use crate::record::Sink;
use crate::record::mask::Mask;
use crate::record::run_dir::{DirError, RunDir};
use crate::task::{Reporter, TaskEvent};
use crate::transfer::{self, TransferContext};

/// Most that an order may take, in bytes.
const ORDER: u64 = 64 << 20;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AheadError {
    /// The caller.
    #[error("standard input is no order to fetch: {0}")]
    Order(String),
    /// A directory for what is needed on the way.
    #[error("cannot prepare `{}`: {source}", path.display())]
    Os {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The same.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The cache.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Nobody reads what is printed.
    #[error("cannot write the answer: {0}")]
    Answer(#[from] io::Error),
}

/// Fetches what the order on standard input names, one import after the other; `out` hears how far it is.
pub(crate) fn run(
    data: &Path,
    out: impl Fn(&FetchStep) -> io::Result<()> + Send + Sync + 'static,
) -> Result<(), AheadError> {
    let FetchOrder { plan, secrets } = order()?;
    let data = data.canonicalize().map_err(|source| AheadError::Os { path: data.to_owned(), source })?;
    let scratch = scratch(&data)?;
    let sink = Sink::new(RunDir::open(&scratch)?, data);
    let (mask, _) = Mask::new(&secrets);
    let out = Arc::new(out);
    let tell = Arc::clone(&out);
    let reporter = Reporter::to(move |event| {
        if let TaskEvent::Progress(progress) = event {
            // A reader that is gone ends this process.
            let _ = tell(&FetchStep::Progress(progress));
        }
    });
    let cancel = AtomicBool::new(false);
    let (plan, secrets, scratch) = (&plan, &secrets, scratch.as_path());
    let (sink, reporter, cancel) = (&sink, &reporter, &cancel);
    let cx = TransferContext { plan, owner: None, sink, scratch, secrets, reporter, cancel };
    let (mut any, mut unsynced) = (false, Vec::new());
    for import in &plan.imports {
        let label = import.source.label().to_owned();
        let fetched = match transfer::stage(&import.source, &cx) {
            Ok(None) => continue,
            Ok(Some((moved, mut staged))) => {
                any |= staged.new;
                unsynced.extend(staged.take_unsynced());
                Fetched { label, bytes: moved.bytes, files: moved.files, new: staged.new, error: None }
            }
            Err(error) => Fetched { label, error: Some(mask.text(&error.to_string())), ..Fetched::default() },
        };
        out(&FetchStep::Done(fetched))?;
    }
    for one in unsynced {
        one.settle()?;
    }
    if any && plan.bounds.cache > 0 {
        sink.staging()?.shrink(plan.bounds.cache)?;
    }
    Ok(())
}

fn order() -> Result<FetchOrder, AheadError> {
    let mut text = Vec::new();
    io::stdin().lock().take(ORDER).read_to_end(&mut text)?;
    // The parser's own words could show a part of a value.
    serde_json::from_slice(&text)
        .map_err(|error| AheadError::Order(format!("{} bytes, {:?}", text.len(), error.classify())))
}

/// An empty directory for what is needed on the way. One process at a time fetches ahead, so what is there is left of a dead one.
fn scratch(data: &Path) -> Result<PathBuf, AheadError> {
    let path = data.join("ahead");
    let made = match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => durable::create_dir_all(&path, 0o700),
    };
    made.map_err(|source| AheadError::Os { path: path.clone(), source })?;
    Ok(path)
}
