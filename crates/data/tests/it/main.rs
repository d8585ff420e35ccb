//! git imports against real repositories over http, ssh and files.
#![expect(clippy::unwrap_used, reason = "the beds are test code outside of test functions")]
mod git_bed;
mod git_fence;
mod git_hostile;
mod git_http;
mod git_import;
mod web;
