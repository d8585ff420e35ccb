//! Backup and restore of a data directory: a copy from which a server can go on, taken while one works.
//!
//! ```text
//! backup   hold the blobs ─► runs/ ─► the database (one consistent snapshot) ─► what is new in runs/ ─► blobs/, keys
//!          ─► all on disk ─► its name
//! restore  blobs/ and runs/ that are missing ─► keys ─► the old database aside ─► the database
//! ```
//! A backup has its name only when it is whole. A restore removes nothing: what is newer than the backup stays, and what has
//! to give way is in `set-aside/`. Images are not in it; they are pulled again.
use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use vessl_data::blob::{self, Digest};
use vessl_data::{DataError, Watch, durable};

use crate::ServerError;
use crate::lock;
use crate::paths::DataDir;
use crate::reserve::Reserve;

/// Version of a backup's form.
const VERSION: u32 = 1;
/// What says that a directory is a backup.
const ABOUT: &str = "backup.json";
/// Files beside the database that belong to a data directory.
const KEYS: [&str; 3] = ["instance", "token", "secret.key"];
/// Of an attempt: what it did, and what it said. The rest is of use to a living agent alone.
const RECORDS: [&str; 4] = ["plan.json", "events", "exit.json", "agent.log"];
/// Everything that `SQLite` keeps of one database.
const DATABASE: [&str; 3] = ["vessl.db", "vessl.db-wal", "vessl.db-shm"];

