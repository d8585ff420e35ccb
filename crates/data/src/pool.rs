//! The same work on many items, on a few threads that end before the call does.
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::locked;

/// More threads than cores: much of the work waits for the disk.
const THREADS_PER_CORE: usize = 4;
const MOST_THREADS: usize = 16;

/// Calls `work` with every item. The first error ends it and is returned; items already begun are finished.
pub fn each<T: Sync, E: Send>(items: &[T], work: impl Fn(&T) -> Result<(), E> + Sync) -> Result<(), E> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = (cores * THREADS_PER_CORE).min(MOST_THREADS).min(items.len());
    if threads <= 1 {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let error = Mutex::new(None);
    let run = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(e) = work(item) {
                failed.store(true, Ordering::Relaxed);
                locked(&error).get_or_insert(e);
            }
        }
    };
    thread::scope(|scope| {
        // A machine that is out of threads still gets the work done on this one.
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
    locked(&error).take().map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_and_the_first_error() {
        let items: Vec<usize> = (0..1000).collect();
        let sum = AtomicUsize::new(0);
        let ok = each(&items, |n| {
            sum.fetch_add(*n, Ordering::Relaxed);
            Ok::<(), usize>(())
        });
        assert_eq!((ok, sum.into_inner()), (Ok(()), 499_500));
        let done = AtomicUsize::new(0);
        let failed = each(&items, |n| {
            done.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(*n) } else { Ok(()) }
        });
        assert_eq!(failed, Err(3));
        assert!(done.into_inner() < 1000);
        assert_eq!(each(&[] as &[usize], |n| Err(*n)), Ok(()));
    }
}
