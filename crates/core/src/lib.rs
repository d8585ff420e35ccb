//! The rules: what a run file says, what will be done for it, and how a run may change.
//!
//! This crate does no input or output, never reads the clock, makes no ids, is not async and knows no engine by name.
//!
//! ```text
//! text --spec::read--> Spec --plan::plan(catalogue)--> Plan        (Plan is what an agent carries out)
//! Run + Seen + now --run::decide--> Turn { state, actions, why }   (Turn is what a driver saves and applies)
//! ```
pub mod access;
pub mod account;
pub mod ahead;
pub mod credential;
pub mod door;
pub mod file_url;
pub mod frame;
pub mod ids;
pub mod jupyter;
pub mod kind;
pub mod limits;
pub mod logwire;
pub mod network;
pub mod object;
pub mod overrides;
pub mod plan;
pub mod problem;
pub mod provenance;
pub mod queue;
pub mod record;
pub mod reference;
pub mod run;
pub mod script;
pub mod secret;
pub mod spec;
pub mod spelling;
pub mod status;
pub mod text;
pub mod units;
pub mod wire;
pub mod yaml;

/// What each code of a problem means: those of the reading, of the planning, of the exact re-run.
pub fn codes() -> impl Iterator<Item = &'static problem::CodeInfo> {
    spec::codes().iter().chain(plan::codes()).chain(provenance::codes())
}
