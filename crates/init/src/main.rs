//! PID 1 inside a container: starts the script, forwards signals, reaps, reports. A static program that needs no file,
//! library or name service of the image; it keeps no secret and decides nothing about the run.
//!
//! ```text
//! descriptor 3:  agent --InitConfig--> init        once, first
//!                agent --InitAsk----> init        any time after
//!                init  --InitReport-> agent       Running | Refused, Item…, Ended
//! descriptor 4:  a socket that listens: whoever reaches in asks there, see `door`
//! ```
//!
//! When descriptor 3 reaches its end the agent is gone: init exits, and the kernel kills everything in its namespace.
//!
//! Called with words it is no first process, but a program that somebody starts who reaches in: `pack PATH` and `unpack PATH` for
//! `vessl run cp`, `sftp` and `unlink PATH…` for SSH, see `copy`.
mod account;
mod child;
mod copy;
mod dial;
mod door;
mod exec;
mod line;
mod link;
mod pipes;
mod program;
mod refusal;
mod say;
mod serve;
mod session;
mod stop;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let [_, verb, paths @ ..] = &std::env::args_os().collect::<Vec<_>>()[..] {
        return copy::run(verb, paths);
    }
    take_name();
    match serve::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(serve::Gone) => ExitCode::FAILURE,
    }
}

/// Takes the name in `NAME` as this process's own: by it the container is known while the kernel ends it, when the
/// arguments are gone already.
fn take_name() {
    let given = std::env::var_os("NAME").unwrap_or_default();
    // Without it only that moment is not seen.
    let _ = std::ffi::CString::new(given.into_encoded_bytes()).map(|own| nix::sys::prctl::set_name(&own));
}
