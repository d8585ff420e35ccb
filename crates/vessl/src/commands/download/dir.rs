//! Where downloaded files land: always below one directory, whole or not at all. Nothing here knows a server.
//!
//! A file whose digest is not known (one of a volume) is taken for the same if its size and time are.
//!
//! A file grows under a hidden name made from its digest, so that an interrupted download goes on where it stopped, and
//! gets its own name once every byte was verified.
//!
//! A symbolic link lands only where following it stays inside the tree: it climbs first, no further than what is downloaded
//! and the download directory reach, and then only descends, from a directory that no link led to.
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, ErrorKind, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat, renameat};
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use vessl_core::wire::{FileKind, FileView};
use vessl_data::dir::{Dir, Kind, Links, Modified};
use vessl_data::sparse::{Packed, UnpackError, unpack};

use crate::error::{Error, Result};
use crate::output::clean;

/// The directory that files land in.
#[derive(Debug)]
pub(crate) struct DownloadDir {
    root: Dir,
    path: PathBuf,
}

/// What stands where something lands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Nothing.
    Nothing,
    /// The very thing, which stays.
    Same,
    /// Something else, which is replaced.
    Other,
}

/// A file on its way.
#[derive(Debug)]
pub(crate) struct PartialFile {
    dir: Dir,
    part: String,
    name: OsString,
    shown: String,
    file: File,
    hash: blake3::Hasher,
    size: u64,
}

