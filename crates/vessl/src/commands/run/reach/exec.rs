//! `vessl run exec`.
use std::io::IsTerminal;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_reach::frames::Begin;

use super::super::several::{RunName, find, run_name};
use super::{session, terminal};
use crate::commands::completion;
use crate::commands::run::shown_pair;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The program has the environment, the user, the limits and the view of the run's commands, and ends with the run. The exit code is \
the program's: 126 if it cannot be run, 127 if it is not there. Signals that this command gets go to the program.

Examples:
  vessl run exec 100000000001 -- nvidia-smi
  vessl run exec 100000000001 -it -- bash
  vessl run exec 100000000001 -i -- tar -x -C /data < data.tar
  vessl run exec my-run -u root -w /tmp -e DEBUG=1 -- env"
)]
pub(crate) struct Exec {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Pass standard input on; without it the program has none
    #[arg(short, long)]
    interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    tty: bool,
    /// User of the image: `user` or `user:group`, names or numbers [default: the run's]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Directory to start in [default: where the commands started]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// Set a variable
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<String>,
    /// Program and arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn pair(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{}` is not `KEY=VALUE`", shown_pair(text))),
    }
}

/// Runs the program and ends as it ends.
pub(crate) async fn perform(args: Exec, session: &Session) -> Result<Exit> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Error::Usage {
            message: "`-t` needs a terminal, and standard input is none".to_owned(),
            hint: "leave it out: `-i` alone passes standard input on".to_owned(),
        });
    }
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let begin = Begin {
        argv: args.command,
        env: args.env,
        user: args.user,
        workdir: args.workdir,
        terminal: args.tty.then(terminal::size),
    };
    let input = if args.interactive { session::InputFrom::Stdin } else { session::InputFrom::Nothing };
    session::run(client.exec(id).await?, begin, input, session::OutputTo::Here(&session.out)).await
}
