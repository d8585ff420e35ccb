//! The files of attempts: plan, events, exit record, log, progress. Whoever wants one of them asks here. It decides nothing and knows
//! no engine.
//!
//! All of them only grow, or are replaced as a whole, and every byte has its place: so what an agent elsewhere sends can be put here
//! at its offset, again and again, and is the same file.
#[cfg(feature = "testing")]
mod append;
mod aside;
mod dir;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use vessl_core::ids::{AttemptId, RunId};
use vessl_core::jupyter::{self, JUPYTER_VERSION, JupyterRecord};
use vessl_core::plan::Plan;
use vessl_core::record::ACTIVITY;
#[cfg(feature = "testing")]
use vessl_core::record::ExitRecord;
use vessl_core::secret::Secret;
use vessl_core::wire::Progress;
use vessl_data::durable;
use vessl_data::log::{LogError, Reader};

use crate::paths::DataDir;
use crate::watch::{Changes, Watches};

pub(crate) use dir::{AttemptLog, Recorded, RunDir};

/// Largest file of what is told on the way that is read, in bytes.
const LARGEST_PROGRESS: u64 = 64 << 10;

/// Where an attempt's files are that are kept for its exports.
const KEPT: &str = "kept";

/// A file of an attempt could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{}`: {source}", path.display())]
pub struct AttemptError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

/// The attempts of one server; cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempts {
    data: DataDir,
    watches: Watches,
}

/// The part of a log that somebody wants to read first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// All of it.
    First,
    /// From a position on.
    Position(u64),
    /// Only so many last lines, of one stream if it is named.
    Tail(u64, Option<vessl_core::logwire::Stream>),
}

impl Attempts {
    /// The attempts below a data directory.
    pub(crate) fn new(data: DataDir, watches: Watches) -> Self {
        Self { data, watches }
    }

    /// The directory of an attempt.
    pub(crate) fn dir(&self, at: AttemptId) -> RunDir {
        RunDir::new(self.data.attempt(at), at.nonce)
    }

    /// Whether the files of an attempt are kept for its exports.
    pub(crate) fn keeps(&self, at: AttemptId) -> bool {
        self.data.attempt(at).join(KEPT).is_dir()
    }

    /// The attempts of a run whose files are kept.
    pub(crate) fn kept_of(&self, run: RunId) -> Vec<AttemptId> {
        let names = names(&self.data.run(run)).into_iter();
        let attempts = names.filter_map(|name| AttemptId::of_name(run, &name));
        attempts.filter(|at| self.keeps(*at)).collect()
    }

    /// The runs with such an attempt.
    pub(crate) fn runs_with_kept(&self) -> Vec<RunId> {
        let runs = names(&self.data.runs()).into_iter().filter_map(|name| name.parse().ok()).map(RunId);
        runs.filter(|run| !self.kept_of(*run).is_empty()).collect()
    }

    /// Tells when something about an attempt may have changed.
    pub(crate) fn follow(&self, at: AttemptId) -> Changes {
        self.watches.dirs(&[self.dir(at).path()])
    }

    /// Says that something has changed that no file tells.
    pub(crate) fn signal(&self, at: AttemptId) {
        self.watches.signal(self.dir(at).path());
    }

    /// Tells when an attempt's log grows.
    pub(crate) fn follow_log(&self, at: AttemptId) -> Changes {
        let dir = self.data.attempt(at);
        self.watches.dirs(&[&dir, &dir.join("log")])
    }

    /// Tells when there is something new in [`Attempts::progress`].
    pub(crate) fn follow_progress(&self, at: AttemptId) -> Changes {
        self.watches.progress(&self.data.attempt(at))
    }

    /// The log of an attempt, to be read on a thread that may block.
    pub(crate) async fn open_log(&self, at: AttemptId, begin: Begin) -> Result<Reader, LogError> {
        let dir = self.data.attempt(at).join("log");
        let open = move || {
            let mut reader = Reader::open(&dir)?;
            match begin {
                Begin::First => {}
                Begin::Position(position) => reader.from(position)?,
                Begin::Tail(lines, None) => reader.tail(lines)?,
                Begin::Tail(lines, Some(stream)) => reader.tail_of(stream, lines)?,
            }
            Ok(reader)
        };
        let failed = |error| LogError::Os {
            what: "read",
            path: self.data.attempt(at),
            source: std::io::Error::other(error),
        };
        tokio::task::spawn_blocking(open).await.map_err(failed)?
    }

    /// Whether the attempt that a log is of has its exit record. May block.
    pub(crate) fn has_ended(log: &Reader) -> bool {
        log.dir().with_file_name("exit.json").exists()
    }

    /// When somebody used an attempt last, as far as that left a sign.
    pub(crate) async fn last_use(&self, at: AttemptId) -> Option<Timestamp> {
        let path = self.data.attempt(at).join(ACTIVITY);
        let read = tokio::task::spawn_blocking(move || std::fs::symlink_metadata(path)?.modified());
        Timestamp::try_from(read.await.ok()?.ok()?).ok()
    }

