//! What imports and exports share: telling how far bytes are, asking whether to stop, saying what was moved.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use vessl_core::record::Transfer;
use vessl_core::wire::{Progress, ProgressKind};
use vessl_data::Watch;

use super::TransferContext;
use crate::format;

/// Does `work` with a watch that tells the event loop how far `label` is and ends when it is cancelled.
pub(crate) fn follow<R>(
    cx: &TransferContext<'_>,
    kind: ProgressKind,
    label: &str,
    work: impl FnOnce(Watch<'_>) -> R,
) -> R {
    let done = AtomicU64::new(0);
    let progress = |more, total| {
        let done = done.fetch_add(more, Ordering::Relaxed) + more;
        cx.progress(Progress { kind, label: label.to_owned(), done, total });
    };
    work(Watch { progress: &progress, stop: &|| cx.is_cancelled() })
}

/// `12 files, 3.4 MB`.
pub(crate) fn amount(transfer: &Transfer) -> String {
    let files = if transfer.files == 1 { "file" } else { "files" };
    format!("{} {files}, {}", transfer.files, format::size(transfer.bytes))
}

/// Milliseconds since `began`.
pub(crate) fn millis(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `in 1.2 s`.
pub(crate) fn took(transfer: &Transfer) -> String {
    format!("in {}", format::time(Duration::from_millis(transfer.millis)))
}
