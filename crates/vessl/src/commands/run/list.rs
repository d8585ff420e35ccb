//! `vessl run list`.
use clap::Args;
use vessl_core::run::{EndReason, Status};
use vessl_core::wire::{RunQuery, RunView};

use super::count;
use crate::client::Client;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::views;
use crate::session::Session;

/// Largest page the server gives.
const PAGE: u32 = 1000;

/// Arguments.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  vessl run list
  vessl run list --status running
  vessl run list --reason out_of_memory
  vessl run list --keyword resnet --limit 5
  vessl run list --all --output json | jq '.[].id'")]
pub(crate) struct List {
    /// Only runs with this status
    #[arg(long, value_parser = status, value_name = "STATUS")]
    status: Option<Status>,
    /// Only runs that ended for this reason: a code such as `command_failed` or `lost`
    #[arg(long, value_parser = reason, value_name = "CODE")]
    reason: Option<EndReason>,
    /// Only runs with this text in their name, description or tags
    #[arg(long, value_name = "TEXT")]
    keyword: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = some)]
    limit: u32,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

fn status(text: &str) -> Result<Status, String> {
    let words = || Status::ALL.iter().map(|status| status.word()).collect::<Vec<_>>();
    let found = Status::ALL.iter().find(|status| status.word().eq_ignore_ascii_case(text));
    found.copied().ok_or_else(|| format!("the status words are {}", words().join(", ")))
}

fn reason(text: &str) -> Result<EndReason, String> {
    let words = || EndReason::ALL.iter().map(|code| code.word()).collect::<Vec<_>>();
    let found = EndReason::ALL.iter().find(|code| code.word() == text);
    found.copied().ok_or_else(|| format!("the codes are {}", words().join(", ")))
}

/// One at least.
fn some(text: &str) -> Result<u32, String> {
    match u32::try_from(count(text)?) {
        Ok(0) => Err("it must be 1 or more".to_owned()),
        number => Ok(number.unwrap_or(u32::MAX)),
    }
}

/// Lists them.
pub(crate) async fn perform(args: &List, session: &Session) -> Result<Exit> {
    let limit = if args.all { u32::MAX } else { args.limit };
    let (status, reason) = (args.status, args.reason);
    let query = RunQuery { status, reason, keyword: args.keyword.clone(), ..RunQuery::default() };
    let runs = pages(&mut session.client().await?, query, limit).await?;
    session.out.list(&runs, views::RUNS, &none(args))?;
    Ok(exit::OK)
}

/// Says that there is nothing of what was asked for.
fn none(args: &List) -> String {
    let status = args.status.map(|status| format!("with the status `{}`", status.word()));
    let keyword = args.keyword.as_ref().map(|keyword| format!("with `{keyword}` in its texts"));
    let reason = args.reason.map(|code| format!("that ended with `{}`", code.word()));
    let asked: Vec<String> = [status, reason, keyword].into_iter().flatten().collect();
    if asked.is_empty() {
        return "there are no runs; `vessl run create -f FILE` makes one".to_owned();
    }
    format!("there is no run {}; `vessl run list --all` shows every run", asked.join(" and "))
}

/// Fetches page after page until `limit` runs are there or no more exist.
async fn pages(client: &mut Client, mut query: RunQuery, limit: u32) -> Result<Vec<RunView>> {
    let mut runs: Vec<RunView> = Vec::new();
    loop {
        let left = limit.saturating_sub(u32::try_from(runs.len()).unwrap_or(u32::MAX));
        let want = left.min(PAGE);
        query.limit = Some(want);
        query.before = runs.last().map(|run| run.id.0);
        let page = client.runs(&query).await?;
        let last = page.len() < usize::try_from(want).unwrap_or(usize::MAX) || want == left;
        runs.extend(page);
        if last {
            return Ok(runs);
        }
    }
}
