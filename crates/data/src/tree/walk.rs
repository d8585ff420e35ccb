//! What a directory holds, links and all: those that lead to something inside stay links, those that lead out are followed.
//! It reads no file.
use std::collections::VecDeque;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, fstat};

use super::write::{Bounds, Source, Warning};
use super::{DIR_MODE, Entry, FILE_MODE, Form, Kind, MAX_NAME, MAX_PATH, Top};
use crate::blob::Digest;
use crate::dir::{self, Dir, Links, Modified, real_path};
use crate::{DataError, Owner, Watch};

/// Most directories outside that links lead to one from within the other.
const DEEPEST: usize = 16;

/// Most directories outside that links lead to at all.
const PLACES: usize = 10_000;
/// How often a link is tried with which the tree would be too large; those after that are left out unseen.
pub(super) const OVERFLOWS: usize = 16;

/// What a directory holds.
#[derive(Debug)]
pub struct Walked {
    /// The directory itself.
    pub top: Top,
    /// Its entries; of the files nobody has looked at the content.
    pub found: Vec<Found>,
    /// Bytes of all files.
    pub bytes: u64,
    /// Links that were followed.
    pub followed: u64,
    /// What is not as it was; sorted by path.
    pub warnings: Vec<Warning>,
}

/// An entry and where it is.
#[derive(Debug)]
pub struct Found {
    /// What it will be in the tree.
    pub entry: Entry,
    /// Below the root of the source; no link is on the way.
    pub from: PathBuf,
}

/// What a walk leaves out without a word.
pub trait Skips {
    /// A directory is about to be looked at; `path` is where it is in the tree.
    fn enter(&mut self, dir: &Dir, path: &Path) -> Result<(), DataError>;

    /// Whether this is left out: of a directory everything in it, too. A link is asked about as a link.
    fn skips(&mut self, path: &Path, kind: dir::Kind) -> bool;
}

/// Nothing is left out.
#[derive(Debug)]
pub struct Everything;

impl Skips for Everything {
    fn enter(&mut self, _: &Dir, _: &Path) -> Result<(), DataError> {
        Ok(())
    }

    fn skips(&mut self, _: &Path, _: dir::Kind) -> bool {
        false
    }
}

/// How the names begin, at the top of a volume, of what is on its way into it.
pub const ON_ITS_WAY: &str = ".vessl-";

/// What is on its way into a volume is left out.
#[derive(Debug)]
pub struct WhatIsWhole;

impl Skips for WhatIsWhole {
    fn enter(&mut self, _: &Dir, _: &Path) -> Result<(), DataError> {
        Ok(())
    }

    fn skips(&mut self, path: &Path, _: dir::Kind) -> bool {
        path.as_os_str().as_encoded_bytes().starts_with(ON_ITS_WAY.as_bytes())
    }
}

/// Looks at everything in a directory that is not left out, and at what its links lead out to.
pub fn walk(
    source: Source<'_>,
    bounds: Bounds,
    skips: &mut dyn Skips,
    watch: &Watch<'_>,
) -> Result<Walked, DataError> {
    let here = real_path(source.root).map_err(DataError::os("read", source.path))?;
    let top = source.root.dir(source.path).and_then(|dir| Ok(fstat(&dir)?));
    let top = top.map_err(DataError::os("read", source.path))?;
    let top = Top { mode: top.st_mode & DIR_MODE, modified: Modified::of(&top) };
    let walked = Walked { top, found: Vec::new(), bytes: 0, followed: 0, warnings: Vec::new() };
    let first = Place { from: source.path.to_owned(), to: PathBuf::new(), within: None };
    let mut walk = Walk {
        root: source.root,
        reader: source.reader,
        here,
        watch,
        bounds,
        skips,
        places: vec![first],
        outside: VecDeque::new(),
        overflows: 0,
        walked,
    };
    walk.all()?;
    let mut walked = walk.walked;
    walked.warnings.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(walked)
}

/// A directory that is taken as a whole: that of the source, or one outside that a link leads to.
struct Place {
    /// Below the root of the source.
    from: PathBuf,
    /// In the tree.
    to: PathBuf,
    /// The place that the link is in.
    within: Option<usize>,
}

