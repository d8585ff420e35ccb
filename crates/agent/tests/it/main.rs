//! The real agent in a process of its own, carrying out plans written by hand. The agent forks, so it must be alone in its
//! process from the first line of `main` on: this program is the agent when its first argument says so, and the test
//! program otherwise. Needs root.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]
mod bad;
mod deaths;
mod ends;
mod image;
mod look;
mod plans;
mod rig;
mod stops;
#[path = "../../src/testing.rs"]
mod testing;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// First argument that makes this program the agent.
const AGENT: &str = "agent-under-test";

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == AGENT) {
        return vessl_agent::main(args);
    }
    let cases = [bad::CASES, deaths::CASES, ends::CASES, stops::CASES].concat();
    let trials = cases.into_iter().map(|(name, case)| {
        Trial::test(name, move || {
            assert!(
                nix::unistd::geteuid().is_root(),
                "needs root: to make containers, run the tests as root"
            );
            case();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A test by name.
type Case = (&'static str, fn());
