//! Brings files of a run, a version or a volume to this machine: verified, several at once, going on where an earlier try stopped.
//! It does not know how they were chosen.
mod dir;

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use http_body_util::BodyExt;
use serde::Serialize;
use tokio::task::JoinSet;
use vessl_core::spelling;
use vessl_core::wire::{FileKind, FileView};
use vessl_data::locked;
use vessl_data::tree::climbs_first;

use self::dir::{DownloadDir, Existing, moved};
use crate::client::{Client, FileSource};
use crate::error::{Error, Result};
use crate::output::progress::Bars;
use crate::output::{Format, clean, views};
use crate::session::Session;

/// Files that come at the same time.
const AT_ONCE: usize = 4;

/// One file that is here now.
#[derive(Debug, Serialize)]
struct Landed {
    file: String,
    size: u64,
    digest: String,
    /// Whether something else was here before.
    replaced: bool,
    /// Whether it was here before.
    #[serde(skip)]
    same: bool,
    #[serde(skip)]
    is_file: bool,
}

/// A file, and where it lands below the destination.
pub(crate) type Chosen = (FileView, PathBuf);

/// What all who fetch work with.
#[derive(Debug)]
struct Work {
    source: FileSource,
    chosen: Vec<Chosen>,
    dir: DownloadDir,
    /// The files that nobody has begun, those of one content together: they are on their way under one name.
    waiting: Mutex<VecDeque<Vec<usize>>>,
    landed: Mutex<Vec<(usize, Existing)>>,
    /// Bytes that are here, with those that were before.
    done: AtomicU64,
    /// Bytes that came over the wire.
    came: AtomicU64,
}

/// Fetches the files that were chosen to below `dest` and says what came.
pub(crate) async fn bring(
    client: &Client,
    source: FileSource,
    chosen: Vec<Chosen>,
    (dest, session): (&Path, &Session),
) -> Result<()> {
    let dir = DownloadDir::open(dest)?;
    for (_, relative) in chosen.iter().filter(|(file, _)| file.kind == FileKind::Directory) {
        dir.make_dir(relative)?;
    }
    let waiting = Mutex::new(by_content(&chosen));
    let (landed, done, came) = (Mutex::default(), AtomicU64::new(0), AtomicU64::new(0));
    let work = Arc::new(Work { source, chosen, dir, waiting, landed, done, came });
    fetch_all(client, &work, session).await?;
    let mut landed = work.landed();
    landed.extend(links(&work, session)?);
    settle(&work, session);
    // A directory goes without saying when something is in it.
    let full: HashSet<_> = work.chosen.iter().filter_map(|(_, relative)| relative.parent()).collect();
    let full: HashSet<_> = full.into_iter().map(|relative| shown(&work.dir, relative)).collect();
    landed.retain(|landed| !full.contains(&landed.file));
    match landed.iter().filter(|landed| landed.replaced).count() {
        0 => {}
        1 => session.out.note("replaced 1 file that was here with other content"),
        n => session.out.note(&format!("replaced {n} files that were here with other content")),
    }
    match session.out.format() {
        Format::Table => session.out.text(&(summary(&landed, work.came.load(Relaxed), dest) + "\n")),
        _ => session.out.data(&landed),
    }
}

/// Files in the order in which they were chosen, those of one content together. What has no digest is one of its own.
fn by_content(chosen: &[Chosen]) -> VecDeque<Vec<usize>> {
    let mut groups: VecDeque<Vec<usize>> = VecDeque::new();
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (n, (file, _)) in chosen.iter().enumerate().filter(|(_, (file, _))| file.kind == FileKind::File) {
        let next = groups.len();
        let group = if file.digest.is_empty() { next } else { *known.entry(&file.digest).or_insert(next) };
        if group == next {
            groups.push_back(Vec::new());
        }
        groups[group].push(n);
    }
    groups
}

/// Fetches every file, and shows how far all of it is: one bar on a terminal.
async fn fetch_all(client: &Client, work: &Arc<Work>, session: &Session) -> Result<()> {
    let files = work.chosen.iter().filter(|(file, _)| file.kind == FileKind::File);
    let total = files.clone().map(|(file, _)| moved(file)).sum();
    let label = match work.chosen.len() {
        1 => format!("download {}", work.chosen[0].0.path),
        n => format!("download {n} files"),
    };
    let places: HashSet<_> = files.clone().map(|(_, relative)| relative).collect();
    let count = files.count();
    // Of what lands at one place the last one stays.
    let workers = if places.len() < count { 1 } else { AT_ONCE.min(count) };
    let mut at_work = JoinSet::new();
    for _ in 0..workers {
        at_work.spawn(fetch_waiting(client.another(), Arc::clone(work)));
    }
    let all = async {
        while let Some(ended) = at_work.join_next().await {
            ended.map_err(|e| Error::Bug(format!("a download ended: {e}")))??;
        }
        Ok(())
    };
    Bars::new(&session.out).follow(&label, (&work.done, total), all).await
}

