//! `vessl run list`.
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use vessl_core::ids::RunId;
use vessl_core::run::{EndReason, Status};
use vessl_core::units::Span;
use vessl_core::wire::{RunQuery, RunSort};

use super::count;
use crate::client::{Client, Page};
use crate::commands::completion;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::runs::{Column, table};
use crate::output::{Format, Out};
use crate::session::Session;

/// Largest page the server gives.
const PAGE: u32 = 1000;
/// Runs that are listed when nobody says how many.
const USUAL: u32 = 100;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "A run is listed if everything that is asked for holds for it. JSON and YAML have every field of each \
run, whatever --columns says; values of secret variables are null.

Examples:
  vessl run list
  vessl run list --status failed,terminated --since 24h
  vessl run list --tag sweep-1 --columns id,env.LR,status,time --sort time
  vessl run list --name 'resnet-*' --reason out_of_memory
  vessl run terminate $(vessl run list -q --tag sweep-1)
  vessl run list --all --output json | jq '.[].env.LR'"
)]
pub(crate) struct List {
    /// Only runs with one of these statuses; may be given more than once
    #[arg(long, value_parser = status, value_name = "STATUS", value_delimiter = ',',
        add = ArgValueCandidates::new(|| completion::words(Status::ALL.iter().map(|status| status.word()))))]
    status: Vec<Status>,
    /// Only runs that ended for this reason: a code such as `command_failed` or `lost`
    #[arg(long, value_parser = reason, value_name = "CODE",
        add = ArgValueCandidates::new(|| completion::words(EndReason::ALL.iter().map(|code| code.word()))))]
    reason: Option<EndReason>,
    /// Only runs with this tag; given more than once, with all of them
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only runs of this name, in which `*` stands for any text
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only runs with this text in their name, description or tags
    #[arg(long, value_name = "TEXT")]
    keyword: Option<String>,
    /// Only runs submitted since then: a time ago like `90m` or `7d`, or a date like `2026-01-31` or `2026-01-31T08:00`
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// What comes first: the newest (created), name, status, the last to start (started) or to end (ended), the longest (time)
    #[arg(long, value_name = "KEY", value_parser = sort, default_value = "created", hide_default_value = true,
        add = ArgValueCandidates::new(|| completion::words(RunSort::ALL.iter().map(|sort| sort.word()))))]
    sort: RunSort,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Columns of the table, with commas between them: id, name, status, …, and `env.NAME` for a variable
    #[arg(long, value_name = "COLUMNS", value_parser = Column::read, value_delimiter = ',',
        add = ArgValueCandidates::new(|| completion::words(Column::names())))]
    columns: Vec<Column>,
    /// Print the ids alone
    #[arg(short, long)]
    quiet: bool,
    /// At most this many; without it 100, and with -q all
    #[arg(long, value_name = "N", value_parser = some)]
    limit: Option<u32>,
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

fn sort(text: &str) -> Result<RunSort, String> {
    let words = || RunSort::ALL.iter().map(|sort| sort.word()).collect::<Vec<_>>();
    let found = RunSort::ALL.iter().find(|sort| sort.word() == text);
    found.copied().ok_or_else(|| format!("runs are sorted by {}", words().join(", ")))
}

/// Reads a moment: a time ago, or a date of the local time zone.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(Span(millis)) = text.parse() {
        let ago = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        return Ok(Timestamp::now().checked_sub(ago).unwrap_or(Timestamp::UNIX_EPOCH));
    }
    let of_zone = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok();
    let at = text.parse().ok().or_else(|| of_zone().map(|at| at.timestamp()));
    at.ok_or_else(|| "write it like `90m`, `7d`, `2026-01-31` or `2026-01-31T08:00`".to_owned())
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
    // What is listed for another command is all there is, unless somebody says how many.
    let limit = args.limit.unwrap_or(if args.all || args.quiet { u32::MAX } else { USUAL });
    let out = &session.out;
    let columns = if args.columns.is_empty() { Column::usual() } else { args.columns.clone() };
    let has_env = columns.iter().any(|column| matches!(column, Column::Env(_)));
    let query = RunQuery {
        status: args.status.clone(),
        reason: args.reason,
        keyword: args.keyword.clone(),
        tag: args.tag.clone(),
        name: args.name.clone(),
        since: args.since,
        sort: args.sort,
        reverse: args.reverse,
        env: !args.quiet && (has_env || out.format() != Format::Table),
        ..RunQuery::default()
    };
    // One more shows whether there are more.
    let Page { mut runs, unreadable } =
        pages(&mut session.client().await?, query, limit.saturating_add(1)).await?;
    note_unreadable(out, &unreadable);
    let listed = usize::try_from(limit).unwrap_or(usize::MAX);
    if runs.len() + unreadable.len() > listed {
        runs.truncate(listed);
        out.note(&format!("only {listed} runs are listed; `--all` lists the others too"));
    }
    match (args.quiet, out.format()) {
        (true, Format::Table) => {
            let ids: Vec<String> = runs.iter().map(|run| run.id.0.to_string() + "\n").collect();
            out.text(&ids.concat())
        }
        (true, _) => out.data(&runs.iter().map(|run| run.id).collect::<Vec<_>>()),
        (false, Format::Table) if runs.is_empty() => {
            out.note(&none(args));
            Ok(())
        }
        (false, Format::Table) => out.table(&table(&runs, &columns)),
        (false, _) => out.data(&runs),
    }?;
    Ok(exit::OK)
}

