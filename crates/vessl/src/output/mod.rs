//! The only place that prints. Results go to standard output, as a table, JSON or YAML; messages for people go to standard
//! error. It fetches nothing and decides nothing.
pub(crate) mod differences;
mod format;
pub(crate) mod log;
mod paint;
mod problems;
pub(crate) mod progress;
pub(crate) mod provenance;
pub(crate) mod registry;
pub(crate) mod runs;
mod table;
pub(crate) mod views;

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use clap::ValueEnum;
use nix::sys::stat::fstat;
use serde::Serialize;
use vessl_core::wire::Problem;
use vessl_core::yaml;

use crate::error::{Error, Result};
pub(crate) use format::{bytes, clean};
pub(crate) use paint::Paint;
pub(crate) use table::{Columns, Rows, Table};

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned text for people.
    #[default]
    Table,
    /// JSON, and nothing else, on standard output.
    Json,
    /// YAML, and nothing else, on standard output.
    Yaml,
}

/// Where a command prints.
#[derive(Clone, Debug)]
pub(crate) struct Out {
    format: Format,
    is_terminal: bool,
    is_interactive: bool,
    /// Whether both outputs are the same file, as with `2>&1`.
    is_shared: bool,
    /// Whether the last line before the next one that is said has no end.
    is_open: Arc<AtomicBool>,
}

