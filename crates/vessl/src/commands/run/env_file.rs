//! `--env-file`: a file of variables, as `docker run` reads it. It submits nothing.
use std::path::{Path, PathBuf};

use vessl_core::wire::EnvPair;

use super::create::pair;
use super::text;
use crate::error::{Error, Result};

/// Largest file in bytes.
const LARGEST: u64 = 1 << 20;

/// The variables of the files in order: lines of `KEY=VALUE`, with everything behind the `=` as it stands, or of `KEY` alone, which takes
/// the value from this environment; `export` before them says nothing. Empty lines and those that begin with `#` say nothing.
pub(super) fn read(files: &[PathBuf]) -> Result<Vec<EnvPair>> {
    let mut pairs = Vec::new();
    for file in files {
        for (index, line) in text(file)?.lines().enumerate() {
            // A file that a shell can read as well.
            let line = line.trim_start();
            let line = line.strip_prefix("export ").map_or(line, str::trim_start);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line is not shown: it may be a secret.
            let wrong = |why: String| Error::Usage {
                message: format!("{}:{}: {why}", file.display(), index + 1),
                hint: "every line is `KEY=VALUE`, or `KEY` for a variable of this environment".to_owned(),
            };
            pairs.push(pair(line).map_err(wrong)?);
        }
    }
    Ok(pairs)
}

fn text(file: &Path) -> Result<String> {
    let unreadable = |source| Error::Unreadable { path: file.to_owned(), source };
    let bytes = text::of_file(file, LARGEST + 1).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(unreadable(std::io::Error::other("it is larger than 1 MiB")));
    }
    String::from_utf8(bytes).map_err(|_| unreadable(std::io::Error::other("it is not text in UTF-8")))
}
