//! `vessl run ssh`.
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::commands::ssh::Destination;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Runs the OpenSSH client of this machine, which is told where the run is and what the key of its server is. The run must be \
interactive, unless the server lets people into every run. A public key of yours must be known: `vessl ssh-key add`. As with `ssh`, the \
words of a command are put together with blanks and read by the shell of the run. `vessl ssh-config` is for everything else that uses SSH.

Examples:
  vessl run ssh 100000000001
  vessl run ssh my-run -p ~/.ssh/work
  vessl run ssh my-run -- nvidia-smi -l"
)]
pub(crate) struct Ssh {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Private key to come with [default: what OpenSSH takes]
    #[arg(short = 'p', long = "path", value_name = "KEY")]
    key: Option<PathBuf>,
    /// Command to run there instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Becomes the OpenSSH client.
pub(crate) async fn perform(args: Ssh, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let destination = Destination::of(&mut client, session).await?;
    if client.ssh_keys().await?.is_empty() {
        return Err(Error::Usage {
            message: "the server knows no public key that could let you in".to_owned(),
            hint: "`vessl ssh-key add` adds yours".to_owned(),
        });
    }
    let mut ssh = Command::new("ssh");
    for (name, value) in destination.options(id, args.key.as_deref()) {
        ssh.arg("-o").arg(format!("{name}={value}"));
    }
    ssh.arg(format!("vessl-{}", id.0)).args(args.command);
    let error = ssh.exec();
    if error.kind() == ErrorKind::NotFound {
        return Err(Error::Usage {
            message: "there is no `ssh` on this machine".to_owned(),
            hint: "install the OpenSSH client; `vessl run shell` needs none".to_owned(),
        });
    }
    Err(Error::os("start `ssh`")(error))
}
