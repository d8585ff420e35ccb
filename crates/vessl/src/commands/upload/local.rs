//! What is uploaded: the files of this machine, walked and hashed, and opened again as long as they are the same. It knows no server.
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use vessl_data::blob::Digest;
use vessl_data::chunks::{self, Recipe};
use vessl_data::dir::{Dir, Modified};
use vessl_data::sparse::{Packed, has_holes};
use vessl_data::tree::{Bounds, Entry, Form, Kind, Source, Top, Walked, Warning, walk};
use vessl_data::{DataError, Watch, locked, pool};

use super::ignored::Ignored;
use crate::error::{Error, Result};

/// Permission bits that are kept of a file.
const MODES: u32 = 0o777;

/// Files of this machine, and what they are.
#[derive(Debug)]
pub(crate) struct Local {
    /// The root of this machine.
    root: Dir,
    /// The path that was given, for messages.
    shown: PathBuf,
    /// The name of what was given, unless only what is in it was meant.
    pub(crate) name: Option<PathBuf>,
    /// The directory itself; none of a single file.
    pub(crate) top: Option<Top>,
    /// Everything in it; of a single file that one, with an empty path.
    pub(crate) items: Vec<Item>,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// What was left out, or leads nowhere.
    pub(crate) warnings: Vec<Warning>,
    /// Entries that `.vesslignore` leaves out.
    pub(crate) ignored: u64,
}

/// A file, directory or link.
#[derive(Debug)]
pub(crate) struct Item {
    /// What it will be.
    pub(crate) entry: Entry,
    /// Where it is.
    from: PathBuf,
    /// Bytes that are stored, and how the file was when they were hashed.
    seen: Option<(u64, State)>,
    /// Of which chunks it is made, if it is large.
    recipe: Option<Recipe>,
}

/// What is sent of a file as one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All that is stored of it.
    Whole,
    /// Its recipe.
    Recipe,
    /// The chunk that begins there.
    Chunk(u64),
}

/// By what a file is known to be the same as before.
type State = (u64, u64, i64, i64, i64, i64);

fn state(meta: &Metadata) -> State {
    (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec())
}

impl Item {
    /// Bytes that are stored of a file that was hashed.
    pub(crate) fn stored(&self) -> u64 {
        self.seen.map_or(0, |(stored, _)| stored)
    }

    /// Every blob of a file that was hashed: its digest, its bytes, and what it is.
    pub(crate) fn blobs(&self) -> Vec<(Digest, u64, Part)> {
        let Some(digest) = self.digest() else { return Vec::new() };
        let Some(recipe) = &self.recipe else { return vec![(digest, self.stored(), Part::Whole)] };
        let mut blobs = vec![(digest, recipe.text().len() as u64, Part::Recipe)];
        let mut at = 0;
        for chunk in &recipe.chunks {
            blobs.push((chunk.digest, chunk.size.into(), Part::Chunk(at)));
            at += u64::from(chunk.size);
        }
        blobs
    }

    /// The digest of a file.
    pub(crate) fn digest(&self) -> Option<Digest> {
        if let Kind::File { digest, .. } = self.entry.kind { Some(digest) } else { None }
    }
}

