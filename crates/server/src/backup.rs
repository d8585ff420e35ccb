//! Backup and restore of a data directory: a copy from which a server can go on, taken while one works.
//!
//! ```text
//! backup   hold the blobs ─► runs/ ─► the database (one consistent snapshot) ─► what is new in runs/ ─► blobs/, keys
//!          ─► all on disk ─► its name
//! restore  look at all of it ─► say that it has begun ─► blobs/ and records that are missing or cut ─► keys
//!          ─► the old database aside ─► the database ─► say that it is done
//! ```
//! A backup has its name only when it is whole. A restore removes nothing: what is newer than the backup stays, and what has
//! to give way is in `set-aside/`. One that was cut off keeps a server from starting until it is repeated. Images are not in a
//! backup; they are pulled again.
use std::collections::HashSet;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use vessl_core::record::{self, EventKind};
use vessl_data::blob::{self, Batch, LARGEST_IN_PACK, Unit};
use vessl_data::{DataError, Watch, durable};

use crate::ServerError;
use crate::lock;
use crate::paths::DataDir;
use crate::reserve::Reserve;

mod volumes;

/// Version of a backup's form. The first one had no packs; it is still read.
const VERSION: u32 = 2;
/// What says that a directory is a backup.
const ABOUT: &str = "backup.json";
/// Files beside the database that belong to a data directory.
const KEYS: [&str; 5] = ["instance", "token", "secret.key", "config", "ssh_host_key"];
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
    /// Directories of attempts.
    #[serde(default)]
    attempts: usize,
    /// Exported files.
    #[serde(default)]
    blobs: usize,
    /// Files of blobs that are in their bucket alone, and not in the backup.
    #[serde(default)]
    pub away: usize,
    /// Volumes of the built-in storage, if they were copied.
    #[serde(default)]
    pub volumes: Option<usize>,
}

/// Whether the volumes of the built-in storage are in a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volumes {
    /// As they were while they were copied.
    Copied,
    /// Not.
    LeftOut,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The backup.
    pub backup: Backup,
    /// Files of attempts that were missing or cut: plans, events, exit records, logs.
    pub records: usize,
    /// Exported files that were missing.
    pub blobs: usize,
    /// Volumes that were missing or empty.
    pub volumes: usize,
    /// Volumes that have files, and are left as they are.
    pub volumes_left: Vec<String>,
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
    /// The database is empty, and runs have directories.
    #[error(
        "the database in `{}` is empty beside {count} directories of runs: it was lost, and a backup of it would be worth nothing; \
         bring it back first (`vessl server restore BACKUP`)",
        data.display()
    )]
    Lost {
        /// The data directory.
        data: PathBuf,
        /// How many directories.
        count: usize,
    },
    /// Runs that the backup does not know go on.
    #[error(
        "{} still work{} in `{}` and {} not in the backup, so nobody could look after {} any more: terminate {} first; \
         where no server starts, `kill {}` ends {}",
        words(.0), if .0.len() == 1 { "s" } else { "" }, .1.display(),
        if .0.len() == 1 { "is" } else { "are" }, them(.0), them(.0), pids(.0), them(.0)
    )]
    Alive(Vec<Stranger>, PathBuf),
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
    /// A volume changes all the time.
    #[error(
        "the volume `{volume}` cannot be copied: {source}; copy it while no run writes to it, or leave the volumes out"
    )]
    Volume {
        /// `ORGANIZATION/VOLUME`.
        volume: String,
        /// Why not.
        source: DataError,
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

/// A run that works and that a backup does not know.
#[derive(Debug)]
pub struct Stranger {
    run: String,
    /// Of its agent.
    pid: Option<i32>,
}

fn words(runs: &[Stranger]) -> String {
    let names: Vec<&str> = runs.iter().map(|stranger| stranger.run.as_str()).collect();
    format!("run{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

fn pids(runs: &[Stranger]) -> String {
    let pid = |stranger: &Stranger| stranger.pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    runs.iter().map(pid).collect::<Vec<_>>().join(" ")
}

fn them(runs: &[Stranger]) -> &'static str {
    if runs.len() == 1 { "it" } else { "them" }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { what, path, source }
}

/// Copies what a server needs to go on to the new directory `to`, also while one works on `data`. It is on disk when this
/// returns.
pub fn backup(data: &Path, to: &Path, volumes: Volumes, now: Timestamp) -> Result<Backup> {
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
    let private = std::fs::Permissions::from_mode(0o700);
    let half = tempfile::Builder::new().prefix(".vessl-backup-").permissions(private).tempdir_in(&above);
    let half = half.map_err(failed("make a directory in", &above))?;
    hide(&data, &[half.path(), &to])?;
    let about = fill(&data, half.path(), volumes, now)?;
    let path = half.keep();
    std::fs::rename(&path, &to).map_err(failed("name", &to))?;
    durable::sync_dir(&above).map_err(failed("sync", &above))?;
    Ok(about)
}

/// Notes directories that no run may see, since they hold the keys: agents read this.
fn hide(data: &Path, dirs: &[&Path]) -> Result<()> {
    let path = DataDir::new(data).backups();
    let mut text = Vec::new();
    for dir in dirs {
        text.extend_from_slice(dir.as_os_str().as_bytes());
        text.push(b'\n');
    }
    let file = File::options().create(true).append(true).mode(0o600).open(&path);
    let written = file.and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()));
    written.map_err(failed("write", &path))
}

