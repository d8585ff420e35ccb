//! `vessl run logs`.
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap_complete::engine::ArgValueCompleter;
use vessl_core::logwire::Stream;

use super::count;
use super::several::{RunName, find, run_name};
use super::watch::{Follow, follow, follow_to_the_end};
use crate::client::LogQuery;
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::log::{LogForm, Sink};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The standard output and standard error of the commands arrive on standard output, each byte by byte, in \
the order in which they came in. Lines of vessl itself (fetching the image, importing, exporting) go \
to standard error. With --output json every line is an object with `at` (when its first byte came), \
`stream` and `text`; it is printed when the line has ended.

Examples:
  vessl run logs 100000000001
  vessl run logs 100000000001 --tail 200 -f
  vessl run logs 100000000001 --timestamps --streams
  vessl run logs 100000000001 --only stdout > out.txt
  vessl run logs 100000000001 --attempt 1"
)]
pub(crate) struct Logs {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Only the last N lines
    #[arg(long, value_name = "N", value_parser = count)]
    tail: Option<u64>,
    /// Stay until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// The log of this attempt instead of the last one; `vessl run read` lists them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Begin every line with the time it arrived
    #[arg(long)]
    timestamps: bool,
    /// Begin every line with its stream: stdout, stderr or system
    #[arg(long)]
    streams: bool,
    /// Only one stream; --tail then counts its lines
    #[arg(long, value_parser = streams(), value_name = "STREAM")]
    only: Option<Stream>,
}

/// The streams of a log.
fn streams() -> impl TypedValueParser<Value = Stream> {
    let help = ["Standard output of the commands", "Standard error of the commands", "Lines of vessl itself"];
    let values = Stream::ALL.iter().zip(help).map(|(one, help)| PossibleValue::new(one.word()).help(help));
    PossibleValuesParser::new(values).try_map(|word| {
        Stream::ALL.into_iter().find(|one| one.word() == word).ok_or("there is no such stream")
    })
}

/// Prints the log.
pub(crate) async fn perform(args: &Logs, session: &Session) -> Result<Exit> {
    let only = args.only;
    let form = LogForm { only, timestamps: args.timestamps, streams: args.streams, sink: Sink::Result };
    let query = LogQuery { from: None, tail: args.tail, only, follow: args.follow, attempt: args.attempt };
    let mut client = session.client().await?;
    let id = find(&mut client, &args.run).await?;
    let who = Follow::Alone(&session.out, form);
    if args.follow {
        follow_to_the_end(&mut client, id, query, who, &session.out).await?;
    } else {
        follow(&mut client, id, query, who).await?;
    }
    Ok(exit::OK)
}
