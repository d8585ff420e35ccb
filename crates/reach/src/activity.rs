//! The sign that somebody uses a run: the time of one file of its directory. The agent sees that it has changed; nobody compares
//! clocks.
use std::fs::{File, FileTimes};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use vessl_core::record::ACTIVITY;

/// How often it is said at most.
const EVERY: Duration = Duration::from_secs(1);

/// Says that somebody uses the run of a directory. Cheap enough to be called for every key.
#[derive(Debug)]
pub struct Activity {
    file: PathBuf,
    said: Option<Instant>,
}

impl Activity {
    /// Of the run whose directory is `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { file: dir.join(ACTIVITY), said: None }
    }

    /// Somebody did something just now.
    pub fn seen(&mut self) {
        if self.said.is_some_and(|said| said.elapsed() < EVERY) {
            return;
        }
        // A disk that is full must not end a session.
        if self.touch().is_ok() {
            self.said = Some(Instant::now());
        }
    }

    fn touch(&self) -> io::Result<()> {
        let file = File::options().create(true).append(true).open(&self.file)?;
        file.set_times(FileTimes::new().set_modified(SystemTime::now()))
    }
}
