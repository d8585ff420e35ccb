//! Locks between the processes of one store: one file per layer and per image, `flock`ed.
//!
//! Shared: somebody uses it and it must stay. Exclusive: it is being made or removed. A lock file can be removed while it
//! is held exclusively; whoever waited for it sees that and takes the new one. The kernel frees locks of the dead.
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How a lock is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Shared,
    Exclusive,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

/// Takes the lock `path` without waiting; `None` if somebody holds it in a way that does not go together with `how`.
pub(super) fn take(path: &Path, how: How) -> io::Result<Option<Lock>> {
    loop {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !try_lock(&file, how)? {
            return Ok(None);
        }
        let held = file.metadata()?;
        match path.metadata() {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {
                return Ok(Some(Lock { file, path: path.to_owned() }));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

fn try_lock(file: &File, how: How) -> io::Result<bool> {
    let tried = match how {
        How::Shared => file.try_lock_shared(),
        How::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

impl Lock {
    /// From exclusive to shared; `false` if somebody else got it in between and it is held no more.
    pub(super) fn share(&self) -> io::Result<bool> {
        try_lock(&self.file, How::Shared)
    }

    /// Removes the lock file; only for one that is held exclusively.
    pub(super) fn remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_goes_with_shared_and_nothing_with_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let first = take(&path, How::Shared).unwrap().unwrap();
        let second = take(&path, How::Shared).unwrap();
        assert!(second.is_some());
        assert!(take(&path, How::Exclusive).unwrap().is_none());
        drop((first, second));
        let only = take(&path, How::Exclusive).unwrap().unwrap();
        assert!(take(&path, How::Shared).unwrap().is_none());
        assert!(only.share().unwrap());
        assert!(take(&path, How::Shared).unwrap().is_some());
    }

    #[test]
    fn a_removed_lock_file_is_a_new_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let old = take(&path, How::Exclusive).unwrap().unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = take(&path, How::Exclusive).unwrap();
        assert!(new.is_some());
        drop(old);
        new.unwrap().remove().unwrap();
        assert!(!path.exists());
    }
}
