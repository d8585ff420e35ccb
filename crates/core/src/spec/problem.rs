//! Problems of a run file: their stable codes, and the list that one reading collects. It knows no field of the file.
use crate::problem::{Level, Problem, define_codes};

use super::redact;
use super::source::{Location, Source};

/// Most problems that one reading reports; a last one says how many were left out.
pub(super) const MOST: usize = 200;

define_codes! {
    // the text
    Unreadable, "unreadable", "The file cannot be read.", "Name a file that exists, that is no directory, and that you may read.";
    TooLarge, "too-large", "The file is larger than 1 MiB, or has more than 2 MiB of text with its aliases and merge keys followed.", "Move scripts and data out of the file and import them.";
    NotUtf8, "not-utf8", "The file is not UTF-8 text.", "Save it as UTF-8.";
    ControlCharacter, "control-character", "A character that YAML does not allow stands in the text or, escaped, in a value that cannot hold it.", "Delete it, or write it as an escape in a double-quoted value.";
    Empty, "empty", "The file says nothing.", "Begin with `name` and `image`.";
    Tab, "tab", "A tab is used as indentation; it was read as two spaces.", "Indent with spaces.";
    // YAML
    Syntax, "syntax", "The text is not YAML.", "Repair the place that is shown; the mistake may be on the line before.";
    Placeholder, "placeholder", "A template's placeholder was not filled in: `{NAME}`, `<<NAME>>`, `{{ name }}`.", "Put the real value there, or quote the text if it is meant as it stands.";
    TooDeep, "too-deep", "Lists and maps are nested more than 64 deep, aliases followed.", "Flatten them.";
    TooManyNodes, "too-many-nodes", "The file has more than 100 000 values (aliases and merge keys followed), 10 000 anchors, or 10 000 paths in one section.", "Use fewer aliases, or move the data out of the file.";
    UnknownAlias, "unknown-alias", "`*name` refers to an anchor that is not defined above.", "Define it with `&name` first, or quote the text if it is meant as it stands.";
    RecursiveAlias, "recursive-alias", "An alias stands inside the value that it refers to.", "Write the value out.";
    BadMerge, "bad-merge", "The value of the merge key `<<` is not a map or a list of maps.", "Write `<<: *name`, where `name` is a map.";
    UnknownTag, "unknown-tag", "A YAML tag (`!name`) that has no meaning here.", "Remove the tag, or quote the text if it is meant as it stands.";
    ManyDocuments, "many-documents", "The file has more than one YAML document.", "Put each run into its own file.";
    DuplicateKey, "duplicate-key", "A key stands twice in one map.", "Keep one of them.";
    BadKey, "bad-key", "The key of a map is not text.", "Use plain text as the key.";
    // the kind of file
    NotARun, "not-a-run", "The file holds something else than a map.", "Begin with `name:` and `image:`.";
    ServiceFile, "service-file", "The file describes a service of the hosted product, which is not a run.", "Remove `service` and `autoscaling`, and add `ports`, to run it as a run.";
    PipelineFile, "pipeline-file", "The file describes a pipeline of the hosted product, which is not a run.", "Submit each step's `run_spec` as its own file.";
    // keys and values
    UnknownKey, "unknown-key", "A key that has no meaning at this place.", "Correct it as suggested; `--lenient` only warns.";
    MissingKey, "missing-key", "A required key is missing or empty.", "Add it.";
    WrongType, "wrong-type", "The value is text, a list or a map where something else is needed.", "Write it in the form that is shown.";
    BadValue, "bad-value", "The value is of the right type but not one of the possible ones.", "Use one of those that are shown.";
    BadAmount, "bad-amount", "A number, amount or duration that cannot be read or is out of range.", "Write it in one of the forms that are shown.";
    Conflict, "conflict", "Two keys contradict each other, or the same thing is said twice.", "Keep one of them.";
    // data
    BadPath, "bad-path", "A path is relative, contains `..`, or belongs to the container itself.", "Use an absolute path of your own, such as `/data`.";
    DuplicatePath, "duplicate-path", "A container path stands twice in a section, or in both `import` and `mount`.", "Keep one of them, or use another path.";
    UnknownScheme, "unknown-scheme", "A source or target begins with a prefix that does not exist, or with none.", "Use one of those that are shown.";
    WrongSection, "wrong-section", "This kind of source or target cannot be used in this section.", "Move it to a section that is shown.";
    BadSource, "bad-source", "A source or target does not have the parts that its kind needs.", "Write it in the form that is shown.";
    SecretInUrl, "secret-in-url", "A URL carries a user name or password.", "Store it with `vessl credential create` and name it in `credential_name`.";
    BadEnvName, "bad-env-name", "A name in `env` is empty or contains `=` or NUL.", "Use letters, digits and `_`.";
    // accepted, with a warning
    DatasetReadonly, "dataset-readonly", "A mounted dataset is always read-only.", "Import it to get a copy that can be written.";
    DuplicatePort, "duplicate-port", "A port is listed twice; the entries were merged.", "Keep one of them.";
    ImplicitPort, "implicit-port", "22 and 8888 are always open in an interactive run.", "Remove the entry.";
    JupyterSlip, "jupyter-slip", "`idle_timeout` stands beside `jupyter` and was read as if it stood in it.", "Indent it below `jupyter`.";
    NoName, "no-name", "An imported or exported artifact is not fully named.", "Write `vessl-artifact://organization/project/name`.";
    WhiteSpace, "white-space", "White space in an address was left out.", "Remove it.";
    ShortForm, "short-form", "Text stands where a map is expected and was read as its main value.", "Write the map.";
    EmptyVariable, "empty-variable", "A variable in `env` has no value (`NAME:`, `~`, `null`); it is set, and empty.", "Write `NAME: \"\"` if that is meant, else remove it or give it a value.";
    UnseenFailure, "unseen-failure", "A command of an item can fail without the run failing: an item is judged by its last command, a pipe by its last part.", "Begin with the item `set -euo pipefail`, or submit with `--strict`.";
    OldVolumes, "old-volumes", "`volumes` of 2023 was read as `import` and `export`.", "Write it as shown.";
    OldResources, "old-resources", "`accelerators`, `cpu`, `memory` or `disk` of 2023 was read as `requests`.", "Write it as shown.";
    OldInteractive, "old-interactive", "`interactive.runtime` or `interactive.ports` of 2023 was read as the modern key.", "Write it as shown.";
    // the list itself
    TooManyProblems, "too-many-problems", "The file has more problems than are shown.", "Repair these and read the file again.";
}

