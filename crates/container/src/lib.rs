//! OCI containers without a daemon: registry, layer store, root file system, limits, start.
//!
//! It knows no runs, no run files, no HTTP API of ours and no SQL. All `unsafe` of the product is here (and the smallest
//! necessary system calls of `agent` and `init`).
mod error;
pub mod image;
mod layout;
pub mod limits;
mod manifest;
pub mod network;
mod options;
pub mod probe;
mod registry;
pub mod remove;
pub mod rootfs;
pub mod runtime;
pub mod seccomp;
mod source;
pub mod store;
mod sys;
mod threads;
pub mod unpack;
pub mod userns;

pub use sys::close_on_exec_from;
