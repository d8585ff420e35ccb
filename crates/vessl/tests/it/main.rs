//! The product's acceptance tests: the real binary, a real server, real runs.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "what tests share lives outside of `#[test]`")]
mod bad_days;
mod confined;
mod data;
mod deaths;
mod ends;
mod examples;
mod fenced;
mod gate;
mod images;
mod logs;
mod marks;
mod ordinary;
mod refusals;
mod registry;
mod runs;
mod secrets;
mod server;
mod settings;
mod sources;
mod specs;
mod terminal;
mod test;
mod usage;
mod validate;
mod web;
