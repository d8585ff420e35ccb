//! What imports brought to this machine, as directories that are only read: each made once, under a key that says what it is, and
//! shared by everybody who has it in view. It must not know where the bytes come from.
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};

use crate::blob::{Digest, Freed};
use crate::dir::{Dir, proc_path, real_path};
use crate::{DataError, Watch, durable};

/// How often a builder that waits for another one looks whether it should stop.
const WAIT: Duration = Duration::from_millis(20);
/// The mark of a directory that is not on disk yet.
const MARK: &str = "unsynced";

/// Directories by a key, each made once and shared by everybody who imports it.
///
/// ```text
/// <key>/fs        the files; a user holds a shared lock on <key>
/// <key>/about     what its maker noted
/// <key>/unsynced  the boot of the machine in which it was made, until it is on disk
/// .new-<key>/     being made, under the exclusive lock of its stripe
/// .gone-<key>/    being removed, under the same lock
/// .lock-ab        one lock for the making and removal of all keys that begin with ab
/// ```
///
/// Nobody waits for the disk: a directory has its name, and its users, as soon as all of it is written, and [`Unsynced::settle`] brings
/// it to disk beside them. Until then the mark says that it is whole in the memory of this boot alone. After another boot, or where the
/// disk did not take it, it counts as not there and is made anew.
///
/// When a directory was used last is when `<key>` was modified.
#[derive(Clone, Debug)]
pub struct Staging {
    root: PathBuf,
    /// Which boot of the machine this is.
    boot: String,
}

/// A directory. It is not removed while this lives. Nothing may be written to it.
#[derive(Debug)]
pub struct Staged {
    /// The directory.
    pub path: PathBuf,
    /// Whether it had to be made.
    pub new: bool,
    unsynced: Option<Unsynced>,
    _hold: File,
}

/// A directory that may not be on disk yet; it is not removed while this lives.
#[derive(Debug)]
pub struct Unsynced {
    /// The file system, opened before the first write to it by who made the directory: so it hears of every write that failed.
    disk: File,
    /// What has the mark.
    dir: File,
    boot: String,
}

impl Unsynced {
    /// Waits until the directory is on disk, and takes its mark away. After an error nobody gets it any more who asks for its key;
    /// whoever has it can read what the memory of the machine has.
    pub fn settle(self) -> Result<(), DataError> {
        let path = proc_path(&self.dir).join(MARK);
        let mut mark = match File::options().read(true).write(true).open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(DataError::os("open", &path))?,
        };
        // One at a time: another one may hear of a failure that this one would not.
        mark.lock().map_err(DataError::os("lock", &path))?;
        let mut boot = String::new();
        mark.read_to_string(&mut boot).map_err(DataError::os("read", &path))?;
        if boot != self.boot || mark.metadata().map_err(DataError::os("read", &path))?.nlink() == 0 {
            return Ok(());
        }
        let synced = nix::unistd::syncfs(&self.disk).map_err(io::Error::from);
        self.conclude(&mark, synced).map_err(DataError::os("sync", self.path()))
    }

    /// Takes the mark away, or lets it say that the directory is of no use: that takes no room on a disk that may be full.
    fn conclude(&self, mark: &File, synced: io::Result<()>) -> io::Result<()> {
        if let Err(error) = synced {
            mark.set_len(0).and_then(|()| mark.sync_all())?;
            return Err(error);
        }
        std::fs::remove_file(proc_path(&self.dir).join(MARK))?;
        self.dir.sync_all()
    }

    fn path(&self) -> PathBuf {
        real_path(&self.dir).unwrap_or_default()
    }
}

/// What the mark of a directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// There is none: it is on disk.
    Synced,
    /// It is whole as long as the machine runs.
    ThisBoot,
    /// It may have holes.
    Useless,
}

impl Staged {
    /// What brings it to disk, if it may not be there yet; once.
    pub fn take_unsynced(&mut self) -> Option<Unsynced> {
        self.unsynced.take()
    }

