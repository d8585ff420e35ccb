//! What an import brings: the listing, or the list of an export; each key looked at before anything of the import can be seen.
use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::MANIFEST;
use super::error::BucketError;
use super::import::{Empty, Job, ManifestUse, Work};
use super::keys::{Bad, Place, above, place};
use super::manifest::{LONGEST, Manifest};
use super::picture::Object;
use super::s3::TIME;
use super::store::{Listed, Page};
use crate::locked;

/// Keys as they come.
#[derive(Default)]
struct Admission {
    bad: Bad,
    /// Every directory.
    dirs: HashSet<String>,
    /// Those not made yet.
    new_dirs: Vec<String>,
    /// The directory of the last key.
    last: String,
    is_unsorted: bool,
    /// Objects up to here are in the queue.
    queued: usize,
    bytes: u64,
}

/// Lists, and fills the queue: with the first page already, unless there is an earlier import to compare with.
pub(super) async fn plan(work: &Work) -> Result<(), BucketError> {
    let planned = fill(work).await;
    work.queue.close();
    planned
}

async fn fill(work: &Work) -> Result<(), BucketError> {
    let prefix = work.store.wire.at().directory();
    let (manifest, first) = tokio::join!(manifest(work, &prefix), work.store.list(&prefix, None));
    let mut admission = Admission::default();
    let mut page = first?;
    if let Some(manifest) = manifest? {
        let manifest = work.manifest.get_or_init(|| manifest);
        compare(work, &prefix, (manifest, page)).await?;
        let _ = work.prefix.set(prefix);
        admission.listed(work, manifest)?;
        return admission.finish(work);
    }
    if page.next.is_none() && page.objects.iter().all(|object| object.key.as_deref() == Ok(&prefix)) {
        if work.empty == Empty::IsFine {
            let _ = work.prefix.set(prefix);
            locked(&work.left_out).push(format!("`{}`: nothing is there yet", work.store.wire.at()));
            return admission.finish(work);
        }
        return single(work, admission).await;
    }
    let _ = work.prefix.set(prefix.clone());
    loop {
        let Page { objects, next } = page;
        for object in objects {
            admission.object(work, &prefix, &object);
        }
        admission.start(work)?;
        let Some(next) = next else { break };
        page = work.store.list(&prefix, Some(&next)).await?;
    }
    admission.finish(work)
}

/// Holds the list of an export against what is there: what somebody has changed or removed since then is not what the list promises, and
/// what the list does not have is left out by name.
async fn compare(
    work: &Work,
    prefix: &str,
    (manifest, mut page): (&Manifest, Page),
) -> Result<(), BucketError> {
    let stale = |path: &str, what| BucketError::Stale {
        key: work.store.wire.at().of_key(&format!("{prefix}{path}")),
        what,
        who: manifest.who.clone(),
    };
    let (mut there, mut latest, mut list) = (HashSet::new(), None, None);
    let mut others = Others::default();
    loop {
        for Listed { key, size, tag, .. } in page.objects {
            let below = key.as_deref().ok().and_then(|key| key.strip_prefix(prefix));
            match below.map(|below| (below, manifest.file(below))) {
                Some((below, Some(file))) => {
                    // Where a listing has no tags, only the times of two objects can be compared.
                    let is_timed = tag.starts_with(TIME) || tag.is_empty();
                    if file.size != size || !is_timed && file.tag != tag {
                        return Err(stale(below, "is another now"));
                    }
                    if is_timed {
                        latest = latest.max(Some((tag, file.path.as_str())));
                    }
                    there.insert(file.path.as_str());
                }
                Some((MANIFEST, None)) => list = Some(tag),
                Some((below, None)) if !below.is_empty() && !below.ends_with('/') => others.add(below),
                _ => {}
            }
        }
        let Some(next) = page.next else { break };
        page = work.store.list(prefix, Some(&next)).await?;
    }
    if let Some(gone) = manifest.files.iter().find(|file| !there.contains(file.path.as_str())) {
        return Err(stale(&gone.path, "is gone"));
    }
    if let (Some((tag, path)), Some(list)) = (latest, list)
        && tag > list
    {
        return Err(stale(path, "was written again"));
    }
    locked(&work.left_out).extend(others.into_words(&manifest.who));
    Ok(())
}

/// Objects that an export's list does not have.
#[derive(Default)]
struct Others {
    count: u64,
    first: String,
}

impl Others {
    fn add(&mut self, below: &str) {
        if self.count == 0 {
            below.clone_into(&mut self.first);
        }
        self.count += 1;
    }

    fn into_words(self, who: &str) -> Option<String> {
        let more = match self.count {
            0 => return None,
            1 => "it is".to_owned(),
            count => format!("it and {} more objects are", count - 1),
        };
        Some(format!("`{}`: {more} not in the list of what {who} exported there", self.first.escape_debug()))
    }
}

async fn manifest(work: &Work, prefix: &str) -> Result<Option<Manifest>, BucketError> {
    if work.manifest_use == ManifestUse::Ignore {
        return Ok(None);
    }
    let key = format!("{prefix}{MANIFEST}");
    let Some((text, _)) = work.store.read(&key, LONGEST).await? else { return Ok(None) };
    let not_one = |why| BucketError::Manifest { key: work.store.wire.at().of_key(&key), why };
    Manifest::parse(&text).map(Some).map_err(not_one)
}

