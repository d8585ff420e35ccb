//! `vessl run validate`.
use clap::{Args, ValueHint};
use serde::Serialize;
use vessl_core::codes;
use vessl_core::plan::refused_everywhere;
use vessl_core::spec::{self, ReadOptions};
use vessl_core::wire::{Level, Problem};

use super::text;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, Out, Rows};
use crate::session::{Session, Source};
use crate::settings::Settings;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Every problem of a file is shown at once with its place and a code; --explain tells more about a \
code. What every server of this version refuses is an error here; what depends on the server (clusters, presets, \
stored names) is checked at submit.

Examples:
  vessl run validate run.yaml
  vessl run validate *.yaml --output json
  vessl run validate old.yaml --canonical > new.yaml
  vessl run validate --explain unknown-key"
)]
pub(crate) struct Validate {
    /// Run files; `-` reads the standard input
    #[arg(value_name = "FILE", required_unless_present = "explain", value_parser = Source::parser(), value_hint = ValueHint::FilePath)]
    files: Vec<Source>,
    /// Print each file in its canonical form
    #[arg(long)]
    canonical: bool,
    /// Accept unknown keys with a warning
    #[arg(long)]
    lenient: bool,
    /// Say what a problem's code means
    #[arg(long, value_name = "CODE", conflicts_with_all = ["files", "canonical", "lenient"])]
    explain: Option<String>,
}

/// What was found in one file.
#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Option::is_none")]
    canonical: Option<String>,
}

/// Checks the files in order. The exit code is 3 if one of them is wrong.
pub(crate) fn perform(args: &Validate, session: &Session) -> Result<Exit> {
    if let Some(code) = &args.explain {
        return explain(code, &session.out);
    }
    let checked: Vec<Checked> =
        args.files.iter().map(|file| check(file, args, Settings::is_strict())).collect();
    if session.out.format() == Format::Table {
        for (n, file) in checked.iter().enumerate() {
            if n > 0 && args.canonical {
                session.out.text("---\n")?;
            }
            show(file, &session.out)?;
        }
    } else {
        session.out.data(&checked)?;
    }
    Ok(if checked.iter().all(|file| file.valid) { exit::OK } else { exit::BAD_FILE })
}

fn check(file: &Source, args: &Validate, strict: bool) -> Checked {
    let name = file.to_string();
    let bytes = match text::read(file) {
        Ok(bytes) => bytes,
        // The other files are looked at all the same.
        Err(e) => {
            let problems = vec![spec::unreadable(e.to_string())];
            return Checked { file: name, valid: false, problems, canonical: None };
        }
    };
    let base = text::base(file);
    let read = spec::read(&bytes, ReadOptions { lenient: args.lenient, base: base.as_deref(), strict });
    let canonical = read.spec.as_ref().filter(|_| args.canonical).map(spec::print);
    let mut problems = read.problems;
    problems.extend(read.spec.iter().flat_map(refused_everywhere));
    let valid = problems.iter().all(|problem| problem.level != Level::Error);
    spec::locate(&bytes, &mut problems);
    Checked { file: name, valid, problems, canonical }
}

fn show(file: &Checked, out: &Out) -> Result<()> {
    out.problems(&file.file, &file.problems);
    match &file.canonical {
        Some(text) => out.text(text),
        None if file.valid => out.text(&format!("{}: valid\n", file.file)),
        None => out.text(&format!("{}: not valid\n", file.file)),
    }
}

fn explain(code: &str, out: &Out) -> Result<Exit> {
    #[derive(Serialize)]
    struct Explained {
        code: &'static str,
        meaning: &'static str,
        remedy: &'static str,
    }
    let found = codes().find(|known| known.code == code).ok_or_else(|| Error::Usage {
        message: format!("there is no code `{code}`"),
        hint: "a code stands in brackets before a problem, like `error[unknown-key]`".to_owned(),
    })?;
    let found = Explained { code: found.code, meaning: found.meaning, remedy: found.remedy };
    let rows = |code: &Explained| -> Rows {
        vec![
            ("Code", code.code.to_owned()),
            ("Meaning", code.meaning.to_owned()),
            ("Remedy", code.remedy.to_owned()),
        ]
    };
    out.object(&found, rows)?;
    Ok(exit::OK)
}
