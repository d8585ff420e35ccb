//! Rows of names: organizations, projects, output files of runs.
use jiff::Timestamp;
use rusqlite::{Row, params};
use vessl_core::ids::{OrganizationName, ProjectRef, RunId};
use vessl_core::spec::labels::{self, NAME_FORM};
use vessl_core::wire::NameView;

use super::runs::{moment, nanos};
use super::{Result, Store};

/// One tree that a run left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Export path in the container.
    pub path: String,
    /// Hash of the tree.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
}

impl Store {
    /// Makes organization and project if they are not there.
    pub async fn ensure_project(&self, project: ProjectRef, at: Timestamp) -> Result<()> {
        self.write(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO organizations VALUES (?1, ?2)",
                params![project.organization.as_str(), nanos(at)],
            )?;
            let sql = "INSERT OR IGNORE INTO projects VALUES (?1, ?2, ?3)";
            db.execute(sql, params![project.organization.as_str(), project.project.as_str(), nanos(at)])?;
            Ok(())
        })
        .await?;
        self.names_changed();
        Ok(())
    }

    /// Makes an organization; answers false if it was there.
    pub async fn add_organization(&self, name: OrganizationName, at: Timestamp) -> Result<bool> {
        let sql = "INSERT OR IGNORE INTO organizations VALUES (?1, ?2)";
        let added = self.write(move |db| Ok(db.execute(sql, params![name.as_str(), nanos(at)])?)).await?;
        self.names_changed();
        Ok(added > 0)
    }

    /// Makes a project of an existing organization; answers false if it was there.
    pub async fn add_project(&self, new: ProjectRef, at: Timestamp) -> Result<bool> {
        let sql = "INSERT OR IGNORE INTO projects VALUES (?1, ?2, ?3)";
        let added = self
            .write(move |db| {
                Ok(db.execute(sql, params![new.organization.as_str(), new.project.as_str(), nanos(at)])?)
            })
            .await?;
        self.names_changed();
        Ok(added > 0)
    }

    /// All organizations by name.
    pub async fn organizations(&self) -> Result<Vec<NameView>> {
        self.read(|db| {
            let mut rows = db.prepare_cached("SELECT name, created_at FROM organizations ORDER BY name")?;
            Ok(rows.query_map([], name_view)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// All projects of an organization by name.
    pub async fn projects(&self, organization: OrganizationName) -> Result<Vec<NameView>> {
        self.read(move |db| {
            let sql = "SELECT name, created_at FROM projects WHERE organization = ?1 ORDER BY name";
            let mut rows = db.prepare_cached(sql)?;
            Ok(rows.query_map([organization.as_str()], name_view)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Trees that a run left, by path.
    pub async fn outputs(&self, run: RunId) -> Result<Vec<Output>> {
        self.read(move |db| {
            let sql = "SELECT path, manifest, bytes, files FROM outputs WHERE run = ?1 ORDER BY path";
            let mut rows = db.prepare_cached(sql)?;
            let found = rows.query_map([run.0], |row| {
                Ok(Output {
                    path: row.get(0)?,
                    manifest: row.get(1)?,
                    bytes: row.get(2)?,
                    files: row.get(3)?,
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }
}

fn name_view(row: &Row<'_>) -> rusqlite::Result<NameView> {
    Ok(NameView { name: row.get(0)?, created_at: moment(row.get(1)?) })
}

/// Refuses a name that cannot stand in a URL path or a reference.
pub(crate) fn check_name(what: &'static str, name: &str) -> std::result::Result<(), String> {
    if labels::is_name(name) {
        return Ok(());
    }
    Err(format!(
        "the {what} name `{}` is not usable: it must be {NAME_FORM}",
        name.chars().take(120).collect::<String>().escape_debug()
    ))
}