impl DownloadDir {
    /// Opens the directory, which is made if it is missing.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let open = std::fs::create_dir_all(path).and_then(|()| Dir::open(path));
        let root = open.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Error::Usage {
                message: format!("`{}` is not a directory", clean(&path.display().to_string())),
                hint: "files are put into a directory, which is made if it is missing".to_owned(),
            },
            _ => Error::os(format!("open the directory `{}`", path.display()))(error),
        })?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// Where `relative` lands.
    pub(crate) fn shown(&self, relative: &Path) -> PathBuf {
        if self.path == Path::new(".") { relative.to_owned() } else { self.path.join(relative) }
    }

    /// The same for messages, which are one line whatever stands in a name.
    fn named(&self, relative: &Path) -> String {
        clean(&self.shown(relative).display().to_string())
    }

    /// What is here where the file lands; the same is what has the right content.
    pub(crate) fn inspect(&self, relative: &Path, view: &FileView) -> Result<Existing> {
        checked(relative)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let mut file = match self.root.resolve(relative, flags, Links::Beneath) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(Existing::Nothing),
            Err(_) => return Ok(Existing::Other),
        };
        let meta = file.metadata().map_err(Error::os(format!("look at `{}`", self.named(relative))))?;
        if !meta.is_file() || meta.len() != view.size {
            return Ok(Existing::Other);
        }
        if view.digest.is_empty() {
            let time =
                Modified::of_file(&file).map_err(Error::os(format!("look at `{}`", self.named(relative))))?;
            return Ok(if modified(view) == Some(time) { Existing::Same } else { Existing::Other });
        }
        let mut hash = blake3::Hasher::new();
        let read = match view.packed_size {
            Some(_) => hash.update_reader(&mut Packed::of(&file, view.size)),
            None => hash.update_reader(&mut file),
        };
        read.map_err(Error::os(format!("read `{}`", self.named(relative))))?;
        Ok(if hash.finalize().to_hex().as_str() == view.digest { Existing::Same } else { Existing::Other })
    }

    /// Begins a file, or goes on with what is here of it; directories on the way are made.
    pub(crate) fn begin(&self, relative: &Path, view: &FileView) -> Result<PartialFile> {
        let shown = self.named(relative);
        let name = checked(relative)?;
        let failed = |e| self.failed(relative, e);
        let dir = self.dir(parent(relative), Links::Beneath).map_err(failed)?;
        let part = part(view);
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = dir.create(Path::new(&part), flags, 0o600, Links::Beneath).map_err(failed)?;
        if !file.metadata().is_ok_and(|meta| meta.is_file()) {
            return Err(Error::Damaged {
                message: format!("`{}` is not a file", self.named(&parent(relative).join(&part))),
                hint: "remove it, or download to another directory".to_owned(),
            });
        }
        let mut partial =
            PartialFile { dir, part, name, shown, file, hash: blake3::Hasher::new(), size: moved(view) };
        partial.resume()?;
        Ok(partial)
    }

    /// Makes a directory that can be written to, whatever an earlier download made of it.
    pub(crate) fn make_dir(&self, relative: &Path) -> Result<()> {
        checked(relative)?;
        let failed = |e| self.failed(relative, e);
        let dir = self.dir(relative, Links::Beneath).map_err(failed)?;
        let mode = fstat(&dir).map_err(failed)?.st_mode;
        // Where that is refused, what lands in it says so.
        let _ = (mode & 0o700 != 0o700).then(|| fchmod(&dir, bits(mode | 0o700)));
        Ok(())
    }

    /// Gives what landed its permissions, where it has some, and its time.
    pub(crate) fn settle(&self, relative: &Path, view: &FileView) -> Result<(), Errno> {
        let way = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let dir = Dir::from(self.root.resolve(parent(relative), way, Links::Beneath)?);
        let name = Path::new(relative.file_name().unwrap_or_default());
        let Ok(Some(here)) = dir.stat(name) else { return Ok(()) };
        let kind = match view.kind {
            FileKind::File => Kind::File,
            FileKind::Directory => Kind::Dir,
            FileKind::Link => Kind::Symlink,
        };
        // A link that was left out may have something else in its place.
        if Kind::of(&here) != kind {
            return Ok(());
        }
        if let Some(mode) = mode(view).filter(|mode| here.st_mode & 0o7777 != *mode) {
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
            fchmod(dir.resolve(name, flags, Links::Beneath)?, bits(mode))?;
        }
        match modified(view).filter(|at| Modified::of(&here) != *at) {
            Some(at) => {
                dir.set_modified(name, at).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or_default()))
            }
            None => Ok(()),
        }
    }

    /// Makes a symbolic link that leads nowhere else, and says what was here before.
    pub(crate) fn link(&self, relative: &Path, target: &OsStr) -> Result<Existing> {
        let name = checked(relative)?;
        let failed = |e| self.failed(relative, e);
        let dir = self.dir(parent(relative), Links::Refused).map_err(failed)?;
        let here = match readlinkat(&dir, name.as_os_str()) {
            Ok(here) if here == target => return Ok(Existing::Same),
            Err(Errno::ENOENT) => Existing::Nothing,
            _ => Existing::Other,
        };
        let part = format!(".vessl-{}.part", blake3::hash(target.as_encoded_bytes()).to_hex().as_str());
        let _ = unlinkat(&dir, part.as_str(), UnlinkatFlags::NoRemoveDir);
        symlinkat(target, &dir, part.as_str()).map_err(failed)?;
        renameat(&dir, part.as_str(), &dir, name.as_os_str()).map_err(|e| {
            let _ = unlinkat(&dir, part.as_str(), UnlinkatFlags::NoRemoveDir);
            failed(e)
        })?;
        Ok(here)
    }

    fn failed(&self, relative: &Path, error: Errno) -> Error {
        let shown = self.named(relative);
        match error {
            Errno::EXDEV | Errno::ELOOP => Error::Damaged {
                message: format!("`{}` leads out of `{}`", shown, self.path.display()),
                hint: "remove the symbolic link, or download to another directory".to_owned(),
            },
            e => Error::Os { what: format!("write `{shown}`"), source: e.into() },
        }
    }

    /// Opens a directory below, made if it is missing.
    fn dir(&self, relative: &Path, links: Links) -> Result<Dir, Errno> {
        let mut dir = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        for part in relative.components() {
            let name = Path::new(part.as_os_str());
            match mkdirat(&dir, name, Mode::from_bits_truncate(0o777)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
            dir = dir.resolve(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, links)?.into();
        }
        Ok(dir)
    }
}