impl Local {
    /// Looks at a file or directory. Blocks.
    pub(crate) fn walk(source: &Path) -> Result<Self> {
        let failed = || Error::os(format!("read `{}`", source.display()));
        let real = source.canonicalize().map_err(failed())?;
        let meta = real.metadata().map_err(failed())?;
        let root = Dir::open(Path::new("/")).map_err(failed())?;
        let from = real.strip_prefix("/").unwrap_or(&real);
        let name = if is_content(source) { None } else { source.file_name().map(PathBuf::from) };
        let mut local = Self {
            root,
            shown: source.to_owned(),
            name,
            top: None,
            items: Vec::new(),
            bytes: meta.len(),
            warnings: Vec::new(),
            ignored: 0,
        };
        if meta.is_file() {
            let kind = Kind::File {
                mode: meta.mode() & MODES,
                size: meta.len(),
                digest: Digest([0; 32]),
                form: Form::Plain,
            };
            let entry = Entry { path: PathBuf::new(), kind, modified: None };
            local.items.push(Item { entry, from: from.to_owned(), seen: None, recipe: None });
            return Ok(local);
        }
        if !meta.is_dir() {
            return Err(Error::Usage {
                message: format!("`{}` is neither a file nor a directory", source.display()),
                hint: "sockets, pipes and devices have no content that could be kept".to_owned(),
            });
        }
        let working_dir = std::env::current_dir().ok();
        let mut ignored = Ignored::of(&real, working_dir.as_deref())?;
        let source = Source { root: &local.root, path: from, reader: None };
        let walked = match walk(source, Bounds::FORMAT, &mut ignored, &Watch::NONE) {
            Ok(walked) => walked,
            Err(error) => return Err(ignored.wrong.take().unwrap_or_else(|| local.failed(error))),
        };
        let Walked { top, found, bytes, warnings, .. } = walked;
        local.items = found
            .into_iter()
            .map(|found| Item { entry: found.entry, from: found.from, seen: None, recipe: None })
            .collect();
        Ok(Self { top: Some(top), bytes, warnings, ignored: ignored.count, ..local })
    }

    /// Where something is, for messages.
    pub(crate) fn shown(&self, item: &Item) -> String {
        self.shown_path(&item.entry.path)
    }

    /// The same for a path in the directory.
    pub(crate) fn shown_path(&self, path: &Path) -> String {
        let whole = if path.as_os_str().is_empty() { self.shown.clone() } else { self.shown.join(path) };
        whole.display().to_string()
    }

    /// Hashes all files, several at once; `done` counts their bytes, `stop` ends it. Blocks.
    pub(crate) fn hash(&mut self, done: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        let mut items = std::mem::take(&mut self.items);
        let mut files: Vec<Mutex<&mut Item>> =
            items.iter_mut().filter(|item| item.digest().is_some()).map(Mutex::new).collect();
        // The largest first, so that no thread is left with one at the end.
        files.sort_by_cached_key(|item| std::cmp::Reverse(size(&locked(item).entry.kind)));
        let hashed = pool::each(&files, |item| {
            if stop.load(Relaxed) {
                return Err(Error::Bug("the hashing was stopped".to_owned()));
            }
            self.hash_one(&mut locked(item), done, stop)
        });
        drop(files);
        self.items = items;
        self.bytes = self.items.iter().map(|item| size(&item.entry.kind)).sum();
        hashed
    }

    /// Notes how all files are, without reading them: what is read later is every byte, holes as zeros. Blocks for a moment a file.
    pub(crate) fn note(&mut self) -> Result<()> {
        let mut items = std::mem::take(&mut self.items);
        let noted = items.iter_mut().filter(|item| item.digest().is_some()).try_for_each(|item| {
            let file = self.open_any(item)?;
            let meta = file.metadata().map_err(Error::os(format!("read `{}`", self.shown(item))))?;
            let (mode, size, digest) = (meta.mode() & MODES, meta.len(), Digest([0; 32]));
            item.entry.kind = Kind::File { mode, size, digest, form: Form::Plain };
            item.entry.modified = Modified::of_file(&file).ok();
            item.seen = Some((size, state(&meta)));
            Ok(())
        });
        self.items = items;
        self.bytes = self.items.iter().map(|item| size(&item.entry.kind)).sum();
        noted
    }

