//! Out of an archive, below a place and nowhere else. What is written belongs to the caller; modes and times are those of the archive.
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use tar::{Archive, Entry, EntryType};

use crate::{Copied, CopyError, failed};

/// Permission bits that are taken over: no program gets other rights by a copy.
const MODE: u32 = 0o777;

/// Takes what [`crate::pack()`] wrote: into `to` if that is a directory, else as `to`.
pub fn unpack(from: impl Read, to: &Path) -> Result<Copied, CopyError> {
    let place = Place::of(to)?;
    let mut archive = Archive::new(from);
    let mut copied = Copied::default();
    // A directory may forbid to write into it: its mode comes when all of it is there, the innermost first.
    let mut modes = Vec::new();
    for entry in archive.entries().map_err(failed("read", "the archive"))? {
        let mut entry = entry.map_err(failed("read", "the archive"))?;
        let name = entry.path().map_err(failed("read", "the archive"))?.into_owned();
        let path = place.path(&name).map_err(failed("take", &name))?;
        match entry.header().entry_type() {
            EntryType::Directory => modes.push((make_dir(&path)?, entry.header().mode().unwrap_or(0o755))),
            EntryType::Symlink => link(&entry, &path)?,
            EntryType::Regular | EntryType::Continuous => {
                clear(&path)?;
                entry.set_preserve_permissions(false);
                copied.bytes += entry.size();
                copied.files += 1;
                entry.unpack(&path).map_err(failed("write", &path))?;
                let mode = Permissions::from_mode(entry.header().mode().unwrap_or(0o644) & MODE);
                fs::set_permissions(&path, mode).map_err(failed("write", &path))?;
            }
            _ => copied.left_out.push(format!("`{}` is no file", name.display())),
        }
    }
    for (path, mode) in modes.into_iter().rev() {
        fs::set_permissions(&path, Permissions::from_mode(mode & MODE)).map_err(failed("write", &path))?;
    }
    Ok(copied)
}

/// Where it goes.
struct Place {
    dir: PathBuf,
    /// The first part of every name is called this.
    name: Option<PathBuf>,
}

impl Place {
    fn of(to: &Path) -> Result<Self, CopyError> {
        if to.is_dir() {
            return Ok(Self { dir: to.to_owned(), name: None });
        }
        let wants_dir = to.as_os_str().as_encoded_bytes().ends_with(b"/");
        let (Some(name), false) = (to.file_name(), wants_dir) else {
            return Err(failed("copy to", to)(io::Error::other("there is no such directory")));
        };
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !dir.is_dir() {
            return Err(failed("copy to", to)(io::Error::other(
                "the directory that it would be in is not there",
            )));
        }
        Ok(Self { dir: dir.to_owned(), name: Some(name.into()) })
    }

    /// The place of a name of the archive. No link on the way there is followed.
    fn path(&self, name: &Path) -> io::Result<PathBuf> {
        let strange = || io::Error::other("the archive has a name that leads elsewhere");
        let mut parts = Vec::new();
        for part in name.components() {
            match part {
                Component::Normal(part) => parts.push(Path::new(part)),
                Component::CurDir => {}
                _ => return Err(strange()),
            }
        }
        if let (Some(own), Some(first)) = (&self.name, parts.first_mut()) {
            *first = own;
        }
        let (Some(last), above) = (parts.pop(), parts) else { return Err(strange()) };
        let mut path = self.dir.clone();
        for part in above {
            path.push(part);
            match path.symlink_metadata() {
                Ok(about) if about.is_dir() => {}
                Ok(_) => return Err(io::Error::other(format!("`{}` is no directory", path.display()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(&path)?,
                Err(error) => return Err(error),
            }
        }
        Ok(path.join(last))
    }
}

/// Makes a directory that the caller can write into; one that is there stays as it is.
fn make_dir(path: &Path) -> Result<PathBuf, CopyError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let is_dir = path.symlink_metadata().is_ok_and(|about| about.is_dir());
            let other = || io::Error::other("a file of this name is there");
            if is_dir { Ok(path.to_owned()) } else { Err(failed("make", path)(other())) }
        }
        made => made.map(|()| path.to_owned()).map_err(failed("make", path)),
    }
}

/// Removes what has the name, so that a link there is replaced and not followed.
fn clear(path: &Path) -> Result<(), CopyError> {
    match path.symlink_metadata() {
        Ok(about) if about.is_dir() => {
            Err(failed("write", path)(io::Error::other("a directory of this name is there")))
        }
        Ok(_) => fs::remove_file(path).map_err(failed("replace", path)),
        Err(_) => Ok(()),
    }
}

fn link<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<(), CopyError> {
    let target = entry.link_name().map_err(failed("read", path))?;
    let target = target.ok_or_else(|| failed("read", path)(io::ErrorKind::InvalidData.into()))?;
    clear(path)?;
    std::os::unix::fs::symlink(target, path).map_err(failed("make", path))
}
