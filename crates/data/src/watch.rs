//! How a caller follows and stops long work. No clock here: a time limit is the caller's `stop`.
use crate::DataError;

/// Followed and asked while bytes move; called from several threads at once.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// Called with (bytes done since the last call, bytes in all if known); may be called thousands of times a second.
    pub progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    /// Returns true when the work should end with [`DataError::Stopped`]; asked between pieces of at most 64 MiB.
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Watch<'_> {
    /// Tells nobody and never stops.
    pub const NONE: Watch<'static> = Watch { progress: &|_, _| {}, stop: &|| false };

    /// `Err(Stopped)` if the caller wants no more.
    pub(crate) fn check(&self) -> Result<(), DataError> {
        if (self.stop)() { Err(DataError::Stopped) } else { Ok(()) }
    }
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch(..)")
    }
}
