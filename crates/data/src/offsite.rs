//! The blobs of a store in a bucket: pushed there, brought home from there, removed there. It must not know who needs a blob, or why.
//!
//! ```text
//! push     units that are not marked ─► blobs and packs ─► indexes ─► markers        a marker comes after the object
//! evict    marked units, those needed longest ago first ─► off the disk              a file goes after its marker
//! bring    units of some digests ─► tmp/ ─► verified ─► renamed to their places      one download for all who want it
//! bury     what was removed here ─► removed there                                    what a kill left is found by a listing
//! ```
//! The keys are the names of the files below `blobs/`. `vessl-blobs.json` there says whose they are.
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::blob::{Digest, Freed, Home, Marker, Stay, Store, Unit, UnitName};
use crate::bucket::{BucketError, Mark, PlainFile, Session};
use crate::dir::Dir;
use crate::{DataError, Watch, locked};

/// The object that says whose the others are.
const OWNER: &str = "vessl-blobs.json";
/// Units, and bytes, that are moved before the next step is taken for them.
const TOGETHER: usize = 128;
const BYTES: u64 = 1 << 30;
/// How often who waits for another's download asks whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// Why blobs could not be moved from or to their bucket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OffsiteError {
    /// Another installation's blobs are there.
    #[error(
        "`{location}` has the blobs of another installation (`{owner}`): give this one a prefix of its own; if the other one is no \
         more, remove `{OWNER}` there"
    )]
    Taken {
        /// The place.
        location: String,
        /// Whose they are.
        owner: String,
    },
    /// The bucket lacks what was put there, or has other bytes.
    #[error("`{location}` {what} the blobs `{file}`: they were removed or changed there by somebody else")]
    Lost {
        /// The place.
        location: String,
        /// `has not`, `has other bytes for`.
        what: &'static str,
        /// Name of the object.
        file: String,
    },
    /// The bucket.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// This machine.
    #[error(transparent)]
    Data(#[from] DataError),
}

/// Some units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub units: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Amount {
    fn of<'a>(sizes: impl IntoIterator<Item = &'a u64>) -> Self {
        let mut amount = Self::default();
        for size in sizes {
            amount.units += 1;
            amount.bytes += size;
        }
        amount
    }
}

/// What a comparison with the bucket found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Units that are there and were not known here, and now are.
    pub adopted: u64,
    /// Units that are not there any more, and are here: they are pushed again.
    pub again: u64,
    /// Files of units that are neither there nor here.
    pub lost: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    v: u32,
    id: String,
}

/// Where the blobs of a store are kept besides. Its calls block.
#[derive(Debug)]
pub struct Offsite {
    /// There until it is dropped.
    session: Option<Session>,
    store: Store,
    /// Units that somebody brings home now.
    coming: Mutex<HashSet<UnitName>>,
    came: Condvar,
}

impl Drop for Offsite {
    fn drop(&mut self) {
        // A session has threads to wait for, which asynchronous code may not.
        let session = self.session.take();
        std::thread::spawn(move || drop(session));
    }
}

impl Offsite {
    /// The blobs of a store at the place of a session.
    pub fn new(store: &Store, session: Session) -> Self {
        Self { session: Some(session), store: store.clone(), coming: Mutex::default(), came: Condvar::new() }
    }

    fn session(&self) -> Result<&Session, DataError> {
        self.session.as_ref().ok_or(DataError::Stopped)
    }

    /// The place.
    pub fn location(&self) -> String {
        self.session.as_ref().map(|session| session.location().to_string()).unwrap_or_default()
    }

    /// Takes the place for the installation with this id, which shows too that it can be written to.
    pub fn claim(&self, id: &str) -> Result<(), OffsiteError> {
        let text = serde_json::to_vec(&Owner { v: 1, id: id.to_owned() }).unwrap_or_default();
        match self.session()?.mark(OWNER, &text)? {
            Mark::Ours => Ok(()),
            Mark::Other(there) => {
                let owner =
                    serde_json::from_slice(&there).map_or_else(|_| "unknown".to_owned(), |of: Owner| of.id);
                Err(OffsiteError::Taken { location: self.location(), owner })
            }
        }
    }

    /// What is here and not there yet.
    pub fn backlog(&self) -> Result<Amount, OffsiteError> {
        Ok(Amount::of(self.unmarked()?.values()))
    }

