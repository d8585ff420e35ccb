//! What an export has done, on disk: who goes on with it after its process died sends nothing twice and leaves no upload behind. It sends
//! nothing.
//!
//! Lines of JSON, version 1: a head, then lists of events. Only the owner may read it.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::outgoing::State;
use crate::blob::Digest;
use crate::durable::{Appender, MAX_LINE, read_lines};
use crate::{DataError, locked};

const VERSION: u32 = 1;
/// How long an event may wait for others, so that thousands of small files do not wait for the disk one by one.
const GATHER: Duration = Duration::from_millis(500);
/// Longest list of events that is written as one line, in bytes.
const LONGEST: usize = MAX_LINE / 2;

/// For whom, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    v: u32,
    who: String,
    to: String,
    /// The tag of the list that was there at the beginning.
    pub(super) base: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// A file is there as a whole.
    Done { path: String, done: Done },
    /// An upload in parts was begun.
    Begun { path: String, upload: Upload },
    /// A part of it is there, counted from 0.
    Part { path: String, n: usize, tag: String },
}

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    pub(super) state: State,
    pub(super) blake3: Digest,
    pub(super) tag: String,
}

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) state: State,
    pub(super) id: String,
    /// Bytes of a part.
    pub(super) part: u64,
    #[serde(skip)]
    pub(super) parts: HashMap<usize, String>,
}

/// The file and what is in it.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<Writer>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Writer {
    appender: Appender,
    waiting: Vec<u8>,
    since: Instant,
}

/// What is known by path.
#[derive(Debug, Default)]
struct Known {
    done: HashMap<String, Done>,
    uploads: HashMap<String, Upload>,
}

/// What a journal says; nothing of a file that is none.
pub(super) struct Read {
    pub(super) head: Option<Head>,
    known: Known,
}

impl Head {
    pub(super) fn new(who: &str, to: String, base: Option<String>) -> Self {
        Self { v: VERSION, who: who.to_owned(), to, base }
    }

    /// Whether it is of the same export.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (self.v, &self.who, &self.to) == (other.v, &other.who, &other.to)
    }
}

impl Read {
    pub(super) fn of(path: &Path) -> Result<Self, DataError> {
        let text = read_lines(path, 0).map_err(DataError::os("read", path))?;
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let head: Option<Head> = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        let mut known = Known::default();
        if head.as_ref().is_some_and(|head| head.v == VERSION) {
            for line in lines {
                // A line that is not whole says nothing; what it would have said is done again.
                let events: Vec<Event> = serde_json::from_slice(line).unwrap_or_default();
                for event in events {
                    known.take(event);
                }
            }
        }
        Ok(Self { head: head.filter(|head| head.v == VERSION), known })
    }

    /// Uploads that nobody has ended: key below the prefix, and id.
    pub(super) fn open_uploads(&self) -> impl Iterator<Item = (&str, &str)> {
        self.known.uploads.iter().map(|(path, upload)| (path.as_str(), upload.id.as_str()))
    }
}

impl Journal {
    /// Goes on with what was read, or begins anew.
    pub(super) fn open(path: &Path, head: &Head, read: Option<Read>) -> Result<Self, DataError> {
        let failed = || DataError::os("write", path);
        if read.is_none() {
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed()(e)),
                _ => {}
            }
        }
        let mut appender = Appender::open(path, 0o600).map_err(failed())?;
        if appender.is_empty() {
            appender.append(&json(head)).map_err(failed())?;
        }
        let file = Mutex::new(Writer { appender, waiting: Vec::new(), since: Instant::now() });
        let known = Mutex::new(read.map(|read| read.known).unwrap_or_default());
        Ok(Self { path: path.to_owned(), file, known })
    }

    /// Notes an event; it is on disk some time later, or at [`Journal::flush`].
    pub(super) fn add(&self, event: Event) -> Result<(), DataError> {
        let text = json(&event);
        {
            let mut file = locked(&self.file);
            if file.waiting.len() + text.len() >= LONGEST || file.since.elapsed() >= GATHER {
                file.flush().map_err(DataError::os("write", &self.path))?;
            }
            let before: &[u8] = if file.waiting.is_empty() { b"[" } else { b"," };
            file.waiting.extend_from_slice(before);
            file.waiting.extend_from_slice(&text);
        }
        locked(&self.known).take(event);
        Ok(())
    }

    /// All of it is on disk afterwards.
    pub(super) fn flush(&self) -> Result<(), DataError> {
        locked(&self.file).flush().map_err(DataError::os("write", &self.path))
    }

    pub(super) fn done(&self, path: &str) -> Option<Done> {
        locked(&self.known).done.get(path).cloned()
    }

    pub(super) fn upload(&self, path: &str) -> Option<Upload> {
        locked(&self.known).uploads.get(path).cloned()
    }
}

impl Writer {
    fn flush(&mut self) -> std::io::Result<()> {
        self.since = Instant::now();
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting.push(b']');
        let written = self.appender.append(&self.waiting);
        self.waiting.clear();
        written
    }
}

impl Known {
    fn take(&mut self, event: Event) {
        match event {
            Event::Done { path, done } => {
                self.uploads.remove(&path);
                self.done.insert(path, done);
            }
            Event::Begun { path, upload } => {
                self.uploads.insert(path, upload);
            }
            Event::Part { path, n, tag } => {
                if let Some(upload) = self.uploads.get_mut(&path) {
                    upload.parts.insert(n, tag);
                }
            }
        }
    }
}

fn json(what: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(what).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_known_afterwards() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("journal");
        let file = std::fs::File::create(temp.path().join("f")).unwrap();
        let state = State::of(&file.metadata().unwrap());
        let done = Done { state, blake3: Digest::of(b""), tag: "t".into() };
        let upload = Upload { state, id: "id".into(), part: 5, parts: HashMap::new() };
        let head = Head::new("run", "s3://b/p".into(), None);
        let journal = Journal::open(&path, &head, None).unwrap();
        for event in [
            Event::Done { path: "a".into(), done: done.clone() },
            Event::Begun { path: "b".into(), upload: upload.clone() },
            Event::Part { path: "b".into(), n: 3, tag: "p".into() },
            Event::Begun { path: "c".into(), upload },
            Event::Done { path: "c".into(), done: done.clone() },
        ] {
            journal.add(event).unwrap();
        }
        journal.flush().unwrap();
        // A write that was torn is as if it had not been.
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"[{\"done\"");
        std::fs::write(&path, torn).unwrap();
        let read = Read::of(&path).unwrap();
        assert!(read.head.as_ref().is_some_and(|read| read.is_of(&head)));
        assert_eq!(read.open_uploads().collect::<Vec<_>>(), [("b", "id")]);
        let journal = Journal::open(&path, &head, Some(read)).unwrap();
        assert_eq!(
            (journal.done("a"), journal.done("c"), journal.done("b")),
            (Some(done.clone()), Some(done), None)
        );
        assert_eq!(journal.upload("b").unwrap().parts, HashMap::from([(3, "p".to_owned())]));
        assert!(journal.upload("c").is_none());
    }
}
