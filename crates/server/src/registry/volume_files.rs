//! Files of volumes: listed, read, put, copied, deleted. No link leads out of a volume.
use std::fs::{File, Permissions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use nix::fcntl::{OFlag, renameat};
use vessl_core::access::{Action, Caller, Scope, allowed};
use vessl_core::object::VolumeRef;
use vessl_core::spelling;
use vessl_core::wire::registry::{BlobState, ChangeKind, VolumeChange, VolumeCopied, VolumeCopy};
use vessl_core::wire::{FileKind, FileView};
use vessl_data::DataError;
use vessl_data::blob::Digest;
use vessl_data::dir::{self, Dir, Links, Modified};
use vessl_data::incoming::IncomingError;
use vessl_data::tree::{self, Entry};

use super::files::{Bytes, Content, Listed};
use super::receive::{Receiver, Takes};
use super::uploads::OnlyOne;
use super::volume_copy::{self, End};
use super::volumes::Files;
use super::{Registry, RegistryError, Result};

/// How the names begin, at the top of a volume, of what is on its way. Nobody sees these.
const HIDDEN: &[u8] = tree::ON_ITS_WAY.as_bytes();
/// Where files are that have not come as a whole. Everybody may look into it, so that a walk through the volume does not end there.
pub(super) const PARTS: &str = ".vessl-incoming";
/// How long what has not come as a whole is kept.
const KEPT: Duration = Duration::from_hours(24);
/// Most entries of a list.
const MOST: usize = tree::MAX_ENTRIES;

/// What a client says of the piece of a file that it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePiece {
    /// Where the file goes.
    pub path: String,
    /// Where the piece begins.
    pub offset: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Permission bits in octal.
    pub mode: Option<String>,
    /// When it was last modified.
    pub modified_at: Option<Timestamp>,
}

/// A file of a volume that comes in pieces.
#[derive(Debug)]
pub struct VolumeFile {
    volume: Files,
    parts: Dir,
    part: PathBuf,
    path: PathBuf,
    file: File,
    received: u64,
    size: u64,
    mode: u32,
    modified: Option<Modified>,
}

impl Registry {
    /// Files, links and directories of a volume.
    pub async fn volume_files(
        &self,
        caller: &Caller,
        of: &VolumeRef,
        listed: Listed,
    ) -> Result<Vec<FileView>> {
        self.in_volume(caller, Action::Read, of, move |files| match files {
            Files::Directory(volume) => list(&volume, &listed),
            Files::Bucket(bucket) => bucket.list(&listed),
        })
        .await
    }

    /// One file of a volume.
    pub async fn volume_content(&self, caller: &Caller, of: &VolumeRef, path: String) -> Result<Content> {
        self.in_volume(caller, Action::Read, of, move |files| {
            let volume = match files {
                Files::Directory(volume) => volume,
                Files::Bucket(bucket) => return bucket.content(&path),
            };
            let file = volume.file(&inside(&path)?).map_err(|error| said(&path, error))?;
            let meta = file.metadata()?;
            let tag = format!("{}-{}.{:09}", meta.len(), meta.mtime(), meta.mtime_nsec());
            Ok(Content { tag, size: meta.len(), bytes: Bytes::Plain(file) })
        })
        .await
    }

