//! From a directory into a bucket: every file to its key, what is large only when all of it is there, and last of all the list that says
//! that the export is whole. Who reads the list has all or nothing; who lists the bucket sees single files as they come.
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::drive::{IN_FLIGHT, Progress, Queue, drive};
use super::error::BucketError;
use super::journal::{Done, Event, Head, Journal, Read};
use super::manifest::{FileEntry, LONGEST, Manifest};
use super::outgoing::{Outbox, Outgoing, collect};
use super::refusal::Aim;
use super::send::{self, Large};
use super::store::{Store, When};
use super::wire::Payload;
use super::{MANIFEST, Provider, Session};
use crate::dir::Dir;
use crate::tree::{Bounds, Warning};
use crate::{DataError, Watch, locked};

/// What to export.
#[derive(Clone, Copy, Debug)]
pub struct Export<'a> {
    /// The files.
    pub what: Outgoing<'a>,
    /// How much they may be.
    pub bounds: Bounds,
    /// A file of this export alone, which need not exist: what a new process goes on with after a death. Whoever gives an export up
    /// calls [`Session::abort`] with it.
    pub journal: &'a Path,
    /// Whose export it is: the same text for the same export, as `run 7, attempt 1`.
    pub who: &'a str,
    /// Followed and asked.
    pub watch: &'a Watch<'a>,
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
    /// `ETag` or generation of the list of the export.
    pub version: String,
    /// What is not there, or not as it was.
    pub warnings: Vec<Warning>,
    /// Links that lead out of what is exported, and became what they lead to.
    pub followed: u64,
    /// The bucket knows no conditional writes: of two exports to one place at once the last wins, and nobody is told.
    pub last_writer_wins: bool,
    /// The list of this very export was there already, and nothing was sent.
    pub already: bool,
}

/// An export that goes on.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) store: Arc<Store>,
    pub(super) prefix: String,
    pub(super) root: Option<Dir>,
    pub(super) outbox: Outbox,
    /// The list that is there until this export's takes its place.
    pub(super) before: Option<Manifest>,
    pub(super) journal: Journal,
    pub(super) queue: Queue<Job>,
    pub(super) progress: Progress,
    /// By position in the outbox.
    pub(super) done: Mutex<Vec<Option<Done>>>,
    /// Large files of which everything is there.
    pub(super) ready: Mutex<Vec<Arc<Large>>>,
}

/// Something to send.
#[derive(Debug)]
pub(super) enum Job {
    /// The file at this position of the outbox.
    File(usize),
    /// A part of a large file.
    Part(Arc<Large>, usize),
    /// The digest of a large file.
    Digest(Arc<Large>),
    /// A large file whose parts are all there.
    Complete(Arc<Large>),
}

/// The list that is at the place.
pub(super) struct There {
    pub(super) tag: String,
    pub(super) manifest: Option<Manifest>,
}

impl Session {
    /// Sends files to the place of this session. After an error, and after a death, the same call goes on where it stopped.
    pub fn export(&self, want: &Export<'_>) -> Result<Exported, BucketError> {
        let prefix = self.location().directory();
        // What a run has made is worth the wait.
        self.store.wire.wait_for_it();
        let there = self.runtime.block_on(there(&self.store, &prefix, want.watch))?;
        if let Some(done) = there.as_ref().and_then(|there| there.already(want.who)) {
            return Ok(done);
        }
        let outbox = collect(want.what, &prefix, want.bounds, want.watch)?;
        let base = there.as_ref().map(|there| there.tag.clone());
        let read = Read::of(want.journal)?;
        let to = format!("{}{}", self.location().endpoint.as_deref().unwrap_or_default(), self.location());
        let mut head = Head::new(want.who, to, base);
        let same = read.head.as_ref().filter(|read| read.is_of(&head)).cloned();
        if same.is_none() {
            self.end_uploads(&read, &prefix)?;
        }
        if let Some(same) = &same {
            if same.base != head.base {
                return Err(self.taken(there.and_then(|there| there.manifest)));
            }
            head = same.clone();
        }
        let work = Arc::new(Work {
            store: Arc::clone(&self.store),
            prefix,
            root: match want.what {
                Outgoing::Tree(source) | Outgoing::Volume(source) => {
                    Some(source.root.try_clone().map_err(DataError::os("open", "."))?)
                }
                Outgoing::File { .. } => None,
            },
            done: Mutex::new(vec![None; outbox.files.len()]),
            outbox,
            before: there.and_then(|there| there.manifest),
            journal: Journal::open(want.journal, &head, same.map(|_| read))?,
            queue: Queue::default(),
            progress: Progress::default(),
            ready: Mutex::default(),
        });
        let sent = self.runtime.block_on(work.all(&head, want));
        // What was done is known to the next try, whatever became of this one.
        let flushed = work.journal.flush();
        let exported = sent?;
        flushed?;
        Ok(exported)
    }

