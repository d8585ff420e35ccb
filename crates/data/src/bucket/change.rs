//! Single files that come to a place of a bucket, and files that go, beside what is there. The list that an export left at the place is
//! changed with them, so that it stays true; where there is none, none is made.
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use super::drive::{IN_FLIGHT, Progress, Queue};
use super::error::BucketError;
use super::export::{There, Work, read_list, taken};
use super::journal::{Head, Journal, Read};
use super::keys::above;
use super::listing::{below, is_object};
use super::manifest::Manifest;
use super::outgoing::{Outbox, Outgoing, collect};
use super::refusal::Aim;
use super::store::When;
use super::wire::Payload;
use super::{MANIFEST, Session};
use crate::tree::{Bounds, Warning};
use crate::{DataError, Watch};

/// How often a list is changed again that somebody else has changed meanwhile.
const TRIES: u32 = 32;

/// Files that come.
#[derive(Clone, Copy, Debug)]
pub struct Addition<'a> {
    /// The files; the name of a single one may be a path.
    pub what: Outgoing<'a>,
    /// The directory of the place that they come into; empty for the place itself.
    pub to: &'a str,
    /// A file of this addition alone, which need not exist: what is on its way, so that nothing is left behind.
    pub journal: &'a Path,
    /// Who does it, in words for the list.
    pub who: &'a str,
    /// Followed and asked.
    pub watch: &'a Watch<'a>,
}

/// Files that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// What did not come, or not as it was.
    pub warnings: Vec<Warning>,
    /// What the list of an export has to say from now on.
    pub change: ListChange,
}

/// A change of the list of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// Paths that are gone, each with everything below it.
    gone: Vec<String>,
    /// What is there now.
    there: Manifest,
}

impl Session {
    /// Sends files to the place; all are there and verified when this returns, but the list of an export does not know it before
    /// [`Session::amend`].
    pub fn add(&self, want: &Addition<'_>) -> Result<Added, BucketError> {
        let prefix = below(&self.store, want.to);
        let outbox = collect(want.what, &prefix, Bounds::FORMAT, want.watch)?;
        if let (Outgoing::File { .. }, Some(refused)) = (want.what, outbox.warnings.first()) {
            let (location, why) = (format!("{prefix}{}", refused.path.display()), refused.text.clone());
            return Err(BucketError::Address { location, why });
        }
        self.runtime.block_on(self.refuse_misfits(want, &outbox))?;
        // What an earlier try has begun and nobody goes on with.
        self.end_uploads(&Read::of(want.journal)?, &prefix)?;
        let to = format!("{}{prefix}", self.location().endpoint.as_deref().unwrap_or_default());
        let work = Arc::new(Work {
            store: Arc::clone(&self.store),
            root: match want.what {
                Outgoing::Tree(source) | Outgoing::Volume(source) => {
                    Some(source.root.try_clone().map_err(DataError::os("open", "."))?)
                }
                Outgoing::File { .. } => None,
            },
            done: Mutex::new(vec![None; outbox.files.len()]),
            outbox,
            before: None,
            journal: Journal::open(want.journal, &Head::new(want.who, to, None), None)?,
            prefix: prefix.clone(),
            queue: Queue::default(),
            progress: Progress::default(),
            ready: Mutex::default(),
        });
        let sent = self.runtime.block_on(work.send(want.watch));
        work.journal.flush()?;
        let ended = self.abort_below(want.journal, &prefix);
        sent?;
        ended?;
        let mut there = work.manifest(want.who);
        there.lie_in(want.to);
        Ok(Added {
            bytes: work.outbox.bytes,
            files: work.outbox.files.len() as u64,
            warnings: work.outbox.warnings.clone(),
            change: ListChange { gone: Vec::new(), there },
        })
    }

