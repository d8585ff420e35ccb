//! The real router over a real database, with a scripted machine and a clock set by hand.
mod api;
mod world;