    /// Gives an export up: ends the uploads that it has begun, and removes its journal. What is at its key stays there.
    pub fn abort(&self, journal: &Path) -> Result<(), BucketError> {
        self.abort_below(journal, &self.location().directory())
    }

    pub(super) fn abort_below(&self, journal: &Path, prefix: &str) -> Result<(), BucketError> {
        self.end_uploads(&Read::of(journal)?, prefix)?;
        match std::fs::remove_file(journal) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(DataError::os("remove", journal)(e).into())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn end_uploads(&self, read: &Read, prefix: &str) -> Result<(), BucketError> {
        self.runtime.block_on(async {
            for (path, id) in read.open_uploads() {
                send::abort(&self.store, &format!("{prefix}{path}"), id).await?;
            }
            Ok(())
        })
    }

    fn taken(&self, manifest: Option<Manifest>) -> BucketError {
        taken(&self.store, manifest)
    }
}

pub(super) fn taken(store: &Store, manifest: Option<Manifest>) -> BucketError {
    let who = manifest.map_or_else(|| "somebody else".to_owned(), |manifest| format!("`{}`", manifest.who));
    BucketError::Taken { location: store.wire.at().to_string(), who }
}

/// The list that is at a place, if there is one.
pub(super) async fn read_list(store: &Store, prefix: &str) -> Result<Option<There>, BucketError> {
    let read = store.read(&format!("{prefix}{MANIFEST}"), LONGEST).await?;
    Ok(read.map(|(text, tag)| There { tag, manifest: Manifest::parse(&text).ok() }))
}

async fn there(store: &Arc<Store>, prefix: &str, watch: &Watch<'_>) -> Result<Option<There>, BucketError> {
    let (mut tasks, found) = (JoinSet::new(), Arc::new(Mutex::new(None)));
    let (store, prefix, to) = (Arc::clone(store), prefix.to_owned(), Arc::clone(&found));
    tasks.spawn(async move {
        *locked(&to) = read_list(&store, &prefix).await?;
        Ok(())
    });
    drive(tasks, watch, &Progress::default()).await?;
    let found = locked(&found).take();
    Ok(found)
}

impl There {
    fn already(&self, who: &str) -> Option<Exported> {
        let manifest = self.manifest.as_ref().filter(|manifest| manifest.who == who)?;
        Some(Exported {
            bytes: manifest.own().map(|file| file.size).fold(0, u64::saturating_add),
            files: manifest.own().count() as u64,
            version: self.tag.clone(),
            warnings: Vec::new(),
            followed: 0,
            last_writer_wins: false,
            already: true,
        })
    }
}

impl Work {
    pub(super) fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    pub(super) fn provider(&self) -> Provider {
        self.store.wire.at().provider
    }

    pub(super) fn finished(&self, at: usize, done: Done) -> Result<(), BucketError> {
        let path = self.outbox.files[at].path.clone();
        self.journal.add(Event::Done { path, done: done.clone() })?;
        locked(&self.done)[at] = Some(done);
        Ok(())
    }

    /// The files, then what is large.
    pub(super) async fn send(self: &Arc<Self>, watch: &Watch<'_>) -> Result<(), BucketError> {
        self.progress.set_total(self.outbox.bytes);
        self.queue.push(self.outbox.files.iter().enumerate().map(|(at, file)| (file.size, Job::File(at))));
        self.queue.close();
        drive(self.tasks(), watch, &self.progress).await?;
        let ready = std::mem::take(&mut *locked(&self.ready));
        self.queue.push(ready.into_iter().map(|large| (0, Job::Complete(large))));
        drive(self.tasks(), watch, &Progress::default()).await
    }