    /// How far a pull, an import or an export is, if one is under way. A view, not a record.
    pub(crate) async fn progress(&self, at: AttemptId) -> Option<Progress> {
        self.last_progress(at).await.map(|(progress, _)| progress)
    }

    /// The same, with when it came so far.
    pub(crate) async fn last_progress(&self, at: AttemptId) -> Option<(Progress, Timestamp)> {
        let path = self.data.attempt(at).join("progress");
        let read = tokio::task::spawn_blocking(move || {
            let mut text = Vec::new();
            let file = File::open(path)?;
            let at = file.metadata()?.modified()?;
            file.take(LARGEST_PROGRESS).read_to_end(&mut text)?;
            std::io::Result::Ok((text, at))
        });
        let (text, at) = read.await.ok()?.ok()?;
        Some((serde_json::from_slice(&text).ok()?, Timestamp::try_from(at).ok()?))
    }

    /// What was told of JupyterLab of an attempt, if anything was.
    pub(crate) async fn jupyter(&self, at: AttemptId) -> Option<JupyterRecord> {
        let text = self.small_file(at, jupyter::STATE_FILE).await?;
        serde_json::from_slice(&text).ok().filter(|told: &JupyterRecord| told.v <= JUPYTER_VERSION)
    }

    /// The token of JupyterLab of an attempt, while it has one.
    pub(crate) async fn jupyter_token(&self, at: AttemptId) -> Option<Secret> {
        let text = String::from_utf8(self.small_file(at, jupyter::TOKEN_FILE).await?).ok()?;
        Some(Secret::from(text)).filter(|token| !token.is_empty())
    }

    async fn small_file(&self, at: AttemptId, name: &str) -> Option<Vec<u8>> {
        let path = self.data.attempt(at).join(name);
        let read = move || {
            let mut text = Vec::new();
            durable::open_file(&path)?.take(LARGEST_PROGRESS).read_to_end(&mut text)?;
            Ok(text)
        };
        blocking(read).await.ok()
    }

    /// Makes the directory of an attempt, with its plan on disk. What has its place and is not its own is moved aside: answers where
    /// that is now. An attempt that an agent took is left as it is.
    pub(crate) async fn begin(&self, plan: &Plan) -> Result<Vec<PathBuf>, AttemptError> {
        let at = plan.attempt_id();
        if self.dir(at).was_taken() {
            return Ok(Vec::new());
        }
        let moved = aside::clear(&self.data, at).await?;
        let (dir, text) = (self.data.attempt(at), serde_json::to_vec_pretty(plan));
        let path = dir.join("plan.json");
        let file = path.clone();
        let write = move || {
            durable::create_dir_all(&dir, 0o700)?;
            durable::write_atomic(&file, &text.map_err(std::io::Error::other)?, 0o600)
        };
        blocking(write).await.map_err(|source| AttemptError { what: "write", path, source })?;
        Ok(moved)
    }

    /// Everything that an attempt has recorded; words if it cannot be read.
    pub(crate) async fn recorded(&self, at: AttemptId) -> Result<Recorded, String> {
        let dir = self.dir(at);
        if !dir.path().exists() {
            return Ok(Recorded::default());
        }
        blocking(move || Ok(dir.recorded())).await.map_err(|error| error.to_string())?
    }

    /// Puts events at their place in the file of events: whatever is there already stays, so that the same can be sent again. Answers
    /// how many bytes the file has then; what would leave a gap is an error.
    #[cfg(feature = "testing")]
    pub(crate) async fn put_events(
        &self,
        at: AttemptId,
        offset: u64,
        bytes: Vec<u8>,
    ) -> Result<u64, AttemptError> {
        let path = self.data.attempt(at).join("events");
        let file = path.clone();
        let put = move || append::put(&file, offset, &bytes);
        blocking(put).await.map_err(|source| AttemptError { what: "append to", path, source })
    }

    /// Puts the exit record, which is written once.
    #[cfg(feature = "testing")]
    pub(crate) async fn put_exit(&self, at: AttemptId, record: &ExitRecord) -> Result<(), AttemptError> {
        let path = self.data.attempt(at).join("exit.json");
        let (file, text) = (path.clone(), serde_json::to_vec(record));
        let put = move || {
            if file.exists() {
                return Ok(());
            }
            durable::write_atomic(&file, &text.map_err(std::io::Error::other)?, 0o600)
        };
        blocking(put).await.map_err(|source| AttemptError { what: "write", path, source })
    }

    /// Removes everything of a run. One that is gone is fine.
    pub(crate) async fn remove(&self, run: RunId) -> Result<(), AttemptError> {
        let path = self.data.run(run);
        let dir = path.clone();
        let remove = move || match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        blocking(remove).await.map_err(|source| AttemptError { what: "remove", path, source })
    }
}

/// Names in a directory; none of one that cannot be read.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Does something that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
