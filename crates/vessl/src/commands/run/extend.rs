//! `vessl run extend`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::wire::RunExtend;

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The time is added to the run's time limit (`interactive.max_runtime`, --max-runtime), as far \
as the server's `max_runtime_limit` allows. The limit on idle time moves by itself whenever somebody uses \
the run.

Examples:
  vessl run extend 100000000001 --hours 4
  vessl run extend 100000000001 --hours 0.5"
)]
pub(crate) struct Extend {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Hours to add; a part of one is fine
    #[arg(long, value_name = "N", value_parser = hours)]
    hours: f64,
}

fn hours(text: &str) -> Result<f64, String> {
    let hours = text.parse().ok().filter(|hours: &f64| hours.is_finite() && *hours > 0.0);
    hours.ok_or_else(|| "write it as a number of hours, like `4` or `0.5`".to_owned())
}

/// Asks for more time and shows when the run ends now.
pub(crate) async fn perform(args: &Extend, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let run = client.extend(id, &RunExtend { hours: args.hours }).await?;
    session.out.object(&run, views::extended)?;
    Ok(exit::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_a_number() {
        assert_eq!(hours("0.5"), Ok(0.5));
        for wrong in ["", "0", "-1", "2h", "nan", "inf"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }
}
