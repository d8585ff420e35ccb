//! Rows of storages and volumes.
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use vessl_core::ids::{OrganizationName, RunId, StorageName, UserName, VolumeName};
use vessl_core::object::{StorageKind, VolumeRef};
use vessl_core::wire::registry::{ChangeKind, StorageView, VolumeChange};

use super::objects::Made;
use super::runs::{from_json, moment, nanos, to_json, word};
use super::{Result, Store};

/// A row of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its own name.
    pub name: VolumeName,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Store {
    /// Makes a storage; answers false if one of that name is there.
    pub async fn add_storage(
        &self,
        of: OrganizationName,
        new: StorageView,
        by: Option<UserName>,
    ) -> Result<bool> {
        self.write(move |db| {
            let sql = "INSERT OR IGNORE INTO storages
                (organization, name, kind, path, endpoint, region, credential, created_by, created_at)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
            let added = db.prepare_cached(sql)?.execute(params![
                of.as_str(),
                new.name,
                new.kind.word(),
                new.path,
                new.endpoint,
                new.region,
                new.credential_name,
                by.as_ref().map(UserName::as_str),
                nanos(new.created_at)
            ])?;
            Ok(added > 0)
        })
        .await
    }

    /// Storages of an organization that have rows, by name.
    pub async fn storages(&self, of: OrganizationName) -> Result<Vec<StorageView>> {
        self.read(move |db| {
            let sql = "SELECT name, kind, path, endpoint, region, credential, created_at FROM storages
                       WHERE organization = ?1 ORDER BY name";
            let mut rows = db.prepare_cached(sql)?;
            rows.query_and_then([of.as_str()], storage)?.collect()
        })
        .await
    }

    /// Forgets a storage that has no volumes; answers whether there was one without.
    pub async fn delete_storage(&self, of: OrganizationName, name: StorageName) -> Result<bool> {
        self.write(move |db| {
            let sql = "DELETE FROM storages WHERE organization = ?1 AND name = ?2 AND NOT EXISTS
                           (SELECT 1 FROM volumes WHERE organization = ?1 AND storage = ?2)";
            Ok(db.prepare_cached(sql)?.execute(params![of.as_str(), name.as_str()])? > 0)
        })
        .await
    }

    /// Makes a volume of a storage; answers false if one of that name is there.
    pub async fn add_volume(&self, volume: VolumeRef, tags: Vec<String>, made: Made) -> Result<bool> {
        self.write(move |db| {
            let sql =
                "INSERT OR IGNORE INTO volumes (organization, storage, name, created_by, created_at, tags)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let tags = to_json("tags", &tags)?;
            let (of, storage, name) = key(&volume);
            let by = made.by.as_ref().map(UserName::as_str);
            Ok(db.prepare_cached(sql)?.execute(params![of, storage, name, by, nanos(made.at), tags])? > 0)
        })
        .await
    }

    /// Volumes of a storage by name.
    pub async fn volumes(&self, of: OrganizationName, storage: StorageName) -> Result<Vec<Volume>> {
        self.read(move |db| {
            let sql = "SELECT name, tags, created_at FROM volumes WHERE organization = ?1 AND storage = ?2 ORDER BY name";
            let mut rows = db.prepare_cached(sql)?;
            rows.query_and_then(params![of.as_str(), storage.as_str()], of_row)?.collect()
        })
        .await
    }

    /// One volume.
    pub async fn volume(&self, volume: VolumeRef) -> Result<Option<Volume>> {
        self.read(move |db| {
            let sql = "SELECT name, tags, created_at FROM volumes
                       WHERE organization = ?1 AND storage = ?2 AND name = ?3";
            let mut rows = db.prepare_cached(sql)?;
            rows.query_and_then(key(&volume), of_row)?.next().transpose()
        })
        .await
    }

    /// Notes a change of a volume. The changes of one command are one: its files and bytes are added up, and it is about the directory
    /// that all of them are in.
    pub async fn add_volume_change(
        &self,
        volume: VolumeRef,
        change: VolumeChange,
        command: Option<String>,
    ) -> Result<()> {
        self.write(move |db| {
            let Some(command) = command else { return put_change(db, &volume, &change) };
            let (of, storage, name) = key(&volume);
            let sql = "SELECT id, path FROM volume_changes
                       WHERE organization = ?1 AND storage = ?2 AND volume = ?3 AND command = ?4";
            let known = db
                .prepare_cached(sql)?
                .query_row(params![of, storage, name, command], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                })
                .optional()?;
            let Some((id, path)) = known else {
                put_change(db, &volume, &change)?;
                let sql = "UPDATE volume_changes SET command = ?1 WHERE id = last_insert_rowid()";
                db.prepare_cached(sql)?.execute([command])?;
                return Ok(());
            };
            let sql = "UPDATE volume_changes SET at = ?2, path = ?3, files = coalesce(files, 0) + ?4,
                           bytes = coalesce(bytes, 0) + ?5 WHERE id = ?1";
            let (files, bytes) = (change.files.unwrap_or_default(), change.bytes.unwrap_or_default());
            let path = common(&path, &change.path);
            db.prepare_cached(sql)?.execute(params![id, nanos(change.at), path, files, bytes])?;
            Ok(())
        })
        .await
    }

    /// The newest changes of a volume, the newest first.
    pub async fn volume_changes(&self, volume: VolumeRef) -> Result<Vec<VolumeChange>> {
        self.read(move |db| {
            let sql = "SELECT at, changed_by, what, path, files, bytes, run, attempt FROM volume_changes
                       WHERE organization = ?1 AND storage = ?2 AND volume = ?3 ORDER BY id DESC";
            let mut rows = db.prepare_cached(sql)?;
            rows.query_and_then(key(&volume), change)?.collect()
        })
        .await
    }

    /// Forgets a volume with its history; answers false if there was none.
    pub async fn delete_volume(&self, volume: VolumeRef) -> Result<bool> {
        self.write(move |db| {
            let sql = "DELETE FROM volume_changes WHERE organization = ?1 AND storage = ?2 AND volume = ?3";
            db.prepare_cached(sql)?.execute(key(&volume))?;
            let sql = "DELETE FROM volumes WHERE organization = ?1 AND storage = ?2 AND name = ?3";
            Ok(db.prepare_cached(sql)?.execute(key(&volume))? > 0)
        })
        .await
    }
}

