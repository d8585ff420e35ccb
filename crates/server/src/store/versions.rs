//! Rows of versions: found, added one after the other, deleted; and what the exports of runs make of them.
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use vessl_core::ids::{AttemptId, RunId, UserName};
use vessl_core::object::ObjectName;
use vessl_core::wire::registry::{ChangeKind, ObjectUpdate, VersionView, VolumeChange};

use super::objects::{About, Made, ensure, id_of};
use super::runs::{Export, StoredRun, from_json, moment, nanos, to_json};
use super::storages::put_change;
use super::{Result, Store, StoreError};

/// How a version is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with the highest number.
    Newest,
    /// By number.
    Number(u64),
    /// By alias.
    Alias(String),
}

/// The tree of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Hash of its manifest.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
}

/// What a version that is added was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// The newest version, which must still be this one; `None` where there was none.
    Newest(Option<u64>),
    /// One that must still be there.
    Number(u64),
    /// Nothing.
    Nothing,
}

/// A version that is added.
#[derive(Clone, Debug)]
pub struct NewVersion {
    /// Of what.
    pub object: ObjectName,
    /// What it was made from.
    pub base: Base,
    /// Its files.
    pub tree: Tree,
    /// Its name.
    pub name: Option<String>,
    /// What is said of it.
    pub about: About,
    /// Who made it, and when.
    pub made: Made,
    /// The upload that made it, which ends with this.
    pub upload: String,
}

const SELECT: &str =
    "SELECT number, manifest, bytes, files, run, name, description, tags, metadata, created_by, created_at
     FROM versions";

