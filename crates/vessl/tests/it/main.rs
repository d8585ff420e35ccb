//! The product's acceptance tests: the real binary, a real server, real runs.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "what tests share lives outside of `#[test]`")]
mod api;
mod bad_days;
mod bounds;
mod data;
mod deaths;
mod ends;
mod examples;
mod gate;
mod identity;
mod images;
mod logs;
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
mod thieves;
mod usage;
mod validate;
mod web;