/// A problem before it has its place: what is wrong and what to do.
pub(super) struct Report {
    pub(super) code: Code,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Report {
    /// A report without a hint.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// The same report that also says what to do.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The problems of one reading.
#[derive(Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    errors: usize,
    left_out: usize,
}

impl Problems {
    /// Whether the file is refused.
    pub(super) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Forgets what was found so far, because one problem explains it all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether another problem would be shown. If not, it is counted, and need not be put into words.
    pub(super) fn has_room(&mut self, level: Level) -> bool {
        let room = self.found.len() + 1 < MOST;
        if !room {
            self.left_out += 1;
            self.errors += usize::from(level == Level::Error);
        }
        room
    }

    /// Adds a problem at a place of `source`; `path` says which value it is about.
    pub(super) fn add(&mut self, source: &Source<'_>, at: (Location, &str), level: Level, report: Report) {
        if level == Level::Error {
            self.errors += 1;
        }
        // The last place is kept for an error, so that warnings never hide why a file was refused.
        if self.found.len() >= MOST || (self.found.len() + 1 == MOST && self.errors == 0) {
            self.left_out += 1;
            return;
        }
        let (place, mut path) = at;
        let Report { code, mut message, mut hint } = report;
        let (shown, hidden) = redact::line(source, place, path);
        if let Some(values) = hidden {
            path = path.split('=').next().unwrap_or_default();
            message = redact::message(&message, path);
            hint = hint.map(|hint| redact::hint(&hint, values));
        }
        let (line, column) = (place.line, place.column);
        self.found.push(Problem { line, column, hint, source: shown, ..code.problem(level, path, message) });
    }

    /// All problems, sorted by place.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        self.found.sort_by_key(|p| (p.line, p.column, p.level == Level::Warning));
        self.found
            .dedup_by(|a, b| (a.line, a.column, &a.code) == (b.line, b.column, &b.code) && a.path.is_empty());
        if let Some(last) = self.found.last().filter(|_| self.left_out > 0) {
            let level = if self.has_errors() { Level::Error } else { Level::Warning };
            let place = Location { line: last.line, column: last.column };
            self.found.push(more(level, place, self.left_out));
        }
        self.found
    }
}

/// The problem of a file that was not read at all; it has no place.
pub fn unreadable(message: String) -> Problem {
    let hint = "name a file that exists, that is no directory, and that you may read";
    Problem { hint: Some(hint.to_owned()), ..Code::Unreadable.problem(Level::Error, "", message) }
}

/// Says that `count` more problems were found than are shown.
pub(super) fn more(level: Level, place: Location, count: usize) -> Problem {
    let message = format!("{count} more problems are not shown");
    Problem {
        line: place.line,
        column: place.column,
        hint: Some("repair these and read the file again".to_owned()),
        ..Code::TooManyProblems.problem(level, "", message)
    }
}
