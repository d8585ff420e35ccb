//! From a bucket into a directory: all that is there at one time, or an error.
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use nix::sys::stat::{Mode, fchmod};
use nix::unistd::symlinkat;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::admit::plan;
use super::drive::{IN_FLIGHT, Progress, Queue, SMALL_IN_FLIGHT, drive};
use super::error::BucketError;
use super::get::{self, Big};
use super::manifest::{DirEntry, LinkEntry, Manifest, modified};
use super::picture::{Objects, Picture};
use super::store::Store;
use super::{Session, keys};
use crate::dir::Dir;
use crate::tree::{Top, climbs_first};
use crate::{DataError, Owner, Watch, locked};

/// Whether the list that an export of ours left at the place is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ManifestUse {
    /// If there is one, exactly its files are taken, and their digests, permissions and times are those of the list.
    #[default]
    Follow,
    /// It is a file like others.
    Ignore,
}

/// What a place is at which nothing lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Empty {
    /// One that was named wrongly; the object of that key is meant, if there is one.
    #[default]
    IsError,
    /// A directory into which nothing was written yet.
    IsFine,
}

/// An earlier import of the same place, whole and not written to since.
#[derive(Clone, Copy, Debug)]
pub struct Previous<'a> {
    /// What it saw.
    pub picture: &'a Picture,
    /// What it brought.
    pub dir: &'a Dir,
}

/// What to import.
#[derive(Clone, Copy, Debug)]
pub struct Import<'a> {
    /// An empty directory that nobody else has: what is in it after an error is of no use.
    pub into: &'a Dir,
    /// With one, the whole listing comes first, and what is the same is linked or copied from there.
    pub previous: Option<Previous<'a>>,
    /// Who owns what is made; without one, who calls.
    pub owner: Option<Owner>,
    /// Whether a list is used.
    pub manifest: ManifestUse,
    /// What an empty place is.
    pub empty: Empty,
    /// Followed and asked.
    pub watch: &'a Watch<'a>,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// What is there.
    pub picture: Picture,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// Whether it is the picture of the earlier import: nothing was written then.
    pub unchanged: bool,
    /// What did not come, a sentence each.
    pub left_out: Vec<String>,
    /// Permissions and time of the directory itself, where an export's list tells them; the caller applies them last.
    pub top: Option<Top>,
}

/// An import that goes on.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) store: Arc<Store>,
    pub(super) into: Dir,
    pub(super) previous: Option<(Picture, Dir)>,
    pub(super) owner: Option<Owner>,
    pub(super) manifest_use: ManifestUse,
    pub(super) empty: Empty,
    /// What goes before the keys of the picture.
    pub(super) prefix: OnceLock<String>,
    pub(super) manifest: OnceLock<Manifest>,
    pub(super) seen: Mutex<Objects>,
    pub(super) queue: Queue<Job>,
    pub(super) progress: Progress,
    pub(super) unchanged: AtomicBool,
    pub(super) left_out: Mutex<Vec<String>>,
}

/// Something to bring.
#[derive(Debug)]
pub(super) enum Job {
    /// The object at this position of the picture.
    Object(usize),
    /// A part of a large one.
    Part(Arc<Big>, usize),
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} objects", self.len())
    }
}

impl Session {
    /// Brings what is at the place of this session into an empty directory. What is there after an error is of no use. It does not wait
    /// for the disk, which for large files takes as long as their way here.
    pub fn import(&self, want: &Import<'_>) -> Result<Imported, BucketError> {
        let here = |e| DataError::os("open", ".")(e);
        let previous = match want.previous {
            Some(previous) => Some((previous.picture.clone(), previous.dir.try_clone().map_err(here)?)),
            None => None,
        };
        let work = Arc::new(Work {
            store: Arc::clone(&self.store),
            into: want.into.try_clone().map_err(here)?,
            previous,
            owner: want.owner,
            manifest_use: want.manifest,
            empty: want.empty,
            prefix: OnceLock::new(),
            manifest: OnceLock::new(),
            seen: Mutex::default(),
            queue: Queue::default(),
            progress: Progress::default(),
            unchanged: AtomicBool::new(false),
            left_out: Mutex::default(),
        });
        self.runtime.block_on(run(&work, want.watch))?;
        if !work.unchanged.load(Ordering::Relaxed) {
            work.settle()?;
        }
        Ok(work.result())
    }
}

