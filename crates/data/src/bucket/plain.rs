//! Files by their keys, as they are: sent, brought, listed and removed, with no list of ours beside them. It must not know what they
//! hold: whoever brings them compares them with what they should be.
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use nix::unistd::syncfs;
use tokio::task::JoinSet;

use super::Session;
use super::drive::{Progress, Queue};
use super::error::BucketError;
use super::export::Work as Sending;
use super::import::{Empty, Job, ManifestUse, Work as Bringing, fetch};
use super::journal::{Head, Journal, Read};
use super::outgoing::Outbox;
use super::picture::{Object, Objects};
use super::refusal::Aim;
use super::store::When;
use super::wire::Payload;
use crate::dir::Dir;
use crate::{DataError, Watch};

/// A file, or the object that it is in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainFile {
    /// Below a directory here, below the place of the session there.
    pub path: String,
    /// Its bytes.
    pub size: u64,
}

/// What is there of a small object that is put only once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// What was to be put, now or before.
    Ours,
    /// Something else.
    Other(Vec<u8>),
}

impl Session {
    /// Sends files below `root` to their keys; each is compared with what the bucket says that it has. After an error the same call
    /// goes on where it stopped: `journal` is a file for that, gone after success.
    pub fn send(
        &self,
        root: &Dir,
        files: &[PlainFile],
        journal: &Path,
        watch: &Watch<'_>,
    ) -> Result<(), BucketError> {
        if files.is_empty() {
            return Ok(());
        }
        let prefix = self.location().directory();
        let read = Read::of(journal)?;
        let to = format!("{}{}", self.location().endpoint.as_deref().unwrap_or_default(), self.location());
        let head = Head::new("files as they are", to, None);
        let is_same = read.head.as_ref().is_some_and(|read| read.is_of(&head));
        if !is_same {
            self.end_uploads(&read, &prefix)?;
        }
        let outbox = Outbox::of_files(files);
        let work = Arc::new(Sending {
            store: Arc::clone(&self.store),
            prefix,
            root: Some(root.try_clone().map_err(DataError::os("open", "."))?),
            done: Mutex::new(vec![None; outbox.files.len()]),
            outbox,
            before: None,
            journal: Journal::open(journal, &head, is_same.then_some(read))?,
            queue: Queue::default(),
            progress: Progress::default(),
            ready: Mutex::default(),
        });
        let sent = self.runtime.block_on(work.send(watch));
        let flushed = work.journal.flush();
        sent?;
        flushed?;
        Ok(std::fs::remove_file(journal).map_err(DataError::os("remove", journal))?)
    }

    /// Brings objects to their paths below an empty directory, and waits until they are on disk.
    pub fn bring(&self, into: &Dir, files: &[PlainFile], watch: &Watch<'_>) -> Result<(), BucketError> {
        let mut seen = Objects::default();
        for PlainFile { path, size } in files {
            seen.push(Object { key: path, size: *size, tag: "" });
            if let Some(above) = Path::new(path).parent().filter(|above| !above.as_os_str().is_empty()) {
                into.make_dir(above, 0o700).map_err(DataError::os("make", above))?;
            }
        }
        let work = Arc::new(Bringing {
            store: Arc::clone(&self.store),
            into: into.try_clone().map_err(DataError::os("open", "."))?,
            previous: None,
            owner: None,
            manifest_use: ManifestUse::Ignore,
            empty: Empty::IsFine,
            prefix: OnceLock::from(self.location().directory()),
            manifest: OnceLock::new(),
            seen: Mutex::new(seen),
            queue: Queue::default(),
            progress: Progress::default(),
            unchanged: AtomicBool::new(false),
            left_out: Mutex::default(),
        });
        work.progress.set_total(files.iter().map(|file| file.size).sum());
        work.queue.push(files.iter().enumerate().map(|(at, file)| (file.size, Job::Object(at))));
        work.queue.close();
        self.runtime.block_on(fetch(&work, JoinSet::new(), watch))?;
        Ok(syncfs(into.as_fd()).map_err(DataError::os("write", "."))?)
    }

    /// Everything below the place of the session.
    pub fn plain_files(&self) -> Result<Vec<PlainFile>, BucketError> {
        let prefix = self.location().directory();
        self.runtime.block_on(async {
            let (mut files, mut from) = (Vec::new(), None);
            loop {
                let page = self.store.list(&prefix, from.as_deref()).await?;
                for object in page.objects {
                    // What is no text is nobody's of ours.
                    let path = object.key.ok().and_then(|key| Some(key.strip_prefix(&prefix)?.to_owned()));
                    files.extend(path.map(|path| PlainFile { path, size: object.size }));
                }
                from = page.next;
                if from.is_none() {
                    return Ok(files);
                }
            }
        })
    }

    /// Bytes of one object; `None` if it is not there.
    pub fn size(&self, path: &str) -> Result<Option<u64>, BucketError> {
        let key = format!("{}{path}", self.location().directory());
        let about = self.runtime.block_on(self.store.about(&key))?;
        Ok(about.map(|about| about.size))
    }

    /// Whether an object has the bytes of a file, as far as the bucket says what it has: its size, and its checksum if it keeps one.
    pub fn has(&self, path: &str, file: &File, size: u64) -> Result<bool, BucketError> {
        let key = format!("{}{path}", self.location().directory());
        let about = self.runtime.block_on(self.store.about(&key))?;
        let Some(about) = about.filter(|about| about.size == size) else { return Ok(false) };
        let found = about.expected.of_file(file, size).map_err(DataError::os("read", path))?;
        Ok(about.expected.check(found).is_ok())
    }

    /// Removes an object; one that is not there is fine.
    pub fn remove_plain(&self, path: &str) -> Result<(), BucketError> {
        let key = format!("{}{path}", self.location().directory());
        self.runtime.block_on(self.store.delete(&key))
    }

    /// Puts a small object unless something is there already, and says what is there then.
    pub fn mark(&self, path: &str, text: &[u8]) -> Result<Mark, BucketError> {
        let key = format!("{}{path}", self.location().directory());
        self.runtime.block_on(async {
            if let Some((there, _)) = self.store.read(&key, 1 << 16).await? {
                return Ok(if there == text { Mark::Ours } else { Mark::Other(there) });
            }
            let payload = || Payload::Bytes(Bytes::copy_from_slice(text));
            let put = self.store.put(&key, payload(), &When::New).await?;
            let put = match put {
                // A store without conditions.
                Err(refusal) if refusal.is_not_implemented() => {
                    self.store.put(&key, payload(), &When::Always).await?
                }
                Err(refusal) if refusal.is_condition() => Ok(super::store::About::default()),
                put => put,
            };
            put.map_err(|refusal| self.store.refused(refusal, &key, Aim::Write))?;
            let there = self.store.read(&key, 1 << 16).await?.map(|(there, _)| there).unwrap_or_default();
            Ok(if there == text { Mark::Ours } else { Mark::Other(there) })
        })
    }
}