/// What a backup says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// [`VERSION`].
    v: u32,
    /// Version of the program that took it.
    pub version: String,
    /// Instance id of its data directory.
    pub instance: String,
    /// When.
    pub taken_at: Timestamp,
    /// Runs in its database.
    pub runs: usize,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: Backup,
    /// Directories of attempts that were missing.
    pub attempts: usize,
    /// Exported files that were missing.
    pub blobs: usize,
    /// Where that is now which had to give way.
    pub set_aside: Vec<PathBuf>,
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directory has no server's data.
    #[error("`{}` is no server's data directory: it has no database", .0.display())]
    NoData(PathBuf),
    /// Something has that name already.
    #[error("`{}` is there already: a backup is a new directory", .0.display())]
    Exists(PathBuf),
    /// A backup in the data directory would be lost with it.
    #[error("`{}` is in the data directory itself: take the backup to another one", .0.display())]
    Inside(PathBuf),
    /// The directory is no backup.
    #[error("`{}` is no backup of a server: {why}", path.display())]
    NoBackup {
        /// The directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// A file.
    #[error("cannot {what} `{}`: {source}", path.display())]
    File {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database.
    #[error("cannot copy the database: {0}")]
    Database(#[from] rusqlite::Error),
    /// The exported files.
    #[error(transparent)]
    Blobs(#[from] DataError),
    /// A server works there.
    #[error(transparent)]
    Server(#[from] Box<ServerError>),
}

type Result<T> = std::result::Result<T, BackupError>;

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { what, path, source }
}

/// Copies what a server needs to go on to the new directory `to`, also while one works on `data`. It is on disk when this
/// returns.
pub fn backup(data: &Path, to: &Path, now: Timestamp) -> Result<Backup> {
    if !data.join(DATABASE[0]).exists() {
        return Err(BackupError::NoData(data.to_owned()));
    }
    let to = std::path::absolute(to).map_err(failed("find", to))?;
    let data = data.canonicalize().map_err(failed("find", data))?;
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(to));
    }
    let above =
        to.parent().unwrap_or(Path::new("/")).canonicalize().map_err(failed("find the directory of", &to))?;
    if above.starts_with(&data) {
        return Err(BackupError::Inside(to));
    }
    // Only its owner may look into it: it has the keys.
    let half = tempfile::Builder::new().prefix(".vessl-backup-").tempdir_in(&above);
    let half = half.map_err(failed("make a directory in", &above))?;
    let about = fill(&data, half.path(), now)?;
    let path = half.keep();
    std::fs::rename(&path, &to).map_err(failed("name", &to))?;
    durable::sync_dir(&above).map_err(failed("sync", &above))?;
    Ok(about)
}

fn fill(data: &Path, half: &Path, now: Timestamp) -> Result<Backup> {
    let blobs = blob::Store::open(&data.join("blobs"))?;
    let _kept = blobs.keep()?;
    let (runs, copied) = (data.join("runs"), half.join("runs"));
    // Before the database, so that a run that is deleted meanwhile is in both or in none, and after it, for what is new.
    copy_runs(&runs, &copied)?;
    let database = half.join(DATABASE[0]);
    let known = snapshot(&data.join(DATABASE[0]), &database)?;
    copy_runs(&runs, &copied)?;
    for dir in entries(&copied)? {
        if !name(&dir).parse().is_ok_and(|id: u64| known.contains(&id)) {
            std::fs::remove_dir_all(&dir).map_err(failed("remove", &dir))?;
        }
    }
    for shard in shards(&data.join("blobs"))? {
        copy_files(&shard, &half.join("blobs").join(name(&shard)))?;
    }
    for key in KEYS.into_iter().filter(|key| data.join(key).exists()) {
        copy(&data.join(key), &half.join(key))?;
    }
    let instance = std::fs::read_to_string(half.join(KEYS[0])).unwrap_or_default().trim().to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let bytes = size(half)?;
    let about = Backup { v: VERSION, version, instance, taken_at: now, runs: known.len(), bytes };
    let text = serde_json::to_vec_pretty(&about).map_err(io::Error::other);
    let path = half.join(ABOUT);
    text.and_then(|text| durable::write_atomic(&path, &text, 0o600)).map_err(failed("write", &path))?;
    let dir = File::open(half).map_err(failed("open", half))?;
    nix::unistd::syncfs(&dir).map_err(io::Error::from).map_err(failed("sync the file system of", half))?;
    Ok(about)
}

/// Copies the database as it is at one moment; answers the ids of its runs.
fn snapshot(database: &Path, to: &Path) -> Result<HashSet<u64>> {
    let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.busy_timeout(std::time::Duration::from_mins(1))?;
    conn.execute("VACUUM INTO ?1", [to.to_string_lossy()])?;
    let copy = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut rows = copy.prepare("SELECT id FROM runs")?;
    let ids = rows.query_map([], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}

/// Copies the records of all attempts; what is there and has not grown stays.
fn copy_runs(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for run in entries(from)? {
        for attempt in entries(&run)? {
            copy_attempt(&attempt, &to.join(name(&run)).join(name(&attempt)))?;
        }
    }
    Ok(())
}

fn copy_attempt(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for file in RECORDS {
        copy_grown(&from.join(file), &to.join(file))?;
    }
    for segment in entries(&from.join("log"))? {
        make_dir(&to.join("log"))?;
        copy_grown(&segment, &to.join("log").join(name(&segment)))?;
    }
    Ok(())
}

/// Records only grow, or are written once.
fn copy_grown(from: &Path, to: &Path) -> Result<()> {
    let size = |path: &Path| {
        path.symlink_metadata().ok().filter(std::fs::Metadata::is_file).map(|about| about.len())
    };
    match size(from) {
        Some(here) if size(to) != Some(here) => copy(from, to),
        _ => Ok(()),
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    entries(from)?.iter().try_for_each(|file| copy(file, &to.join(name(file))))
}

/// Copies a file; one that is gone meanwhile was not to be kept.
fn copy(from: &Path, to: &Path) -> Result<()> {
    match std::fs::copy(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound && to.parent().is_some_and(Path::is_dir) => Ok(()),
        copied => copied.map(drop).map_err(failed("copy", from)),
    }
}

fn make_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed("make", dir))
}

/// Brings back what a backup has and `data` lacks, and its database in place of the one there is. No server may work there.
pub fn restore(from: &Path, data: &Path, now: Timestamp) -> Result<Restored> {
    let about = read(from)?;
    let dir = DataDir::new(data);
    make_dir(data)?;
    let _lock = lock::take(&dir, &Reserve::at(dir.reserve())).map_err(Box::new)?;
    let blobs = restore_blobs(&from.join("blobs"), &data.join("blobs"))?;
    let mut attempts = 0;
    for run in entries(&from.join("runs"))? {
        for attempt in entries(&run)? {
            let to = dir.runs().join(name(&run)).join(name(&attempt));
            if to.symlink_metadata().is_err() {
                copy_attempt(&attempt, &to)?;
                attempts += 1;
            }
        }
    }
    let mut aside = Aside { dir: dir.set_aside(), at: now, moved: Vec::new() };
    for key in KEYS.into_iter().filter(|key| from.join(key).exists()) {
        let same = std::fs::read(data.join(key)).ok() == std::fs::read(from.join(key)).ok();
        if !same {
            aside.take(&data.join(key))?;
            place(&from.join(key), &data.join(key))?;
        }
    }
    for file in DATABASE {
        aside.take(&data.join(file))?;
    }
    place(&from.join(DATABASE[0]), &dir.database())?;
    let root = File::open(data).map_err(failed("open", data))?;
    nix::unistd::syncfs(&root).map_err(io::Error::from).map_err(failed("sync the file system of", data))?;
    Ok(Restored { backup: about, attempts, blobs, set_aside: aside.moved })
}

fn read(from: &Path) -> Result<Backup> {
    let none = |why: String| BackupError::NoBackup { path: from.to_owned(), why };
    let text = std::fs::read(from.join(ABOUT)).map_err(|error| none(format!("`{ABOUT}`: {error}")))?;
    let about: Backup = serde_json::from_slice(&text).map_err(|error| none(format!("`{ABOUT}`: {error}")))?;
    if about.v != VERSION {
        return Err(none(format!("it has version {}, this program knows {VERSION}", about.v)));
    }
    Ok(about)
}

/// Every blob is verified on its way back.
fn restore_blobs(from: &Path, to: &Path) -> Result<usize> {
    let store = blob::Store::open(to)?;
    let mut count = 0;
    for shard in shards(from)? {
        for path in entries(&shard)? {
            let Ok(digest) = format!("{}{}", name(&shard), name(&path)).parse::<Digest>() else { continue };
            if store.has(digest)? {
                continue;
            }
            let mut file = File::open(&path).map_err(failed("open", &path))?;
            if store.put(&mut file, &Watch::NONE)?.digest != digest {
                return Err(DataError::Damaged { digest, path }.into());
            }
            count += 1;
        }
    }
    Ok(count)
}

/// A new file with all of another's bytes, or none.
fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = std::fs::read(from).map_err(failed("read", from))?;
    durable::write_atomic(to, &bytes, 0o600).map_err(failed("write", to))
}

/// Where things go that have to give way.
struct Aside {
    dir: PathBuf,
    at: Timestamp,
    moved: Vec<PathBuf>,
}

impl Aside {
    /// Moves `path` there, if it is there.
    fn take(&mut self, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        make_dir(&self.dir)?;
        // The files of one database keep fitting names, so that it can be looked into where it is.
        let to = self.dir.join(format!("{}-{}", self.at.as_nanosecond(), name(path)));
        std::fs::rename(path, &to).map_err(failed("move", path))?;
        self.moved.push(to);
        Ok(())
    }
}

/// Paths in a directory, sorted; a missing one is empty, and so is what is none.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let found = match std::fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        found => found.map_err(failed("read", dir))?,
    };
    let paths: io::Result<Vec<PathBuf>> = found.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed("read", dir))?;
    paths.sort_unstable();
    Ok(paths)
}

fn shards(blobs: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(blobs)?.into_iter().filter(|path| name(path).len() == 2).collect())
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn size(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for path in entries(dir)? {
        let about = path.symlink_metadata().map_err(failed("read", &path))?;
        bytes += if about.is_dir() { size(&path)? } else { about.len() };
    }
    Ok(bytes)
}
