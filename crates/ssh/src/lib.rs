//! SSH into runs: the keys of an installation, and the process that serves one connection. It stands on the machine, so no image needs a
//! server of its own, and reaches the run as `vessl run exec` does, through [`vessl_reach`].
//!
//! ```text
//! client ─TCP─► server ─the socket─► vessl agent ssh ─door.sock─► init ─► programs, connections, listeners in the run
//!                  ▲──── who is this, which run? ───┘   (asked once; later on the server is not needed)
//! ```
//! It decides nothing about who may: the server answers that, and the file of the keys that are good ends the sessions of one that is not
//! any more.
pub mod ask;
mod client;
mod forward;
mod intake;
pub mod keys;
mod listening;
mod names;
mod serve;
mod session;
mod shared;
mod watch;

pub use serve::main;