/// Something on the way.
struct At {
    /// In the tree.
    path: PathBuf,
    /// Below the root of the source.
    from: PathBuf,
    /// The innermost place that it is in.
    place: usize,
}

/// Where a link leads.
enum Lead {
    /// To what is in the tree there.
    Inside(PathBuf),
    /// Out of it, to this path below the root.
    Outside(PathBuf, FileStat),
    /// Nowhere, for this reason.
    Nowhere(Errno),
}

struct Walk<'a> {
    root: &'a Dir,
    reader: Option<Owner>,
    /// The path of the root.
    here: PathBuf,
    watch: &'a Watch<'a>,
    bounds: Bounds,
    skips: &'a mut dyn Skips,
    places: Vec<Place>,
    /// Links that lead out and are not followed yet.
    outside: VecDeque<Outside>,
    /// How often following one would have made the tree too large.
    overflows: usize,
    walked: Walked,
}

/// A link that leads out.
struct Outside {
    /// Where it is in the tree, and what it leads to.
    at: At,
    /// What it says.
    target: PathBuf,
    /// What is there.
    about: FileStat,
}

impl Walk<'_> {
    /// The directory first, then what links lead out to, the nearest first: what is too much is a link's, and left out with it.
    fn all(&mut self) -> Result<(), DataError> {
        self.place(At { path: PathBuf::new(), from: self.places[0].from.clone(), place: 0 })?;
        while let Some(link) = self.outside.pop_front() {
            self.follow(link)?;
        }
        Ok(())
    }

    /// Directory after directory, not one in the other: a deep tree needs neither stack nor descriptors.
    fn place(&mut self, top: At) -> Result<(), DataError> {
        let mut open = vec![top];
        while let Some(at) = open.pop() {
            self.watch.check()?;
            let dir = self.root.dir(&at.from).map_err(DataError::os("read", &at.path))?;
            self.skips.enter(&dir, &at.path)?;
            for name in names(&dir, &at.path)? {
                let inner = At { path: at.path.join(&name), from: at.from.join(&name), place: at.place };
                open.extend(self.entry(&dir, &name, inner)?);
            }
        }
        Ok(())
    }

    /// Records what a link leads out to, as a whole or not at all.
    fn follow(&mut self, Outside { at, target, about }: Outside) -> Result<(), DataError> {
        let (path, kind) = (at.path.clone(), dir::Kind::of(&about));
        let refuse = |why: &str| format!("was left out: it is a link to `{}`, {why}", target.display());
        if self.overflows >= OVERFLOWS {
            self.warn(path, refuse("and the export is as large as it may be"));
            return Ok(());
        }
        let before =
            (self.walked.found.len(), self.walked.bytes, self.walked.warnings.len(), self.outside.len());
        let otherwise = format!("it is a link to `{}`, a socket, pipe or device", target.display());
        let followed =
            self.plain(at, &about, &otherwise).and_then(|inner| inner.map_or(Ok(()), |at| self.place(at)));
        match followed {
            Err(DataError::Limit { limit, .. }) => {
                self.overflows += 1;
                self.walked.found.truncate(before.0);
                self.walked.bytes = before.1;
                self.walked.warnings.truncate(before.2);
                self.outside.truncate(before.3);
                self.warn(path, refuse(&format!("and with it there are {limit}")));
                Ok(())
            }
            Err(other) => Err(other),
            Ok(()) => {
                self.walked.followed += u64::from(kind != dir::Kind::Other);
                Ok(())
            }
        }
    }

    /// Records one entry; returns it if it is a directory.
    fn entry(&mut self, dir: &Dir, name: &Path, at: At) -> Result<Option<At>, DataError> {
        self.limits(name, &at.path)?;
        let Some(stat) = dir.stat(name).map_err(DataError::os("read", &at.path))? else {
            return Err(DataError::Changed { path: at.path });
        };
        let kind = dir::Kind::of(&stat);
        if self.skips.skips(&at.path, kind) {
            return Ok(None);
        }
        if kind == dir::Kind::Symlink {
            let target = readlinkat(dir, name).map_err(DataError::os("read", &at.path))?;
            return self.link(at, target.into(), &stat);
        }
        self.plain(at, &stat, "it is a socket, pipe or device")
    }

    /// Records what is no link; `otherwise` is said of what is neither a file nor a directory.
    fn plain(&mut self, at: At, stat: &FileStat, otherwise: &str) -> Result<Option<At>, DataError> {
        let kind = dir::Kind::of(stat);
        if at.place != 0 && kind != dir::Kind::Other && !may(self.reader, stat, wanted(kind)) {
            self.warn(at.path, format!("was left out: {CLOSED}"));
            return Ok(None);
        }
        let (mode, modified) = (stat.st_mode, Some(Modified::of(stat)));
        match kind {
            dir::Kind::File => {
                let size = u64::try_from(stat.st_size).unwrap_or_default();
                self.walked.bytes = self.walked.bytes.saturating_add(size);
                self.bounds.check(self.walked.found.len() + 1, self.walked.bytes, &at.path)?;
                let mode = mode & FILE_MODE;
                let kind = Kind::File { mode, size, digest: Digest([0; 32]), form: Form::Plain };
                self.record(&at, kind, modified);
                Ok(None)
            }
            dir::Kind::Dir => {
                self.record(&at, Kind::Dir { mode: mode & DIR_MODE }, modified);
                Ok(Some(at))
            }
            dir::Kind::Symlink | dir::Kind::Other => {
                self.warn(at.path, format!("was left out: {otherwise}"));
                Ok(None)
            }
        }
    }

    /// Records a link, or that it leads out.
    fn link(&mut self, at: At, target: PathBuf, stat: &FileStat) -> Result<Option<At>, DataError> {
        let (outside, about) = match self.lead(&at, &target)? {
            Lead::Inside(to) => {
                // As it is, if it leads there also where the tree lies elsewhere.
                let depth = at
                    .path
                    .strip_prefix(&self.places[at.place].to)
                    .map_or(0, |path| path.components().count());
                let target = if climbs_first(&target, depth.saturating_sub(1)) {
                    target
                } else {
                    relative(&at.path, &to)
                };
                self.record(&at, Kind::Symlink { target }, Some(Modified::of(stat)));
                return Ok(None);
            }
            Lead::Nowhere(why) => {
                let why = if why == Errno::ENOENT { "where there is nothing" } else { why.desc() };
                self.warn(at.path.clone(), format!("stays a link to `{}`: {why}", target.display()));
                self.record(&at, Kind::Symlink { target }, Some(Modified::of(stat)));
                return Ok(None);
            }
            Lead::Outside(outside, about) => (outside, about),
        };
        let mut at = At { from: outside, ..at };
        if !self.may_follow(&at.from, &about).map_err(DataError::os("follow", &at.path))? {
            self.warn(at.path, format!("was left out: it is a link to `{}`, and {CLOSED}", target.display()));
            return Ok(None);
        }
        if dir::Kind::of(&about) == dir::Kind::Dir {
            let around: Vec<usize> = self.around(at.place).collect();
            let refusal = if around.iter().any(|place| self.places[*place].from.starts_with(&at.from)) {
                Some("in which it lies itself")
            } else if around.len() > DEEPEST || self.places.len() > PLACES {
                Some("which is behind too many such links")
            } else {
                None
            };
            if let Some(why) = refusal {
                self.warn(at.path, format!("was left out: it is a link to `{}`, {why}", target.display()));
                return Ok(None);
            }
            self.places.push(Place { from: at.from.clone(), to: at.path.clone(), within: Some(at.place) });
            at.place = self.places.len() - 1;
        }
        self.outside.push_back(Outside { at, target, about });
        Ok(None)
    }

    fn lead(&self, at: &At, target: &Path) -> Result<Lead, DataError> {
        let failed = || DataError::os("follow", &at.path);
        let path = at.from.parent().unwrap_or(Path::new("")).join(target);
        let found = match self.root.resolve(&path, OFlag::O_PATH, Links::InRoot) {
            Ok(found) => found,
            Err(
                why @ (Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EACCES),
            ) => {
                return Ok(Lead::Nowhere(why));
            }
            Err(e) => return Err(failed()(e)),
        };
        let stat = fstat(&found).map_err(failed())?;
        let real = real_path(&found).map_err(DataError::os("follow", &at.path))?;
        let Ok(real) = real.strip_prefix(&self.here) else { return Ok(Lead::Nowhere(Errno::ENOENT)) };
        let inside = self.around(at.place).find_map(|place| {
            let Place { from, to, .. } = &self.places[place];
            Some(to.components().chain(real.strip_prefix(from).ok()?.components()).collect())
        });
        Ok(inside.map_or_else(|| Lead::Outside(real.to_owned(), stat), Lead::Inside))
    }

    /// Whether the reader could get to what is at a path below the root, and read it. The export is made by somebody who may read
    /// everything; a link must not lend that to the one who made it.
    fn may_follow(&self, path: &Path, about: &FileStat) -> std::io::Result<bool> {
        let mut may_enter = true;
        for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            may_enter &= self.root.stat(above)?.is_some_and(|stat| may(self.reader, &stat, ENTER));
        }
        Ok(may_enter && may(self.reader, about, wanted(dir::Kind::of(about))))
    }

    /// A place and those around it.
    fn around(&self, place: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(place), |place| self.places[*place].within)
    }

    fn record(&mut self, at: &At, kind: Kind, modified: Option<Modified>) {
        let entry = Entry { path: at.path.clone(), kind, modified };
        self.walked.found.push(Found { entry, from: at.from.clone() });
    }

    fn warn(&mut self, path: PathBuf, text: String) {
        self.walked.warnings.push(Warning { path, text });
    }

    fn limits(&self, name: &Path, path: &Path) -> Result<(), DataError> {
        self.bounds.check(self.walked.found.len() + 1, 0, path)?;
        let limit = if path.as_os_str().len() > MAX_PATH || name.as_os_str().len() > MAX_NAME {
            format!("a path in a tree can have {MAX_PATH} bytes")
        } else {
            return Ok(());
        };
        Err(DataError::Limit { path: path.to_owned(), limit })
    }
}

