//! Asynchronous work on one thread, until it is done or somebody wants no more. It must not know what the work is.
use std::time::Duration;

use super::HubError;

/// How often it is looked whether somebody wants no more.
const TICK: Duration = Duration::from_millis(50);

/// Carries out `work` on this thread; names are looked up in threads that end before this does.
pub(super) fn drive<T>(
    is_over: &dyn Fn() -> bool,
    work: impl Future<Output = Result<T, HubError>>,
) -> Result<T, HubError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("hub-names")
        .build()
        .map_err(HubError::Start)?;
    runtime.block_on(async {
        let mut tick = tokio::time::interval(TICK);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = tick.tick() => if is_over() {
                    return Err(HubError::Stopped);
                }
            }
        }
    })
}