    /// Changes the list that an export left at the place, if there is one that can be read. Of two who do it at once none is forgotten;
    /// where a bucket knows no conditions, the caller sees to it.
    pub fn amend(&self, change: &ListChange) -> Result<(), BucketError> {
        self.runtime.block_on(async {
            let prefix = self.location().directory();
            let key = format!("{prefix}{MANIFEST}");
            let mut last = None;
            for _ in 0..TRIES {
                let list = read_list(&self.store, &prefix).await?;
                let Some(There { tag, manifest: Some(mut manifest) }) = list else { return Ok(()) };
                manifest.amend(change);
                let text = Bytes::from(manifest.text());
                let payload = Payload::Bytes(text);
                match self.store.put(&key, payload.clone(), &When::Is(tag)).await? {
                    Ok(_) => return Ok(()),
                    Err(refusal) if refusal.is_condition() || refusal.is_missing() => last = Some(manifest),
                    Err(refusal) if refusal.is_not_implemented() => {
                        let put = self.store.put(&key, payload, &When::Always).await?;
                        return put
                            .map(drop)
                            .map_err(|refusal| self.store.refused(refusal, &key, Aim::Write));
                    }
                    Err(refusal) => return Err(self.store.refused(refusal, &key, Aim::Write)),
                }
            }
            Err(taken(&self.store, last))
        })
    }

    /// Deletes the file at a path of the place, or a directory with everything in it; the list of an export first, so that it promises
    /// nothing that is gone. Gives the number of objects.
    pub fn remove(&self, path: &str) -> Result<u64, BucketError> {
        let there = Manifest::new("");
        self.amend(&ListChange { gone: vec![path.to_owned()], there })?;
        self.runtime.block_on(async {
            let prefix = below(&self.store, path);
            let mut keys = Vec::new();
            if is_object(&self.store, path).await? {
                keys.push(prefix.trim_end_matches('/').to_owned());
            }
            let mut from = None;
            loop {
                let page = self.store.list(&prefix, from.as_deref()).await?;
                keys.extend(page.objects.into_iter().filter_map(|object| object.key.ok()));
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
            let deletes = stream::iter(keys).map(|key| async move { self.store.delete(&key).await });
            let deleted: Vec<()> = deletes.buffer_unordered(IN_FLIGHT).try_collect().await?;
            Ok(deleted.len() as u64)
        })
    }

    /// Refuses files where directories are, and the other way round: no import could bring them.
    async fn refuse_misfits(&self, want: &Addition<'_>, outbox: &Outbox) -> Result<(), BucketError> {
        let conflict =
            |path: &str, there| BucketError::from(DataError::Conflict { path: path.into(), there });
        let full =
            |path: &str| if want.to.is_empty() { path.to_owned() } else { format!("{}/{path}", want.to) };
        let mut dirs: HashSet<String> = above(want.to).map(str::to_owned).collect();
        if !want.to.is_empty() {
            dirs.insert(want.to.to_owned());
        }
        if let Outgoing::File { .. } = want.what {
            let paths: Vec<String> = outbox.files.iter().map(|file| full(&file.path)).collect();
            for path in &paths {
                dirs.extend(above(path).map(str::to_owned));
                let page = self.store.list(&below(&self.store, path), None).await?;
                if !page.objects.is_empty() {
                    return Err(conflict(path, "a directory"));
                }
            }
        } else {
            self.refuse_misfits_below(want, outbox).await?;
        }
        for dir in dirs {
            if is_object(&self.store, &dir).await? {
                return Err(conflict(&dir, "a file"));
            }
        }
        Ok(())
    }

    async fn refuse_misfits_below(&self, want: &Addition<'_>, outbox: &Outbox) -> Result<(), BucketError> {
        let conflict = |path: &str, there| DataError::Conflict { path: path.into(), there };
        let files: HashSet<&str> = outbox.files.iter().map(|file| file.path.as_str()).collect();
        let dirs: HashSet<&str> = files.iter().flat_map(|file| above(file)).collect();
        let prefix = below(&self.store, want.to);
        let mut from = None;
        loop {
            let page = self.store.list(&prefix, from.as_deref()).await?;
            for key in page.objects.iter().filter_map(|object| object.key.as_deref().ok()) {
                let Some(path) = key.strip_prefix(prefix.as_str()) else { continue };
                if dirs.contains(path) {
                    return Err(conflict(path, "a file").into());
                }
                if let Some(file) = above(path).find(|dir| files.contains(dir)) {
                    return Err(conflict(file, "a directory").into());
                }
            }
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
        }
    }
}

impl Manifest {
    /// Puts everything of it into a directory.
    fn lie_in(&mut self, dir: &str) {
        if dir.is_empty() {
            return;
        }
        let files = self.files.iter_mut().map(|file| &mut file.path);
        let dirs = self.dirs.iter_mut().map(|dir| &mut dir.path);
        let links = self.links.iter_mut().map(|link| &mut link.path);
        files.chain(dirs).chain(links).for_each(|path| *path = format!("{dir}/{path}"));
    }

