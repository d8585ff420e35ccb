//! Bytes: durable files, content-addressed blobs and trees, log segments, git. It moves and verifies; it knows no runs
//! and never decides what a run may read.
pub mod blob;
pub mod durable;
pub mod git;
pub mod log;
pub mod tree;
