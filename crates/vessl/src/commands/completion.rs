//! `vessl completion`.
use clap::Args;
use clap_complete::Shell;

use crate::error::Result;
use crate::exit::{self, Exit};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  vessl completion bash > /etc/bash_completion.d/vessl
  vessl completion zsh > ~/.zfunc/_vessl
  vessl completion fish > ~/.config/fish/completions/vessl.fish")]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script for the command line of this `definition`.
pub(crate) fn perform(args: &Completion, mut definition: clap::Command, session: &Session) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "vessl", &mut script);
    session.out.raw(&script)?;
    Ok(exit::OK)
}
