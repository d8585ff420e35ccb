//! The run file as its author wrote it: reading, checking, printing, schema. It opens no file and resolves no name.
//!
//! ```text
//! bytes --source--> text and places --tree--> nodes --fields--> Spec, and every problem found on the way
//! Spec --print--> canonical text, which reads back as the same Spec
//! ```
mod bounded;
mod data;
mod env;
mod fields;
mod keys;
mod kinds;
pub mod labels;
mod lines;
mod locate;
mod old;
mod path;
mod print;
mod problem;
mod redact;
mod run;
mod schema;
mod session;
mod source;
mod syntax;
mod tree;
mod types;
mod unseen;
mod url;
mod yaml;

pub use locate::locate;
pub use path::{ContainerPath, PathError};
pub use print::{hide, print};
pub use problem::{codes, unreadable};
pub use redact::may_be_secret;
pub use schema::schema;
pub use types::*;

use crate::problem::{Level, Problem};
use fields::Reader;
use problem::{Code, Problems, Report};
use source::{Location, Source};

/// How a file is read.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOptions<'a> {
    /// Unknown keys are warnings instead of errors.
    pub lenient: bool,
    /// Absolute directory that git addresses like `./code` are relative to; without one they are errors.
    pub base: Option<&'a str>,
    /// The commands will run in a shell that sees every failure.
    pub strict: bool,
}

/// What a file says.
#[derive(Clone, Debug)]
pub struct Read {
    /// The run; `None` exactly if one of the problems is an error.
    pub spec: Option<Spec>,
    /// Every problem of the file, sorted by place; at most 200, and then one that says how many more there are.
    pub problems: Vec<Problem>,
}

/// Reads a run file of at most 1 MiB. The work is bounded by its size, whatever it says.
pub fn read(text: &[u8], options: ReadOptions<'_>) -> Read {
    let mut problems = Problems::default();
    let spec = read_spec(text, options, &mut problems).filter(|_| !problems.has_errors());
    let mut problems = problems.finish();
    if options.strict {
        problems.retain(|problem| problem.code != Code::UnseenFailure.as_str());
    }
    Read { spec, problems }
}

fn read_spec(text: &[u8], options: ReadOptions<'_>, problems: &mut Problems) -> Option<Spec> {
    let (source, stop) = Source::read(text);
    if let Some((place, report)) = stop {
        problems.add(&source, (place, ""), Level::Error, report);
        return None;
    }
    if let Some((place, lines)) = source.tabs() {
        let what = if lines == 1 { "a line is".to_owned() } else { format!("{lines} lines are") };
        let message = format!("{what} indented with tabs; each tab was read as two spaces");
        problems.add(
            &source,
            (place, ""),
            Level::Warning,
            Report::new(Code::Tab, message).hint("indent with spaces"),
        );
    }
    let root = tree::read(&source, problems);
    if problems.has_errors() && root.is_none() {
        return None;
    }
    let Some(root) = root.filter(|root| !root.is_null()) else {
        let report =
            Report::new(Code::Empty, "the file says nothing").hint("begin with `name:` and `image:`");
        problems.add(&source, (Location::START, ""), Level::Error, report);
        return None;
    };
    let unknown = if options.lenient { Level::Warning } else { Level::Error };
    run::read(&mut Reader::new(&source, problems, (unknown, options.base)), &root)
}
