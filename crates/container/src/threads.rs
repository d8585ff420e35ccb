//! Threads that are gone when their work is. A joined thread stays listed in `/proc` for a moment; who counts threads
//! right after (no container starts from a process that has several) must not see it.
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use vessl_data::locked;

/// Longest wait for threads that were joined; the kernel needs microseconds.
const LONGEST: Duration = Duration::from_secs(1);

/// Threads that are waited for when this is dropped, after they were joined.
#[derive(Debug, Default)]
pub(crate) struct ThreadGroup(Mutex<Vec<PathBuf>>);

impl ThreadGroup {
    /// Called by each thread when it begins.
    pub(crate) fn enter(&self) {
        let task = PathBuf::from(format!("/proc/self/task/{}", nix::unistd::gettid()));
        locked(&self.0).push(task);
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        let begun = Instant::now();
        for task in locked(&self.0).drain(..) {
            while task.exists() && begun.elapsed() < LONGEST {
                std::thread::yield_now();
            }
        }
    }
}
