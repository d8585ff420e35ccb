//! The real init as PID 1 of a namespace of its own, over a private view of this machine's files, driven through its
//! descriptor 3. Needs root; says so and passes without.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, one that is skipped says so"
)]
mod ending;
mod rig;
mod starting;
