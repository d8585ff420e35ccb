//! Requests about files, carried out.
use std::collections::HashMap;
use std::fs::{DirBuilder, DirEntry, File, OpenOptions, ReadDir};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::statvfs::{FsFlags, Statvfs, fstatvfs, statvfs};

use crate::attributes::{Wanted, put};
use crate::long;
use crate::packet::{Done, LARGEST, MOST, Reply, Request, Status, done};

/// Most handles at a time.
const HANDLES: usize = 512;
/// Kinds of replies.
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRIBUTES: u8 = 105;
const EXTENDED: u8 = 201;
/// Flags of an open.
const READ: u32 = 1;
const WRITE: u32 = 2;
const APPEND: u32 = 4;
const CREATE: u32 = 8;
const TRUNCATE: u32 = 16;
const EXCLUSIVE: u32 = 32;

/// What a client has open.
#[derive(Default)]
pub(crate) struct Files {
    open: HashMap<u32, Open>,
    next: u32,
}

enum Open {
    File(File),
    Dir {
        path: PathBuf,
        /// The two names that a listing of the system leaves out.
        special: Vec<&'static str>,
        entries: ReadDir,
        /// One that had no room in the last reply.
        left: Option<DirEntry>,
    },
}

impl Files {
    fn keep(&mut self, id: u32, open: Open) -> Done {
        if self.open.len() >= HANDLES {
            return Err(Status::failure("too many files are open"));
        }
        self.next = self.next.wrapping_add(1);
        self.open.insert(self.next, open);
        let mut reply = Reply::to(HANDLE, id);
        reply.text(&self.next.to_be_bytes());
        Ok(reply)
    }

    fn handle(request: &mut Request<'_>) -> Result<u32, Status> {
        let bytes = request.text()?.try_into().map_err(|_| Status::malformed())?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn file(&self, request: &mut Request<'_>) -> Result<&File, Status> {
        match self.open.get(&Self::handle(request)?) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(Status::failure("no such file is open")),
        }
    }

    pub(crate) fn open(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let (path, flags, wanted) = (request.path()?, request.number()?, Wanted::read(request)?);
        let has = |flag| flags & flag != 0;
        let mut options = OpenOptions::new();
        options.read(has(READ)).write(has(WRITE)).append(has(APPEND) && has(WRITE));
        // A pipe that nobody has at its other end must not hold everything up.
        options.mode(wanted.mode.unwrap_or(0o666)).custom_flags(OFlag::O_NONBLOCK.bits());
        if has(WRITE) {
            options.truncate(has(TRUNCATE) && !has(APPEND));
            options.create(has(CREATE)).create_new(has(CREATE) && has(EXCLUSIVE));
        }
        self.keep(id, Open::File(options.open(path)?))
    }

    pub(crate) fn close(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let handle = Self::handle(request)?;
        self.open.remove(&handle).map(|_| done(id)).ok_or_else(|| Status::failure("no such file is open"))
    }

    pub(crate) fn read(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let file = self.file(request)?;
        let (offset, length) = (request.large()?, request.number()? as usize);
        let mut reply = Reply::to(DATA, id);
        let read = reply.filled(length.min(MOST), |into| read_at(file, into, offset))?;
        if read == 0 && length > 0 { Err(Status::eof()) } else { Ok(reply) }
    }

    pub(crate) fn write(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let file = self.file(request)?;
        let (offset, bytes) = (request.large()?, request.text()?);
        file.write_all_at(bytes, offset)?;
        Ok(done(id))
    }

    pub(crate) fn fstat(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        Ok(attributes(id, &self.file(request)?.metadata()?))
    }

    pub(crate) fn fsetstat(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let file = self.file(request)?;
        Wanted::read(request)?.set(file)?;
        Ok(done(id))
    }

    pub(crate) fn opendir(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let path = request.path()?;
        let entries = std::fs::read_dir(&path)?;
        self.keep(id, Open::Dir { path, special: vec!["..", "."], entries, left: None })
    }

    pub(crate) fn readdir(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        let Some(Open::Dir { path, special, entries, left }) = self.open.get_mut(&Self::handle(request)?)
        else {
            return Err(Status::failure("no such directory is open"));
        };
        let (mut count, mut names) = (0, Reply::of(0));
        while let Some(name) = special.pop() {
            if let Ok(about) = path.join(name).symlink_metadata() {
                name_and_attributes(&mut names, name.as_bytes(), &about);
                count += 1;
            }
        }
        // A name has at most 255 bytes, twice, and some for what is said of it.
        while names.length() < MOST / 2 {
            let Some(entry) = left.take().map(Ok).or_else(|| entries.next()) else { break };
            let entry = entry?;
            // One that was removed in between is not there.
            if let Ok(about) = entry.metadata() {
                name_and_attributes(&mut names, entry.file_name().as_bytes(), &about);
                count += 1;
            }
        }
        if count == 0 {
            return Err(Status::eof());
        }
        let mut reply = Reply::to(NAME, id);
        reply.number(count);
        reply.bytes(&names.framed()[5..]);
        Ok(reply)
    }

