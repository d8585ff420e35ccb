//! git imports against real repositories over http, ssh and files; imports from a stand-in for Hugging Face; buckets of real servers;
//! blobs whose writers are killed.
#![expect(clippy::unwrap_used, reason = "the beds are test code outside of test functions")]
mod bucket_bed;
mod bucket_change;
mod bucket_export;
mod bucket_faults;
mod bucket_import;
mod bucket_proxy;
mod git_bed;
mod git_fence;
mod git_hostile;
mod git_http;
mod git_import;
mod git_parts;
mod hub_bed;
mod hub_import;
mod hub_trouble;
mod kills;
mod offsite;
#[allow(dead_code, reason = "other crates use more of it")]
#[path = "../../../container/tests/it/scripted.rs"]
mod scripted;
mod web;
