//! A look at everything that is in a store: which blobs are what their names say. It changes nothing.
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::packs::Files;
use super::stream::hash_all;
use super::{Blob, Digest, Store, Unit, UnitName, index};
use crate::{DataError, Watch, locked, pool};

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// Blobs that are here and whole.
    pub blobs: u64,
    /// Blobs that are elsewhere alone, and were not read.
    pub away: u64,
    /// Packs whose index is whole.
    pub packs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Everything that is not as it should be, sorted by file.
    pub harms: Vec<Harm>,
    whole: HashSet<Digest>,
    elsewhere: HashSet<Digest>,
    damaged: HashMap<Digest, Harm>,
}

/// Something on disk that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Harm {
    /// The file.
    pub file: PathBuf,
    /// The blob, if only that is damaged.
    pub digest: Option<Digest>,
    /// What is wrong with it, as `its bytes are others`.
    pub why: String,
}

/// Whether a blob can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing<'c> {
    /// It is whole.
    Whole,
    /// All there is of it is damaged.
    Damaged(&'c Harm),
    /// Nothing is there.
    Missing,
}

impl Checked {
    /// How a blob stands. What was put after the look is missing.
    pub fn standing(&self, digest: Digest) -> Standing<'_> {
        match self.damaged.get(&digest) {
            _ if self.whole.contains(&digest) || self.elsewhere.contains(&digest) => Standing::Whole,
            Some(harm) => Standing::Damaged(harm),
            None => Standing::Missing,
        }
    }

    /// Blobs that are not here, and not whole elsewhere either.
    pub fn lose(&mut self, digests: &[Digest], file: &Path, why: &str) {
        for digest in digests {
            if self.elsewhere.remove(digest) && !self.whole.contains(digest) {
                self.away -= 1;
                let harm = Harm { file: file.to_owned(), digest: Some(*digest), why: why.to_owned() };
                self.damaged.insert(*digest, harm.clone());
                self.harms.push(harm);
            }
        }
    }

    fn note(&mut self, digest: Digest, (file, found): (&Path, Result<(Digest, u64), String>)) {
        let why = match found {
            Ok((found, bytes)) => {
                self.bytes += bytes;
                if found == digest {
                    self.blobs += u64::from(self.whole.insert(digest));
                    return;
                }
                "its bytes are others than were put".to_owned()
            }
            Err(why) => why,
        };
        let harm = Harm { file: file.to_owned(), digest: Some(digest), why };
        self.damaged.insert(digest, harm.clone());
        self.harms.push(harm);
    }

    /// One that is elsewhere was whole when it went.
    fn note_away(&mut self, digest: Digest) {
        self.away += u64::from(!self.whole.contains(&digest) && self.elsewhere.insert(digest));
    }

    fn harm(&mut self, file: PathBuf, why: &str) {
        self.harms.push(Harm { file, digest: None, why: why.to_owned() });
    }
}

impl Store {
    /// Reads everything. The caller keeps blobs from being removed meanwhile ([`Store::keep`]).
    pub fn check(&self, watch: &Watch<'_>) -> Result<Checked, DataError> {
        let checked = Mutex::new(Checked::default());
        if !self.root.is_dir() {
            return Ok(Checked::default());
        }
        let mut units = self.units()?;
        let (data, indexes) = self.packs.all_files()?;
        let marked = self.marked()?;
        for pack in indexes.into_iter().filter(|pack| !data.contains(pack)) {
            let Files { data, index } = self.packs.files(pack);
            if marked.contains_key(&UnitName::Pack(pack)) {
                check_pack(pack, (None, &index), &checked, watch)?;
            } else {
                locked(&checked).harm(data, "it is not there, and its index is");
            }
        }
        for unit in marked.keys() {
            if let UnitName::Loose(digest) = unit
                && !self.path(*digest).exists()
            {
                locked(&checked).note_away(*digest);
            }
        }
        units.sort_by_key(|unit| matches!(unit, Unit::Loose { .. }));
        pool::each(&units, |unit| match unit {
            Unit::Loose { digest, path } => {
                let found = look(path, None, watch)?;
                locked(&checked).note(*digest, (path, found));
                Ok(())
            }
            Unit::Pack { name, data, index } => check_pack(*name, (Some(data), index), &checked, watch),
        })?;
        let mut checked = checked.into_inner().unwrap_or_default();
        checked.harms.sort_unstable();
        Ok(checked)
    }
}

fn check_pack(
    name: Digest,
    (data, index): (Option<&Path>, &Path),
    checked: &Mutex<Checked>,
    watch: &Watch<'_>,
) -> Result<(), DataError> {
    let text = match std::fs::read(index) {
        Ok(text) => text,
        Err(e) => {
            locked(checked).harm(index.to_owned(), &format!("it cannot be read: {e}"));
            return Ok(());
        }
    };
    let entries = Some(&text).filter(|text| Digest::of(text) == name).and_then(|text| index::parse(text));
    let Some(entries) = entries else {
        locked(checked).harm(index.to_owned(), "this index of a pack was cut or changed");
        return Ok(());
    };
    for entry in entries {
        let Some(data) = data else {
            locked(checked).note_away(entry.digest);
            continue;
        };
        let found = look(data, Some((entry.offset.into(), entry.size.into())), watch)?;
        locked(checked).note(entry.digest, (data, found));
    }
    locked(checked).packs += 1;
    Ok(())
}

/// Digest and size of a file or of a part of it; the inner error says why it cannot be read.
fn look(
    path: &Path,
    part: Option<(u64, u64)>,
    watch: &Watch<'_>,
) -> Result<Result<(Digest, u64), String>, DataError> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = match opened {
        Ok(opened) => opened,
        Err(e) => return Ok(Err(format!("it cannot be read: {e}"))),
    };
    let (start, size) = part.unwrap_or((0, length));
    if start + size > length {
        return Ok(Err(format!("it was cut: it has only {length} bytes")));
    }
    let mut blob = Blob::part(file, path.to_owned(), (start, size));
    let found = hash_all(&mut blob, watch);
    watch.check()?;
    Ok(found.map_err(|stop| format!("it cannot be read: {}", stop.at(path, path))))
}