impl PartialFile {
    /// Bytes that are here.
    pub(crate) fn offset(&mut self) -> Result<u64> {
        self.file.stream_position().map_err(Error::os(format!("write `{}`", self.shown)))
    }

    /// Forgets what is here: the server begins from the first byte.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.hash.reset();
        let empty = self.file.set_len(0).and_then(|()| self.file.rewind());
        empty.map_err(Error::os(format!("write `{}`", self.shown)))
    }

    /// Takes more bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::os(format!("write `{}`", self.shown)))
    }

    /// Verifies the digest and gives the file its name.
    pub(crate) fn commit(mut self, view: &FileView) -> Result<()> {
        let size = self.offset()?;
        if size < self.size {
            return Err(Error::Unreachable {
                address: "the server".to_owned(),
                reason: format!("`{}` stopped after {size} of {} bytes", self.shown, self.size),
                hint: "run the same command again: it goes on where it stopped; if it stops there once more, what is stored is damaged, \
                       and `vessl server fsck` names it"
                    .to_owned(),
            });
        }
        let is_other = || self.hash.finalize().to_hex().as_str() != view.digest;
        if !view.digest.is_empty() && is_other() {
            let _ = unlinkat(&self.dir, self.part.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(Error::Damaged {
                message: format!("`{}` arrived with other bytes than the server promised", self.shown),
                hint: "run the same command again; if it repeats, the stored file is damaged".to_owned(),
            });
        }
        if view.packed_size.is_some() {
            self.unpack(view.size)?;
        }
        let usual = || if view.executable { 0o777 } else { 0o666 } & !umask();
        let mode = std::fs::Permissions::from_mode(mode(view).unwrap_or_else(usual));
        let dated = modified(view).map_or(Ok(()), |at| self.dir.set_modified(Path::new(&self.part), at));
        let named = dated.and_then(|()| self.file.set_permissions(mode)).and_then(|()| {
            renameat(&self.dir, self.part.as_str(), &self.dir, self.name.as_os_str()).map_err(Into::into)
        });
        named.map_err(Error::os(format!("write `{}`", self.shown)))
    }

    /// Puts the file itself in the place of its packed form.
    fn unpack(&mut self, size: u64) -> Result<()> {
        let (shown, whole) = (self.shown.clone(), format!("{}.whole", self.part));
        let failed = |e: Errno| Error::Os { what: format!("write `{shown}`"), source: e.into() };
        let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_TRUNC;
        let file = self.dir.create(Path::new(&whole), flags, 0o600, Links::Beneath).map_err(failed)?;
        self.file.rewind().map_err(Error::os(format!("read `{shown}`")))?;
        let unpacked = unpack(&mut BufReader::new(&self.file), size, &file, &mut |_| true);
        if let Err(e) = unpacked {
            let _ = unlinkat(&self.dir, whole.as_str(), UnlinkatFlags::NoRemoveDir);
            return Err(match e {
                UnpackError::Write(source) => Error::Os { what: format!("write `{shown}`"), source },
                UnpackError::Read(e) => Error::Damaged {
                    message: format!("`{shown}` arrived in a form that is none: {e}"),
                    hint: "nothing was written for it; the server is not to be trusted".to_owned(),
                },
            });
        }
        unlinkat(&self.dir, self.part.as_str(), UnlinkatFlags::NoRemoveDir).map_err(failed)?;
        (self.part, self.file) = (whole, file);
        Ok(())
    }

    /// Hashes what an earlier download left.
    fn resume(&mut self) -> Result<()> {
        let hashed =
            self.hash.update_reader(&self.file).map(|_| ()).and_then(|()| self.file.stream_position());
        let length = hashed.map_err(Error::os(format!("read what is here of `{}`", self.shown)))?;
        if length > self.size { self.restart() } else { Ok(()) }
    }
}