    /// The files, and last of all the list.
    async fn all(self: &Arc<Self>, head: &Head, want: &Export<'_>) -> Result<Exported, BucketError> {
        self.send(want.watch).await?;
        let mut tasks = JoinSet::new();
        let result = Arc::new(Mutex::new(None));
        let (work, base, who, to) =
            (Arc::clone(self), head.base.clone(), want.who.to_owned(), Arc::clone(&result));
        tasks.spawn(async move {
            *locked(&to) = Some(work.publish(&who, base).await?);
            Ok(())
        });
        drive(tasks, want.watch, &Progress::default()).await?;
        let (version, last_writer_wins) = locked(&result).take().ok_or(DataError::Stopped)?;
        Ok(Exported {
            bytes: self.outbox.bytes,
            files: self.outbox.files.len() as u64,
            version,
            warnings: self.outbox.warnings.clone(),
            followed: self.outbox.followed,
            last_writer_wins,
            already: false,
        })
    }

    fn tasks(self: &Arc<Self>) -> JoinSet<Result<(), BucketError>> {
        let mut tasks = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let work = Arc::clone(self);
            tasks.spawn(async move {
                while let Some(job) = work.queue.next().await {
                    match job {
                        Job::File(at) => send::file(&work, at).await?,
                        Job::Part(large, n) => send::part(&work, &large, n).await?,
                        Job::Digest(large) => send::digest(&work, &large).await?,
                        Job::Complete(large) => send::complete(&work, &large).await?,
                    }
                    work.queue.ended();
                }
                Ok(())
            });
        }
        tasks
    }

    pub(super) fn manifest(&self, who: &str) -> Manifest {
        let mut manifest = Manifest::new(who);
        let done = locked(&self.done);
        for (file, done) in self.outbox.files.iter().zip(done.iter()) {
            let Some(done) = done else { continue };
            manifest.files.push(FileEntry {
                path: file.path.clone(),
                size: file.size,
                blake3: done.blake3,
                tag: done.tag.clone(),
                mode: file.mode,
                modified: done.state.modified(),
                from: None,
            });
        }
        manifest.top = self.outbox.top;
        manifest.dirs.clone_from(&self.outbox.dirs);
        manifest.links.clone_from(&self.outbox.links);
        if let Some(before) = &self.before {
            manifest.keep(before);
        }
        manifest
    }

    /// Puts the list if it is still what it was when the export began, and says whether that was a condition for the bucket too.
    async fn publish(&self, who: &str, base: Option<String>) -> Result<(String, bool), BucketError> {
        let text = Bytes::from(self.manifest(who).text());
        let key = self.key(MANIFEST);
        let when = base.clone().map_or(When::New, When::Is);
        let put = self.store.put(&key, Payload::Bytes(text.clone()), &when).await?;
        let tag = match put {
            Ok(about) => about.tag,
            Err(refusal) if refusal.is_condition() => {
                return match read_list(&self.store, &self.prefix).await? {
                    Some(There { tag, manifest: Some(manifest) }) if manifest.who == who => Ok((tag, false)),
                    other => Err(taken(&self.store, other.and_then(|there| there.manifest))),
                };
            }
            Err(refusal) if refusal.is_not_implemented() => return self.put_anyway(who, base, text).await,
            Err(refusal) => return Err(self.store.refused(refusal, &key, Aim::Write)),
        };
        // A bucket that knows the condition does not take the same again.
        match self.store.put(&key, Payload::Bytes(text), &when).await? {
            Err(refusal) if refusal.is_condition() => Ok((tag, false)),
            Err(refusal) => Err(self.store.refused(refusal, &key, Aim::Write)),
            Ok(about) => self.read_back(who, about.tag).await,
        }
    }

    async fn put_anyway(
        &self,
        who: &str,
        base: Option<String>,
        text: Bytes,
    ) -> Result<(String, bool), BucketError> {
        let there = read_list(&self.store, &self.prefix).await?;
        if there.as_ref().map(|there| &there.tag) != base.as_ref() {
            return Err(taken(&self.store, there.and_then(|there| there.manifest)));
        }
        let key = self.key(MANIFEST);
        let put = self.store.put(&key, Payload::Bytes(text), &When::Always).await?;
        let about = put.map_err(|refusal| self.store.refused(refusal, &key, Aim::Write))?;
        self.read_back(who, about.tag).await
    }

    async fn read_back(&self, who: &str, tag: String) -> Result<(String, bool), BucketError> {
        match read_list(&self.store, &self.prefix).await? {
            Some(There { manifest: Some(manifest), .. }) if manifest.who == who => Ok((tag, true)),
            other => Err(taken(&self.store, other.and_then(|there| there.manifest))),
        }
    }
}