    fn unmarked(&self) -> Result<BTreeMap<UnitName, u64>, OffsiteError> {
        let marked = self.store.marked()?;
        let mut units = BTreeMap::new();
        for unit in self.store.units()? {
            // What was collected meanwhile needs nothing.
            if !marked.contains_key(&unit.name())
                && let Ok(meta) = std::fs::metadata(unit.data())
            {
                units.insert(unit.name(), meta.len());
            }
        }
        Ok(units)
    }

    /// Sends what is not there yet, and notes what is there then.
    pub fn push(&self, watch: &Watch<'_>) -> Result<Amount, OffsiteError> {
        let units: Vec<(UnitName, u64)> = self.unmarked()?.into_iter().collect();
        let root = Dir::open(self.store.root()).map_err(DataError::os("open", self.store.root()))?;
        let journal = self.store.root().join("pushing");
        let mut pushed = Amount::default();
        for units in portions(&units) {
            let data: Vec<PlainFile> =
                units.iter().map(|(unit, size)| PlainFile { path: unit.file(), size: *size }).collect();
            self.session()?.send(&root, &data, &journal, watch)?;
            let mut indexes = Vec::new();
            for path in units.iter().filter_map(|(unit, _)| unit.index()) {
                let meta = std::fs::metadata(self.store.root().join(&path));
                indexes.extend(meta.map(|meta| PlainFile { path, size: meta.len() }));
            }
            // A pack is there when its index is.
            self.session()?.send(&root, &indexes, &journal, watch)?;
            self.store.mark(units)?;
            let more = Amount::of(units.iter().map(|(_, size)| size));
            (pushed.units, pushed.bytes) = (pushed.units + more.units, pushed.bytes + more.bytes);
        }
        Ok(pushed)
    }

    /// Bytes of all units that are here.
    pub fn here(&self) -> Result<u64, OffsiteError> {
        let units = self.store.units()?;
        let sizes = units.iter().filter_map(|unit| Some(std::fs::metadata(unit.data()).ok()?.len()));
        Ok(sizes.sum())
    }

    /// Takes units off the disk that are there, those needed longest ago first, until all that are here have at most `limit` bytes. The bucket is
    /// asked for each before its last copy here is removed: what was noted once may be gone there, or be something else. What it has not
    /// is sent again.
    pub fn evict(&self, limit: u64, stay: &dyn Fn(Digest) -> Stay) -> Result<Freed, OffsiteError> {
        let (mut here, mut leaving) = (0, Vec::new());
        let marked = self.store.marked()?;
        for unit in self.store.units()? {
            let Ok(meta) = std::fs::metadata(unit.data()) else { continue };
            here += meta.len();
            leaving.extend(marked.get(&unit.name()).map(|marker| (marker.used, unit)));
        }
        leaving.sort_by_key(|(used, unit)| (*used, unit.name()));
        let mut freed = Freed::default();
        for (_, unit) in leaving {
            if here <= limit {
                break;
            }
            if !self.has_whole(&unit)? {
                self.store.unmark(unit.name())?;
                continue;
            }
            if let Some(bytes) = self.store.evict(&unit, stay)? {
                here = here.saturating_sub(bytes);
                freed.count += 1;
                freed.bytes += bytes;
            }
        }
        Ok(freed)
    }

    /// Whether the bucket has the bytes of a unit that is here.
    fn has_whole(&self, unit: &Unit) -> Result<bool, OffsiteError> {
        let (name, path) = (unit.name(), unit.data());
        let failed = || DataError::os("read", path);
        let file = File::open(path).map_err(failed())?;
        let size = file.metadata().map_err(failed())?.len();
        if let Some(index) = name.index()
            && self.session()?.size(&index)?.is_none()
        {
            return Ok(false);
        }
        Ok(self.session()?.has(&name.file(), &file, size)?)
    }

    /// What these blobs need that is not here.
    pub fn away_of(&self, digests: &[Digest]) -> Result<Amount, OffsiteError> {
        Ok(Amount::of(self.store.away_of(digests)?.values()))
    }

    /// Brings home what these blobs need. What another caller brings already is waited for.
    pub fn bring(&self, digests: &[Digest], watch: &Watch<'_>) -> Result<(), OffsiteError> {
        loop {
            let away = self.store.away_of(digests)?;
            if away.is_empty() {
                return Ok(());
            }
            let mine = self.take(&away);
            if mine.units.is_empty() {
                self.wait(watch)?;
                continue;
            }
            let units: Vec<(UnitName, u64)> = mine.units.iter().map(|unit| (*unit, away[unit])).collect();
            for units in portions(&units) {
                self.bring_units(units, watch)?;
            }
        }
    }

