//! The house rules over every file of the project. It reads files and reports; it changes nothing.
mod callers;
mod cycles;
mod edges;
mod rooms;
mod shape;
mod tree;
mod uses;
mod words;

use std::fmt;
use std::path::Path;

use anyhow::Result;
use tree::SourceFile;

/// One breach of a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Path from the root of the project.
    path: String,
    /// From 1.
    line: usize,
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// What one pass over the project found.
pub(crate) struct Report {
    /// Files that were looked at.
    pub(crate) files: usize,
    /// In order of place.
    pub(crate) findings: Vec<Finding>,
}

/// Checks every file below `root`.
pub(crate) fn check(root: &Path) -> Result<Report> {
    let files = tree::read(root)?;
    Ok(Report { files: files.len(), findings: findings(&files) })
}

fn findings(files: &[SourceFile]) -> Vec<Finding> {
    let mut findings: Vec<Finding> = files.iter().flat_map(of_file).collect();
    findings.extend(rooms::check(files));
    findings.extend(callers::check(files));
    findings.extend(cycles::check(files));
    findings.sort();
    findings
}

fn of_file(file: &SourceFile) -> Vec<Finding> {
    let mut findings = words::check(&file.path, &file.text);
    if file.is_rust() {
        findings.extend(shape::check(&file.path, &file.text));
    }
    if file.path.ends_with("Cargo.toml") {
        findings.extend(edges::check(&file.path, &file.text));
    }
    findings
}
