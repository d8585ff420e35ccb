//! What stands where an attempt will have its directory and is not its own: it is moved out of the way, whole, and named.
//! Nothing of it is read, and nothing of it is removed.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use vessl_core::ids::{AttemptId, Nonce};
use vessl_data::durable;

use super::{AttemptError, RunDir, blocking};
use crate::paths::DataDir;

/// Moves what the directory of the run holds of this attempt's number and later ones, and is not this attempt, to
/// `set-aside/<run>-<name>`. Answers where it is now.
pub(super) async fn clear(data: &DataDir, at: AttemptId) -> Result<Vec<PathBuf>, AttemptError> {
    let (run, aside) = (data.run(at.run), data.set_aside());
    let failed = |source| AttemptError { what: "make room in", path: data.run(at.run), source };
    blocking(move || {
        let mut moved = Vec::new();
        for name in foreign(&run, at)? {
            match RunDir::new(run.join(&name), Nonce::default()).is_locked() {
                Ok(true) => {
                    return Err(std::io::Error::other(format!("an agent of another run works in its `{name}`")));
                }
                Err(why) if run.join(&name).is_dir() => return Err(std::io::Error::other(why)),
                _ => {}
            }
            durable::create_dir_all(&aside, 0o700)?;
            let to = free(&aside, &format!("{}-{name}", at.run.0));
            std::fs::rename(run.join(&name), &to)?;
            durable::sync_dir(&aside)?;
            durable::sync_dir(&run)?;
            tracing::warn!(run = at.run.0, to = %to.display(), "files of another run were in the way and were moved");
            moved.push(to);
        }
        Ok(moved)
    })
    .await
    .map_err(failed)
}

/// Names in the directory of the run that are not of this attempt, nor of an earlier one.
fn foreign(run: &Path, at: AttemptId) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(run) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.split('-').next().and_then(|number| number.parse::<u32>().ok());
        let is_earlier = number.is_some_and(|number| number < at.number);
        if !is_earlier && name != at.name() {
            names.push(name);
        }
    }
    Ok(names)
}

/// A name that nothing has yet.
fn free(dir: &Path, name: &str) -> PathBuf {
    let first = std::iter::once(name.to_owned());
    let names = first.chain((2_u32..).map(|nth| format!("{name}.{nth}")));
    let mut paths = names.map(|name| dir.join(name)).filter(|path| path.symlink_metadata().is_err());
    paths.next().unwrap_or_else(|| dir.join(name))
}

#[cfg(test)]
mod tests {
    use vessl_core::ids::RunId;

    use super::*;

    #[tokio::test]
    async fn what_is_not_this_attempts_is_moved_and_what_is_stays() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        let at = AttemptId { run: RunId(7), number: 2, nonce: Nonce(0xab) };
        let own = data.attempt(at);
        assert!(clear(&data, at).await.unwrap().is_empty(), "there is nothing yet");
        for name in ["1", "1-00000000000000ff", "2", "2-00000000000000ff", "3", "x"] {
            std::fs::create_dir_all(data.run(at.run).join(name)).unwrap();
        }
        std::fs::create_dir_all(&own).unwrap();
        std::fs::create_dir_all(data.set_aside().join("7-2")).unwrap();
        let mut moved = clear(&data, at).await.unwrap();
        moved.sort();
        let expected =
            ["7-2-00000000000000ff", "7-2.2", "7-3", "7-x"].map(|name| data.set_aside().join(name));
        assert_eq!(moved, expected);
        std::fs::create_dir_all(data.run(at.run).join("5")).unwrap();
        let lock = std::fs::File::create(data.run(at.run).join("5/lock")).unwrap();
        lock.lock().unwrap();
        let said = crate::chain(&clear(&data, at).await.unwrap_err());
        assert!(said.contains("an agent of another run works in its `5`"), "{said}");
        std::fs::remove_dir_all(data.run(at.run).join("5")).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(data.run(at.run)).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1", "1-00000000000000ff", "2-00000000000000ab"]);
    }
}
