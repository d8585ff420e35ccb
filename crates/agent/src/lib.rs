//! What stands beside one run: carries out one plan, keeps a durable record of it, outlives the server. It chooses
//! nothing and does not need the server to be up.
//!
//! ```text
//! verbs ── supervise ── setup (image, stage, binds, user, environ, embed) ── watch (link, pump) ── finish (export, verdict)
//!   │          └─ desk: control, events, journal (mask), progress, jobs
//!   └─ proof, remove, machine, images
//! ```
mod binds;
mod boot;
mod control;
mod desk;
mod embed;
mod environ;
mod events;
mod export;
mod finish;
mod follow;
mod gpu;
mod ground;
mod halt;
mod image;
mod images;
mod job;
mod journal;
mod link;
mod machine;
mod mask;
mod own;
mod progress;
mod proof;
mod pump;
mod remove;
mod rundir;
mod scratch;
mod setup;
mod stage;
mod supervise;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod testing_ground;
mod user;
mod verbs;
mod verdict;
mod watch;
mod words;

pub use verbs::main;
/// For who starts a program that outlives him.
pub use vessl_container::close_on_exec_from;
/// What this machine can do, for `vessl doctor`.
pub use vessl_container::probe;
