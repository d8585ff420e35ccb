//! The members of an uncompressed tar file and where they begin: enough to read an archive of `docker save` in place.
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Seek};
use std::path::{Path, PathBuf};

use crate::unpack::tar::{Kind, Tar};

/// Most members of an archive.
const MAX_MEMBERS: usize = 100_000;
/// Links that are followed from one member to another.
const MAX_LINKS: usize = 8;

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) offset: u64,
    pub(super) size: u64,
}

enum Member {
    File(Extent),
    Link(PathBuf),
}

/// Members by cleaned name.
pub(super) struct Archive {
    members: HashMap<PathBuf, Member>,
}

impl Archive {
    /// Whether this is the begin of a tar; the reason in words if it is not.
    pub(super) fn begins(input: impl io::Read) -> Result<(), String> {
        Tar::new(&mut BufReader::new(input)).next().map(drop).map_err(|e| e.to_string())
    }

    /// Reads the headers of a tar; the reason in words if it is not one.
    pub(super) fn index(file: File) -> Result<Self, String> {
        let mut file = BufReader::new(file);
        let mut members = HashMap::new();
        while let Some(entry) = Tar::new(&mut file).next().map_err(|e| e.to_string())? {
            if members.len() == MAX_MEMBERS {
                return Err(format!("it has more than {MAX_MEMBERS} members"));
            }
            let name = clean(Path::new(&*String::from_utf8_lossy(&entry.path)));
            let target = PathBuf::from(&*String::from_utf8_lossy(&entry.link));
            match entry.kind {
                Kind::File => {
                    let offset = file.stream_position().map_err(|e| e.to_string())?;
                    members.insert(name, Member::File(Extent { offset, size: entry.size }));
                    skip(&mut file, entry.size).map_err(|e| e.to_string())?;
                }
                Kind::Symlink => {
                    let above = name.parent().unwrap_or(Path::new("")).join(target);
                    members.insert(name, Member::Link(clean(&above)));
                }
                Kind::HardLink => {
                    members.insert(name, Member::Link(clean(&target)));
                }
                _ => {}
            }
        }
        Ok(Self { members })
    }

    /// Where the content of a member is.
    pub(super) fn find(&self, name: &str) -> Option<Extent> {
        let mut name = clean(Path::new(name));
        for _ in 0..MAX_LINKS {
            match self.members.get(&name)? {
                Member::File(extent) => return Some(*extent),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }
}

fn skip(file: &mut BufReader<File>, size: u64) -> io::Result<()> {
    let padded = size.checked_next_multiple_of(512).and_then(|n| i64::try_from(n).ok());
    file.seek_relative(padded.ok_or(io::ErrorKind::InvalidData)?)
}

/// A name without `.`, `..` and leading `/`; it only looks up, so `..` at the top means nothing.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::Normal(part) => clean.push(part),
            std::path::Component::ParentDir => {
                clean.pop();
            }
            _ => {}
        }
    }
    clean
}
