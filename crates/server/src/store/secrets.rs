//! Rows of stored secrets and credentials. Values enter and leave sealed; this module has no key.
use rusqlite::{Connection, Row, params};
use vessl_core::ids::OrganizationName;
use vessl_core::wire::{SecretView, StoredKind};

use super::runs::{moment, nanos, word};
use super::{Result, Store};

/// The two lists of stored values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Values for `env`.
    Secret,
    /// Logins for registries and git.
    Credential,
}

impl Class {
    /// The word of the column and of messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Credential => "credential",
        }
    }
}

/// A row to be stored.
#[derive(Debug)]
pub struct NewSealed {
    /// Organization.
    pub organization: OrganizationName,
    /// Which list.
    pub class: Class,
    /// What people see.
    pub view: SecretView,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

/// A row read back to be opened.
#[derive(Debug)]
pub struct Sealed {
    /// What it is.
    pub kind: StoredKind,
    /// User name, for a credential.
    pub username: Option<String>,
    /// The sealed value.
    pub value: Vec<u8>,
}

impl Store {
    /// Stores a value under its name; answers whether it replaced one.
    pub async fn put_sealed(&self, new: NewSealed) -> Result<bool> {
        let replaced = self.write(move |db| put(db, &new)).await?;
        self.names_changed();
        Ok(replaced)
    }

    /// Whether there is any sealed value.
    pub async fn has_sealed(&self) -> Result<bool> {
        self.read(|db| Ok(db.query_row("SELECT EXISTS (SELECT 1 FROM secrets)", [], |row| row.get(0))?)).await
    }

    /// Names of one list.
    pub async fn sealed_names(
        &self,
        organization: OrganizationName,
        class: Class,
    ) -> Result<Vec<SecretView>> {
        self.read(move |db| {
            let sql = "SELECT name, kind, username, created_at FROM secrets
                       WHERE organization = ?1 AND class = ?2 ORDER BY name";
            let mut rows = db.prepare_cached(sql)?;
            let found = rows.query_and_then(params![organization.as_str(), class.word()], |row| {
                let (name, kind, username) = (row.get(0)?, kind(row, 1)?, row.get(2)?);
                let created_at = moment(row.get(3)?);
                Ok(SecretView { name, kind, username, created_at, replaced: false })
            })?;
            found.collect()
        })
        .await
    }

    /// One sealed value.
    pub async fn sealed(
        &self,
        organization: OrganizationName,
        class: Class,
        name: String,
    ) -> Result<Option<Sealed>> {
        self.read(move |db| {
            let sql = "SELECT kind, username, sealed FROM secrets
                       WHERE organization = ?1 AND class = ?2 AND name = ?3";
            let mut rows = db.prepare_cached(sql)?;
            let mut found = rows
                .query_and_then(params![organization.as_str(), class.word(), name], |row| {
                    Ok(Sealed { kind: kind(row, 0)?, username: row.get(1)?, value: row.get(2)? })
                })?;
            found.next().transpose()
        })
        .await
    }

    /// Forgets one value; answers whether it was there.
    pub async fn delete_sealed(
        &self,
        organization: OrganizationName,
        class: Class,
        name: String,
    ) -> Result<bool> {
        let sql = "DELETE FROM secrets WHERE organization = ?1 AND class = ?2 AND name = ?3";
        let gone = self
            .write(move |db| Ok(db.execute(sql, params![organization.as_str(), class.word(), name])?))
            .await?;
        self.names_changed();
        Ok(gone > 0)
    }
}

fn kind(row: &Row<'_>, column: usize) -> Result<StoredKind> {
    word("kind of a secret", &row.get::<_, String>(column)?)
}

fn put(db: &Connection, new: &NewSealed) -> Result<bool> {
    let view = &new.view;
    let sql = "SELECT EXISTS (SELECT 1 FROM secrets WHERE organization = ?1 AND class = ?2 AND name = ?3)";
    let replaced =
        db.query_row(sql, params![new.organization.as_str(), new.class.word(), view.name], |row| row.get(0))?;
    db.execute(
        "INSERT OR REPLACE INTO secrets (organization, class, name, kind, username, sealed, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            new.organization.as_str(),
            new.class.word(),
            view.name,
            view.kind.to_string(),
            view.username,
            new.sealed,
            nanos(view.created_at)
        ],
    )?;
    Ok(replaced)
}