/// Said of what the run's user may not read.
const CLOSED: &str = "the run's user may not read that";
/// The permission to go through a directory.
const ENTER: u32 = 0o1;

/// The permissions that it takes to copy something.
fn wanted(kind: dir::Kind) -> u32 {
    if kind == dir::Kind::Dir { 0o5 } else { 0o4 }
}

/// Whether the mode gives `reader` these permissions. Lists of access and further groups do not count.
fn may(reader: Option<Owner>, stat: &FileStat, wanted: u32) -> bool {
    let Some((user, group)) = reader.filter(|(user, _)| *user != 0) else { return true };
    let class = if stat.st_uid == user {
        stat.st_mode >> 6
    } else if stat.st_gid == group {
        stat.st_mode >> 3
    } else {
        stat.st_mode
    };
    class & wanted == wanted
}

/// Whether a link `depth` directories below a root leads below that root by its text alone: `..` may only come first, because
/// behind another link it would lead anywhere.
pub fn climbs_first(target: &Path, depth: usize) -> bool {
    let parts = || target.components().filter(|part| *part != Component::CurDir);
    let up = parts().take_while(|part| *part == Component::ParentDir).count();
    up <= depth && parts().skip(up).all(|part| matches!(part, Component::Normal(_)))
}

/// What a link at `path` says to lead to `to`, both in one tree.
fn relative(path: &Path, to: &Path) -> PathBuf {
    let from: Vec<_> = path.parent().map_or(Vec::new(), |parent| parent.components().collect());
    let to: Vec<_> = to.components().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    let text: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if text.as_os_str().is_empty() { PathBuf::from(".") } else { text }
}

fn names(dir: &Dir, path: &Path) -> Result<Vec<PathBuf>, DataError> {
    dir.names().map_err(DataError::os("read", path))
}
