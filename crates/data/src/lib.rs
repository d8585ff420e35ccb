//! Bytes: durable files, content-addressed blobs and trees, log segments, git, Hugging Face, buckets, downloads. It moves and verifies; it
//! knows no runs and never decides what a run may read.
pub mod blob;
pub mod bucket;
pub mod chunks;
pub mod dir;
pub mod durable;
pub mod fetch;
pub mod git;
pub mod hub;
pub mod incoming;
pub mod log;
pub mod offsite;
pub mod pool;
mod problem;
pub mod sparse;
pub mod staging;
pub mod tree;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use problem::{DataError, is_full};
pub use watch::Watch;

/// Locks a mutex, also if a thread ended by a bug while it held it.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// User and group that own what an import makes.
pub type Owner = (u32, u32);