impl Out {
    /// Looks at the terminal once.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            is_terminal: std::io::stdout().is_terminal(),
            is_interactive: std::io::stderr().is_terminal(),
            is_shared: is_shared(),
            is_open: Arc::default(),
        }
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Whether people read the standard error on a terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        self.is_interactive
    }

    /// Ends a line that commands left open on a terminal, unless the next one that is said does so.
    pub(crate) fn end_line(&self) {
        if self.is_interactive && !self.is_shared {
            self.raw_beside(b"\n");
        }
    }

    /// Prints one object: `rows` as a table, `value` otherwise.
    pub(crate) fn object<T: Serialize>(&self, value: &T, rows: impl FnOnce(&T) -> Rows) -> Result<()> {
        match self.format {
            Format::Table => self.text(&table::object(&rows(value), Paint::new(self.is_terminal))),
            _ => self.data(value),
        }
    }

    /// Prints a list: `columns` as a table, an array otherwise. An empty table says `none`.
    pub(crate) fn list<T: Serialize>(&self, items: &[T], columns: &Columns<T>, none: &str) -> Result<()> {
        match self.format {
            Format::Table if items.is_empty() => {
                self.note(none);
                Ok(())
            }
            Format::Table => self.table(&Table::of(items, columns)),
            _ => self.data(&items),
        }
    }

    /// Prints a table, whatever format was asked for.
    pub(crate) fn table(&self, table: &Table) -> Result<()> {
        self.text(&table::list(table, self.room(), Paint::new(self.is_terminal)))
    }

    /// Columns of the terminal, if results go to one.
    fn room(&self) -> Option<usize> {
        let size = self.is_terminal.then(|| rustix::termios::tcgetwinsize(std::io::stdout()).ok()).flatten();
        size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns > 0)
    }

    /// Prints a value as JSON or YAML; as JSON also where a table was asked for.
    pub(crate) fn data<T: Serialize>(&self, value: &T) -> Result<()> {
        let value =
            serde_json::to_value(value).map_err(|e| Error::Bug(format!("a result has no JSON form: {e}")))?;
        match self.format {
            Format::Yaml => self.text(&yaml::write(&value)),
            _ => self.text(&format!("{value:#}\n")),
        }
    }

    /// Prints one value of a sequence: a line of JSON, or a YAML document.
    pub(crate) fn data_line<T: Serialize>(&self, value: &T) -> Result<()> {
        let value =
            serde_json::to_value(value).map_err(|e| Error::Bug(format!("a result has no JSON form: {e}")))?;
        self.text(&self.line_of(&value))
    }

    fn line_of(&self, value: &serde_json::Value) -> String {
        match self.format {
            Format::Yaml => format!("---\n{}", yaml::write(value)),
            _ => format!("{value}\n"),
        }
    }

    /// Prints text as it is on standard output.
    pub(crate) fn text(&self, text: &str) -> Result<()> {
        self.raw(text.as_bytes())
    }

    /// Writes bytes as they are to standard output.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<()> {
        if let Some(last) = bytes.last().filter(|_| self.is_shared) {
            self.is_open.store(*last != b'\n', Relaxed);
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(write_error)
    }

    /// Writes bytes as they are to standard error.
    pub(crate) fn raw_beside(&self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.is_open.store(*last != b'\n', Relaxed);
        }
        let _ = std::io::stderr().lock().write_all(bytes);
    }

    /// Tells what was done: `words` to a person, `value` to a program.
    pub(crate) fn outcome<T: Serialize>(&self, value: &T, words: &str) -> Result<()> {
        if self.format == Format::Table {
            self.note(words);
            return Ok(());
        }
        self.data(value)
    }

    /// Says one line to a person, on standard error.
    pub(crate) fn note(&self, text: &str) {
        self.print(&format!("{}\n", clean(text)));
    }

    /// Says one line of little weight to a person, on standard error.
    pub(crate) fn dim(&self, text: &str) {
        let paint = Paint::new(self.is_interactive);
        self.print(&format!("{}\n", paint.dim(&clean(text))));
    }

    /// Says that something is not as it should be, though the command goes on.
    pub(crate) fn warn(&self, text: &str) {
        let paint = Paint::new(self.is_interactive);
        self.print(&format!("{}: {}\n", paint.yellow("warning"), clean(text)));
    }

    /// Says problems of the run file `name`, each with its place.
    pub(crate) fn problems(&self, name: &str, problems: &[Problem]) {
        let paint = Paint::new(self.is_interactive);
        self.print(&problems::render(name, problems, paint));
    }

    /// Says an error with its problems, its chain of causes and its hint; as one object where JSON or YAML was asked for.
    pub(crate) fn error(&self, error: &Error) {
        if matches!(error, Error::BrokenPipe) {
            return;
        }
        if self.format != Format::Table {
            let view = serde_json::json!({ "error": ErrorView::of(error) });
            return self.print(&self.line_of(&view));
        }
        let paint = Paint::new(self.is_interactive);
        let name = error.file().unwrap_or("run file");
        let mut text = problems::render(name, error.problems(), paint);
        let _ = writeln!(text, "{}: {}", paint.red("error"), format::clean_lines(&error.to_string()));
        if let Some(hint) = error.hint() {
            let _ = writeln!(text, "{}: {}", paint.cyan("hint"), format::clean_lines(&hint));
        }
        self.print(&text);
    }

    /// Whether somebody is there to answer.
    pub(crate) fn can_ask(&self) -> bool {
        self.is_interactive && std::io::stdin().is_terminal()
    }

    /// Asks for a line; an empty answer is `now`.
    pub(crate) fn ask(&self, question: &str, now: Option<&str>) -> Result<Option<String>> {
        let shown = now.map(|now| format!(" [{}]", clean(now))).unwrap_or_default();
        self.print(&format!("{question}{shown}: "));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map_err(Error::os("read the answer"))?;
        self.is_open.store(false, Relaxed);
        let answer = answer.trim();
        Ok(if answer.is_empty() { now.map(str::to_owned) } else { Some(answer.to_owned()) })
    }

    /// Writes to standard error. Nobody can be told when that fails, so a failure is dropped.
    fn print(&self, text: &str) {
        if !text.is_empty() && self.is_open.swap(false, Relaxed) {
            self.raw_beside(b"\n");
        }
        self.raw_beside(text.as_bytes());
    }
}

fn is_shared() -> bool {
    let file = |stat: nix::sys::stat::FileStat| (stat.st_dev, stat.st_ino);
    let out = fstat(std::io::stdout()).map(file);
    out.is_ok() && out == fstat(std::io::stderr()).map(file)
}

/// An error as programs read it.
#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// The run file that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "<[Problem]>::is_empty")]
    problems: &'a [Problem],
}

impl<'a> ErrorView<'a> {
    fn of(error: &'a Error) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint(),
            file: error.file(),
            problems: error.problems(),
        }
    }
}

/// A failed write to standard output: the reader went away, or the disk is full.
fn write_error(source: std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::BrokenPipe => Error::BrokenPipe,
        _ => Error::Os { what: "write to the standard output".to_owned(), source },
    }
}