async fn run(work: &Arc<Work>, watch: &Watch<'_>) -> Result<(), BucketError> {
    let mut tasks = JoinSet::new();
    let planned = Arc::clone(work);
    tasks.spawn(async move { plan(&planned).await });
    fetch(work, tasks, watch).await
}

/// Brings what is in the queue, and what comes into it.
pub(super) async fn fetch(
    work: &Arc<Work>,
    mut tasks: JoinSet<Result<(), BucketError>>,
    watch: &Watch<'_>,
) -> Result<(), BucketError> {
    let large = Arc::new(Semaphore::new(IN_FLIGHT));
    for _ in 0..SMALL_IN_FLIGHT {
        let (work, large) = (Arc::clone(work), Arc::clone(&large));
        tasks.spawn(async move {
            while let Some(job) = work.queue.next().await {
                match job {
                    Job::Object(at) => get::object(&work, at).await?,
                    Job::Part(big, n) => {
                        let _room = large.acquire().await;
                        get::part(&work, &big, n).await?;
                    }
                }
                work.queue.ended();
            }
            Ok(())
        });
    }
    drive(tasks, watch, &work.progress).await
}

impl Work {
    /// The whole key of an object of the picture.
    pub(super) fn key(&self, below: &str) -> String {
        format!("{}{below}", self.prefix.get().map_or("", String::as_str))
    }

    pub(super) fn make_dir(&self, path: &str) -> Result<(), BucketError> {
        let path = Path::new(path);
        let made = self.into.make_dir(path, 0o755).and_then(|()| match self.owner {
            Some(owner) => self.into.give(path, owner),
            None => Ok(()),
        });
        Ok(made.map_err(DataError::os("make", path))?)
    }

    /// What only an export's list tells.
    fn settle(&self) -> Result<(), BucketError> {
        if let Some(manifest) = self.manifest.get() {
            for link in &manifest.links {
                self.link(link)?;
            }
            // What is in a directory before the directory itself.
            for dir in manifest.dirs.iter().rev() {
                self.dress(dir).map_err(DataError::os("set the permissions of", &dir.path))?;
            }
        }
        Ok(())
    }

    /// The list may be anybody's: no link of it is ever followed, and none that leads out is made.
    fn link(&self, link: &LinkEntry) -> Result<(), BucketError> {
        let (above, name) = link.path.rsplit_once('/').unwrap_or(("", &link.path));
        let depth = link.path.matches('/').count();
        let fits = keys::place(&link.path) == Ok(keys::Place::File(&link.path))
            && climbs_first(Path::new(&link.target), depth)
            && !link.target.is_empty();
        let above = fits.then(|| self.into.dir(Path::new(above)).ok()).flatten();
        let Some(above) = above else {
            locked(&self.left_out)
                .push(format!("`{}`: it is a link that leads out", link.path.escape_debug()));
            return Ok(());
        };
        let made = symlinkat(Path::new(&link.target), &above, name);
        made.map_err(DataError::os("make", &link.path))?;
        if let Some(owner) = self.owner {
            above.give(Path::new(name), owner).map_err(DataError::os("give away", &link.path))?;
        }
        Ok(())
    }

    fn dress(&self, dir: &DirEntry) -> std::io::Result<()> {
        let open = self.into.dir(Path::new(&dir.path))?;
        fchmod(&open, Mode::from_bits_truncate(dir.mode & 0o777))?;
        modified(dir.modified).map_or(Ok(()), |at| open.set_modified(Path::new("."), at))
    }

    fn result(&self) -> Imported {
        let mut seen = std::mem::take(&mut *locked(&self.seen));
        seen.sort();
        let picture = seen.finish();
        Imported {
            bytes: picture.bytes(),
            files: picture.files(),
            unchanged: self.unchanged.load(Ordering::Relaxed),
            left_out: std::mem::take(&mut *locked(&self.left_out)),
            top: self.manifest.get().and_then(|manifest| {
                let top = manifest.top?;
                Some(Top { mode: top.mode & 0o777, modified: modified(top.modified)? })
            }),
            picture,
        }
    }
}