async fn fetch_waiting(mut client: Client, work: Arc<Work>) -> Result<()> {
    loop {
        let next = locked(&work.waiting).pop_front();
        let Some(group) = next else { return Ok(()) };
        for n in group {
            match fetch(&mut client, &work, &work.chosen[n]).await {
                Ok(before) => locked(&work.landed).push((n, before)),
                Err(error) => {
                    locked(&work.waiting).clear();
                    return Err(error);
                }
            }
        }
    }
}

async fn fetch(client: &mut Client, work: &Work, (file, relative): &Chosen) -> Result<Existing> {
    let here = work.dir.inspect(relative, file)?;
    if here == Existing::Same {
        work.done.fetch_add(moved(file), Relaxed);
        return Ok(here);
    }
    let mut partial = work.dir.begin(relative, file)?;
    let begin = partial.offset()?;
    work.done.fetch_add(begin, Relaxed);
    if begin < moved(file) {
        let (from, mut body) = client.content(&work.source, file, begin).await?;
        if from == 0 && begin > 0 {
            partial.restart()?;
            work.done.fetch_sub(begin, Relaxed);
        }
        while let Some(frame) = body.frame().await {
            // A stream that is cut off is noticed by the size.
            let Ok(frame) = frame else { break };
            let data = frame.data_ref().map_or(&[][..], |data| data);
            partial.write(data)?;
            work.done.fetch_add(data.len() as u64, Relaxed);
            work.came.fetch_add(data.len() as u64, Relaxed);
        }
    }
    partial.commit(file)?;
    Ok(here)
}

impl Work {
    /// What is here now, in the order in which it was chosen: directories and files.
    fn landed(&self) -> Vec<Landed> {
        let mut landed = std::mem::take(&mut *locked(&self.landed));
        let directories = self.chosen.iter().enumerate();
        let directories = directories.filter(|(_, (file, _))| file.kind == FileKind::Directory);
        landed.extend(directories.map(|(n, _)| (n, Existing::Same)));
        landed.sort_unstable_by_key(|(n, _)| *n);
        landed.into_iter().map(|(n, before)| here(&self.dir, &self.chosen[n], before)).collect()
    }
}

/// What came, in one line.
fn summary(landed: &[Landed], moved: u64, dest: &Path) -> String {
    let counted = |n: usize| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    let bytes = |landed: &[&Landed]| views::size(landed.iter().map(|one| one.size).sum());
    // Links and empty directories are no files.
    let files = landed.iter().filter(|one| one.is_file);
    let (here, came): (Vec<_>, Vec<_>) = files.partition(|one| one.same);
    if came.is_empty() {
        let were = if here.len() == 1 { "was" } else { "were" };
        return format!("{}, {}, {were} here already", counted(here.len()), bytes(&here));
    }
    let to = if dest == Path::new(".") {
        String::new()
    } else {
        format!(", to `{}`", clean(&dest.to_string_lossy()))
    };
    let rest =
        if here.is_empty() { String::new() } else { format!("; {} already here", counted(here.len())) };
    let begun = match bytes(&came) {
        all if all == views::size(moved) => String::new(),
        _ => format!(" ({} of them now)", views::size(moved)),
    };
    format!("downloaded {}, {}{begun}{to}{rest}", counted(came.len()), bytes(&came))
}

/// Makes the links. They come last, so that nothing is written through one.
fn links(work: &Work, session: &Session) -> Result<Vec<Landed>> {
    let mut landed = Vec::new();
    for link in work.chosen.iter().filter(|(file, _)| file.kind == FileKind::Link) {
        let (file, relative) = link;
        let target = file.target.as_deref().unwrap_or_default();
        let to = OsString::from_vec(spelling::read(target));
        let depth = Path::new(&file.path).components().count().min(relative.components().count());
        if climbs_first(Path::new(&to), depth.saturating_sub(1)) {
            let before = work.dir.link(relative, &to)?;
            landed.push(here(&work.dir, link, before));
        } else {
            let path = spelling::spell(relative.as_os_str().as_bytes());
            session.out.warn(&format!(
                "the link `{path}` is left out: it points to `{target}`, out of what is downloaded"
            ));
        }
    }
    Ok(landed)
}

/// Gives everything its permissions and time; what is in a directory comes before it, because it changes the directory's time.
fn settle(work: &Work, session: &Session) {
    let mut last_first: Vec<_> = work.chosen.iter().collect();
    last_first.sort_by(|(_, a), (_, b)| b.cmp(a));
    for (file, relative) in last_first {
        if let Err(why) = work.dir.settle(relative, file) {
            let path = shown(&work.dir, relative);
            session.out.warn(&format!("`{path}` is here, but not with its permissions and time: {why}"));
        }
    }
}

fn shown(download_dir: &DownloadDir, relative: &Path) -> String {
    spelling::spell(download_dir.shown(relative).as_os_str().as_bytes())
}

fn here(dir: &DownloadDir, (file, relative): &Chosen, before: Existing) -> Landed {
    Landed {
        file: shown(dir, relative),
        size: file.size,
        digest: file.digest.clone(),
        replaced: before == Existing::Other,
        same: before == Existing::Same,
        is_file: file.kind == FileKind::File,
    }
}