    /// How much of a file has come that has not come as a whole.
    pub async fn incoming_file(&self, caller: &Caller, of: &VolumeRef, path: String) -> Result<BlobState> {
        self.in_volume(caller, Action::Run, of, move |files| {
            let path = inside(&path)?;
            let part = match &files {
                Files::Directory(volume) => volume.file(&Path::new(PARTS).join(part_name(&path))),
                Files::Bucket(bucket) => bucket.scratch()?.file(&bucket.part_name(&path)),
            };
            match part {
                Ok(file) => Ok(BlobState { received: file.metadata()?.len(), complete: false }),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Ok(BlobState { received: 0, complete: false })
                }
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Begins to receive a piece of a file.
    pub async fn receive_file(
        &self,
        caller: &Caller,
        of: &VolumeRef,
        piece: FilePiece,
    ) -> Result<Receiver<VolumeFile, OnlyOne>> {
        allowed(caller, Action::Run, Scope::Organization(of.organization.clone()))?;
        let path = inside(&piece.path)?;
        let one = self.only_one(format!("{} {of} {}", of.organization, path.display()), &piece.path)?;
        let opening = self.in_volume(caller, Action::Run, of, move |volume| {
            Ok((VolumeFile::open(volume, path, &piece)?, one))
        });
        let (file, one) = opening.await?;
        Ok(Receiver::new(file, one))
    }

    /// The end of a piece: the file, if it was the last one.
    pub async fn received_file(
        &self,
        caller: &Caller,
        of: &VolumeRef,
        command: Option<String>,
        from: Receiver<VolumeFile, OnlyOne>,
    ) -> Result<BlobState> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if command.as_ref().is_some_and(|name| name.len() > 64 || !name.chars().all(is_name)) {
            let words = "`command` has at most 64 letters, digits and `-`";
            return Err(RegistryError::Malformed(words.to_owned()));
        }
        // Nobody adds to what somebody else does.
        let command = command.map(|name| format!("{} {name}", caller.user.as_str()));
        let last = |file: VolumeFile| {
            let path = spelling::spell(file.path.as_os_str().as_bytes());
            file.finish().map(|state| (state, path))
        };
        let (state, path) = from.finish(last).await?;
        if state.complete {
            let change = self.change(caller, (ChangeKind::Put, path), Some((1, state.received)));
            self.store.add_volume_change(of.clone(), change, command).await?;
        }
        Ok(state)
    }

    /// Notes that a volume was changed.
    async fn changed(
        &self,
        caller: &Caller,
        of: &VolumeRef,
        (what, path): (ChangeKind, String),
        counted: Option<(u64, u64)>,
    ) -> Result<()> {
        let change = self.change(caller, (what, path), counted);
        Ok(self.store.add_volume_change(of.clone(), change, None).await?)
    }

    fn change(
        &self,
        caller: &Caller,
        (what, path): (ChangeKind, String),
        counted: Option<(u64, u64)>,
    ) -> VolumeChange {
        VolumeChange {
            at: self.now(),
            by: Some(caller.user.as_str().to_owned()),
            what,
            path,
            files: counted.map(|(files, _)| files),
            bytes: counted.map(|(_, bytes)| bytes),
            run: None,
            attempt: None,
        }
    }

    /// The changes of a volume that are known, the newest first, at most `limit`; with a path those that may have changed something there.
    /// What a run writes to a mounted volume is not noticed.
    pub async fn volume_changes(
        &self,
        caller: &Caller,
        of: &VolumeRef,
        (path, limit): (&str, Option<u32>),
    ) -> Result<Vec<VolumeChange>> {
        allowed(caller, Action::Read, Scope::Organization(of.organization.clone()))?;
        self.known_volume(of).await?;
        let all = self.store.volume_changes(of.clone()).await?;
        // An export may write anything, and the path of it is one of its run.
        let is_meant = |change: &VolumeChange| {
            change.what == ChangeKind::Export || lies_in(&change.path, path) || lies_in(path, &change.path)
        };
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        Ok(all.into_iter().filter(is_meant).take(limit).collect())
    }

    /// Copies a file or a directory to a place of the same or of another volume. What is there is replaced file by file.
    pub async fn copy_file(&self, caller: &Caller, of: &VolumeRef, copy: VolumeCopy) -> Result<VolumeCopied> {
        let target = VolumeRef {
            organization: of.organization.clone(),
            storage: copy.to_storage.map_or_else(|| of.storage.clone(), Into::into),
            volume: copy.to_volume.map_or_else(|| of.volume.clone(), Into::into),
        };
        let place = |text: &str| if text.is_empty() { Ok(PathBuf::new()) } else { inside(text) };
        let (from, to) = (place(&copy.from)?, place(&copy.to)?);
        if target == *of && to.starts_with(&from) {
            return Err(RegistryError::Malformed(format!("`{}` cannot be copied into itself", copy.from)));
        }
        allowed(caller, Action::Run, Scope::Organization(of.organization.clone()))?;
        let into = self.volume_place(caller, &target).await?;
        let copying = self.in_volume(caller, Action::Run, of, move |files| {
            let (from, to) = (End { files, path: from }, End { files: into.open()?, path: to });
            volume_copy::copy(&from, &to)
        });
        let copied = copying.await?;
        let counted = Some((copied.files, copied.bytes));
        self.changed(caller, &target, (ChangeKind::Copy, copy.to), counted).await?;
        Ok(copied)
    }

    /// Deletes a file or link; a directory only with `recursive`, with everything in it.
    pub async fn delete_file(&self, caller: &Caller, of: &VolumeRef, listed: Listed) -> Result<()> {
        let gone = listed.path.clone();
        let deleting = self.in_volume(caller, Action::Run, of, move |files| {
            let volume = match files {
                Files::Directory(volume) => volume,
                Files::Bucket(bucket) => return bucket.delete(&listed),
            };
            let Listed { path: text, recursive } = listed;
            let path = inside(&text)?;
            let (parent, name) = parent_of(&volume, &path).map_err(|error| said(&text, error))?;
            match parent.kind(&name)? {
                None => return Err(missing(&text)),
                Some(dir::Kind::Dir) if !recursive => {
                    return Err(RegistryError::refused(
                        format!("`{text}` is a directory"),
                        "delete it with `recursive`",
                    ));
                }
                Some(_) => {}
            }
            parent.remove(&name)?;
            Ok(parent.sync()?)
        });
        deleting.await?;
        self.changed(caller, of, (ChangeKind::Delete, gone), None).await
    }

    /// Does something in a volume where waiting for the disk harms nobody.
    async fn in_volume<T: Send + 'static>(
        &self,
        caller: &Caller,
        action: Action,
        of: &VolumeRef,
        work: impl FnOnce(Files) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        allowed(caller, action, Scope::Organization(of.organization.clone()))?;
        let place = self.volume_place(caller, of).await?;
        self.blocking(move |_| work(place.open()?)).await
    }
}

impl Takes for VolumeFile {
    fn take(&mut self, bytes: &[u8]) -> std::result::Result<(), IncomingError> {
        if self.size - self.received < bytes.len() as u64 {
            // It is no use any more. Where it cannot be removed, the next one who begins at 0 does.
            let _ = self.parts.remove(&self.part);
            return Err(IncomingError::TooLong { size: self.size });
        }
        if let Err(error) = self.file.write_all(bytes) {
            if vessl_data::is_full(&error) {
                // What is here would keep the disk full until somebody goes on with it, who cannot.
                let _ = self.parts.remove(&self.part);
            }
            return Err(DataError::os("write", &self.path)(error).into());
        }
        self.received += bytes.len() as u64;
        Ok(())
    }
}

impl VolumeFile {
    fn open(volume: Files, path: PathBuf, piece: &FilePiece) -> Result<Self> {
        let FilePiece { offset, size, mode, modified_at, .. } = piece;
        let mode = match mode {
            None => 0o644,
            Some(text) => {
                u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0).ok_or_else(|| {
                    RegistryError::Malformed(format!("`{}` are no permission bits", text.escape_debug()))
                })?
            }
        };
        let (parts, part) = match &volume {
            Files::Directory(volume) => {
                check_way(volume, &path)?;
                if volume.dir(&path).is_ok() {
                    return Err(RegistryError::refused(format!("`{}` is a directory", path.display()), ""));
                }
                volume.make_dir(Path::new(PARTS), 0o755)?;
                (volume.dir(Path::new(PARTS))?, part_name(&path))
            }
            Files::Bucket(bucket) => (bucket.scratch()?, bucket.part_name(&path)),
        };
        forget_old(&parts)?;
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW;
        let mut file = parts.create(&part, flags, 0o600, Links::Refused).map_err(std::io::Error::from)?;
        let received = file.metadata()?.len();
        if *offset > received {
            return Err(IncomingError::Gap { received, offset: *offset }.into());
        }
        file.set_len(*offset)?;
        file.seek(SeekFrom::Start(*offset))?;
        let modified = modified_at.map(Timestamp::as_nanosecond).and_then(Modified::from_nanoseconds);
        Ok(Self { volume, parts, part, path, file, received: *offset, size: *size, mode, modified })
    }