/// Most changes that are kept of a volume: the newest.
const KEPT: u32 = 1000;

/// Notes a change, unless the same export was noted before.
pub(super) fn put_change(db: &Connection, volume: &VolumeRef, change: &VolumeChange) -> Result<()> {
    let (of, storage, name) = key(volume);
    let sql = "INSERT OR IGNORE INTO volume_changes
        (organization, storage, volume, at, changed_by, what, path, files, bytes, run, attempt)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    db.prepare_cached(sql)?.execute(params![
        of,
        storage,
        name,
        nanos(change.at),
        change.by,
        change.what.word(),
        change.path,
        change.files,
        change.bytes,
        change.run.map(|run| run.0),
        change.attempt
    ])?;
    let sql = "DELETE FROM volume_changes WHERE organization = ?1 AND storage = ?2 AND volume = ?3 AND id <=
        (SELECT id FROM volume_changes WHERE organization = ?1 AND storage = ?2 AND volume = ?3
         ORDER BY id DESC LIMIT 1 OFFSET ?4)";
    db.prepare_cached(sql)?.execute(params![of, storage, name, KEPT])?;
    Ok(())
}

fn change(row: &Row<'_>) -> Result<VolumeChange> {
    let (what, run): (String, Option<u64>) = (row.get(2)?, row.get(6)?);
    Ok(VolumeChange {
        at: moment(row.get(0)?),
        by: row.get(1)?,
        what: word::<ChangeKind>("kind of a change", &what)?,
        path: row.get(3)?,
        files: row.get(4)?,
        bytes: row.get(5)?,
        run: run.map(RunId),
        attempt: row.get(7)?,
    })
}

/// The directory that both paths are in; empty for the topmost one. A path is in itself.
fn common(one: &str, other: &str) -> String {
    let pairs = one.split('/').zip(other.split('/'));
    let parts: Vec<&str> = pairs.take_while(|(one, other)| one == other).map(|(part, _)| part).collect();
    parts.join("/")
}

fn key(volume: &VolumeRef) -> (&str, &str, &str) {
    (volume.organization.as_str(), volume.storage.as_str(), volume.volume.as_str())
}

fn of_row(row: &Row<'_>) -> Result<Volume> {
    let (name, tags): (String, String) = (row.get(0)?, row.get(1)?);
    Ok(Volume { name: name.into(), tags: from_json("tags", &tags)?, created_at: moment(row.get(2)?) })
}

fn storage(row: &Row<'_>) -> Result<StorageView> {
    let kind: String = row.get(1)?;
    Ok(StorageView {
        name: row.get(0)?,
        kind: word::<StorageKind>("kind of a storage", &kind)?,
        path: row.get(2)?,
        endpoint: row.get(3)?,
        region: row.get(4)?,
        credential_name: row.get(5)?,
        created_at: moment(row.get(6)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_have_in_common() {
        let check = |one: &str, other: &str, expected: &str| assert_eq!(common(one, other), expected);
        check("a/b", "a/c", "a");
        check("a/b", "a/b", "a/b");
        check("a", "a/b/c", "a");
        check("a/b", "ab", "");
        check("", "a", "");
    }
}
