//! Into an archive. Links stay links; what is read is what the caller may read.
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header, HeaderMode};

use crate::{Copied, CopyError, failed};

/// Writes a file, or a directory with everything in it, under its own name. The root directory has none; what is in it comes without.
pub fn pack(path: &Path, to: impl Write) -> Result<Copied, CopyError> {
    // The place itself may be a link: what it leads to is meant.
    let whole = path.canonicalize().map_err(failed("find", path))?;
    let name = path.file_name().or(whole.file_name()).map(PathBuf::from).unwrap_or_default();
    let mut packing = Packing { archive: Builder::new(to), copied: Copied::default() };
    packing.archive.mode(HeaderMode::Complete);
    packing.add(&whole, &name)?;
    packing.archive.into_inner().and_then(|mut to| to.flush()).map_err(failed("write", "the archive"))?;
    Ok(packing.copied)
}

struct Packing<W: Write> {
    archive: Builder<W>,
    copied: Copied,
}

impl<W: Write> Packing<W> {
    fn add(&mut self, path: &Path, name: &Path) -> Result<(), CopyError> {
        let about = path.symlink_metadata().map_err(failed("read", path))?;
        let kind = about.file_type();
        if kind.is_dir() {
            if !name.as_os_str().is_empty() {
                let mut header = header(&about, EntryType::Directory, 0);
                let added = self.archive.append_data(&mut header, name, io::empty());
                added.map_err(failed("copy", path))?;
            }
            return self.add_inside(path, name);
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path).map_err(failed("read", path))?;
            let mut header = header(&about, EntryType::Symlink, 0);
            let added = self.archive.append_link(&mut header, name, target);
            return added.map_err(failed("write", path));
        }
        if !kind.is_file() {
            let what = if kind.is_socket() {
                "a socket"
            } else if kind.is_fifo() {
                "a pipe"
            } else {
                "a device"
            };
            self.copied.left_out.push(format!("`{}` is {what}", path.display()));
            return Ok(());
        }
        let file = File::open(path).map_err(failed("read", path))?;
        // What is written to it meanwhile may make it longer; one that became shorter is an error, because its length was told.
        let size = file.metadata().map_err(failed("read", path))?.len();
        let mut header = header(&about, EntryType::Regular, size);
        let added = self.archive.append_data(&mut header, name, Exactly { file, left: size });
        added.map_err(failed("copy", path))?;
        self.copied.files += 1;
        self.copied.bytes += size;
        Ok(())
    }

    fn add_inside(&mut self, path: &Path, name: &Path) -> Result<(), CopyError> {
        let entries = std::fs::read_dir(path).map_err(failed("read", path))?;
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed("read", path))?;
        names.sort_unstable();
        names.iter().try_for_each(|inside| self.add(&path.join(inside), &name.join(inside)))
    }
}

fn header(about: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(about, HeaderMode::Complete);
    header.set_entry_type(kind);
    header.set_size(size);
    header
}

/// So many bytes of a file, or an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let length = self.file.read(&mut into[..most])?;
        if length == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}
