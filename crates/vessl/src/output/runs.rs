//! Runs as rows of a table: the columns that there are, and those that somebody chose. It knows no commands.
use jiff::Timestamp;
use vessl_core::wire::RunView;

use super::format::{between, bytes, cores, short};
use super::views::gpus;
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

    /// Its heading.
    pub(crate) fn head(&self) -> String {
        match self {
            Self::Known(name) => name.to_uppercase(),
            Self::Env(key) => format!("env.{key}"),
        }
    }

    /// What stands in it.
    pub(crate) fn cell(&self, run: &RunView) -> String {
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