    /// What its maker noted, and what is behind it; nothing of what was made before there were notes.
    pub fn about(&self) -> Option<(About, Vec<u8>)> {
        let text = std::fs::read(self.path.with_file_name("about")).ok()?;
        About::parse(&text).map(|(about, rest)| (about, rest.to_vec()))
    }
}

/// What a look at a source found.
#[derive(Debug)]
pub enum Looked<T> {
    /// What was there last time.
    Same(T),
    /// Something else, which is in the directory now.
    New {
        /// Its key.
        key: Digest,
        /// To be noted beside the directory.
        about: About,
        /// What the source wants to find again.
        rest: Vec<u8>,
        /// For the caller.
        result: T,
    },
}

/// What is noted beside a directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The source as its first author named it.
    pub label: String,
    /// Commit, hash of a tree, or what was seen.
    pub version: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

impl About {
    /// One line of JSON, and behind it what its kind of source wants to find again.
    fn print(&self, rest: &[u8]) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text.extend_from_slice(rest);
        text
    }

    fn parse(text: &[u8]) -> Option<(Self, &[u8])> {
        let end = text.iter().position(|byte| *byte == b'\n')?;
        Some((serde_json::from_slice(&text[..end]).ok()?, &text[end + 1..]))
    }
}

/// What `fill` of [`Staging::entry`] made.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// To be noted beside the directory.
    pub about: About,
    /// What its kind of source wants to find again.
    pub rest: Vec<u8>,
    /// What is not there of it: then only whoever made it gets it, and the next one tries anew.
    pub lacks: Lacks,
}

/// Whether all of something came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lacks {
    /// It did.
    #[default]
    Nothing,
    /// It did not.
    Something,
}

impl From<About> for Made {
    fn from(about: About) -> Self {
        Self { about, ..Self::default() }
    }
}

/// One of the directories, for a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Digest,
    /// What its maker noted.
    pub about: About,
    /// When it was used last.
    pub used_at: SystemTime,
    /// Whether somebody uses it now.
    pub in_use: bool,
}

