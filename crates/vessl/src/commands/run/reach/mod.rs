//! `vessl run exec`, `shell`, `cp`, `port-forward`: into a run that runs.
pub(super) mod cp;
pub(super) mod exec;
pub(super) mod forward;
mod session;
pub(super) mod shell;
pub(super) mod ssh_proxy;
mod terminal;
