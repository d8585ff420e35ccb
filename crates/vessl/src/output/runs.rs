//! Runs as rows of a table: the columns that there are, and those that somebody chose. It knows no commands.
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::json;
use vessl_core::wire::RunView;

use super::format::{between, bytes, cores, short};
use super::views::{from, gpus};
use super::{Format, Out, Table};
use crate::error::Result;

/// A column: what it is called, and what stands in it.
type Cell = fn(&RunView) -> String;

/// Every column there is, beside those of variables.
const ALL: &[(&str, Cell)] = &[
    ("id", |r| r.id.0.to_string()),
    ("name", |r| r.name.clone()),
    ("type", |r| r.kind.to_string()),
    ("status", |r| r.status.word().to_owned()),
    ("created", |r| moment(Some(r.created_at))),
    ("started", |r| moment(r.started_at)),
    ("ended", |r| moment(r.ended_at)),
    ("time", |r| between(r.started_at, r.ended_at.unwrap_or_else(Timestamp::now))),
    ("reason", |r| r.reason.clone()),
    ("reason_code", |r| r.reason_code.map(|code| code.word().to_owned()).unwrap_or_default()),
    ("exit_code", |r| r.exit_code.map(|code| code.to_string()).unwrap_or_default()),
    ("attempt", |r| r.attempt.to_string()),
    ("tags", |r| r.tags.join(", ")),
    ("description", |r| r.description.clone().unwrap_or_default()),
    ("created_by", |r| r.created_by.clone().unwrap_or_default()),
    ("from", |r| r.from.map(from).unwrap_or_default()),
    ("cluster", |r| r.cluster.clone()),
    ("node", |r| r.node.clone().unwrap_or_default()),
    ("preset", |r| r.preset.clone().unwrap_or_default()),
    ("cpu", |r| cores(r.resources.cpu_milli)),
    ("memory", |r| bytes(r.resources.memory)),
    ("gpu", |r| gpus(&r.resources)),
    ("image", |r| r.image.clone()),
    ("digest", |r| r.image_digest.clone().unwrap_or_default()),
    ("commit", |r| r.commit.as_deref().map(abbreviated).unwrap_or_default()),
];

/// Those of `vessl run list` when nobody chose.
const USUAL: &[&str] = &["id", "name", "status", "created", "time", "reason"];

fn moment(at: Option<Timestamp>) -> String {
    at.map(|at| short(at, Timestamp::now())).unwrap_or_default()
}

/// As git shows a commit.
fn abbreviated(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// One column that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    /// One of those that every run has.
    Known(&'static str),
    /// A variable of the run.
    Env(String),
}

impl Column {
    /// Those of `vessl run list` when nobody chose.
    pub(crate) fn usual() -> Vec<Self> {
        USUAL.iter().map(|name| Self::Known(name)).collect()
    }

    /// The names of all that every run has.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|(name, _)| *name)
    }

    /// Reads one from the command line.
    pub(crate) fn read(text: &str) -> std::result::Result<Self, String> {
        if let Some(key) = text.strip_prefix("env.").filter(|key| !key.is_empty()) {
            return Ok(Self::Env(key.to_owned()));
        }
        let known = Self::names().find(|name| *name == text).map(Self::Known);
        known.ok_or_else(|| {
            format!("the columns are {} and `env.NAME`", Self::names().collect::<Vec<_>>().join(", "))
        })
    }

    /// As the command line calls it.
    fn name(&self) -> String {
        match self {
            Self::Known(name) => (*name).to_owned(),
            Self::Env(key) => format!("env.{key}"),
        }
    }

    /// Its heading.
    fn head(&self) -> String {
        match self {
            Self::Known(name) => name.to_uppercase(),
            Self::Env(_) => self.name(),
        }
    }

    /// What stands in it.
    pub(super) fn cell(&self, run: &RunView) -> String {
        match self {
            Self::Known(name) => ALL.iter().find(|(known, _)| known == name).map(|(_, cell)| cell(run)),
            Self::Env(key) => run
                .env
                .as_ref()
                .and_then(|env| env.get(key))
                .map(|value| value.clone().unwrap_or_else(|| "(secret)".to_owned())),
        }
        .unwrap_or_default()
    }
}

