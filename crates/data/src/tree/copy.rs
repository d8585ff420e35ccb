//! A directory into another one: what is there is replaced file by file, each as a whole. Links are treated as in a version.
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::renameat;
use nix::sys::stat::{Mode, fchmod, fstat};
use nix::unistd::{symlinkat, syncfs};

use super::walk::{Everything, Found, Walked, WhatIsWhole, walk};
use super::write::{Bounds, Source, Warning};
use super::{Entry, FILE_MODE, Form, Kind, Top, with_total};
use crate::blob::{Digest, copy_in_kernel};
use crate::dir::{self, Dir, Modified};
use crate::sparse::{self, Packed};
use crate::{DataError, Owner, Watch, pool};

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The directory itself.
    pub top: Top,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files and symbolic links.
    pub files: u64,
    /// Links that lead out of the directory and are what they lead to now.
    pub followed: u64,
    /// What was not copied, or leads nowhere; sorted by path.
    pub warnings: Vec<Warning>,
}

/// Where files are copied to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The directory.
    pub dir: &'a Dir,
    /// Whose everything new is; `None` for who copies.
    pub owner: Option<Owner>,
    /// A name in `dir` for the files that are on their way; it is removed at the end. They get their places together, one right
    /// after the other, when all of them are there.
    pub parts: &'a Path,
}

