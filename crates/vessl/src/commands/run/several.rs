//! The runs that a command is given: one or several, each by its id or by its name.
use vessl_core::ids::RunId;
use vessl_core::wire::{ErrorBody, RunQuery, RunView};

use super::watch::{self, WatchResult};
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::exit::{self, Exit};
use crate::output::runs::{Column, table};
use crate::output::{Format, Out, clean, views};

/// Runs of one name that are looked for.
const PAGE: u32 = 100;
/// Of those, so many are named.
const NAMED: usize = 10;

/// A run as somebody names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RunName {
    /// By its id.
    Id(RunId),
    /// By its name, which no other run has.
    Name(String),
}

/// Reads one from the command line: a number is an id.
pub(super) fn run_name(text: &str) -> Result<RunName, String> {
    match text.trim_start_matches('#').parse() {
        Ok(id) => Ok(RunName::Id(RunId(id))),
        Err(_) if text.trim().is_empty() => Err("a run has an id or a name, see `vessl run list`".to_owned()),
        Err(_) => Ok(RunName::Name(text.to_owned())),
    }
}

/// The id of a run that is named.
pub(super) async fn find(client: &mut Client, named: &RunName) -> Result<RunId> {
    let name = match named {
        RunName::Id(id) => return Ok(*id),
        RunName::Name(name) => name,
    };
    let query = RunQuery { name: Some(name.clone()), limit: Some(PAGE), ..RunQuery::default() };
    let mut found = client.runs(&query).await?;
    // Where the name has a `*`, it found others too.
    found.retain(|run| run.name == *name);
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => Err(Error::not_found(
            format!("there is no run `{}`", clean(name)),
            "`vessl run list` shows the runs there are; one is named by its id or its name",
        )),
        several => Err(ambiguous(name, several)),
    }
}

fn ambiguous(name: &str, runs: &[RunView]) -> Error {
    let ids: Vec<String> = runs.iter().take(NAMED).map(|run| run.id.0.to_string()).collect();
    let more = if runs.len() > NAMED { ", …" } else { "" };
    let body = ErrorBody {
        code: "ambiguous".to_owned(),
        message: format!("several runs are called `{}`: {}{more}", clean(name), ids.join(", ")),
        hint: Some("name one of them by its id".to_owned()),
        problems: Vec::new(),
    };
    Error::Refused { status: 409, body: Box::new(body) }
}

/// Does something with each of these runs, in order. What is refused of one is said, and the others are done all the same.
pub(super) async fn each<T>(
    client: &mut Client,
    names: &[RunName],
    out: &Out,
    mut work: impl AsyncFnMut(&mut Client, RunId) -> Result<T>,
) -> Result<(Vec<T>, Exit)> {
    let (mut done, mut exit) = (Vec::new(), exit::OK);
    for name in names {
        let one = match find(client, name).await {
            Ok(id) => work(client, id).await,
            Err(error) => Err(error),
        };
        match one {
            Ok(one) => done.push(one),
            Err(refused) if refused.kind() == Kind::Refused => {
                exit = exit::of_error(&refused);
                out.error(&refused);
            }
            Err(error) => return Err(error),
        }
    }
    Ok((done, exit))
}

/// Waits until all of these have ended, and gives them as they are then; `None` if a person left before.
pub(super) async fn until_ended(
    client: &mut Client,
    runs: Vec<RunView>,
    out: &Out,
) -> Result<Option<Vec<RunView>>> {
    let mut ended = Vec::with_capacity(runs.len());
    for run in runs {
        if run.status.is_final() {
            ended.push(run);
            continue;
        }
        match watch::wait(client, run.id, out).await? {
            WatchResult::Ended(run, _) => ended.push(*run),
            WatchResult::Left => return Ok(None),
        }
    }
    Ok(Some(ended))
}

/// Shows what became of the runs that were named: one as an object, several as a list.
pub(super) fn show(names: &[RunName], runs: &[RunView], out: &Out) -> Result<()> {
    match (names, runs) {
        ([_], [one]) => out.object(one, views::run_head),
        ([_], _) => Ok(()),
        _ if out.format() != Format::Table => out.data(&runs),
        (_, []) => Ok(()),
        _ => out.table(&table(runs, &Column::usual())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_an_id_and_anything_else_a_name() {
        let check =
            |text: &str, expected: Option<RunName>| assert_eq!(run_name(text).ok(), expected, "{text}");
        check("100000000001", Some(RunName::Id(RunId(100_000_000_001))));
        check("#7", Some(RunName::Id(RunId(7))));
        check("7b", Some(RunName::Name("7b".to_owned())));
        check("two words", Some(RunName::Name("two words".to_owned())));
        check("", None);
        check(" ", None);
    }
}