/// The hidden name of a file that is on its way: that of its content. What has no digest may be another file tomorrow.
fn part(view: &FileView) -> String {
    let FileView { path, size, modified_at, digest, .. } = view;
    let digest = if digest.is_empty() {
        blake3::hash(format!("{path}\0{size}\0{modified_at:?}").as_bytes()).to_hex().to_string()
    } else {
        digest.clone()
    };
    format!(".vessl-{}.part", digest.get(..32).unwrap_or(&digest))
}

fn parent(relative: &Path) -> &Path {
    relative.parent().unwrap_or(Path::new(""))
}

/// The file name of a path that stays below where it begins.
fn checked(relative: &Path) -> Result<OsString> {
    let normal = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let name = relative.file_name();
    name.filter(|_| normal && !relative.as_os_str().as_encoded_bytes().contains(&0))
        .map(OsStr::to_owned)
        .ok_or_else(|| Error::Damaged {
            message: format!(
                "the server names a file `{}`, which would not stay in the directory",
                relative.display()
            ),
            hint: "nothing was written for it; the server is not to be trusted".to_owned(),
        })
}

/// Bytes that are moved for a file: those of its packed form if it has one.
pub(crate) fn moved(view: &FileView) -> u64 {
    view.packed_size.unwrap_or(view.size)
}

/// The permissions of what is no link, if the server knows them. No file gets a set-id bit.
fn mode(view: &FileView) -> Option<u32> {
    let kept = match view.kind {
        FileKind::File => 0o777,
        FileKind::Directory => 0o3777,
        FileKind::Link => return None,
    };
    Some(u32::from_str_radix(view.mode.as_deref()?, 8).ok()? & kept)
}

fn modified(view: &FileView) -> Option<Modified> {
    Modified::from_nanoseconds(view.modified_at?.as_nanosecond())
}