impl Store {
    /// All versions of a thing, newest first; `None` if there is no such thing.
    pub async fn versions(&self, name: ObjectName) -> Result<Option<Vec<VersionView>>> {
        self.read(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(None) };
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE object = ?1 ORDER BY number DESC"))?;
            let all: Result<Vec<_>> = rows.query_and_then([id], of_row)?.collect();
            all.map(Some)
        })
        .await
    }

    /// One version of a thing.
    pub async fn version(&self, name: ObjectName, which: Which) -> Result<Option<VersionView>> {
        self.read(move |db| match id_of(db, &name)? {
            Some(id) => find(db, id, &which),
            None => Ok(None),
        })
        .await
    }

    /// Adds a version and ends the upload that made it. `StoreError::Moved` if what it was made from is not that any more;
    /// `StoreError::Missing` if the thing or the upload is gone.
    pub async fn add_version(&self, new: NewVersion) -> Result<VersionView> {
        self.write(move |db| add_made(db, &new)).await
    }

    /// The version of a thing that this upload made.
    pub async fn version_by_upload(&self, name: ObjectName, upload: String) -> Result<Option<VersionView>> {
        self.read(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(None) };
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE object = ?1 AND upload = ?2"))?;
            rows.query_and_then(params![id, upload], of_row)?.next().transpose()
        })
        .await
    }

    /// Changes what is said of a version; answers false if there is none.
    pub async fn update_version(&self, name: ObjectName, number: u64, change: ObjectUpdate) -> Result<bool> {
        self.write(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(false) };
            let Some(version) = find(db, id, &Which::Number(number))? else { return Ok(false) };
            let (description, tags, metadata) = (version.description, version.tags, version.metadata);
            let mut about = About { description, tags, metadata };
            about.update(change);
            let sql = "UPDATE versions SET description = ?3, tags = ?4, metadata = ?5 WHERE object = ?1 AND number = ?2";
            let (tags, metadata) = (to_json("tags", &about.tags)?, to_json("metadata", &about.metadata)?);
            db.prepare_cached(sql)?.execute(params![id, number, about.description, tags, metadata])?;
            Ok(true)
        })
        .await
    }

    /// Forgets one version, whose number is never given again; answers false if there is none.
    pub async fn delete_version(&self, name: ObjectName, number: u64) -> Result<bool> {
        self.write(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(false) };
            let sql = "DELETE FROM versions WHERE object = ?1 AND number = ?2";
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            Ok(db.prepare_cached(sql)?.execute(params![id, number])? > 0)
        })
        .await
    }

    /// The number of the version of a thing that is this tree; the newest, if it is several.
    pub async fn number_of(&self, name: ObjectName, manifest: String) -> Result<Option<u64>> {
        self.read(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(None) };
            let sql = "SELECT max(number) FROM versions WHERE object = ?1 AND manifest = ?2";
            Ok(db.prepare_cached(sql)?.query_row(params![id, manifest], |row| row.get(0))?)
        })
        .await
    }

    /// The number of the version that an export of an attempt became.
    pub async fn exported_number(&self, of: AttemptId, path: String) -> Result<Option<u64>> {
        self.read(move |db| {
            let sql = "SELECT max(number) FROM versions WHERE run = ?1 AND path = ?2 AND attempt = ?3";
            Ok(db.prepare_cached(sql)?.query_row(params![of.run.0, path, of.name()], |row| row.get(0))?)
        })
        .await
    }

    /// Whether an export was registered.
    pub async fn is_exported(&self, of: AttemptId, path: String, manifest: String) -> Result<bool> {
        self.read(move |db| is_exported(db, of, &path, &manifest)).await
    }

    /// Every tree that a version or a run names.
    pub async fn manifests(&self) -> Result<Vec<String>> {
        self.read(|db| {
            let sql = "SELECT manifest FROM versions UNION SELECT manifest FROM outputs";
            let mut rows = db.prepare_cached(sql)?;
            Ok(rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

/// One version of the thing of this row.
pub(super) fn find(db: &Connection, id: i64, which: &Which) -> Result<Option<VersionView>> {
    let (condition, value): (_, Box<dyn rusqlite::ToSql>) = match which {
        Which::Newest => return newest(db, id),
        Which::Number(number) => ("?2", Box::new(i64::try_from(*number).unwrap_or(i64::MAX))),
        Which::Alias(alias) => {
            ("(SELECT number FROM aliases WHERE object = ?1 AND alias = ?2)", Box::new(alias.clone()))
        }
    };
    let mut rows = db.prepare_cached(&format!("{SELECT} WHERE object = ?1 AND number = {condition}"))?;
    rows.query_and_then(params![id, value], of_row)?.next().transpose()
}

/// The version with the highest number.
pub(super) fn newest(db: &Connection, id: i64) -> Result<Option<VersionView>> {
    let mut rows = db.prepare_cached(&format!("{SELECT} WHERE object = ?1 ORDER BY number DESC LIMIT 1"))?;
    rows.query_and_then([id], of_row)?.next().transpose()
}

fn add_made(db: &Connection, new: &NewVersion) -> Result<VersionView> {
    let missing = |what, name: String| StoreError::Missing { what, name };
    let id =
        id_of(db, &new.object)?.ok_or_else(|| missing(new.object.kind.word(), new.object.name.clone()))?;
    if !still(db, id, new.base)? {
        return Err(StoreError::Moved(new.object.to_string()));
    }
    if db.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute([&new.upload])? == 0 {
        return Err(missing("upload", new.upload.clone()));
    }
    let row = NewRow {
        object: id,
        tree: &new.tree,
        export: None,
        upload: Some(&new.upload),
        name: new.name.as_deref(),
        about: &new.about,
        made: &new.made,
    };
    let number = add(db, &row)?;
    let added = find(db, id, &Which::Number(number))?;
    added.ok_or_else(|| missing("version", number.to_string()))
}

/// Whether what a version was made from is still that.
fn still(db: &Connection, id: i64, base: Base) -> Result<bool> {
    Ok(match base {
        Base::Newest(expected) => newest(db, id)?.map(|version| version.version) == expected,
        Base::Number(number) => find(db, id, &Which::Number(number))?.is_some(),
        Base::Nothing => true,
    })
}

struct NewRow<'a> {
    object: i64,
    tree: &'a Tree,
    export: Option<(AttemptId, &'a str)>,
    upload: Option<&'a str>,
    name: Option<&'a str>,
    about: &'a About,
    made: &'a Made,
}

/// Adds a version with the next number.
fn add(db: &Connection, new: &NewRow<'_>) -> Result<u64> {
    let sql = "UPDATE objects SET last = last + 1 WHERE id = ?1 RETURNING last";
    let number: u64 = db.prepare_cached(sql)?.query_row([new.object], |row| row.get(0))?;
    let sql =
        "INSERT INTO versions (object, number, manifest, bytes, files, run, attempt, path, upload, name,
                   description, tags, metadata, created_by, created_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    db.prepare_cached(sql)?.execute(params![
        new.object,
        number,
        new.tree.manifest,
        new.tree.bytes,
        new.tree.files,
        new.export.map(|(of, _)| of.run.0),
        new.export.map(|(of, _)| of.name()),
        new.export.map(|(_, path)| path),
        new.upload,
        new.name,
        new.about.description,
        to_json("tags", &new.about.tags)?,
        to_json("metadata", &new.about.metadata)?,
        new.made.by.as_ref().map(UserName::as_str),
        nanos(new.made.at),
    ])?;
    Ok(number)
}

/// Registers one export inside the transaction that saves that it was seen: the run's tree, and the next version of what it is
/// exported to. One that is registered already stays as it is, so that an export that is seen twice is one version.
pub(super) fn put_export(db: &Connection, stored: &StoredRun, export: &Export) -> Result<()> {
    let (of, path, manifest) = (export.attempt, &export.path, &export.manifest);
    if let Some(volume) = &export.volume {
        let change = VolumeChange {
            at: stored.doc.decided_at,
            by: stored.doc.created_by.as_ref().map(|user| user.as_str().to_owned()),
            what: ChangeKind::Export,
            path: path.clone(),
            files: Some(export.files),
            bytes: Some(export.bytes),
            run: Some(of.run),
            attempt: Some(of.name()),
        };
        return put_change(db, volume, &change);
    }
    if is_exported(db, of, path, manifest)? {
        return Ok(());
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO outputs (run, path, manifest, bytes, files, attempt) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute(params![of.run.0, path, manifest, export.bytes, export.files, of.name()])?;
    let Some(object) = &export.object else { return Ok(()) };
    let made = Made { by: stored.doc.created_by.clone(), at: stored.doc.decided_at };
    let id = ensure(db, object, &made)?;
    let own = || Tree { manifest: manifest.clone(), bytes: export.bytes, files: export.files };
    let tree = match &export.merged {
        Some(merged) if !still(db, id, Base::Newest(merged.base))? => {
            return Err(StoreError::Moved(object.to_string()));
        }
        Some(merged) => Tree { manifest: merged.manifest.clone(), bytes: merged.bytes, files: merged.files },
        None => own(),
    };
    let about = About::default();
    let export = Some((of, path.as_str()));
    add(
        db,
        &NewRow { object: id, tree: &tree, export, upload: None, name: None, about: &about, made: &made },
    )?;
    Ok(())
}

fn is_exported(db: &Connection, of: AttemptId, path: &str, manifest: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outputs WHERE run = ?1 AND path = ?2
                   AND (attempt = ?3 OR attempt IS NULL AND manifest = ?4))";
    let of = params![of.run.0, path, of.name(), manifest];
    Ok(db.prepare_cached(sql)?.query_row(of, |row| row.get(0))?)
}

fn of_row(row: &Row<'_>) -> Result<VersionView> {
    let (run, at): (Option<u64>, i64) = (row.get(4)?, row.get(10)?);
    let (tags, metadata): (String, String) = (row.get(7)?, row.get(8)?);
    let created_at: Timestamp = moment(at);
    Ok(VersionView {
        version: row.get(0)?,
        manifest: row.get(1)?,
        bytes: row.get(2)?,
        files: row.get(3)?,
        run: run.map(RunId),
        name: row.get(5)?,
        description: row.get(6)?,
        tags: from_json("tags", &tags)?,
        metadata: from_json("metadata", &metadata)?,
        created_by: row.get(9)?,
        created_at,
    })
}