/// The one object whose key is the prefix.
async fn single(work: &Work, mut admission: Admission) -> Result<(), BucketError> {
    let at = work.store.wire.at();
    let missing = || BucketError::Missing(at.to_string());
    let key = at.prefix.as_str();
    if key.is_empty() || key.ends_with('/') {
        return Err(missing());
    }
    let about = work.store.about(key).await?.ok_or_else(missing)?;
    let (above, name) = key.rsplit_once('/').map_or(("", key), |(above, name)| (above, name));
    let above = if above.len() + name.len() < key.len() { format!("{above}/") } else { String::new() };
    let one = Listed { key: Ok(key.to_owned()), size: about.size, tag: about.tag, modified: String::new() };
    admission.object(work, &above, &one);
    let _ = work.prefix.set(above);
    admission.finish(work)
}

impl Admission {
    /// The files of an export's list.
    fn listed(&mut self, work: &Work, manifest: &Manifest) -> Result<(), BucketError> {
        let dirs = manifest.dirs.iter().map(|dir| (format!("{}/", dir.path), 0, ""));
        let files = manifest.files.iter().map(|file| (file.path.clone(), file.size, file.tag.as_str()));
        let mut all: Vec<_> = dirs.chain(files).collect();
        all.sort_unstable();
        for (key, size, tag) in all {
            let (tag, modified) = (tag.to_owned(), String::new());
            self.object(work, "", &Listed { key: Ok(key), size, tag, modified });
        }
        self.start(work)
    }

    fn object(&mut self, work: &Work, prefix: &str, object: &Listed) {
        let key = match &object.key {
            Ok(key) => key,
            Err(shown) => return self.bad.add(shown, "it is not UTF-8"),
        };
        let Some(below) = key.strip_prefix(prefix) else {
            return self.bad.add(key, "it is not below the prefix, although the listing has it");
        };
        match place(below) {
            Err(why) => return self.bad.add(key, why),
            Ok(Place::Top) => return,
            Ok(Place::Dir(path)) => {
                self.parents(work, path);
                self.directory(work, path);
                if object.size > 0 {
                    let left =
                        format!("`{key}`: it is a directory by its name and has {} bytes", object.size);
                    locked(&work.left_out).push(left);
                }
            }
            Ok(Place::File(path)) => {
                self.parents(work, path);
                if self.dirs.contains(path) {
                    return self.bad.add(key, "it is a file where a directory is needed");
                }
            }
        }
        let size = if below.ends_with('/') { 0 } else { object.size };
        self.bytes = self.bytes.saturating_add(size);
        let follows = locked(&work.seen).push(Object { key: below, size, tag: &object.tag });
        self.is_unsorted |= !follows;
    }

    fn parents(&mut self, work: &Work, path: &str) {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if parent == self.last {
            return;
        }
        for dir in above(path) {
            self.directory(work, dir);
        }
        parent.clone_into(&mut self.last);
    }

    fn directory(&mut self, work: &Work, path: &str) {
        if self.dirs.contains(path) {
            return;
        }
        if !self.is_unsorted && locked(&work.seen).find(path).is_some() {
            self.bad.add(&work.key(path), "it is a file where a directory is needed");
        }
        self.dirs.insert(path.to_owned());
        self.new_dirs.push(path.to_owned());
    }

    /// Puts what is known into the queue, if it may already begin.
    fn start(&mut self, work: &Work) -> Result<(), BucketError> {
        if !self.bad.is_empty() {
            work.queue.halt();
            return Ok(());
        }
        if self.is_unsorted || work.previous.is_some() {
            return Ok(());
        }
        self.queue(work)
    }

    fn queue(&mut self, work: &Work) -> Result<(), BucketError> {
        for dir in self.new_dirs.drain(..) {
            work.make_dir(&dir)?;
        }
        let jobs: Vec<_> = {
            let seen = locked(&work.seen);
            let from = std::mem::replace(&mut self.queued, seen.len());
            let new = (from..seen.len()).map(|at| (at, seen.get(at)));
            new.filter(|(_, object)| !object.key.ends_with('/'))
                .map(|(at, object)| (object.size, Job::Object(at)))
                .collect()
        };
        work.queue.push(jobs);
        Ok(())
    }

    fn finish(mut self, work: &Work) -> Result<(), BucketError> {
        if self.is_unsorted {
            self.sort(work);
        }
        if !self.bad.is_empty() {
            let (count, first) = self.bad.into_words();
            return Err(BucketError::Keys { location: work.store.wire.at().to_string(), count, first });
        }
        work.progress.set_total(self.bytes);
        if let Some((picture, _)) = &work.previous
            && picture.is_certain()
            && locked(&work.seen).iter().eq(picture.objects())
        {
            work.unchanged.store(true, Ordering::Relaxed);
            return Ok(());
        }
        self.queue(work)
    }

    /// A listing out of order is looked at again as a whole. Objects keep their positions if any of them may be in the queue.
    fn sort(&mut self, work: &Work) {
        let mut seen = locked(&work.seen);
        let mut sorted = seen.clone();
        sorted.sort();
        for dir in &self.dirs {
            if sorted.find(dir).is_some() {
                self.bad.add(&work.key(dir), "it is a file where a directory is needed");
            }
        }
        for at in 1..sorted.len() {
            if sorted.get(at - 1).key == sorted.get(at).key {
                self.bad.add(&work.key(sorted.get(at).key), "the listing has it twice");
            }
        }
        if work.previous.is_some() {
            *seen = sorted;
        }
    }
}
