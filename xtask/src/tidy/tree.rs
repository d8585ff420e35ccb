//! The files of the project: which there are, and their text.
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Folders that hold what others made.
const SKIPPED: &[&str] = &["target", "node_modules", "corpus", "artifacts"];
/// Hidden folders that are part of the project.
const HIDDEN: &[&str] = &[".cargo", ".ci", ".config"];

/// One text file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Path from the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl SourceFile {
    pub(super) fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// Reads every text file below `root`, in order of path.
pub(super) fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && is_ours(&name) {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && name != "Cargo.lock" {
            let bytes = fs::read(entry.path()).with_context(|| format!("cannot read `{path}`"))?;
            files.extend(String::from_utf8(bytes).ok().map(|text| SourceFile { path, text }));
        }
    }
    Ok(())
}

fn is_ours(folder: &str) -> bool {
    !SKIPPED.contains(&folder) && (!folder.starts_with('.') || HIDDEN.contains(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_made_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        for path in ["a.rs", "crates/x/b.rs", "target/c.rs", ".git/d", ".ci/run", "crates/x/target/e.rs"] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::write(root.path().join("binary"), [0xff, 0xfe]).unwrap();
        let files = read(root.path()).unwrap();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, [".ci/run", "a.rs", "crates/x/b.rs"]);
    }
}