impl Staging {
    /// Opens (and makes, mode 0700) a directory of trees.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let boot = durable::boot_id().map_err(DataError::os("read", durable::BOOT_ID))?;
        Self::of_boot(root, boot)
    }

    fn of_boot(root: &Path, boot: String) -> Result<Self, DataError> {
        durable::create_dir_all(root, 0o700).map_err(DataError::os("make", root))?;
        Ok(Self { root: root.to_owned(), boot })
    }

    /// The directory of `key`, made by `fill` if it is not there: seen as a whole or not at all, also after a crash. `fill` need not
    /// wait for the disk. One that it cannot complete leaves nothing; what it returns is noted. Whoever wants the same meanwhile waits
    /// for it.
    pub fn entry<E: From<DataError>>(
        &self,
        key: Digest,
        watch: &Watch<'_>,
        fill: impl FnOnce(&Dir) -> Result<Made, E>,
    ) -> Result<Staged, E> {
        if let Some(staged) = self.get(key)? {
            return Ok(staged);
        }
        let _building = self.lock(key, watch)?;
        if let Some(staged) = self.get(key)? {
            return Ok(staged);
        }
        self.build(key, fill)
    }

    /// The directory of what a source holds now, whose key is only known once the source has been looked at. `look` gets an empty
    /// directory, and the one that the source had last time, if it is still there; it fills the first or says that nothing has
    /// changed. One at a time looks at a source: whoever wants the same meanwhile waits.
    pub fn current<E: From<DataError>, T>(
        &self,
        source: Digest,
        watch: &Watch<'_>,
        look: impl FnOnce(&Dir, Option<&Staged>) -> Result<Looked<T>, E>,
    ) -> Result<(Staged, T), E> {
        let _looking = self.lock(source, watch)?;
        let last = self.root.join(format!(".last-{source}"));
        let before = std::fs::read_to_string(&last).ok().and_then(|key| key.trim().parse().ok());
        let before = before.map(|key| self.get(key)).transpose()?.flatten();
        let new = self.place(".new-", source);
        remove_all(&new)?;
        let mut looked = None;
        let made = self.make(&new, |dir| {
            let found = look(dir, before.as_ref())?;
            let about =
                if let Looked::New { about, rest, .. } = &found { about.print(rest) } else { Vec::new() };
            looked = Some(found);
            Ok::<_, E>(about)
        });
        let found = match (made, looked, before) {
            (Ok(disk), Some(Looked::New { key, result, .. }), _) => Ok((disk, key, result)),
            (Ok(_), Some(Looked::Same(result)), Some(before)) => {
                remove_all(&new)?;
                return Ok((before, result));
            }
            (Err(error), ..) => Err(error),
            (Ok(_), ..) => Err(DataError::Missing { digest: source }.into()),
        };
        if found.is_err() {
            let _ = remove_all(&new);
        }
        let (disk, key, result) = found?;
        let staged = if let Some(staged) = self.show(&new, key, disk)? {
            staged
        } else {
            // What it holds now, it held before.
            remove_all(&new)?;
            let before = self.get(key)?.ok_or(DataError::Missing { digest: key })?;
            Staged { new: true, ..before }
        };
        // Without it the source is looked at anew, so it need not outlive a crash.
        replace(&last, key.to_string().as_bytes()).map_err(DataError::os("write", &last))?;
        Ok((staged, result))
    }

    /// The directory of `key`, if it is there; it counts as used now.
    pub fn get(&self, key: Digest) -> Result<Option<Staged>, DataError> {
        let Some((hold, mark)) = self.hold(key)? else { return Ok(None) };
        // It is only older in the list if this fails.
        let _ = hold.set_modified(SystemTime::now());
        // Whoever made it may have died before it was on disk.
        let unsynced = match mark {
            Mark::ThisBoot => {
                let disk = File::open(&self.root).map_err(DataError::os("open", &self.root))?;
                Some(self.unsynced(&hold, disk)?)
            }
            Mark::Synced | Mark::Useless => None,
        };
        Ok(Some(Staged { path: self.place("", key).join("fs"), new: false, unsynced, _hold: hold }))
    }

    /// Everything that is there, what was used last at the end.
    pub fn list(&self) -> Result<Vec<Entry>, DataError> {
        let mut entries = Vec::new();
        for key in self.keys()? {
            let path = self.place("", key);
            let Ok(file) = File::open(&path) else { continue };
            let Ok(meta) = file.metadata() else { continue };
            if self.mark(&path)? == Mark::Useless {
                continue;
            }
            let text = std::fs::read(path.join("about")).unwrap_or_default();
            let about = About::parse(&text).map(|(about, _)| about).unwrap_or_default();
            let in_use = file.try_lock().is_err();
            let used_at = meta.modified().map_err(DataError::os("read", path))?;
            entries.push(Entry { key, about, used_at, in_use });
        }
        entries.sort_by_key(|entry| entry.used_at);
        Ok(entries)
    }

    /// Removes what nobody uses, what was used longest ago first, until all of it together has at most `limit` bytes; and what dead
    /// processes and boots left.
    pub fn shrink(&self, limit: u64) -> Result<Freed, DataError> {
        let entries = self.list()?;
        let mut total: u64 = entries.iter().map(|entry| entry.about.bytes).sum();
        let mut freed = Freed::default();
        for entry in entries {
            if total <= limit {
                break;
            }
            let Some(_lock) = self.try_lock(entry.key)? else { continue };
            if self.remove("", entry.key)? {
                total -= entry.about.bytes;
                freed.count += 1;
                freed.bytes += entry.about.bytes;
            }
        }
        self.collect(&|_| true)?;
        Ok(freed)
    }

    fn keys(&self) -> Result<Vec<Digest>, DataError> {
        let entries = std::fs::read_dir(&self.root).map_err(DataError::os("read", &self.root))?;
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
        Ok(names.filter_map(|name| name.to_str()?.parse().ok()).collect())
    }

    /// Removes every key for which `keep` is false and that nobody holds, and what dead processes and boots left.
    pub fn collect(&self, keep: &dyn Fn(Digest) -> bool) -> Result<Freed, DataError> {
        let mut freed = Freed::default();
        for entry in std::fs::read_dir(&self.root).map_err(DataError::os("read", &self.root))? {
            let name = entry.map_err(DataError::os("read", &self.root))?.file_name();
            let Some(name) = name.to_str() else { continue };
            let (state, key) = match name.strip_prefix('.').and_then(|n| n.split_once('-')) {
                Some(("new" | "gone", key)) => (&name[..name.len() - key.len()], key),
                Some(_) => continue,
                None => ("", name),
            };
            let Ok(key) = key.parse() else { continue };
            if state.is_empty() && keep(key) && self.mark(&self.place("", key))? != Mark::Useless {
                continue;
            }
            let Some(_lock) = self.try_lock(key)? else { continue };
            if self.remove(state, key)? {
                freed.count += u64::from(state.is_empty());
            }
        }
        Ok(freed)
    }

    fn place(&self, state: &str, key: Digest) -> PathBuf {
        self.root.join(format!("{state}{key}"))
    }

    /// A shared lock on the key's directory, if it is there and of use.
    fn hold(&self, key: Digest) -> Result<Option<(File, Mark)>, DataError> {
        let path = self.place("", key);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(DataError::os("open", path)(e)),
        };
        let mark = self.mark(&proc_path(&file))?;
        if mark == Mark::Useless {
            return Ok(None);
        }
        file.lock_shared().map_err(DataError::os("lock", &path))?;
        // It may have been removed before the lock was ours.
        let id = |meta: std::fs::Metadata| (meta.dev(), meta.ino());
        let held = file.metadata().map(id).map_err(DataError::os("read", &path))?;
        Ok((std::fs::metadata(&path).map(id).ok() == Some(held)).then_some((file, mark)))
    }

    /// What is marked in a directory.
    fn mark(&self, dir: &Path) -> Result<Mark, DataError> {
        let path = dir.join(MARK);
        match std::fs::read(&path) {
            Ok(boot) if boot == self.boot.as_bytes() => Ok(Mark::ThisBoot),
            Ok(_) => Ok(Mark::Useless),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Mark::Synced),
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    fn unsynced(&self, dir: &File, disk: File) -> Result<Unsynced, DataError> {
        let dir = dir.try_clone().map_err(DataError::os("open", &self.root))?;
        Ok(Unsynced { disk, dir, boot: self.boot.clone() })
    }

    fn try_lock(&self, key: Digest) -> Result<Option<File>, DataError> {
        let path = self.root.join(format!(".lock-{:02x}", key.0[0]));
        let mut options = File::options();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DataError::os("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(DataError::os("lock", path)(e)),
        }
    }

    fn lock(&self, key: Digest, watch: &Watch<'_>) -> Result<File, DataError> {
        loop {
            watch.check()?;
            if let Some(file) = self.try_lock(key)? {
                return Ok(file);
            }
            std::thread::sleep(WAIT);
        }
    }

    fn build<E: From<DataError>>(
        &self,
        key: Digest,
        fill: impl FnOnce(&Dir) -> Result<Made, E>,
    ) -> Result<Staged, E> {
        let new = self.place(".new-", key);
        remove_all(&new)?;
        let mut lacks = Lacks::Nothing;
        let made = self.make(&new, |dir| {
            let made = fill(dir)?;
            lacks = made.lacks;
            Ok::<_, E>(made.about.print(&made.rest))
        });
        if made.is_err() {
            // The next builder or collection removes what this leaves.
            let _ = remove_all(&new);
        }
        let disk = made?;
        let key = if lacks == Lacks::Nothing { key } else { nobody_elses(key) };
        let there =
            || DataError::os("rename", self.place("", key))(io::Error::from(io::ErrorKind::AlreadyExists));
        Ok(self.show(&new, key, disk)?.ok_or_else(there)?)
    }

    /// Makes `new/fs` with everything in it. What is returned hears of every write that fails from now on.
    fn make<E: From<DataError>>(
        &self,
        new: &Path,
        fill: impl FnOnce(&Dir) -> Result<Vec<u8>, E>,
    ) -> Result<File, E> {
        let make =
            |path: &Path| DirBuilder::new().mode(0o700).create(path).map_err(DataError::os("make", path));
        let (fs, mark, noted) = (new.join("fs"), new.join(MARK), new.join("about"));
        make(new)?;
        make(&fs)?;
        let disk = File::open(new).map_err(DataError::os("open", new))?;
        // On disk before there is anything else: what has its name after a crash has its mark too.
        durable::write_atomic(&mark, self.boot.as_bytes(), 0o600).map_err(DataError::os("write", &mark))?;
        let root = Dir::open(&fs).map_err(DataError::os("open", &fs))?;
        let about = fill(&root)?;
        fchmod(&root, Mode::from_bits_truncate(0o755)).map_err(DataError::os("write", &fs))?;
        std::fs::write(&noted, about).map_err(DataError::os("write", &noted))?;
        Ok(disk)
    }

    /// Gives what was made its name; `None` if another one has it that is whole.
    fn show(&self, new: &Path, key: Digest, disk: File) -> Result<Option<Staged>, DataError> {
        let path = self.place("", key);
        // Held before anybody can see it, so that nobody takes it away again.
        let hold = File::open(new).map_err(DataError::os("open", new))?;
        hold.lock_shared().map_err(DataError::os("lock", new))?;
        loop {
            match std::fs::rename(new, &path) {
                Err(e) if is_there(&e) => {
                    if self.mark(&path)? != Mark::Useless {
                        return Ok(None);
                    }
                    self.put_away(key)?;
                }
                renamed => {
                    renamed.map_err(DataError::os("rename", &path))?;
                    let unsynced = Some(self.unsynced(&hold, disk)?);
                    return Ok(Some(Staged { path: path.join("fs"), new: true, unsynced, _hold: hold }));
                }
            }
        }
    }

    /// Takes the name from a directory that is of no use; a run may still read it, so it is removed when nobody does.
    fn put_away(&self, key: Digest) -> Result<(), DataError> {
        let path = self.place("", key);
        match std::fs::rename(&path, self.place("", nobody_elses(key))) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(DataError::os("rename", path)(e)),
            _ => Ok(()),
        }
    }

    /// Removes a key that nobody holds; false if somebody does.
    fn remove(&self, state: &str, key: Digest) -> Result<bool, DataError> {
        let mut path = self.place(state, key);
        if state.is_empty() {
            let gone = self.place(".gone-", key);
            remove_all(&gone)?;
            let Ok(dir) = File::open(&path) else { return Ok(false) };
            if dir.try_lock().is_err() {
                return Ok(false);
            }
            std::fs::rename(&path, &gone).map_err(DataError::os("rename", &path))?;
            path = gone;
        }
        remove_all(&path)?;
        Ok(true)
    }
}

/// Replaces a file so that a reader sees the old content or all of the new one; after a crash it may be anything.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".last-").tempfile_in(durable::parent(path))?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

/// A key that nobody will ask for.
fn nobody_elses(key: Digest) -> Digest {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Digest::of(format!("{key} {} {}", std::process::id(), now.as_nanos()).as_bytes())
}

/// Whether a directory cannot get its name because another one has it.
fn is_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

/// Removes a directory of ours and everything in it, also where a mode forbids it; fine if there is none.
fn remove_all(path: &Path) -> Result<(), DataError> {
    let remove = || match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    remove()
        .or_else(|e| {
            if e.kind() != io::ErrorKind::PermissionDenied {
                return Err(e);
            }
            unseal(path)?;
            remove()
        })
        .map_err(DataError::os("remove", path))
}

fn unseal(dir: &Path) -> io::Result<()> {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unseal(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
