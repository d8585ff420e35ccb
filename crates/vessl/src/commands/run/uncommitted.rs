//! Finds changes that a run does not get because they are not committed. It asks git in the user's directory and changes
//! nothing.
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use vessl_core::spec::{Import, Spec};
use vessl_core::{file_url, spelling};

/// Longest time that all the questions may take; after it nothing more is said.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Digits of a commit that are shown.
const DIGITS: usize = 7;

/// A working tree with changes.
#[derive(Debug, PartialEq, Eq)]
struct Changes {
    files: usize,
    commit: String,
}

/// One line for each repository of this machine whose last commit the file `spec` imports while its working tree has more.
/// `base` is the directory of the file. Where git cannot say it, nothing is said.
pub(super) async fn notes(spec: &Spec, base: Option<&str>) -> Vec<String> {
    let mut paths: Vec<String> = spec.import.values().filter_map(last_commit_of).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut notes = Vec::new();
    let ask_all = async {
        for path in paths {
            notes.extend(
                changes_of(&spelling::path(&path))
                    .await
                    .map(|changes| describe(&display_path(&path, base), &changes)),
            );
        }
    };
    // What was found in time is said.
    let _ = tokio::time::timeout(TIME_LIMIT, ask_all).await;
    notes
}

/// The path of a repository of this machine from which no particular commit is wanted, spelled.
fn last_commit_of(import: &Import) -> Option<String> {
    match import {
        Import::Git(git) if git.reference.is_none() => {
            git.url.strip_prefix("file://").map(|path| spelling::spell(&file_url::path(path)))
        }
        _ => None,
    }
}

async fn changes_of(path: &Path) -> Option<Changes> {
    let mut git = Command::new("git");
    git.arg("-C").arg(path).args([
        "-c",
        "core.fsmonitor=false",
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignore-submodules=dirty",
    ]);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        git.env_remove(name);
    }
    // The index stays as it is; a git that takes too long ends with its question.
    git.env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null()).kill_on_drop(true);
    let output = git.output().await.ok().filter(|output| output.status.success())?;
    parse(&output.stdout)
}

/// What `git status --porcelain=v2 --branch -z` found; `None` if there is nothing, or no commit yet.
fn parse(status: &[u8]) -> Option<Changes> {
    let mut lines = status.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    let commit = lines.clone().find_map(|line| line.strip_prefix(b"# branch.oid "))?;
    let commit = std::str::from_utf8(commit).ok().filter(|commit| *commit != "(initial)")?;
    let files = lines.by_ref().filter(|line| !line.starts_with(b"# ")).count();
    (files > 0).then(|| Changes { files, commit: commit.chars().take(DIGITS).collect() })
}

fn describe(name: &str, changes: &Changes) -> String {
    let files = match changes.files {
        1 => "1 file that is not committed".to_owned(),
        n => format!("{n} files that are not committed"),
    };
    format!("note: `{name}` has {files}; the run gets the last commit ({})", changes.commit)
}

/// A path as the file may have named it: from `base`, where it lies below.
fn display_path(path: &str, base: Option<&str>) -> String {
    match base.and_then(|base| Path::new(path).strip_prefix(base).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => ".".to_owned(),
        Some(rest) => format!("./{}", rest.display()),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_says_is_counted() {
        let check = |status: &str, expected: Option<&str>| {
            let found = parse(status.replace('|', "\0").as_bytes()).map(|changes| describe(".", &changes));
            assert_eq!(found.as_deref(), expected, "{status}");
        };
        let head = "# branch.oid 0123456789abcdef|# branch.head main|";
        check(head, None);
        check("# branch.oid (initial)|# branch.head main|? new|", None);
        check("", None);
        let one = "note: `.` has 1 file that is not committed; the run gets the last commit (0123456)";
        check(&format!("{head}? # odd name\nwith a break|"), Some(one));
        let three = "note: `.` has 3 files that are not committed; the run gets the last commit (0123456)";
        check(&format!("{head}1 .M N... 100644 100644 100644 a b x|u UU y|? z|"), Some(three));
    }

    #[test]
    fn paths_are_shown_from_the_run_file() {
        assert_eq!(display_path("/home/me", Some("/home/me")), ".");
        assert_eq!(display_path("/home/me/lib", Some("/home/me")), "./lib");
        assert_eq!(display_path("/home", Some("/home/me")), "/home");
        assert_eq!(display_path("/home/me", None), "/home/me");
    }
}
