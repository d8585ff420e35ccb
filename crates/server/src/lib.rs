//! The server: an HTTP API over a durable store, one driver per unfinished run, engines that place agents.
//!
//! ```text
//! api ─► control ─► engine ─► `vessl agent …` (a child process that outlives us)
//!  │        │
//!  └► registry ─► store        nothing points back at api; engine never touches the store
//! ```
//! It holds no rule about runs (those are in `vessl_core`) and does no work inside a run (that is the agent's).
pub mod config;
mod paths;
mod secrets;
mod store;