    /// Gives the file its place, if all of it is here. It is on disk then.
    fn finish(self) -> Result<BlobState> {
        if self.received < self.size {
            return Ok(BlobState { received: self.received, complete: false });
        }
        self.file.set_permissions(Permissions::from_mode(self.mode))?;
        if let Some(modified) = self.modified {
            self.parts.set_modified(&self.part, modified)?;
        }
        match &self.volume {
            Files::Directory(volume) => {
                let text = spelling::spell(self.path.as_os_str().as_bytes());
                let synced = self.file.sync_all();
                let placed = synced.and_then(|()| place(&self.parts, &self.part, volume, &self.path));
                placed.map_err(|error| said(&text, error))?;
            }
            Files::Bucket(bucket) => {
                bucket.put(&self.path, &self.file)?;
                self.parts.remove(&self.part)?;
            }
        }
        Ok(BlobState { received: self.received, complete: true })
    }
}

/// Moves a file to its place, and makes the directories on the way.
pub(super) fn place(parts: &Dir, part: &Path, volume: &Dir, path: &Path) -> std::io::Result<()> {
    let parent = make_way(volume, path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().unwrap_or_default();
    renameat(parts, part, &parent, Path::new(name))?;
    parent.sync()
}

/// The directory at a path, which is made with those on the way; through no link.
pub(super) fn make_way(volume: &Dir, path: &Path) -> std::io::Result<Dir> {
    let mut dir = volume.try_clone()?;
    for part in path.components() {
        let name = Path::new(part.as_os_str());
        if dir.kind(name)?.is_none() {
            dir.make_dir(name, 0o755)?;
            dir.sync()?;
        }
        dir = dir.dir(name)?;
    }
    Ok(dir)
}

/// Refuses a path that something else than directories leads to.
pub(super) fn check_way(volume: &Dir, path: &Path) -> Result<()> {
    let (mut dir, mut at) = (volume.try_clone()?, PathBuf::new());
    for part in path.parent().unwrap_or(Path::new("")).components() {
        let name = Path::new(part.as_os_str());
        at.push(name);
        let text = || spelling::spell(at.as_os_str().as_bytes());
        let what = match dir.kind(name)? {
            None => return Ok(()),
            Some(dir::Kind::Dir) => {
                dir = dir.dir(name).map_err(|error| said(&text(), error))?;
                continue;
            }
            Some(dir::Kind::Symlink) => "a symbolic link, and links are not followed",
            Some(_) => "a file",
        };
        let message = format!("`{}` is {what}: nothing can lie below it", text().escape_debug());
        return Err(RegistryError::refused(message, "choose another path, or delete it first"));
    }
    Ok(())
}

/// There is nothing at a path of a volume.
pub(super) fn missing(text: &str) -> RegistryError {
    RegistryError::Missing(format!("there is no `{}` in this volume", text.escape_debug()))
}

/// The directory in which a path is, and its name there.
pub(super) fn parent_of(volume: &Dir, path: &Path) -> std::io::Result<(Dir, PathBuf)> {
    let parent = volume.dir(path.parent().unwrap_or(Path::new("")))?;
    Ok((parent, path.file_name().unwrap_or_default().into()))
}

fn list(volume: &Dir, listed: &Listed) -> Result<Vec<FileView>> {
    let at = if listed.path.is_empty() { PathBuf::new() } else { inside(&listed.path)? };
    let mut files = Vec::new();
    let top = match volume.dir(&at) {
        Ok(dir) => dir,
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(missing(&listed.path)),
        Err(_) => {
            let (parent, name) = parent_of(volume, &at).map_err(|_| missing(&listed.path))?;
            files.extend(view(&parent, &name, &at)?);
            return Ok(files);
        }
    };
    let mut open = vec![(top, at)];
    while let Some((dir, at)) = open.pop() {
        for name in dir.names()? {
            if at.as_os_str().is_empty() && name.as_os_str().as_bytes().starts_with(HIDDEN) {
                continue;
            }
            let path = at.join(&name);
            let Some(view) = view(&dir, &name, &path)? else { continue };
            if listed.recursive && view.kind == FileKind::Directory {
                // One that vanishes meanwhile, or that nobody may look into, is listed empty.
                open.extend(dir.dir(&name).ok().map(|dir| (dir, path)));
            }
            files.push(view);
            if files.len() > MOST {
                return Err(RegistryError::refused(
                    format!("the volume has more than {MOST} files"),
                    "list a directory of it",
                ));
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// What is listed of one name; nothing of a socket, pipe or device, and of what has just gone.
fn view(dir: &Dir, name: &Path, path: &Path) -> Result<Option<FileView>> {
    let text = |path: &Path| spelling::spell(path.as_os_str().as_bytes());
    let Some(stat) = dir.stat(name)? else { return Ok(None) };
    let kind = match dir::Kind::of(&stat) {
        dir::Kind::File => FileKind::File,
        dir::Kind::Dir => FileKind::Directory,
        dir::Kind::Symlink => FileKind::Link,
        dir::Kind::Other => return Ok(None),
    };
    let is_file = kind == FileKind::File;
    Ok(Some(FileView {
        path: text(path),
        kind,
        target: if kind == FileKind::Link { dir.link(name).ok().map(|to| text(&to)) } else { None },
        size: if is_file { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 },
        executable: is_file && stat.st_mode & 0o111 != 0,
        mode: (kind != FileKind::Link).then(|| format!("{:o}", stat.st_mode & 0o3777)),
        modified_at: Timestamp::from_nanosecond(Modified::of(&stat).nanoseconds()).ok(),
        ..FileView::default()
    }))
}

/// A path of a volume as it was written; refuses what leads out or is not seen.
pub(super) fn inside(text: &str) -> Result<PathBuf> {
    let path = spelling::path(text);
    if !Entry::is_path(&path) || path.as_os_str().as_bytes().starts_with(HIDDEN) {
        let text: String = text.chars().take(200).collect();
        return Err(RegistryError::Malformed(format!(
            "`{}` is no path of a volume: it must be relative, without empty, `.` and `..` parts, with names of at most 255 bytes, \
             and not begin with `.vessl-`",
            text.escape_debug()
        )));
    }
    Ok(path)
}

/// Whether a path is this directory, or below it.
fn lies_in(path: &str, dir: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of a file that has not come as a whole, whatever its path.
fn part_name(path: &Path) -> PathBuf {
    Digest::of(path.as_os_str().as_bytes()).to_string().into()
}

/// Removes what has not come as a whole for a day.
fn forget_old(parts: &Dir) -> Result<()> {
    let now = SystemTime::now();
    for name in parts.names()? {
        let Some(stat) = parts.stat(&name)? else { continue };
        let at =
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or_default());
        if now.duration_since(at).is_ok_and(|age| age > KEPT) {
            parts.remove(&name)?;
        }
    }
    Ok(())
}

/// What the system says of a path of a volume.
pub(super) fn said(path: &str, error: std::io::Error) -> RegistryError {
    let path = path.escape_debug();
    let is = |code: nix::Error| error.raw_os_error() == Some(code as i32);
    if error.kind() == ErrorKind::NotFound {
        RegistryError::Missing(format!("there is no `{path}` in this volume"))
    } else if is(nix::Error::ELOOP) {
        RegistryError::refused(
            format!("`{path}` is a symbolic link, or leads through one; links are not followed"),
            "",
        )
    } else if matches!(
        error.kind(),
        ErrorKind::NotADirectory | ErrorKind::InvalidInput | ErrorKind::AlreadyExists
    ) {
        RegistryError::refused(format!("`{path}` is not the kind of file that it should be: {error}"), "")
    } else {
        error.into()
    }
}
