//! The real router over a real database, with a scripted machine and a clock set by hand.
#![expect(clippy::unwrap_used, reason = "what tests share lives outside of `#[test]`")]
mod again;
mod api;
mod crash;
mod files;
mod guard;
mod hostile;
mod life;
mod logs;
mod names;
mod objects;
mod openapi;
mod queue;
mod start;
mod uploads;
mod volumes;
mod world;
