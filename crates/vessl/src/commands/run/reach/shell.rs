//! `vessl run shell`.
use std::io::IsTerminal;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_reach::frames::Begin;

use super::super::several::{RunName, find, run_name};
use super::{session, terminal};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::Exit;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  vessl run shell 100000000001
  vessl run shell my-run -u root
  echo 'df -h' | vessl run shell my-run")]
pub(crate) struct Shell {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// User of the image: `user` or `user:group`, names or numbers [default: the run's]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// Directory to start in [default: where the commands started]
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
}

/// Opens a shell, with a terminal if there is one here.
pub(crate) async fn perform(args: Shell, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let terminal = std::io::stdin().is_terminal().then(terminal::size);
    let begin = Begin { user: args.user, workdir: args.workdir, terminal, ..Begin::default() };
    session::run(
        client.exec(id).await?,
        begin,
        session::InputFrom::Stdin,
        session::OutputTo::Here(&session.out),
    )
    .await
}
