//! Uploads that were begun and not ended, so that the same command goes on where it was stopped. What is remembered is only
//! where to go on: without it the same is uploaded, from its beginning.
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::settings::variable;

/// After this time no upload goes on any more.
const OLD: Duration = Duration::from_hours(48);

/// What stands in a file.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    v: u32,
    upload: String,
}

/// The note of one command. Nobody else has it meanwhile.
#[derive(Debug)]
pub(super) struct Remembered {
    path: PathBuf,
    file: File,
}

impl Remembered {
    /// The note of a command that is known by `key`. None where notes cannot be kept, and where the same command runs at this moment.
    pub(super) fn of(key: &[&str]) -> Option<Self> {
        let dir = directory()?;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
        forget_old(&dir);
        let name = blake3::hash(key.join("\0").as_bytes()).to_hex();
        let path = dir.join(&name.as_str()[..32]);
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).ok()?;
        file.try_lock().ok()?;
        Some(Self { path, file })
    }

    /// The upload that was begun.
    pub(super) fn upload(&mut self) -> Option<String> {
        let mut text = String::new();
        self.file.rewind().and_then(|()| self.file.read_to_string(&mut text)).ok()?;
        let note: Note = serde_json::from_str(&text).ok()?;
        (note.v == 1).then_some(note.upload)
    }

    /// Notes which upload was begun. Where that fails, nothing is remembered.
    pub(super) fn note(&mut self, upload: &str) {
        let text = serde_json::to_vec(&Note { v: 1, upload: upload.to_owned() }).unwrap_or_default();
        let empty = self.file.set_len(0).and_then(|()| self.file.rewind());
        let _ = empty.and_then(|()| self.file.write_all(&text));
    }

    /// The upload has ended.
    pub(super) fn forget(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `$XDG_STATE_HOME/vessl/uploads`.
fn directory() -> Option<PathBuf> {
    let state = variable("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || Some(PathBuf::from(variable("HOME")?).join(".local/state"));
    Some(state.or_else(home)?.join("vessl/uploads"))
}

fn forget_old(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > OLD) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
