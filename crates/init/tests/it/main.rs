//! The real init as PID 1 of a namespace of its own, over a private view of this machine's files, driven through its
//! descriptor 3. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod ending;
mod marks;
mod rig;
mod starting;
mod stopping;