/// Prints runs as `vessl run list` does when nobody chose.
pub(crate) fn print(runs: &[RunView], out: &Out) -> Result<()> {
    match out.format() {
        Format::Table => out.table(&table(runs, &Column::usual())),
        _ => out.data(&runs),
    }
}

/// Runs with these columns.
pub(crate) fn table(runs: &[RunView], columns: &[Column]) -> Table {
    let row = |run: &RunView| columns.iter().map(|column| column.cell(run)).collect();
    Table { heads: columns.iter().map(Column::head).collect(), body: runs.iter().map(row).collect() }
}

/// What runs can differ in, beside their variables.
const COMPARED: &[&str] = &["type", "cluster", "preset", "cpu", "memory", "gpu", "image", "digest", "commit"];

/// Runs beside each other.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// In the order in which they are shown.
    pub(crate) runs: Vec<RunView>,
    /// What they differ in.
    pub(crate) differs: Vec<Column>,
}

impl Comparison {
    /// Looks for what these differ in.
    pub(crate) fn of(runs: Vec<RunView>) -> Self {
        let keys: BTreeSet<&String> =
            runs.iter().filter_map(|run| run.env.as_ref()).flat_map(BTreeMap::keys).collect();
        let known = COMPARED.iter().map(|name| Column::Known(name));
        let candidates = keys.into_iter().cloned().map(Column::Env).chain(known);
        let differs = |column: &Column| {
            let mut cells = runs.iter().map(|run| column.cell(run));
            let first = cells.next();
            cells.any(|cell| Some(cell) != first)
        };
        let mut differs: Vec<Column> = candidates.filter(differs).collect();
        // Images that differ have digests that differ.
        if differs.contains(&Column::Known("image")) {
            differs.retain(|column| *column != Column::Known("digest"));
        }
        Self { runs, differs }
    }

    /// Sorts the rows: numbers by their size, before texts; what is empty comes last, either way.
    pub(crate) fn sort(&mut self, column: &Column, reverse: bool) {
        let keyed = std::mem::take(&mut self.runs).into_iter().map(|run| (column.sort_key(&run), run));
        let (mut with, without): (Vec<_>, Vec<_>) = keyed.partition(|(key, _)| key.is_some());
        with.sort_by(|(one, _), (two, _)| {
            let (one, two) = (one.as_ref(), two.as_ref());
            if reverse { order(two, one) } else { order(one, two) }
        });
        self.runs = with.into_iter().chain(without).map(|(_, run)| run).collect();
    }

    fn columns(&self) -> Vec<Column> {
        let known = |names: &[&'static str]| names.iter().map(|name| Column::Known(name)).collect::<Vec<_>>();
        [known(&["id", "name"]), self.differs.clone(), known(&["status", "exit_code", "time"])].concat()
    }

    /// Its rows for people.
    pub(crate) fn table(&self) -> Table {
        table(&self.runs, &self.columns())
    }

    /// Its rows for a spreadsheet (RFC 4180); times in seconds.
    pub(crate) fn csv(&self) -> String {
        let columns = self.columns();
        let cell = |run: &RunView, column: &Column| match column {
            Column::Known("time") => {
                millis(run).map(|millis| format!("{:.3}", as_number(millis) / 1000.0)).unwrap_or_default()
            }
            Column::Known("memory") => run.resources.memory.to_string(),
            other => other.cell(run),
        };
        let heads = columns.iter().map(Column::name).collect();
        let rows = self.runs.iter().map(|run| columns.iter().map(|column| cell(run, column)).collect());
        std::iter::once(heads).chain(rows).map(|row: Vec<String>| csv_line(&row)).collect()
    }

    /// The same for programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let differs = |run: &RunView| -> serde_json::Map<String, serde_json::Value> {
            self.differs.iter().map(|column| (column.name(), column.value(run))).collect()
        };
        let one = |run: &RunView| {
            json!({
                "id": run.id, "name": run.name, "differs": differs(run), "status": run.status,
                "reason_code": run.reason_code, "exit_code": run.exit_code, "time_millis": millis(run),
            })
        };
        let names: Vec<String> = self.differs.iter().map(Column::name).collect();
        json!({ "differs": names, "runs": self.runs.iter().map(one).collect::<Vec<_>>() })
    }
}

