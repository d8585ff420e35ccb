//! `vessl run compare`.
use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::wire::RunQuery;

use super::list::{note_unreadable, pages};
use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::output::runs::{Column, Comparison};
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(false).args(["runs", "tag"]))]
#[command(
    after_help = "The columns are what the runs differ in (variables, image, commit, preset, amounts), and how each ended. \
Values of secret variables are not compared.

Examples:
  vessl run compare 100000000001 100000000002
  vessl run compare --tag sweep-1 --sort time
  vessl run compare --tag sweep-1 --sort env.LR --csv > sweep.csv
  vessl run compare --tag sweep-1 --output json | jq '.runs[].differs'"
)]
pub(crate) struct Compare {
    /// Ids or names of the runs
    #[arg(value_parser = run_name, value_name = "ID", num_args = 2.., add = ArgValueCompleter::new(completion::runs))]
    runs: Vec<RunName>,
    /// All runs with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Column that the rows are sorted by, like `time` or `env.LR`; numbers by their size
    #[arg(long, value_name = "COLUMN", value_parser = Column::read)]
    sort: Option<Column>,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

/// Fetches the runs and shows what they differ in.
pub(crate) async fn perform(args: &Compare, session: &Session) -> Result<Exit> {
    let (client, out) = (&mut session.client().await?, &session.out);
    let mut runs = Vec::new();
    for name in &args.runs {
        let id = find(client, name).await?;
        runs.push(client.run(id).await?);
    }
    if !args.tag.is_empty() {
        let query = RunQuery { tag: args.tag.clone(), env: true, ..RunQuery::default() };
        let page = pages(client, query, u32::MAX).await?;
        note_unreadable(out, &page.unreadable);
        runs = page.runs;
    }
    if runs.is_empty() {
        let message = format!("there is no run with the tag `{}`", args.tag.join("` and `"));
        return Err(Error::not_found(
            message,
            "`vessl run list --columns id,name,tags` shows the tags there are",
        ));
    }
    let mut comparison = Comparison::of(runs);
    if let Some(column) = &args.sort {
        comparison.sort(column, args.reverse);
    } else if args.reverse {
        comparison.runs.reverse();
    }
    match out.format() {
        _ if args.csv => out.text(&comparison.csv())?,
        Format::Table => {
            out.table(&comparison.table())?;
            if comparison.differs.is_empty() {
                out.note("they differ in no variable, image, commit, preset or amount");
            }
        }
        _ => out.data(&comparison.json())?,
    }
    Ok(exit::OK)
}
