//! Files that survive a power cut: write new, fsync, rename, fsync the directory; append and fdatasync.
//!
//! It must not know what the bytes mean.
use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Longest line an [`Appender`] takes, in bytes; a reader may rely on it.
pub const MAX_LINE: usize = 1 << 20;

/// What has another content after each start of the machine.
pub const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How the name of a file begins that is not whole yet.
const NEW: &str = ".new-";

/// Writes `bytes` to `path` so that a reader sees the old content or all of the new one, also after a crash. Several may
/// write the same file at once. One that is killed leaves a file of a name of its own for [`sweep`].
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let dir = parent(path);
    let mut file = tempfile::Builder::new().prefix(NEW).tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_dir(dir)
}

/// Removes what those who were killed in [`write_atomic`] left in `dir`; for who knows that nobody writes there now.
pub fn sweep(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(NEW.as_bytes()) && entry.file_type()?.is_file() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Creates `path` and missing parents with `mode` and fsyncs the parent of each directory made.
pub fn create_dir_all(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let dir = parent(path);
    if dir != path {
        create_dir_all(dir, mode)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            std::fs::set_permissions(path, Permissions::from_mode(mode))?;
            sync_dir(dir)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

/// Which boot of the machine this is: what is in its memory alone is gone in the next one.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Fsyncs a directory.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Waits until everything that was written to the file system of `path` is on disk: of many files, far cheaper than each of them.
pub fn sync_file_system(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(path)?)?)
}

pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str() != OsStr::new("") => dir,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// An append-only file of lines (JSON lines in practice) where every append is on disk when it returns.
///
/// One writer at a time: the caller holds whatever lock says so.
#[derive(Debug)]
pub struct Appender {
    path: PathBuf,
    file: File,
    /// Length of the complete lines; everything past it is a torn write.
    len: u64,
    /// Whether the file's own entry in its directory is on disk.
    is_placed: bool,
}

impl Appender {
    /// Opens or makes `path` with `mode`; a last line without its newline (a write torn by a crash) is cut off. What is
    /// there, be it only the empty file, is on disk for certain after the first append.
    pub fn open(path: &Path, mode: u32) -> io::Result<Self> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(mode).open(path)?;
        let size = file.seek(SeekFrom::End(0))?;
        let len = complete_lines(&file, size)?;
        if len < size {
            file.set_len(len)?;
        }
        Ok(Self { path: path.to_owned(), file, len, is_placed: false })
    }

    /// Appends one line and waits until it is on disk. After an error the file is as it was before.
    ///
    /// `line` must not contain a newline and be at most [`MAX_LINE`] long, else `InvalidInput`.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if line.len() > MAX_LINE || memchr::memchr(b'\n', line).is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a line must be short and without newline",
            ));
        }
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line);
        bytes.push(b'\n');
        if let Err(e) = self.write(&bytes) {
            // What was written of the line must not stay; if even this fails, the next `open` cuts it.
            let _ = self.file.set_len(self.len);
            return Err(e);
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.file.sync_data()?;
        if !self.is_placed {
            sync_dir(parent(&self.path))?;
            self.is_placed = true;
        }
        Ok(())
    }

    /// Whether nothing was ever appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Reads the complete lines of a file that an [`Appender`] writes, from byte `offset` on; a torn or still growing last
/// line is left out. Returns the text, newlines included; `offset` plus its length is where the next call goes on.
/// A missing file has no lines.
pub fn read_lines(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = match open_file(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    text.truncate(memchr::memrchr(b'\n', &text).map_or(0, |i| i + 1));
    Ok(text)
}

/// Opens a plain file for reading; whatever else has the name (a pipe that would never answer, a directory) is not there.
pub fn open_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).map_err(|e| {
        // A socket cannot be opened at all.
        if e.raw_os_error() == Some(Errno::ENXIO as i32) { io::ErrorKind::NotFound.into() } else { e }
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Offset just past the last newline of the first `size` bytes.
fn complete_lines(file: &File, size: u64) -> io::Result<u64> {
    let mut block = [0_u8; 4096];
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - start).expect("at most one block")];
        file.read_exact_at(part, start)?;
        if let Some(i) = memchr::memrchr(b'\n', part) {
            return Ok(start + i as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn write_atomic_replaces_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        write_atomic(&path, b"old and longer", 0o644).unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        write_atomic(&path, b"whole", 0o600).unwrap();
        // As far as a killed one gets.
        std::mem::forget(tempfile::Builder::new().prefix(NEW).tempfile_in(dir.path()).unwrap());
        std::fs::create_dir(dir.path().join(".new-dir")).unwrap();
        std::fs::write(dir.path().join("new-file"), "").unwrap();
        sweep(dir.path()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".new-dir", "exit.json", "new-file"]);
    }

    #[test]
    fn write_atomic_into_a_missing_directory_fails() {
        let dir = tempfile::tempdir().unwrap();
        let e = write_atomic(&dir.path().join("no/file"), b"", 0o600).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn directories_get_the_mode_and_existing_ones_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        create_dir_all(&dir.path().join("a/b"), 0o750).unwrap();
        create_dir_all(&dir.path().join("a/b/c"), 0o700).unwrap();
        assert_eq!(
            [mode(&dir.path().join("a")), mode(&dir.path().join("a/b")), mode(&dir.path().join("a/b/c"))],
            [0o750, 0o750, 0o700]
        );
        std::fs::write(dir.path().join("f"), "").unwrap();
        assert!(create_dir_all(&dir.path().join("f/x"), 0o700).is_err());
        assert!(create_dir_all(&dir.path().join("f"), 0o700).is_err());
    }

    #[test]
    fn appender_cuts_a_torn_line_wherever_it_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let long = vec![b'x'; 9000];
        let whole = [b"{\"a\":1}\n".as_slice(), &long, b"\n", &long, b"\n"].concat();
        for cut in (0..whole.len()).step_by(97).chain([7, 8, 9, 9008, 9009, 9010, whole.len()]) {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut appender = Appender::open(&path, 0o600).unwrap();
            let kept = memchr::memrchr(b'\n', &whole[..cut]).map_or(0, |i| i + 1);
            assert_eq!(appender.is_empty(), kept == 0);
            appender.append(b"end").unwrap();
            let expected = [&whole[..kept], b"end\n"].concat();
            assert_eq!(std::fs::read(&path).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn appender_refuses_what_is_not_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut appender = Appender::open(&dir.path().join("events"), 0o600).unwrap();
        for line in [b"a\nb".to_vec(), vec![b'x'; MAX_LINE + 1]] {
            assert_eq!(appender.append(&line).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert!(appender.is_empty());
    }

    #[test]
    fn lines_are_read_from_an_offset_without_the_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        assert_eq!(read_lines(&path, 0).unwrap(), b"");
        std::fs::write(&path, "a\nbb\nto").unwrap();
        assert_eq!(read_lines(&path, 0).unwrap(), b"a\nbb\n");
        assert_eq!(read_lines(&path, 2).unwrap(), b"bb\n");
        assert_eq!(read_lines(&path, 5).unwrap(), b"");
    }
}
