//! How a process of this machine gets into a run: asks at the run's door, the descriptors that come out of it as streams, and the
//! frames in which a program beside the commands speaks with somebody far away. It knows no API and no engine, and decides nothing.
mod activity;
pub mod agent;
pub mod door;
mod ends;
pub mod frames;
mod program;
pub mod relay;

pub use activity::Activity;
pub use ends::{Input, Output, Window};
pub use program::{Program, exec};
