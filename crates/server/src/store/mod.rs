//! What must not be forgotten: one `SQLite` database, one writer that commits groups, many readers.
//!
//! A write is answered only after its group is on disk. The store knows rows and revisions; it holds no rule about
//! runs and never waits for an engine.
pub(crate) mod find;
mod migrate;
pub(crate) mod names;
pub(crate) mod objects;
mod readers;
pub(crate) mod runs;
pub(crate) mod secrets;
pub(crate) mod ssh_keys;
pub(crate) mod storages;
pub(crate) mod unfinished;
pub(crate) mod uploads;
pub(crate) mod versions;
mod writer;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, OpenFlags};
use vessl_core::ids::RunId;

use readers::Readers;
use writer::Writer;

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened as a database.
    #[error("cannot open the database `{path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The file cannot be made.
    #[error("cannot make the database `{path}`: {source}")]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Written by a newer program.
    #[error(
        "the database `{path}` has schema version {found}, this program knows {known}: use a newer `vessl`, or another data directory"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The group could not be committed, so nothing of it happened.
    #[error("nothing was stored: {0}")]
    Commit(Arc<rusqlite::Error>),
    /// Another job of the same group met an error that ended the transaction of all, such as a full disk.
    #[error("nothing was stored, because another request at the same time met an error of the database")]
    Lost,
    /// One statement failed.
    #[error("the database refused a statement")]
    Sql(#[from] rusqlite::Error),
    /// A column does not hold what this program wrote.
    #[error("the database holds an unreadable `{what}`")]
    Unreadable {
        /// Which column or document.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },
    /// A run is not what this program writes.
    #[error(transparent)]
    UnreadableRun(#[from] Box<unfinished::UnreadableRun>),
    /// Somebody saved this run in between; load it again.
    #[error("run `{}` was changed by somebody else in between", .0.0)]
    Stale(RunId),
    /// Somebody made or deleted a version in between; look again.
    #[error("`{0}` has another newest version in between")]
    Moved(String),
    /// No such row.
    #[error("there is no {what} `{name}`")]
    Missing {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether there was no room on the disk.
    pub(crate) fn is_disk_full(&self) -> bool {
        let code = match self {
            Self::Commit(error) => error.sqlite_error_code(),
            Self::Sql(error) => error.sqlite_error_code(),
            _ => None,
        };
        code == Some(rusqlite::ErrorCode::DiskFull)
    }
}

/// What stands before the first run id.
const NO_RUN: RunId = RunId(100_000_000_000);

/// A result of the store.
pub(crate) type Result<T> = std::result::Result<T, StoreError>;

/// Handle to the database. Cheap to share behind an [`Arc`]; closes when the last one is dropped.
#[derive(Debug)]
pub struct Store {
    writer: Writer,
    readers: Readers,
    last_id: AtomicU64,
    names: AtomicU64,
}

impl Store {
    /// Opens or makes the database at `path` and brings its schema up to date. Blocks on the disk.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = |source| StoreError::Open { path: path.to_owned(), source };
        // Made by us, so that nobody else may read it; what SQLite puts beside it takes its mode.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|source| StoreError::Make { path: path.to_owned(), source })?;
        let mut conn = Connection::open(path).map_err(opened)?;
        configure(&conn).map_err(opened)?;
        migrate::bring_up_to_date(&mut conn, path)?;
        let last_id =
            conn.query_row("SELECT seq FROM sqlite_sequence WHERE name = 'runs'", [], |row| row.get(0))?;
        Ok(Self {
            writer: Writer::start(conn),
            readers: Readers::new(path.to_owned()),
            last_id: AtomicU64::new(last_id),
            names: AtomicU64::new(0),
        })
    }

    /// The next run id; a number is never given twice, also not after a delete.
    pub fn next_id(&self) -> RunId {
        RunId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last run id that was given.
    pub fn last_id(&self) -> RunId {
        RunId(self.last_id.load(Ordering::Relaxed))
    }

    /// Gives no id up to `id` from now on.
    pub fn skip_ids(&self, id: RunId) {
        self.last_id.fetch_max(id.0, Ordering::Relaxed);
    }

    /// Whether this database never had a run.
    pub fn is_fresh(&self) -> bool {
        self.last_id() == NO_RUN
    }

    /// Takes an id back that no run got, if no other was given since.
    pub fn give_back(&self, id: RunId) {
        let _ = self.last_id.compare_exchange(id.0, id.0 - 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Changes whenever a stored name (secret, credential, project) changes, so that a cache can tell.
    pub fn names_generation(&self) -> u64 {
        self.names.load(Ordering::Acquire)
    }

    fn names_changed(&self) {
        self.names.fetch_add(1, Ordering::AcqRel);
    }

    /// Runs `work` in the writer's next group and answers when the group is on disk.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.writer.write(work).await
    }

    /// Runs `work` on a reader. It sees everything that was answered before.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.readers.read(work).await
    }
}

fn configure(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update(None, "journal_mode", "WAL")?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "foreign_keys", "ON")?;
    conn.pragma_update(None, "trusted_schema", "OFF")?;
    conn.pragma_update(None, "cache_size", -4096)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    conn.pragma_update(None, "cache_size", -1024)?;
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(32);
    Ok(conn)
}