/// Copies a directory into another one, which may have files: a file or link of the same name is replaced, a directory is filled.
/// A link or a file in place of a directory is [`DataError::Conflict`]. Nothing of the target changes before everything has been
/// read; what changed is on disk when this returns.
pub fn copy(
    source: Source<'_>,
    target: Target<'_>,
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Copied, DataError> {
    copy_walked(source, walk(source, bounds, &mut Everything, watch)?, target, watch)
}

/// Like [`copy`], of a volume: what is on its way into it is left out.
pub fn copy_volume(
    source: Source<'_>,
    target: Target<'_>,
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Copied, DataError> {
    copy_walked(source, walk(source, bounds, &mut WhatIsWhole, watch)?, target, watch)
}

/// Copies the one file that `source` names into a directory.
pub fn copy_file(
    source: Source<'_>,
    target: Target<'_>,
    bounds: Bounds,
    watch: &Watch<'_>,
) -> Result<Copied, DataError> {
    let name = PathBuf::from(source.path.file_name().unwrap_or_default());
    let read = || DataError::os("read", &name);
    let file = source.root.file(source.path).map_err(read())?;
    let stat = fstat(&file).map_err(DataError::os("read", &name))?;
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    bounds.check(1, size, &name)?;
    let (digest, form) = (Digest([0; 32]), Form::Plain);
    let kind = Kind::File { mode: stat.st_mode & FILE_MODE, size, digest, form };
    let modified = Some(Modified::of(&stat));
    let entry = Entry { path: name.clone(), kind, modified };
    let found = vec![Found { entry, from: source.path.to_owned() }];
    let top = Top { mode: 0o755, modified: Modified::of(&stat) };
    let walked = Walked { top, found, bytes: size, followed: 0, warnings: Vec::new() };
    copy_walked(source, walked, target, watch)
}

fn copy_walked(
    source: Source<'_>,
    walked: Walked,
    target: Target<'_>,
    watch: &Watch<'_>,
) -> Result<Copied, DataError> {
    let done = Copying { source, target, parts: Parts::make(target)? };
    done.check(&walked.found)?;
    let files: Vec<(usize, &Found)> =
        walked.found.iter().enumerate().filter(|(_, one)| is_file(one)).collect();
    with_total(watch, walked.bytes, |watch| pool::each(&files, |(n, found)| done.read(*n, found, watch)))?;
    // What has its place must be whole also after a crash.
    syncfs(target.dir).map_err(DataError::os("sync", target.parts))?;
    done.place(&walked.found)?;
    syncfs(target.dir).map_err(DataError::os("sync", target.parts))?;
    let files = walked.found.iter().filter(|one| !matches!(one.entry.kind, Kind::Dir { .. })).count() as u64;
    let (bytes, followed) = (walked.bytes, walked.followed);
    Ok(Copied { top: walked.top, bytes, files, followed, warnings: walked.warnings })
}

fn is_file(found: &Found) -> bool {
    matches!(found.entry.kind, Kind::File { .. })
}

/// The files on their way; what is left of them goes with this.
struct Parts {
    dir: Dir,
    path: PathBuf,
}

impl Parts {
    fn make(target: Target<'_>) -> Result<Self, DataError> {
        let path = dir::proc_path(target.dir).join(target.parts);
        let failed = || DataError::os("make", target.parts);
        match std::fs::remove_dir_all(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed()(e)),
            _ => {}
        }
        target.dir.make_dir(target.parts, 0o700).map_err(failed())?;
        Ok(Self { dir: target.dir.dir(target.parts).map_err(failed())?, path })
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

struct Copying<'a> {
    source: Source<'a>,
    target: Target<'a>,
    parts: Parts,
}

impl Copying<'_> {
    /// Refuses what cannot get its place, before anything is copied.
    fn check(&self, found: &[Found]) -> Result<(), DataError> {
        for Found { entry, .. } in found {
            let Some(there) = self.kind(&entry.path)? else { continue };
            let is_dir = matches!(entry.kind, Kind::Dir { .. });
            let there = match there {
                dir::Kind::Dir if is_dir => continue,
                dir::Kind::Dir => "a directory",
                dir::Kind::Symlink if is_dir => "a symbolic link",
                _ if is_dir => "a file",
                _ => continue,
            };
            return Err(DataError::Conflict { path: entry.path.clone(), there });
        }
        Ok(())
    }

    /// What is at a path of the target; nothing where a directory on the way is not there yet.
    fn kind(&self, path: &Path) -> Result<Option<dir::Kind>, DataError> {
        let name = Path::new(path.file_name().unwrap_or_default());
        match self.target.dir.dir(path.parent().unwrap_or(Path::new(""))) {
            Ok(parent) => parent.kind(name).map_err(DataError::os("read", path)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) if matches!(e.raw_os_error(), Some(code) if code == nix::Error::ELOOP as i32) => {
                Err(DataError::Conflict { path: path.to_owned(), there: "a symbolic link" })
            }
            Err(e) => Err(DataError::os("read", path)(e)),
        }
    }

    /// Copies one file to its part.
    fn read(&self, n: usize, found: &Found, watch: &Watch<'_>) -> Result<(), DataError> {
        watch.check()?;
        let Found { entry, from } = found;
        let Kind::File { mode, .. } = entry.kind else { return Ok(()) };
        let path = &entry.path;
        let file = self.source.root.file(from).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
                DataError::Changed { path: path.clone() }
            }
            _ => DataError::os("read", path)(e),
        })?;
        let before = file.metadata().map_err(DataError::os("read", path))?;
        let part = PathBuf::from(n.to_string());
        let to = self.parts.dir.create_file(&part, 0o600).map_err(DataError::os("write", path))?;
        contents(&file, &to, before.len(), path, watch)?;
        let after = file.metadata().map_err(DataError::os("read", path))?;
        let state = |meta: &std::fs::Metadata| (meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime());
        if state(&before) != state(&after) {
            return Err(DataError::Changed { path: path.clone() });
        }
        let finish = || {
            self.give(&self.parts.dir, &part)?;
            to.set_permissions(Permissions::from_mode(mode))?;
            entry.modified.map_or(Ok(()), |at| self.parts.dir.set_modified(&part, at))
        };
        finish().map_err(DataError::os("write", path))
    }

    /// Gives everything its place: directories, then files and links; last of all the directories' permissions and times.
    fn place(&self, found: &[Found]) -> Result<(), DataError> {
        let mut made = Vec::new();
        let mut order: Vec<(usize, &Found)> = found.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| a.entry.path.cmp(&b.entry.path));
        for (n, Found { entry, .. }) in order {
            let failed = || DataError::os("write", &entry.path);
            let name = Path::new(entry.path.file_name().unwrap_or_default());
            let parent =
                self.target.dir.dir(entry.path.parent().unwrap_or(Path::new(""))).map_err(failed())?;
            match &entry.kind {
                Kind::Dir { mode } => {
                    if parent.kind(name).map_err(failed())?.is_none() {
                        parent.make_dir(name, mode | 0o700).map_err(failed())?;
                        made.push((entry, *mode));
                    }
                }
                Kind::File { .. } => {
                    let part = PathBuf::from(n.to_string());
                    renameat(&self.parts.dir, &part, &parent, name)
                        .map_err(DataError::os("write", &entry.path))?;
                }
                Kind::Symlink { target } => {
                    let part = PathBuf::from(n.to_string());
                    symlinkat(target.as_path(), &self.parts.dir, &part)
                        .map_err(DataError::os("write", &entry.path))?;
                    self.give(&self.parts.dir, &part).map_err(failed())?;
                    entry
                        .modified
                        .map_or(Ok(()), |at| self.parts.dir.set_modified(&part, at))
                        .map_err(failed())?;
                    renameat(&self.parts.dir, &part, &parent, name)
                        .map_err(DataError::os("write", &entry.path))?;
                }
            }
        }
        for (entry, mode) in made.into_iter().rev() {
            let seal = || {
                let dir = self.target.dir.dir(&entry.path)?;
                self.give(&dir, Path::new("."))?;
                fchmod(&dir, Mode::from_bits_truncate(mode))?;
                entry.modified.map_or(Ok(()), |at| dir.set_modified(Path::new("."), at))
            };
            seal().map_err(DataError::os("write", &entry.path))?;
        }
        Ok(())
    }

    fn give(&self, dir: &Dir, name: &Path) -> io::Result<()> {
        self.target.owner.map_or(Ok(()), |owner| dir.give(name, owner))
    }
}

/// Bytes read at once where the kernel does not copy.
const CHUNK: usize = 1 << 20;

/// Copies the content of a file with its holes.
fn contents(from: &File, to: &File, size: u64, path: &Path, watch: &Watch<'_>) -> Result<(), DataError> {
    let read = DataError::os("read", path);
    if sparse::has_holes(from).map_err(read)? {
        let each = &mut |more| {
            (watch.progress)(more, None);
            !(watch.stop)()
        };
        let unpacked = sparse::unpack(&mut Packed::of(from, size), size, to, each);
        watch.check()?;
        return unpacked.map_err(|failed| match failed {
            sparse::UnpackError::Read(e) => DataError::os("read", path)(e),
            sparse::UnpackError::Write(e) => DataError::os("write", path)(e),
        });
    }
    if copy_in_kernel(from, to, watch).map_err(|stop| stop.at(path, path))? {
        (watch.progress)(size, None);
        return Ok(());
    }
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    let mut to = to;
    loop {
        watch.check()?;
        let n = from.read_at(&mut buffer, at).map_err(DataError::os("read", path))?;
        if n == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..n]).map_err(DataError::os("write", path))?;
        at += n as u64;
        (watch.progress)(n as u64, None);
    }
}