fn bits(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// The permissions that new files of this process do not get, read without changing them.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let text = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    text.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0o022)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(content: &[u8]) -> FileView {
        FileView {
            path: "x".to_owned(),
            export: "/output".to_owned(),
            size: u64::try_from(content.len()).unwrap(),
            digest: blake3::hash(content).to_hex().to_string(),
            ..FileView::default()
        }
    }

    #[test]
    fn a_file_lands_whole_and_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(&dir.path().join("out")).unwrap();
        let view = view(b"hello world");
        let path = Path::new("a/b/x.txt");
        let mut first = download_dir.begin(path, &view).unwrap();
        first.write(b"hello ").unwrap();
        assert!(matches!(first.commit(&view), Err(Error::Unreachable { .. })));
        assert_eq!(download_dir.inspect(path, &view).unwrap(), Existing::Nothing);
        let mut second = download_dir.begin(path, &view).unwrap();
        assert_eq!(second.offset().unwrap(), 6);
        second.write(b"world").unwrap();
        second.commit(&view).unwrap();
        assert_eq!(download_dir.inspect(path, &view).unwrap(), Existing::Same);
        assert_eq!(std::fs::read(dir.path().join("out/a/b/x.txt")).unwrap(), b"hello world");
        assert_eq!(std::fs::read_dir(dir.path().join("out/a/b")).unwrap().count(), 1);
    }

    #[test]
    fn a_pipe_is_neither_a_directory_nor_the_begin_of_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let refused = DownloadDir::open(&pipe).unwrap_err().to_string();
        assert_eq!(refused, format!("`{}` is not a directory", pipe.display()));
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        let view = view(b"x");
        assert!(download_dir.begin(Path::new("pipe/x"), &view).is_err());
        let part = dir.path().join(format!(".vessl-{}.part", &view.digest[..32]));
        nix::unistd::mkfifo(&part, Mode::S_IRWXU).unwrap();
        let refused = download_dir.begin(Path::new("x"), &view).unwrap_err().to_string();
        assert_eq!(refused, format!("`{}` is not a file", part.display()));
        std::fs::remove_file(&part).unwrap();
        let mut file = download_dir.begin(Path::new("pipe"), &view).unwrap();
        file.write(b"x").unwrap();
        file.commit(&view).unwrap();
        assert_eq!(std::fs::read(&pipe).unwrap(), b"x");
    }

    #[test]
    fn what_is_here_is_the_same_only_with_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        let look = || download_dir.inspect(Path::new("x"), &view(b"right")).unwrap();
        let path = dir.path().join("x");
        assert_eq!(look(), Existing::Nothing);
        for (content, here) in [("right", Existing::Same), ("wrong", Existing::Other), ("", Existing::Other)]
        {
            std::fs::write(&path, content).unwrap();
            assert_eq!(look(), here, "{content}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("y", &path).unwrap();
        assert_eq!(look(), Existing::Other, "a link");
        std::fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRUSR).unwrap();
        assert_eq!(look(), Existing::Other, "a pipe");
    }

    #[test]
    fn a_file_with_holes_lands_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        let packed = [&(5_u64 << 40).to_le_bytes()[..], &4096_u64.to_le_bytes(), &[7; 4096]].concat();
        let whole = FileView { size: 6 << 40, packed_size: Some(packed.len() as u64), ..view(&packed) };
        let path = Path::new("huge");
        download_dir.begin(path, &whole).unwrap().write(&packed[..1000]).unwrap();
        let mut file = download_dir.begin(path, &whole).unwrap();
        assert_eq!(file.offset().unwrap(), 1000);
        file.write(&packed[1000..]).unwrap();
        file.commit(&whole).unwrap();
        assert_eq!(download_dir.inspect(path, &whole).unwrap(), Existing::Same);
        let meta = std::fs::metadata(dir.path().join("huge")).unwrap();
        assert_eq!((meta.len(), std::fs::read_dir(dir.path()).unwrap().count()), (6 << 40, 1));
        // A form that is none, with the right digest: the server lies.
        let wrong = FileView { size: 5 << 40, ..whole };
        let mut file = download_dir.begin(Path::new("wrong"), &wrong).unwrap();
        file.write(&packed).unwrap();
        assert!(matches!(file.commit(&wrong), Err(Error::Damaged { .. })));
        assert!(!dir.path().join("wrong").exists());
    }

    #[test]
    fn wrong_bytes_never_get_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        let view = view(b"right");
        let mut file = download_dir.begin(Path::new("x"), &view).unwrap();
        file.write(b"wrong").unwrap();
        assert!(matches!(file.commit(&view), Err(Error::Damaged { .. })));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_lands_again_and_in_place_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        for (target, here) in [("x", Existing::Nothing), ("x", Existing::Same), ("y", Existing::Other)] {
            assert_eq!(download_dir.link(Path::new("a/l"), OsStr::new(target)).unwrap(), here);
            assert_eq!(std::fs::read_link(dir.path().join("a/l")).unwrap(), Path::new(target));
        }
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }

    #[test]
    fn nothing_lands_outside() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let download_dir = DownloadDir::open(dir.path()).unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
        for path in ["../x", "/etc/x", "a/../../x", "", ".", "link/x"] {
            assert!(download_dir.begin(Path::new(path), &view(b"x")).is_err(), "{path}");
            assert!(download_dir.link(Path::new(path), OsStr::new("x")).is_err(), "{path}");
            assert!(download_dir.make_dir(Path::new(path)).is_err(), "{path}");
        }
        std::os::unix::fs::symlink(".", dir.path().join("here")).unwrap();
        assert!(download_dir.link(Path::new("here/x"), OsStr::new("x")).is_err(), "a link led to it");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
