//! The product's acceptance tests: the real binary, a real server, real runs.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "what tests share lives outside of `#[test]`")]
mod again;
mod api;
mod bad_days;
mod blobs;
mod bounds;
mod browser;
mod bucket_volumes;
mod cache;
mod completion;
mod confined;
mod data;
mod data_page;
mod datasets;
mod deaths;
#[allow(dead_code, reason = "other crates use more of it")]
#[path = "../../../container/tests/it/registry.rs"]
mod docker_registry;
mod ends;
mod exact;
mod examples;
mod exports;
mod fenced;
mod gate;
mod guide;
mod identity;
mod images;
mod inherited;
mod jupyter;
mod kills;
mod limits;
mod lists;
mod logs;
mod marks;
mod network;
mod offsite;
mod ordinary;
mod paths;
mod ports;
mod reach;
mod refusals;
mod registry;
mod runs;
#[allow(dead_code, reason = "other crates use more of it")]
#[path = "../../../container/tests/it/scripted.rs"]
mod scripted;
mod secrets;
mod server;
mod settings;
mod sources;
mod specs;
mod ssh;
mod storages;
mod stores;
mod submits;
mod terminal;
mod test;
mod thieves;
mod usage;
mod validate;
mod versions;