fn fill(data: &Path, half: &Path, volumes: Volumes, now: Timestamp) -> Result<Backup> {
    let blobs = blob::Store::open(&data.join("blobs"))?;
    let _kept = blobs.keep()?;
    let (runs, copied) = (data.join("runs"), half.join("runs"));
    // Before the database, so that a run that is deleted meanwhile is in both or in none, and after it, for what is new.
    copy_runs(&runs, &copied)?;
    let database = half.join(DATABASE[0]);
    let known = snapshot(&data.join(DATABASE[0]), &database)?;
    copy_runs(&runs, &copied)?;
    if known.is_empty() && !entries(&copied)?.is_empty() {
        return Err(BackupError::Lost { data: data.to_owned(), count: entries(&copied)?.len() });
    }
    for dir in entries(&copied)? {
        if !name(&dir).parse().is_ok_and(|id: u64| known.contains(&id)) {
            std::fs::remove_dir_all(&dir).map_err(failed("remove", &dir))?;
        }
    }
    for shard in shards(&data.join("blobs"))? {
        copy_files(&shard, &half.join("blobs").join(name(&shard)))?;
    }
    copy_packs(&blobs, &half.join("blobs/packs"))?;
    let away = copy_markers(&blobs, &half.join("blobs"))?;
    for key in KEYS.into_iter().filter(|key| data.join(key).exists()) {
        copy(&data.join(key), &half.join(key))?;
    }
    let volumes = match volumes {
        Volumes::Copied => Some(volumes::copy(&data.join("volumes"), &half.join("volumes"))?),
        Volumes::LeftOut => None,
    };
    let instance = std::fs::read_to_string(half.join(KEYS[0])).unwrap_or_default().trim().to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let bytes = size(half)?;
    let (attempts, blobs) = (attempts(half)?.len(), stored(half)?.len());
    let about = Backup {
        v: VERSION,
        version,
        instance,
        taken_at: now,
        runs: known.len(),
        bytes,
        attempts,
        blobs,
        away,
        volumes,
    };
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
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(to, private).map_err(failed("protect", to))?;
    ids(&Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

fn ids(copy: &Connection) -> Result<HashSet<u64>> {
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

/// Copies what is noted of units that are in a bucket too, and the indexes of packs that are there alone; how many are there alone.
fn copy_markers(blobs: &blob::Store, to: &Path) -> Result<usize> {
    let from = blobs.root();
    copy_files(&from.join("away"), &to.join("away"))?;
    let mut away = 0;
    for unit in blobs.marked()?.into_keys().filter(|unit| !from.join(unit.file()).exists()) {
        away += 1;
        if let Some(index) = unit.index() {
            make_dir(&to.join("packs"))?;
            copy(&from.join(&index), &to.join(&index))?;
        }
    }
    Ok(away)
}

/// Copies the packs, each with its index; what comes meanwhile was put after the database was copied.
fn copy_packs(blobs: &blob::Store, to: &Path) -> Result<()> {
    for unit in blobs.units()? {
        let Unit::Pack { data, index, .. } = unit else { continue };
        make_dir(to)?;
        for file in [data, index] {
            copy(&file, &to.join(name(&file)))?;
        }
    }
    Ok(())
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

/// Brings back what a backup has and `data` lacks, and its database in place of the one there is. No server may work there, and no
/// run that the backup does not know.
pub fn restore(from: &Path, data: &Path, now: Timestamp) -> Result<Restored> {
    let about = read(from)?;
    let known = check(from, &about)?;
    let dir = DataDir::new(data);
    make_dir(data)?;
    let _lock = lock::take(&dir, &Reserve::at(dir.reserve())).map_err(Box::new)?;
    let strangers = alive(data, &known)?;
    if !strangers.is_empty() {
        return Err(BackupError::Alive(strangers, data.to_owned()));
    }
    // It has the token and the key that are in use from now on.
    hide(data, &[&std::path::absolute(from).map_err(failed("find", from))?])?;
    let begun = dir.restoring();
    durable::write_atomic(&begun, from.as_os_str().as_bytes(), 0o600).map_err(failed("write", &begun))?;
    let blobs = restore_blobs(&from.join("blobs"), &data.join("blobs"))?;
    let mut records = 0;
    for attempt in attempts(from)? {
        let to = data.join(attempt.strip_prefix(from).unwrap_or(&attempt));
        records += restore_attempt(&attempt, &to)?;
    }
    let (volumes, volumes_left) = volumes::restore(&from.join("volumes"), &data.join("volumes"))?;
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
    std::fs::remove_file(&begun).map_err(failed("remove", &begun))?;
    durable::sync_dir(data).map_err(failed("sync", data))?;
    Ok(Restored { backup: about, records, blobs, volumes, volumes_left, set_aside: aside.moved })
}

/// Whether a backup is whole; the ids of its runs.
fn check(from: &Path, about: &Backup) -> Result<HashSet<u64>> {
    let none = |why: String| BackupError::NoBackup { path: from.to_owned(), why };
    let read = || -> Result<(String, HashSet<u64>)> {
        let copy = Connection::open_with_flags(from.join(DATABASE[0]), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let said = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok((said, ids(&copy)?))
    };
    let (said, known) = read().map_err(|error| none(format!("its database is damaged ({error})")))?;
    if said != "ok" {
        return Err(none(format!("its database is damaged ({said})")));
    }
    for (what, has, had) in [
        ("runs", known.len(), about.runs),
        ("attempts", attempts(from)?.len(), about.attempts),
        ("exported files", stored(from)?.len(), about.blobs),
        ("volumes", volumes::all(&from.join("volumes"))?.len(), about.volumes.unwrap_or_default()),
    ] {
        if has < had {
            return Err(none(format!("it has {has} of {had} {what}: it is not whole any more")));
        }
    }
    Ok(known)
}

/// Runs that work in `data`, as their locks say, and are none of `known`.
fn alive(data: &Path, known: &HashSet<u64>) -> Result<Vec<Stranger>> {
    let mut runs = Vec::new();
    for attempt in attempts(data)? {
        let run = attempt.parent().map(name).unwrap_or_default();
        let works = File::open(attempt.join("lock"))
            .is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)));
        if works && !run.parse().is_ok_and(|id: u64| known.contains(&id)) {
            runs.push(Stranger { run, pid: agent_of(&attempt) });
        }
    }
    Ok(runs)
}

/// The process of the agent that works in the directory of an attempt.
fn agent_of(attempt: &Path) -> Option<i32> {
    let text = durable::read_lines(&attempt.join("events"), 0).ok()?;
    record::events(&text).ok()?.into_iter().find_map(|event| match event.what {
        EventKind::Started { pid, .. } => Some(pid),
        _ => None,
    })
}

/// The directories of all attempts.
fn attempts(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for run in entries(&root.join("runs"))? {
        found.extend(entries(&run)?);
    }
    Ok(found)
}

/// The exported files, and packs of them.
fn stored(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = entries(&root.join("blobs/packs"))?;
    for shard in shards(&root.join("blobs"))? {
        found.extend(entries(&shard)?);
    }
    Ok(found)
}

/// Brings back what is missing of an attempt's records, and what is shorter than it was: they only grow.
fn restore_attempt(from: &Path, to: &Path) -> Result<usize> {
    let mut files: Vec<PathBuf> = RECORDS.iter().map(PathBuf::from).collect();
    files.extend(entries(&from.join("log"))?.iter().map(|segment| Path::new("log").join(name(segment))));
    let mut count = 0;
    for file in files {
        let size = |path: &Path| path.symlink_metadata().ok().map(|about| about.len());
        let (source, target) = (from.join(&file), to.join(&file));
        if size(&source) > size(&target) {
            make_dir(target.parent().unwrap_or(to))?;
            let half = target.with_extension("restored");
            copy(&source, &half)?;
            let done = File::open(&half).and_then(|file| file.sync_all());
            done.and_then(|()| std::fs::rename(&half, &target)).map_err(failed("write", &target))?;
            count += 1;
        }
    }
    Ok(count)
}

fn read(from: &Path) -> Result<Backup> {
    let none = |why: String| BackupError::NoBackup { path: from.to_owned(), why };
    let text = std::fs::read(from.join(ABOUT)).map_err(|error| none(format!("`{ABOUT}`: {error}")))?;
    let about: Backup = serde_json::from_slice(&text).map_err(|error| none(format!("`{ABOUT}`: {error}")))?;
    if !(1..=VERSION).contains(&about.v) {
        return Err(none(format!("it has version {}, this program knows 1 to {VERSION}", about.v)));
    }
    Ok(about)
}

/// Every blob is verified on its way back.
fn restore_blobs(from: &Path, to: &Path) -> Result<usize> {
    let (store, saved) = (blob::Store::open(to)?, blob::Store::at(from));
    let mut count = 0;
    let units = if from.is_dir() { saved.units()? } else { Vec::new() };
    for unit in units {
        match unit {
            Unit::Loose { digest, .. } if store.has(digest)? => {}
            Unit::Loose { digest, path } => {
                let mut file = File::open(&path).map_err(failed("open", &path))?;
                if store.put(&mut file, &Watch::NONE)?.digest != digest {
                    return Err(DataError::Damaged { digest, path }.into());
                }
                count += 1;
            }
            Unit::Pack { .. } => count += restore_pack(&saved, &unit, &store)?,
        }
    }
    restore_markers(&saved, &store)?;
    Ok(count)
}

/// Brings back what was noted of units that were in a bucket alone. Those that were here too are put there again.
fn restore_markers(saved: &blob::Store, store: &blob::Store) -> Result<()> {
    let known = store.marked()?;
    for (unit, marker) in saved.marked()? {
        let is_known = known.contains_key(&unit) || store.root().join(unit.file()).exists();
        if is_known || saved.root().join(unit.file()).exists() {
            continue;
        }
        let index = unit.index().map(|index| saved.root().join(index));
        let index = index.map(|index| std::fs::read(&index).map_err(failed("read", &index))).transpose()?;
        store.adopt_away(unit, marker.size, index.as_deref())?;
    }
    Ok(())
}

/// What is missing of a pack, together.
fn restore_pack(saved: &blob::Store, pack: &Unit, store: &blob::Store) -> Result<usize> {
    let batch = Batch::begin(store)?;
    let mut count = 0;
    for digest in saved.inside(pack)? {
        if !store.has(digest)? {
            batch.put_bytes(&saved.read(digest, LARGEST_IN_PACK)?)?;
            count += 1;
        }
    }
    batch.finish()?;
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
