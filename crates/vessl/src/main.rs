//! `vessl`: one file, five roles. This file chooses the role and does nothing else.
mod cli;
mod client;
mod commands;
mod error;
mod exit;
mod log;
mod output;
mod session;
mod settings;

use std::process::ExitCode;

/// The agent starts a container before its first thread, so its role is chosen before anything else happens.
fn main() -> ExitCode {
    let mut args = std::env::args_os().peekable();
    if args.nth(1).is_some_and(|role| role == "agent") {
        // It starts no container, and needs a runtime.
        return match args.next_if(|verb| verb == "ssh") {
            Some(_) => vessl_ssh::main(args),
            None => vessl_agent::main(args),
        };
    }
    cli::main().into()
}
