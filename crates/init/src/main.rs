//! PID 1 inside a container: starts the script, forwards signals, reaps, reports. A static program that needs no file,
//! library or name service of the image; it keeps no secret and decides nothing about the run.
//!
//! ```text
//! descriptor 3:  agent --InitOrder--> init        once, first
//!                agent --InitAsk----> init        any time after
//!                init  --InitReport-> agent       Running | Refused, Item…, Ended
//! ```
//!
//! When descriptor 3 reaches its end the agent is gone: init exits, and the kernel kills everything in its namespace.
mod child;
mod link;
mod serve;
mod session;

use std::process::ExitCode;

fn main() -> ExitCode {
    match serve::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(serve::Gone) => ExitCode::FAILURE,
    }
}