    fn hash_one(&self, item: &mut Item, done: &AtomicU64, stop: &AtomicBool) -> Result<()> {
        let shown = self.shown(item);
        let failed = || Error::os(format!("read `{shown}`"));
        let file = self.open_any(item)?;
        let before = file.metadata().map_err(failed())?;
        let modified = Modified::of_file(&file).map_err(failed())?;
        let packed = has_holes(&file).map_err(failed())?;
        // The look for holes moved it.
        (&file).rewind().map_err(failed())?;
        let mut hasher = blake3::Hasher::new();
        let mut counted = |reader: &mut dyn Read| {
            let mut counted = Counted { reader, bytes: 0, done };
            hasher.update_reader(&mut counted)?;
            Ok::<u64, io::Error>(counted.bytes)
        };
        item.recipe = None;
        let (stored, form) = if packed {
            (counted(&mut Packed::of(&file, before.len())), Form::Packed)
        } else if before.len() > chunks::LARGE {
            let progress = |more, _| {
                done.fetch_add(more, Relaxed);
            };
            let watch = Watch { progress: &progress, stop: &|| stop.load(Relaxed) };
            let recipe = chunks::cut(&file, &item.entry.path, &watch, &mut |_, _| Ok(()));
            let recipe = item.recipe.insert(recipe.map_err(|error| self.failed(error))?);
            (Ok(recipe.size()), Form::Chunks)
        } else {
            (counted(&mut &file), Form::Plain)
        };
        let stored = match stored {
            // It became shorter.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.changed(item)),
            stored => stored.map_err(failed())?,
        };
        let after = file.metadata().map_err(failed())?;
        if state(&before) != state(&after) || !packed && stored != after.len() {
            return Err(self.changed(item));
        }
        let digest = match &item.recipe {
            Some(recipe) => Digest::of(&recipe.text()),
            None => Digest(*hasher.finalize().as_bytes()),
        };
        item.entry.kind = Kind::File { mode: before.mode() & MODES, size: before.len(), digest, form };
        item.entry.modified = Some(modified);
        item.seen = Some((stored, state(&before)));
        Ok(())
    }

    /// The bytes of a small part of a file. An error if the file is not what was hashed.
    pub(crate) fn read_part(&self, item: &Item, (part, length): (Part, u64)) -> Result<Vec<u8>> {
        let at = match part {
            Part::Recipe => return Ok(item.recipe.as_ref().map(Recipe::text).unwrap_or_default()),
            Part::Whole => 0,
            Part::Chunk(at) => at,
        };
        let mut all = Vec::new();
        let end = at + length;
        self.read_until(item, (at, end), usize::try_from(length).unwrap_or(usize::MAX).max(1), |bytes| {
            all = bytes;
            true
        })?;
        Ok(all)
    }

    /// Reads what is stored of a file from `offset` on, in pieces of at most `piece` bytes, and gives each to `take`, until that wants
    /// no more. An error if the file is not what was hashed.
    pub(crate) fn read(
        &self,
        item: &Item,
        (offset, piece): (u64, usize),
        take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<()> {
        self.read_until(item, (offset, item.stored()), piece, take)
    }

    /// The same up to `end`.
    fn read_until(
        &self,
        item: &Item,
        (offset, end): (u64, u64),
        piece: usize,
        mut take: impl FnMut(Vec<u8>) -> bool,
    ) -> Result<()> {
        let file = self.open(item)?;
        let packed = match item.entry.kind {
            Kind::File { form: Form::Packed, size, .. } => Some(Packed::of(&file, size)),
            _ => None,
        };
        let mut reader: Box<dyn Read + '_> = match packed {
            Some(packed) => Box::new(packed),
            None => Box::new(&file),
        };
        let failed = || Error::os(format!("read `{}`", self.shown(item)));
        if matches!(item.entry.kind, Kind::File { form: Form::Packed, .. }) {
            io::copy(&mut reader.by_ref().take(offset), &mut io::sink()).map_err(failed())?;
        } else {
            (&file).seek(io::SeekFrom::Start(offset)).map_err(failed())?;
        }
        let mut left = end - offset;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(piece);
            let mut bytes = vec![0; length];
            match reader.read_exact(&mut bytes) {
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.changed(item)),
                read => read.map_err(failed())?,
            }
            left -= length as u64;
            if left == 0 {
                self.is_same(item, &file)?;
            }
            if !take(bytes) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Opens a file that is what was hashed.
    fn open(&self, item: &Item) -> Result<File> {
        let file = self.open_any(item)?;
        self.is_same(item, &file)?;
        Ok(file)
    }

