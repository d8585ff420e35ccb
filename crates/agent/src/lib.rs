//! What stands beside one run: carries out one plan, keeps a durable record of it, outlives the server. It chooses
//! nothing and does not need the server to be up.
//!
//! ```text
//! verbs ── supervise ── import ── setup (image, mounts, user, env, embed) ── watch (link, capture) ── finish (export, outcome)
//!   │          ├─ event_loop: control, signals, what tasks tell
//!   │          ├─ record: events, journal (mask), progress, in the run directory
//!   │          └─ transfer: git, tree, export, on open directories
//!   └─ proof, remove, machine, images
//! ```
mod ahead;
mod cache;
mod format;
mod images;
mod machine;
mod proof;
mod record;
mod remove;
mod supervise;
mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_root;
mod transfer;
mod verbs;

pub use verbs::main;
/// For who starts a program that outlives him.
pub use vessl_container::close_on_exec_from;
/// What this machine can do, for `vessl doctor`.
pub use vessl_container::probe;