/// Says that there is nothing of what was asked for.
fn none(args: &List) -> String {
    let words: Vec<&str> = args.status.iter().map(|status| status.word()).collect();
    let status = (!words.is_empty()).then(|| format!("with the status `{}`", words.join("` or `")));
    let tags = args.tag.iter().map(|tag| format!("with the tag `{tag}`"));
    let name = args.name.as_ref().map(|name| format!("of the name `{name}`"));
    let keyword = args.keyword.as_ref().map(|keyword| format!("with `{keyword}` in its texts"));
    let reason = args.reason.map(|code| format!("that ended with `{}`", code.word()));
    let since = args.since.map(|since| format!("submitted since {}", crate::output::views::moment(since)));
    let asked: Vec<String> =
        [status, reason, keyword, name, since].into_iter().flatten().chain(tags).collect();
    if asked.is_empty() {
        return "there are no runs; `vessl run create -f FILE` makes one".to_owned();
    }
    format!("there is no run {}; `vessl run list --all` shows every run", asked.join(" and "))
}

/// Says which runs are left out because the server cannot read them.
pub(super) fn note_unreadable(out: &Out, unreadable: &[RunId]) {
    let ids: Vec<String> = unreadable.iter().map(|id| format!("`{}`", id.0)).collect();
    if let Some(first) = ids.first() {
        out.warn(&format!(
            "not listed, because the server cannot read them: {}; `vessl run read {}` says why",
            ids.join(", "),
            first.trim_matches('`')
        ));
    }
}

/// Fetches page after page until `limit` runs are there or no more exist.
pub(super) async fn pages(client: &mut Client, mut query: RunQuery, limit: u32) -> Result<Page> {
    let mut all = Page::default();
    loop {
        let had = u32::try_from(all.runs.len() + all.unreadable.len()).unwrap_or(u32::MAX);
        let left = limit.saturating_sub(had);
        let want = left.min(PAGE);
        query.limit = Some(want);
        // What is submitted meanwhile moves no page that goes on behind an id.
        match (query.sort, query.reverse) {
            (RunSort::Created, false) => {
                let ids = all.runs.iter().map(|run| run.id).chain(all.unreadable.iter().copied());
                query.before = ids.min().map(|id| id.0);
            }
            _ => query.offset = Some(had),
        }
        let page = client.page(&query).await?;
        let count = page.runs.len() + page.unreadable.len();
        let last = count < usize::try_from(want).unwrap_or(usize::MAX) || want == left;
        all.runs.extend(page.runs);
        all.unreadable.extend(page.unreadable);
        if last {
            return Ok(all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_ago_or_a_date() {
        let ago = |text: &str| Timestamp::now().as_second() - since(text).unwrap().as_second();
        assert!((3600..3660).contains(&ago("1h")) && (7 * 86400..7 * 86400 + 60).contains(&ago("7d")));
        assert_eq!(since("2026-01-31T08:00:00Z").unwrap().as_second(), 1_769_846_400);
        let local = |text: &str| since(text).unwrap().to_zoned(TimeZone::system()).datetime().to_string();
        assert_eq!(local("2026-01-31"), "2026-01-31T00:00:00");
        assert_eq!(local("2026-01-31T08:00"), "2026-01-31T08:00:00");
        for wrong in ["", "yesterday", "7", "2026-13-01"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
