//! The directory of one attempt: its files by name, its lock, its plan, its last word. It knows the formats of
//! `core::record` and nothing of what they lead to.
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FallocateFlags, fallocate};
use vessl_core::plan::{PLAN_VERSION, Plan};
use vessl_core::record::{self, Event, ExitRecord};
use vessl_core::{door, jupyter};
use vessl_data::durable;

use super::commands::{COMMANDS_VERSION, CommandsRecord};

/// Kept free on disk for the exit record and the end of the log, for the case that the commands fill the disk, in bytes.
const SPARE: i64 = 1 << 20;
/// How often a held lock is tried again.
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DirError {
    /// A file of it cannot be read or written.
    #[error("cannot {what} `{}`: {source}", path.display())]
    Os {
        /// The step.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Another agent works on this attempt.
    #[error("another agent holds `{}`", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("cannot understand `{}`: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The plan was written by another version of the product.
    #[error("`{}` has version {found}, this program carries out version {PLAN_VERSION}", path.display())]
    Version {
        /// The plan.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl DirError {
    pub(super) fn os(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Os { what, path, source }
    }
}

/// The directory of one attempt.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    dir: File,
}

/// Held for the life of an agent.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file gives the lock back")] File);

impl RunDir {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens an existing directory.
    pub(crate) fn open(path: &Path) -> Result<Self, DirError> {
        let path = path.canonicalize().map_err(DirError::os("find", path))?;
        let dir = File::open(&path).map_err(DirError::os("open", &path))?;
        Ok(Self { path, dir })
    }

    /// Path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Scratch: removed after the end.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.file("box")
    }

    /// Takes the lock, or says at once that it is held.
    pub(crate) fn lock(&self) -> Result<Lock, DirError> {
        self.lock_within(Duration::ZERO)
    }

    /// Takes the lock, waiting for its holder to end.
    pub(crate) fn lock_within(&self, limit: Duration) -> Result<Lock, DirError> {
        let path = self.file("lock");
        // What is no file is no lock, and a pipe would keep us waiting.
        if path.symlink_metadata().is_ok_and(|about| !about.is_file()) {
            remove_any(&path).map_err(DirError::os("remove", &path))?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(DirError::os("open", &path))?;
        let deadline = Instant::now() + limit;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock(file)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => return Err(DirError::Busy { path }),
                Err(TryLockError::Error(error)) => return Err(DirError::os("lock", &path)(error)),
            }
        }
    }

    /// The plan of this attempt.
    pub(crate) fn plan(&self) -> Result<Plan, DirError> {
        let path = self.file("plan.json");
        let text = std::fs::read(&path).map_err(DirError::os("read", &path))?;
        let plan: Plan = serde_json::from_slice(&text)
            .map_err(|source| DirError::Format { path: path.clone(), source })?;
        if plan.v != PLAN_VERSION {
            return Err(DirError::Version { path, found: plan.v });
        }
        Ok(plan)
    }

    /// The events so far, without a torn last line.
    pub(crate) fn events(&self) -> Result<Vec<Event>, DirError> {
        let path = self.file("events");
        let text = durable::read_lines(&path, 0).map_err(DirError::os("read", &path))?;
        record::events(&text).map_err(|source| DirError::Format { path, source })
    }

    /// Whether the attempt has its exit record.
    pub(crate) fn has_ended(&self) -> bool {
        self.file("exit.json").exists()
    }

    /// The exit record of the attempt, if it has one.
    pub(crate) fn exit(&self) -> Result<Option<ExitRecord>, DirError> {
        let path = self.file("exit.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(DirError::os("read", &path))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| DirError::Format { path, source })
    }

    /// Writes the exit record; when this returns it is on disk.
    pub(crate) fn write_exit(&self, record: &ExitRecord) -> Result<(), DirError> {
        let path = self.file("exit.json");
        let text =
            serde_json::to_vec(record).map_err(|source| DirError::Format { path: path.clone(), source })?;
        // A file cannot take the place of a directory.
        if path.is_dir() {
            remove_any(&path).map_err(DirError::os("remove", &path))?;
        }
        durable::write_atomic(&path, &text, 0o600).map_err(DirError::os("write", &path))
    }

    /// Reserves the space for the last words. Where the file system cannot reserve, the last words wait for space.
    pub(crate) fn reserve(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(self.file("spare"))?;
        fallocate(&file, FallocateFlags::empty(), 0, SPARE).map_err(io::Error::from)
    }

    /// Gives the reserved space back.
    pub(crate) fn release(&self) {
        // A file that is not there was given back before.
        let _ = std::fs::remove_file(self.file("spare"));
    }

    /// What exports need that are written by another agent, if there is anything.
    pub(crate) fn commands(&self) -> Result<Option<CommandsRecord>, DirError> {
        let path = self.file("commands.json");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(DirError::os("read", &path))?,
        };
        let read: CommandsRecord =
            serde_json::from_slice(&text).map_err(|source| DirError::Format { path, source })?;
        Ok(Some(read).filter(|read| read.v == COMMANDS_VERSION))
    }

    /// Writes that; when this returns it is on disk.
    pub(crate) fn write_commands(&self, record: &CommandsRecord) -> Result<(), DirError> {
        let path = self.file("commands.json");
        let text =
            serde_json::to_vec(record).map_err(|source| DirError::Format { path: path.clone(), source })?;
        durable::write_atomic(&path, &text, 0o600).map_err(DirError::os("write", &path))
    }

    /// Where the files of an attempt are that has ended and whose exports can be written again.
    pub(crate) fn kept(&self) -> PathBuf {
        self.file("kept")
    }

    /// Keeps the files in scratch, from which everything is unmounted.
    pub(crate) fn keep_scratch(&self, commands: &CommandsRecord) -> Result<(), DirError> {
        let (scratch, kept) = (self.scratch(), self.kept());
        durable::sync_file_system(&scratch).map_err(DirError::os("sync", &scratch))?;
        self.write_commands(&CommandsRecord { is_on_disk: true, ..commands.clone() })?;
        std::fs::rename(&scratch, &kept).map_err(DirError::os("rename", &scratch))?;
        durable::sync_dir(&self.path).map_err(DirError::os("sync", &self.path))
    }

    /// Makes kept files scratch again; false if there are none and no scratch either.
    pub(crate) fn take_kept(&self) -> Result<bool, DirError> {
        let (scratch, kept) = (self.scratch(), self.kept());
        match std::fs::rename(&kept, &scratch) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(scratch.exists()),
            renamed => renamed.map(|()| true).map_err(DirError::os("rename", &kept)),
        }
    }

    /// Removes what only a living agent needs, and what a killed one had half written. For who holds the lock.
    pub(crate) fn tidy(&self) -> Result<(), DirError> {
        [
            "spare",
            "control.sock",
            door::SOCKET,
            "progress",
            "progress.new",
            jupyter::STATE_FILE,
            jupyter::TOKEN_FILE,
        ]
        .map(|name| self.file(name))
        .iter()
        .try_for_each(|path| remove_any(path).map_err(DirError::os("remove", path)))?;
        durable::sweep(&self.path).map_err(DirError::os("sweep", &self.path))
    }
}

/// Removes whatever has the name; what is not there needs no removal.
pub(crate) fn remove_any(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(about) if about.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl AsFd for RunDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
