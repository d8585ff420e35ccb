//! `vessl run terminate`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::units::Span;
use vessl_core::wire::RunTerminate;

use super::several::{RunName, each, run_name, show, until_ended};
use crate::client::Client;
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The commands get SIGTERM, their own workers when those are gone or after half of the grace; when it \
is over everything is killed. Exports are written unless --no-export is given. Terminating a run that is \
being terminated or has ended is no error. If one of several is refused the others are terminated all the \
same, and the exit code is 5. With --wait it is 0 when all have ended, however they did. With --output \
json one run is an object, and several are a list.

Examples:
  vessl run terminate 100000000001
  vessl run terminate 100000000001 100000000002 --wait
  vessl run terminate 100000000001 --grace 2m
  vessl run terminate 100000000001 --grace 0 --no-export"
)]
pub(crate) struct Terminate {
    /// Ids or names of the runs
    #[arg(required = true, value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    runs: Vec<RunName>,
    /// Time between SIGTERM and the kill, like `90s` or `2m`, or a number of seconds; default: 30 seconds, unless the
    /// server's administrator set another
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    grace: Option<u64>,
    /// Wait until they have ended
    #[arg(long)]
    wait: bool,
    /// Write no exports
    #[arg(long)]
    no_export: bool,
}

/// Reads a time as whole seconds; a part of one counts as one.
fn seconds(text: &str) -> Result<u64, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let span: Span = text.parse().map_err(|_| "write it like `90s`, `2m` or `120` (seconds)".to_owned())?;
    Ok(span.0.div_ceil(1000))
}

/// Asks for the ends and shows the runs as they are then; what has not ended does on its own.
pub(crate) async fn perform(args: &Terminate, session: &Session) -> Result<Exit> {
    let ask = RunTerminate { grace_s: args.grace, no_export: args.no_export };
    let (client, out) = (&mut session.client().await?, &session.out);
    let terminate = async |client: &mut Client, id| client.terminate(id, &ask).await;
    let (mut runs, exit) = each(client, &args.runs, out, terminate).await?;
    if args.wait {
        let Some(ended) = until_ended(client, runs, out).await? else {
            out.note("the runs end on their own; `vessl run list` shows which have");
            return Ok(exit::INTERRUPTED);
        };
        runs = ended;
    }
    show(&args.runs, &runs, out)?;
    for run in runs.iter().filter(|run| !run.status.is_final() && out.format() == Format::Table) {
        out.note(&format!("run {0} will end; `vessl run read {0}` shows when it has", run.id.0));
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_has_a_unit_or_is_in_seconds() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(seconds(text).ok(), expected, "{text}");
        check("0", Some(0));
        check("120", Some(120));
        check("2m", Some(120));
        check("1m30s", Some(90));
        check("1500ms", Some(2));
        for wrong in ["", "-1", "soon", "1.5", "3 apples"] {
            check(wrong, None);
        }
    }
}