    fn is_same(&self, item: &Item, file: &File) -> Result<()> {
        let now = file.metadata().map_err(Error::os(format!("read `{}`", self.shown(item))))?;
        if item.seen.is_some_and(|(_, seen)| seen == state(&now)) { Ok(()) } else { Err(self.changed(item)) }
    }

    fn open_any(&self, item: &Item) -> Result<File> {
        self.root.file(&item.from).map_err(|e| match e.kind() {
            ErrorKind::NotFound | ErrorKind::InvalidInput => self.changed(item),
            _ => Error::os(format!("read `{}`", self.shown(item)))(e),
        })
    }

    fn changed(&self, item: &Item) -> Error {
        Error::Changed { path: self.shown(item) }
    }

    /// What a walk says, with the path as people gave it.
    fn failed(&self, error: DataError) -> Error {
        match error {
            DataError::Changed { path } => Error::Changed { path: self.shown_path(&path) },
            DataError::Limit { path, limit } => Error::Usage {
                message: format!("`{}` is too much: {limit}", self.shown_path(&path)),
                hint: "upload a part of it, or leave something out with `.vesslignore`".to_owned(),
            },
            DataError::Os { what, path, source } => {
                Error::Os { what: format!("{what} `{}`", self.shown_path(&path)), source }
            }
            other => Error::Os {
                what: format!("read `{}`", self.shown.display()),
                source: io::Error::other(other),
            },
        }
    }
}

/// Whether a source means what is in it, as with `cp -r`: `dir/.`, `.`, `..`.
fn is_content(source: &Path) -> bool {
    let bytes = source.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.") || source.file_name().is_none()
}

fn size(kind: &Kind) -> u64 {
    if let Kind::File { size, .. } = kind { *size } else { 0 }
}

/// A reader whose bytes are counted.
struct Counted<'a> {
    reader: &'a mut dyn Read,
    bytes: u64,
    done: &'a AtomicU64,
}

impl Read for Counted<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(to)?;
        self.bytes += read as u64;
        self.done.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(dir: &Path) -> Local {
        let mut local = Local::walk(dir).unwrap();
        local.hash(&AtomicU64::new(0), &AtomicBool::new(false)).unwrap();
        local
    }

    #[test]
    fn a_file_is_read_as_it_was_hashed_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "0123456789").unwrap();
        let sparse = File::create(dir.path().join("sparse")).unwrap();
        sparse.set_len(1 << 30).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 1 << 29).unwrap();
        let local = local(dir.path());
        assert_eq!(local.bytes, 10 + (1 << 30));
        let read = |item: &Item, offset| {
            let mut all = Vec::new();
            local.read(item, (offset, 3), |piece| {
                all.extend(piece);
                true
            })?;
            Ok::<_, Error>(all)
        };
        for item in &local.items {
            for offset in [0, 1, item.stored()] {
                let all = read(item, offset).unwrap();
                assert_eq!(all.len() as u64, item.stored() - offset);
                if offset == 0 {
                    assert_eq!(Some(Digest::of(&all)), item.digest());
                }
            }
        }
        let file = local.items.iter().find(|item| item.entry.path == Path::new("f")).unwrap();
        std::fs::write(dir.path().join("f"), "0123456780").unwrap();
        let said = read(file, 0).unwrap_err().to_string();
        assert_eq!(said, format!("`{}` changed while it was read", dir.path().join("f").display()));
    }

    #[test]
    fn sources_are_named_as_cp_names_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        let check = |source: &str, expected: Option<&str>| {
            let source = format!("{}/{source}", dir.path().display());
            let name = Local::walk(Path::new(&source)).unwrap().name;
            assert_eq!(name.as_deref(), expected.map(Path::new), "{source}");
        };
        check("d", Some("d"));
        check("d/", Some("d"));
        check("d/.", None);
        check("d/..", None);
    }
}
