//! The real router over a real database, with a scripted machine and a clock set by hand.
mod api;
mod crash;
mod files;
mod guard;
mod hostile;
mod life;
mod logs;
mod names;
mod openapi;
mod queue;
mod start;
mod world;