/// Time from the start of its commands to its end.
fn millis(run: &RunView) -> Option<i64> {
    Some(run.ended_at?.as_millisecond() - run.started_at?.as_millisecond())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "it is only compared and shown, and days have few milliseconds"
)]
fn as_number(number: i64) -> f64 {
    number as f64
}

fn csv_line(cells: &[String]) -> String {
    let needs_quotes = |cell: &String| cell.contains([',', '"', '\n', '\r']);
    let quoted = |cell: &String| {
        if needs_quotes(cell) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
    };
    cells.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n"
}

/// What a row is sorted by: a number, or a text, which comes after all numbers.
type SortKey = (f64, String);

fn order(one: Option<&SortKey>, two: Option<&SortKey>) -> Ordering {
    match (one, two) {
        (Some((one, text)), Some((two, other))) => one.total_cmp(two).then_with(|| text.cmp(other)),
        _ => one.is_none().cmp(&two.is_none()),
    }
}

impl Column {
    fn sort_key(&self, run: &RunView) -> Option<SortKey> {
        let moment = |at: Timestamp| (as_number(at.as_millisecond()), String::new());
        match self {
            Self::Known("created") => Some(moment(run.created_at)),
            Self::Known("started") => run.started_at.map(moment),
            Self::Known("ended") => run.ended_at.map(moment),
            Self::Known("time") => millis(run).map(|millis| (as_number(millis), String::new())),
            Self::Known("memory") => {
                let bytes = i64::try_from(run.resources.memory).unwrap_or(i64::MAX);
                Some((as_number(bytes), String::new()))
            }
            _ => Some(self.cell(run)).filter(|cell| !cell.is_empty()).map(|cell| match cell.parse::<f64>() {
                Ok(number) if number.is_finite() => (number, cell),
                _ => (f64::INFINITY, cell),
            }),
        }
    }

    /// What stands in it, for programs: a variable that is secret is null, and one that is not there too.
    fn value(&self, run: &RunView) -> serde_json::Value {
        match self {
            Self::Env(key) => json!(run.env.as_ref().and_then(|env| env.get(key))),
            Self::Known("cpu") => json!(run.resources.cpu_milli),
            Self::Known("memory") => json!(run.resources.memory),
            Self::Known("gpu") => json!(run.resources.gpus),
            Self::Known("commit") => json!(run.commit),
            Self::Known("digest") => json!(run.image_digest),
            Self::Known(_) => json!(self.cell(run)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spreadsheet_reads_every_text() {
        let check = |cells: &[&str], expected: &str| {
            assert_eq!(csv_line(&cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>()), expected);
        };
        check(&["1", "", "two words"], "1,,two words\r\n");
        check(&["a,b", "say \"x\"", "a\nb"], "\"a,b\",\"say \"\"x\"\"\",\"a\nb\"\r\n");
    }

    #[test]
    fn numbers_come_by_their_size_and_before_texts() {
        let key = |text: &str| match text.parse::<f64>() {
            Ok(number) => Some((number, text.to_owned())),
            Err(_) => Some((f64::INFINITY, text.to_owned())),
        };
        let mut keys: Vec<Option<SortKey>> = ["b", "10", "1e-3", "9", "a"].into_iter().map(key).collect();
        keys.push(None);
        keys.sort_by(|one, two| order(one.as_ref(), two.as_ref()));
        let texts: Vec<String> =
            keys.into_iter().map(|key| key.map_or("-".to_owned(), |(_, text)| text)).collect();
        assert_eq!(texts, ["1e-3", "9", "10", "a", "b", "-"]);
    }

    #[test]
    fn columns_are_read_by_name() {
        assert_eq!(Column::read("status"), Ok(Column::Known("status")));
        assert_eq!(Column::read("env.LR"), Ok(Column::Env("LR".to_owned())));
        for wrong in ["", "env.", "colour", "STATUS"] {
            assert!(Column::read(wrong).unwrap_err().starts_with("the columns are id, name, "), "{wrong}");
        }
    }
}