    /// Those that nobody brings yet, until what this returns is dropped.
    fn take(&self, away: &BTreeMap<UnitName, u64>) -> Coming<'_> {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        let units: BTreeSet<UnitName> = away.keys().filter(|unit| !coming.contains(unit)).copied().collect();
        coming.extend(&units);
        Coming { of: self, units }
    }

    fn wait(&self, watch: &Watch<'_>) -> Result<(), DataError> {
        let coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.came.wait_timeout(coming, TICK));
        watch.check()
    }

    fn bring_units(&self, units: &[(UnitName, u64)], watch: &Watch<'_>) -> Result<(), OffsiteError> {
        let (landing, _lock) = self.store.landing()?;
        let found = self.land(units, landing.path(), watch)?;
        Ok(self.store.take_home(&found)?)
    }

    /// Brings units into an empty directory and looks at every blob of them.
    fn land(
        &self,
        units: &[(UnitName, u64)],
        into: &std::path::Path,
        watch: &Watch<'_>,
    ) -> Result<Vec<(UnitName, PathBuf)>, OffsiteError> {
        let dir = Dir::open(into).map_err(DataError::os("open", into))?;
        let file = |(unit, size): &(UnitName, u64)| PlainFile { path: unit.file(), size: *size };
        let files: Vec<PlainFile> = units.iter().map(file).collect();
        self.session()?.bring(&dir, &files, watch).map_err(|error| match error {
            BucketError::Changed { key } => self.lost("has not, or not as they were put,", key),
            error => error.into(),
        })?;
        let mut found = Vec::with_capacity(units.len());
        for (unit, _) in units {
            let path = into.join(unit.file());
            if !self.store.is_whole(*unit, &path, &Watch { progress: &|_, _| {}, ..*watch })? {
                return Err(self.lost("has other bytes for", unit.file()));
            }
            found.push((*unit, path));
        }
        Ok(found)
    }

    fn lost(&self, what: &'static str, file: String) -> OffsiteError {
        OffsiteError::Lost { location: self.location(), what, file }
    }

    /// Removes there what was removed here.
    pub fn bury(&self) -> Result<u64, OffsiteError> {
        let (dead, marked) = (self.store.dead()?, self.store.marked()?);
        for unit in &dead {
            if marked.contains_key(unit) {
                // It was put here again, and pushed.
                self.store.bury(*unit)?;
                continue;
            }
            // The index first, so that nobody finds a pack that is not there.
            for file in unit.index().into_iter().chain([unit.file()]) {
                self.session()?.remove_plain(&file)?;
            }
            self.store.bury(*unit)?;
        }
        Ok(dead.len() as u64)
    }

    /// What is in the bucket as a whole, with its bytes.
    fn listed(&self) -> Result<HashMap<UnitName, u64>, OffsiteError> {
        let (mut data, mut indexes) = (HashMap::new(), HashSet::new());
        for PlainFile { path, size } in self.session()?.plain_files()? {
            match UnitName::of_file(&path) {
                Some((unit, false)) => drop(data.insert(unit, size)),
                Some((unit, true)) => drop(indexes.insert(unit)),
                None => {}
            }
        }
        data.retain(|unit, _| matches!(unit, UnitName::Loose(_)) || indexes.contains(unit));
        Ok(data)
    }

    /// Units that are noted as there and are not, by a listing and, for each, one more question.
    fn absent(
        &self,
        listed: &HashMap<UnitName, u64>,
        marked: &HashMap<UnitName, Marker>,
    ) -> Result<Vec<UnitName>, OffsiteError> {
        let mut absent = Vec::new();
        for (unit, marker) in marked {
            // What was pushed, or removed here, since the listing.
            if listed.get(unit) != Some(&marker.size)
                && self.session()?.size(&unit.file())? != Some(marker.size)
                && self.store.marked()?.contains_key(unit)
            {
                absent.push(*unit);
            }
        }
        absent.sort_unstable();
        Ok(absent)
    }

    /// Compares what is noted here with what is there, and puts right what is noted.
    pub fn compare(&self) -> Result<Compared, OffsiteError> {
        let marked = self.store.marked()?;
        let listed = self.listed()?;
        let dead: HashSet<UnitName> = self.store.dead()?.into_iter().collect();
        let here: HashSet<UnitName> = self.store.units()?.iter().map(Unit::name).collect();
        let mut compared = Compared::default();
        for (unit, size) in &listed {
            if !marked.contains_key(unit) && !dead.contains(unit) && !here.contains(unit) {
                compared.adopted += u64::from(self.adopt(*unit, *size)?);
            }
        }
        for unit in self.absent(&listed, &marked)? {
            // Whoever has the bytes can put them again.
            self.store.unmark(unit)?;
            if here.contains(&unit) { compared.again += 1 } else { compared.lost.push(unit.file()) }
        }
        Ok(compared)
    }

    fn adopt(&self, unit: UnitName, size: u64) -> Result<bool, OffsiteError> {
        let mut index = None;
        if let Some(path) = unit.index() {
            let Some(size) = self.session()?.size(&path)? else { return Ok(false) };
            let (landing, _lock) = self.store.landing()?;
            let dir = Dir::open(landing.path()).map_err(DataError::os("open", landing.path()))?;
            self.session()?.bring(&dir, &[PlainFile { path: path.clone(), size }], &Watch::NONE)?;
            let file = landing.path().join(path);
            index = Some(std::fs::read(&file).map_err(DataError::os("read", file))?);
        }
        Ok(self.store.adopt_away(unit, size, index.as_deref())?)
    }

    /// Looks whether what is noted as there is there, changes nothing, and answers with the files of what is not, or is not whole, and
    /// the blobs in it, of what is here too those that it has. With `read` every unit is read.
    pub fn check(&self, read: bool, watch: &Watch<'_>) -> Result<Vec<BadThere>, OffsiteError> {
        let marked = self.store.marked()?;
        let mut bad: BTreeSet<UnitName> = self.absent(&self.listed()?, &marked)?.into_iter().collect();
        let here: HashSet<UnitName> = self.store.units()?.iter().map(Unit::name).collect();
        let unread = marked.iter().filter(|(unit, _)| read && !bad.contains(unit));
        let unread: Vec<(UnitName, u64)> = unread.map(|(unit, marker)| (*unit, marker.size)).collect();
        for unit in &unread {
            let (landing, _lock) = self.store.landing()?;
            match self.land(std::slice::from_ref(unit), landing.path(), watch) {
                Ok(_) => {}
                Err(OffsiteError::Lost { .. } | OffsiteError::Bucket(BucketError::Damaged { .. })) => {
                    bad.insert(unit.0);
                }
                Err(error) => return Err(error),
            }
        }
        let inside = |unit: UnitName| match unit {
            UnitName::Loose(digest) => Ok(vec![digest]),
            UnitName::Pack(pack) => self.store.inside_pack(pack),
        };
        bad.into_iter()
            .map(|unit| {
                let is_here = here.contains(&unit);
                let lost = if is_here { Vec::new() } else { inside(unit)? };
                Ok(BadThere { file: unit.file(), is_here, lost })
            })
            .collect()
    }
}