    /// Says from now on what is there after a change.
    fn amend(&mut self, ListChange { gone, there }: &ListChange) {
        let is_gone = |path: &str| {
            gone.iter().any(|gone| {
                path.strip_prefix(gone.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let leaves = there.files.iter().map(|file| file.path.as_str());
        let leaves: HashSet<&str> = leaves.chain(there.links.iter().map(|link| link.path.as_str())).collect();
        let new_dirs: HashSet<&str> = there.dirs.iter().map(|dir| dir.path.as_str()).collect();
        let around: HashSet<&str> = leaves.iter().chain(&new_dirs).flat_map(|path| above(path)).collect();
        let is_covered = |path: &str| leaves.contains(path) || above(path).any(|dir| leaves.contains(dir));
        let is_dir = |path: &str| around.contains(path) || new_dirs.contains(path);
        self.files.retain(|file| !is_gone(&file.path) && !is_covered(&file.path) && !is_dir(&file.path));
        self.links.retain(|link| !is_gone(&link.path) && !is_covered(&link.path) && !is_dir(&link.path));
        self.dirs.retain(|dir| !is_gone(&dir.path) && !is_covered(&dir.path));
        let known: HashSet<String> = self.dirs.iter().map(|dir| dir.path.clone()).collect();
        self.dirs.extend(there.dirs.iter().filter(|dir| !known.contains(&dir.path)).cloned());
        self.links.extend(there.links.iter().cloned());
        let who = Some(there.who.clone());
        self.files.extend(
            there.files.iter().map(|file| super::manifest::FileEntry { from: who.clone(), ..file.clone() }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{DirEntry, FileEntry, LinkEntry};
    use super::*;
    use crate::blob::Digest;

    fn list(files: &[&str], dirs: &[&str], links: &[&str]) -> Manifest {
        let file = |path: &&str| FileEntry {
            path: (*path).to_owned(),
            size: 1,
            blake3: Digest::of(path.as_bytes()),
            tag: "t".to_owned(),
            mode: 0o644,
            modified: (0, 0),
            from: None,
        };
        let mut list = Manifest::new("run 1");
        list.files = files.iter().map(file).collect();
        list.dirs = dirs
            .iter()
            .map(|path| DirEntry { path: (*path).to_owned(), mode: 0o755, modified: (0, 0) })
            .collect();
        let target = || "a".to_owned();
        list.links =
            links.iter().map(|path| LinkEntry { path: (*path).to_owned(), target: target() }).collect();
        list
    }

    #[test]
    fn a_list_says_what_is_there_after_a_change() {
        let check = |gone: &[&str], files: &[&str], expected: &[&str]| {
            let mut before = list(&["a", "b/c", "b/d", "bb"], &["b", "empty"], &["l"]);
            let all_gone = gone.iter().map(|path| (*path).to_owned()).collect();
            before.amend(&ListChange { gone: all_gone, there: list(files, &[], &[]) });
            let _ = before.text();
            let all: Vec<&str> = before.files.iter().map(|file| file.path.as_str()).collect();
            let rest = before.dirs.iter().map(|dir| dir.path.as_str());
            let rest = rest.chain(before.links.iter().map(|link| link.path.as_str()));
            assert_eq!(all.into_iter().chain(rest).collect::<Vec<_>>(), expected, "{gone:?} {files:?}");
            assert_eq!(before.own().count(), before.files.len() - files.len());
        };
        check(&[], &[], &["a", "b/c", "b/d", "bb", "b", "empty", "l"]);
        check(&["b"], &[], &["a", "bb", "empty", "l"]);
        check(&["a"], &[], &["b/c", "b/d", "bb", "b", "empty", "l"]);
        check(&[], &["a"], &["a", "b/c", "b/d", "bb", "b", "empty", "l"]);
        check(&[], &["l"], &["a", "b/c", "b/d", "bb", "l", "b", "empty"]);
        check(&[], &["l/x", "empty"], &["a", "b/c", "b/d", "bb", "empty", "l/x", "b"]);
    }

    #[test]
    fn a_list_lies_in_a_directory() {
        let mut moved = list(&["a"], &["b"], &["l"]);
        moved.lie_in("x/y");
        assert_eq!((moved.files[0].path.as_str(), moved.dirs[0].path.as_str()), ("x/y/a", "x/y/b"));
        assert_eq!(moved.links[0].path, "x/y/l");
    }
}
