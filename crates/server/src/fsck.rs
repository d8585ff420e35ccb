//! A look at everything that versions and runs have in the content-addressed store: what is damaged, and what is missing. It runs in the
//! command, changes nothing, and may run beside a server.
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use vessl_core::ids::RunId;
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::spelling;
use vessl_data::blob::{Checked, Digest, Store};
use vessl_data::offsite::OffsiteError;
use vessl_data::tree::{self, Fault};
use vessl_data::{DataError, Watch};

use crate::config::Config;
use crate::offsite;
use crate::paths::DataDir;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Versions and exports of runs that were looked at.
    pub versions: usize,
    /// Blobs that are whole.
    pub blobs: u64,
    /// Blobs that are in the bucket alone.
    pub away: u64,
    /// Packs of blobs.
    pub packs: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Everything that is not as it should be.
    pub damage: Vec<Damage>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Damage {
    /// Address of what it is in, or `run N`; nothing of what no version needs.
    pub object: Option<String>,
    /// Number of the version, if it is in one.
    pub version: Option<u64>,
    /// Path in the version, or below the export path in the container; nothing if all of it is lost.
    pub path: Option<String>,
    /// The blob, hex.
    pub digest: Option<String>,
    /// The damaged file on disk; nothing of what is missing.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub why: String,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    /// The directory has no server's data.
    #[error("`{}` is no server's data directory: it has no database", .0.display())]
    NoData(PathBuf),
    /// The database.
    #[error("cannot read the database `{}`: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The blobs.
    #[error(transparent)]
    Blobs(#[from] DataError),
    /// The settings of their bucket.
    #[error(transparent)]
    Setting(#[from] offsite::SettingError),
    /// Their bucket.
    #[error("the bucket of the blobs: {0}")]
    Bucket(#[from] OffsiteError),
}

/// How the bucket of the blobs is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// By its listing.
    Listed,
    /// Everything in it is read.
    Read,
}

/// Who has a tree: a version, or an export of a run at a path.
#[derive(Clone, Debug)]
struct Owner {
    object: String,
    version: Option<u64>,
    export: Option<String>,
}

/// Reads every manifest of every version, and every blob, recipe and pack below `data`, and compares what is in the bucket of the
/// settings.
pub fn check(
    data: &Path,
    (config, elsewhere): (&Config, Elsewhere),
    watch: &Watch<'_>,
) -> Result<Findings, FsckError> {
    let dir = DataDir::new(data);
    let database = dir.database();
    if !database.exists() {
        return Err(FsckError::NoData(data.to_owned()));
    }
    let store = Store::at(&data.join("blobs"));
    // Nothing is removed meanwhile; what comes after the versions were read is of others.
    let _kept = if data.join("blobs").is_dir() { Some(store.keep()?) } else { None };
    let owners = owners(&database).map_err(|source| FsckError::Database { path: database, source })?;
    let mut found = store.check(watch)?;
    // Its calls may not be made from asynchronous code.
    let lost = std::thread::scope(|scope| {
        let looked = scope.spawn(|| -> Result<_, FsckError> {
            let Some(bucket) = offsite::open(config, &store)? else {
                return Ok((PathBuf::new(), Vec::new()));
            };
            let place = PathBuf::from(bucket.offsite.location());
            Ok((place, bucket.offsite.check(elsewhere == Elsewhere::Read, watch)?))
        });
        looked.join().unwrap_or_else(|bug| std::panic::resume_unwind(bug))
    });
    let (place, lost) = lost?;
    let mut damage = Vec::new();
    for bad in lost {
        let file = place.join(bad.file);
        if bad.is_here {
            let why = "it is not in the bucket, or not as it was put there; this machine has it, and the server sends it again before it \
                       leaves this machine";
            damage.push(Damage { file: Some(file), why: why.to_owned(), ..Damage::default() });
        } else {
            found.lose(&bad.lost, &file, "it is not in the bucket, or not as it was put there");
        }
    }
    let mut named = HashSet::new();
    for (manifest, owners) in &owners {
        for fault in faults(&store, manifest, &found)? {
            named.insert(fault.digest);
            damage.extend(owners.iter().map(|owner| of_version(owner, &fault)));
        }
    }
    let rest = found.harms.iter().filter(|harm| !harm.digest.is_some_and(|digest| named.contains(&digest)));
    damage.extend(rest.map(|harm| Damage {
        digest: harm.digest.map(String::from),
        file: Some(harm.file.clone()),
        why: harm.why.clone(),
        ..Damage::default()
    }));
    damage.sort_unstable();
    damage.dedup();
    let versions = owners.values().map(Vec::len).sum();
    Ok(Findings {
        versions,
        blobs: found.blobs,
        away: found.away,
        packs: found.packs,
        bytes: found.bytes,
        damage,
    })
}

fn faults(store: &Store, manifest: &str, found: &Checked) -> Result<Vec<Fault>, DataError> {
    match manifest.parse::<Digest>() {
        Ok(version) => tree::check_version(store, version, found),
        Err(error) => {
            let why = format!("the database names it `{}`: {error}", manifest.escape_debug());
            Ok(vec![Fault { path: None, digest: Digest([0; 32]), file: None, why }])
        }
    }
}

fn of_version(owner: &Owner, fault: &Fault) -> Damage {
    use std::os::unix::ffi::OsStrExt;
    let below = fault.path.as_ref().map(|path| spelling::spell(path.as_os_str().as_bytes()));
    let path = match (&owner.export, below) {
        (Some(export), Some(below)) => Some(format!("{}/{below}", export.trim_end_matches('/'))),
        (export, below) => below.or_else(|| export.clone()),
    };
    Damage {
        object: Some(owner.object.clone()),
        version: owner.version,
        path,
        digest: Some(fault.digest.to_string()),
        file: fault.file.clone(),
        why: fault.why.clone(),
    }
}

/// Every tree that a version or a run has.
fn owners(database: &Path) -> rusqlite::Result<BTreeMap<String, Vec<Owner>>> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.busy_timeout(std::time::Duration::from_mins(1))?;
    db.pragma_update(None, "query_only", true)?;
    let mut owners: BTreeMap<String, Vec<Owner>> = BTreeMap::new();
    let sql = "SELECT manifest, kind, organization, project, objects.name, number FROM versions \
        JOIN objects ON objects.id = versions.object ORDER BY objects.id, number";
    let mut versions = db.prepare(sql)?;
    let mut rows = versions.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, project): (String, String) = (row.get(1)?, row.get(3)?);
        let kind = ObjectKind::of_word(&kind).ok_or_else(|| {
            let unknown = io::Error::other(format!("`{kind}` is no kind of object"));
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, unknown.into())
        })?;
        let project = Some(project).filter(|project| !project.is_empty()).map(Into::into);
        let organization = row.get::<_, String>(2)?.into();
        let name = ObjectName { kind, organization, project, name: row.get(4)? };
        let owner = Owner { object: name.to_string(), version: Some(row.get(5)?), export: None };
        owners.entry(row.get(0)?).or_default().push(owner);
    }
    let mut outputs = db.prepare("SELECT manifest, run, path FROM outputs ORDER BY run, path")?;
    let mut rows = outputs.query([])?;
    while let Some(row) = rows.next()? {
        let run = RunId(row.get(1)?);
        let owner = Owner { object: format!("run {}", run.0), version: None, export: Some(row.get(2)?) };
        owners.entry(row.get(0)?).or_default().push(owner);
    }
    Ok(owners)
}