/// A file of the bucket that is not there, or not as it was put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadThere {
    /// Its name.
    pub file: String,
    /// Whether this machine has it whole.
    pub is_here: bool,
    /// The blobs in it, if it is nowhere else.
    pub lost: Vec<Digest>,
}

/// Units that are on their way home.
struct Coming<'o> {
    of: &'o Offsite,
    units: BTreeSet<UnitName>,
}

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        locked(&self.of.coming).retain(|unit| !self.units.contains(unit));
        self.of.came.notify_all();
    }
}

impl Home for Offsite {
    fn bring(&self, digest: Digest) -> Result<(), DataError> {
        // Whoever opens a blob may be inside of a runtime, where nothing may wait for another.
        let brought =
            std::thread::scope(|scope| scope.spawn(|| Offsite::bring(self, &[digest], &Watch::NONE)).join());
        match brought {
            Ok(Ok(())) => Ok(()),
            Ok(Err(OffsiteError::Data(error))) => Err(error),
            Ok(Err(error)) => Err(DataError::Away { digest, why: error.to_string() }),
            Err(bug) => std::panic::resume_unwind(bug),
        }
    }
}

/// Units in portions, at least one in each.
fn portions(units: &[(UnitName, u64)]) -> Vec<&[(UnitName, u64)]> {
    let (mut rest, mut portions) = (units, Vec::new());
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take(TOGETHER).take_while(|(_, size)| {
            bytes += size;
            bytes <= BYTES
        });
        let (portion, others) = rest.split_at(fits.count().max(1));
        portions.push(portion);
        rest = others;
    }
    portions
}
