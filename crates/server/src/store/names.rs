//! Rows of names: organizations, projects, artifacts with their history, output files of runs.
use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use vessl_core::ids::{ArtifactName, OrganizationName, ProjectRef, RunId};
use vessl_core::spec::labels::{self, NAME_FORM};
use vessl_core::wire::NameView;

use super::runs::{Export, StoredRun, moment, nanos};
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

/// One version of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// From 1.
    pub number: u64,
    /// Hash of the tree.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
    /// The run that made it.
    pub run: Option<RunId>,
    /// When.
    pub created_at: Timestamp,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Name.
    pub name: ArtifactName,
    /// Its newest version.
    pub newest: Version,
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

    /// Newest manifest of each of these artifacts that exists.
    pub async fn newest(&self, wanted: Vec<ArtifactName>) -> Result<BTreeMap<ArtifactName, String>> {
        self.read(move |db| {
            let sql = "SELECT manifest FROM artifacts WHERE organization = ?1 AND project = ?2 AND name = ?3
                       ORDER BY version DESC LIMIT 1";
            let mut row = db.prepare_cached(sql)?;
            let mut found = BTreeMap::new();
            for name in wanted {
                if let Some(manifest) = row.query_row(params_of(&name), |row| row.get(0)).optional()? {
                    found.insert(name, manifest);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Every artifact of an organization with its newest version, by project and name.
    pub async fn artifacts(&self, organization: OrganizationName) -> Result<Vec<Artifact>> {
        self.read(move |db| {
            // Beside a `max`, the other columns are those of its row.
            let sql = "SELECT max(version), manifest, bytes, files, run, created_at, project, name
                       FROM artifacts WHERE organization = ?1 GROUP BY project, name ORDER BY project, name";
            let mut rows = db.prepare_cached(sql)?;
            let found = rows.query_map([organization.as_str()], |row| {
                let (project, name): (String, String) = (row.get(6)?, row.get(7)?);
                let name = ProjectRef::new(organization.clone(), project).artifact(name);
                Ok(Artifact { name, newest: version(row)? })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// History of one artifact, newest first.
    pub async fn versions(&self, name: ArtifactName) -> Result<Vec<Version>> {
        self.read(move |db| {
            let sql = "SELECT version, manifest, bytes, files, run, created_at FROM artifacts
                       WHERE organization = ?1 AND project = ?2 AND name = ?3 ORDER BY version DESC";
            let mut rows = db.prepare_cached(sql)?;
            Ok(rows.query_map(params_of(&name), version)?.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// The number of the version of an artifact that is this tree; the newest, if it is several.
    pub async fn number_of(&self, name: ArtifactName, manifest: String) -> Result<Option<u64>> {
        self.read(move |db| {
            let sql = "SELECT max(version) FROM artifacts
                       WHERE organization = ?1 AND project = ?2 AND name = ?3 AND manifest = ?4";
            let of = (name.organization.as_str(), name.project.as_str(), &name.name, manifest);
            Ok(db.prepare_cached(sql)?.query_row(of, |row| row.get(0))?)
        })
        .await
    }

    /// Removes one version of an artifact, or all of them; answers how many. Their numbers are never given again.
    pub async fn delete_versions(&self, name: ArtifactName, version: Option<u64>) -> Result<usize> {
        self.write(move |db| {
            let (organization, project) = (name.organization.as_str(), name.project.as_str());
            let sql = "INSERT OR REPLACE INTO artifact_numbers (organization, project, name, last)
                       SELECT organization, project, name, max(version, coalesce((SELECT last FROM artifact_numbers
                           WHERE organization = ?1 AND project = ?2 AND name = ?3), 0))
                       FROM artifacts WHERE organization = ?1 AND project = ?2 AND name = ?3
                       ORDER BY version DESC LIMIT 1";
            db.prepare_cached(sql)?.execute(params![organization, project, name.name])?;
            let sql = "DELETE FROM artifacts WHERE organization = ?1 AND project = ?2 AND name = ?3
                       AND (?4 IS NULL OR version = ?4)";
            let version = version.map(|number| i64::try_from(number).unwrap_or(i64::MAX));
            Ok(db.prepare_cached(sql)?.execute(params![organization, project, name.name, version])?)
        })
        .await
    }

    /// Every version that a run or an artifact names.
    pub async fn manifests(&self) -> Result<Vec<String>> {
        self.read(|db| {
            let sql = "SELECT manifest FROM artifacts UNION SELECT manifest FROM outputs";
            let mut rows = db.prepare_cached(sql)?;
            Ok(rows.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?)
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

/// Registers one export inside the transaction that saves that it was seen: the run's tree, and the next version of an
/// artifact. One that is registered already stays as it is, so that an export that is seen twice is one version.
pub(super) fn put_export(db: &Connection, stored: &StoredRun, export: &Export) -> Result<()> {
    let (bytes, files) = (export.bytes, export.files);
    let sql = "SELECT EXISTS (SELECT 1 FROM outputs WHERE run = ?1 AND path = ?2 AND manifest = ?3)";
    let known = params![stored.id().0, export.path, export.manifest];
    if db.prepare_cached(sql)?.query_row(known, |row| row.get(0))? {
        return Ok(());
    }
    db.prepare_cached(
        "INSERT OR REPLACE INTO outputs (run, path, manifest, bytes, files) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![stored.id().0, export.path, export.manifest, bytes, files])?;
    let Some(artifact) = &export.artifact else { return Ok(()) };
    db.prepare_cached(
        "INSERT INTO artifacts (organization, project, name, version, manifest, bytes, files, run, created_at)
         SELECT ?1, ?2, ?3, max(coalesce(max(version), 0), coalesce((SELECT last FROM artifact_numbers
             WHERE organization = ?1 AND project = ?2 AND name = ?3), 0)) + 1, ?4, ?5, ?6, ?7, ?8
         FROM artifacts WHERE organization = ?1 AND project = ?2 AND name = ?3",
    )?
    .execute(params![
        artifact.organization.as_str(),
        artifact.project.as_str(),
        artifact.name,
        export.manifest,
        bytes,
        files,
        stored.id().0,
        nanos(stored.doc.decided_at)
    ])?;
    Ok(())
}

fn params_of(name: &ArtifactName) -> impl rusqlite::Params {
    (name.organization.as_str(), name.project.as_str(), &name.name)
}

fn name_view(row: &Row<'_>) -> rusqlite::Result<NameView> {
    Ok(NameView { name: row.get(0)?, created_at: moment(row.get(1)?) })
}

fn version(row: &Row<'_>) -> rusqlite::Result<Version> {
    let run: Option<u64> = row.get(4)?;
    Ok(Version {
        number: row.get(0)?,
        manifest: row.get(1)?,
        bytes: row.get(2)?,
        files: row.get(3)?,
        run: run.map(RunId),
        created_at: moment(row.get(5)?),
    })
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