    pub(crate) fn extended(&mut self, id: u32, request: &mut Request<'_>) -> Done {
        match request.text()? {
            b"posix-rename@openssh.com" => {
                std::fs::rename(request.path()?, request.path()?)?;
                Ok(done(id))
            }
            b"hardlink@openssh.com" => {
                std::fs::hard_link(request.path()?, request.path()?)?;
                Ok(done(id))
            }
            b"fsync@openssh.com" => {
                self.file(request)?.sync_all()?;
                Ok(done(id))
            }
            b"lsetstat@openssh.com" => {
                let path = request.path()?;
                Wanted::read(request)?.set_at_link(&path)?;
                Ok(done(id))
            }
            b"statvfs@openssh.com" => Ok(of_file_system(id, &statvfs(&request.path()?)?)),
            b"fstatvfs@openssh.com" => Ok(of_file_system(id, &fstatvfs(self.file(request)?)?)),
            b"expand-path@openssh.com" => Ok(one_name(id, expanded(request.path()?).as_os_str().as_bytes())),
            b"limits@openssh.com" => {
                let mut reply = Reply::to(EXTENDED, id);
                for limit in [LARGEST, MOST, MOST, HANDLES] {
                    reply.large(limit as u64);
                }
                Ok(reply)
            }
            _ => Err(Status::unsupported()),
        }
    }
}

/// Reads as much as there is, like a read of a whole file does.
fn read_at(file: &File, into: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) if read > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn attributes(id: u32, about: &std::fs::Metadata) -> Reply {
    let mut reply = Reply::to(ATTRIBUTES, id);
    put(&mut reply, about);
    reply
}

fn name_and_attributes(reply: &mut Reply, name: &[u8], about: &std::fs::Metadata) {
    reply.text(name);
    reply.text(&long::line(name, about));
    put(reply, about);
}

fn one_name(id: u32, name: &[u8]) -> Reply {
    let mut reply = Reply::to(NAME, id);
    reply.number(1);
    reply.text(name);
    reply.text(name);
    // Without attributes.
    reply.number(0);
    reply
}

fn of_file_system(id: u32, about: &Statvfs) -> Reply {
    let mut reply = Reply::to(EXTENDED, id);
    for number in [
        about.block_size(),
        about.fragment_size(),
        about.blocks(),
        about.blocks_free(),
        about.blocks_available(),
        about.files(),
        about.files_free(),
        about.files_available(),
        about.filesystem_id(),
    ] {
        reply.large(number);
    }
    let flags = about.flags();
    let read_only = u64::from(flags.contains(FsFlags::ST_RDONLY));
    reply.large(read_only | u64::from(flags.contains(FsFlags::ST_NOSUID)) << 1);
    reply.large(about.name_max());
    reply
}

pub(crate) fn stat(id: u32, request: &mut Request<'_>) -> Done {
    Ok(attributes(id, &request.path()?.metadata()?))
}

pub(crate) fn lstat(id: u32, request: &mut Request<'_>) -> Done {
    Ok(attributes(id, &request.path()?.symlink_metadata()?))
}

pub(crate) fn setstat(id: u32, request: &mut Request<'_>) -> Done {
    let path = request.path()?;
    Wanted::read(request)?.set_at(&path)?;
    Ok(done(id))
}

pub(crate) fn remove(id: u32, request: &mut Request<'_>) -> Done {
    std::fs::remove_file(request.path()?)?;
    Ok(done(id))
}

pub(crate) fn mkdir(id: u32, request: &mut Request<'_>) -> Done {
    let (path, wanted) = (request.path()?, Wanted::read(request)?);
    DirBuilder::new().mode(wanted.mode.unwrap_or(0o777)).create(path)?;
    Ok(done(id))
}

pub(crate) fn rmdir(id: u32, request: &mut Request<'_>) -> Done {
    std::fs::remove_dir(request.path()?)?;
    Ok(done(id))
}

/// A name that is taken is not replaced in this version of the protocol; `posix-rename` does that.
pub(crate) fn rename(id: u32, request: &mut Request<'_>) -> Done {
    let (from, to) = (request.path()?, request.path()?);
    if to.symlink_metadata().is_ok() {
        return Err(Status::failure("the new name is taken"));
    }
    std::fs::rename(from, to)?;
    Ok(done(id))
}

pub(crate) fn readlink(id: u32, request: &mut Request<'_>) -> Done {
    Ok(one_name(id, &std::fs::read_link(request.path()?)?.into_os_string().into_vec()))
}

/// What the link says comes first, as OpenSSH has it, and not as it is written in the draft.
pub(crate) fn symlink(id: u32, request: &mut Request<'_>) -> Done {
    let (says, link) = (request.path()?, request.path()?);
    std::os::unix::fs::symlink(says, link)?;
    Ok(done(id))
}

pub(crate) fn realpath(id: u32, request: &mut Request<'_>) -> Done {
    Ok(one_name(id, real(&request.path()?)?.as_os_str().as_bytes()))
}

/// The whole path without links; its last name need not be there.
fn real(path: &Path) -> std::io::Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(path)?;
            match (absolute.parent(), absolute.file_name()) {
                (Some(parent), Some(name)) => Ok(std::fs::canonicalize(parent)?.join(name)),
                _ => Err(error),
            }
        }
        real => real,
    }
}

/// `~` and what is below it, as a path of this user's.
fn expanded(path: PathBuf) -> PathBuf {
    let home = || std::env::var_os("HOME").filter(|home| !home.is_empty()).unwrap_or_else(|| "/".into());
    match path.strip_prefix("~") {
        Ok(rest) => Path::new(&home()).join(rest),
        Err(_) => real(&path).unwrap_or(path),
    }
}
