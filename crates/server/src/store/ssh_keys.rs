//! Rows of public keys that let their owners into runs.
use rusqlite::{Connection, OptionalExtension, Row};
use vessl_core::wire::SshKeyView;

use super::runs::{moment, nanos};
use super::{Result, Store};

const SELECT: &str = "SELECT name, fingerprint, key, user, created_at FROM ssh_keys";

/// What became of a key that was to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there now.
    New,
    /// It was there before, like this.
    Known(SshKeyView),
    /// Another one has the name.
    NameTaken,
}

impl Store {
    /// Adds a key, unless there is one like it.
    pub async fn add_ssh_key(&self, view: SshKeyView) -> Result<Added> {
        self.write(move |db| add(db, &view)).await
    }

    /// All keys, by name.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKeyView>> {
        self.read(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} ORDER BY name"))?;
            Ok(rows.query_map([], view)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The key with this fingerprint.
    pub async fn ssh_key(&self, fingerprint: String) -> Result<Option<SshKeyView>> {
        self.read(move |db| find(db, "fingerprint", &fingerprint)).await
    }

    /// Forgets the key of this name or fingerprint, and says which it was.
    pub async fn delete_ssh_key(&self, which: String) -> Result<Option<SshKeyView>> {
        self.write(move |db| {
            let found = match find(db, "name", &which)? {
                None => find(db, "fingerprint", &which)?,
                found => found,
            };
            if let Some(view) = &found {
                db.execute("DELETE FROM ssh_keys WHERE fingerprint = ?1", [&view.fingerprint])?;
            }
            Ok(found)
        })
        .await
    }
}

fn add(db: &Connection, new: &SshKeyView) -> Result<Added> {
    if let Some(known) = find(db, "fingerprint", &new.fingerprint)? {
        return Ok(Added::Known(known));
    }
    if find(db, "name", &new.name)?.is_some() {
        return Ok(Added::NameTaken);
    }
    let sql = "INSERT INTO ssh_keys (fingerprint, name, key, user, created_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let SshKeyView { name, fingerprint, key, user, created_at } = new;
    db.execute(sql, rusqlite::params![fingerprint, name, key, user, nanos(*created_at)])?;
    Ok(Added::New)
}

fn find(db: &Connection, column: &str, value: &str) -> Result<Option<SshKeyView>> {
    let mut row = db.prepare_cached(&format!("{SELECT} WHERE {column} = ?1"))?;
    Ok(row.query_row([value], view).optional()?)
}

fn view(row: &Row<'_>) -> rusqlite::Result<SshKeyView> {
    Ok(SshKeyView {
        name: row.get(0)?,
        fingerprint: row.get(1)?,
        key: row.get(2)?,
        user: row.get(3)?,
        created_at: moment(row.get(4)?),
    })
}
