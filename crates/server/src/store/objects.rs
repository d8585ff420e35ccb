//! Rows of what has versions: datasets, model repositories, artifacts, and the other names of their versions. No rule about who
//! may do what lives here.
use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use vessl_core::ids::{ArtifactName, OrganizationName, ProjectName, ProjectRef, UserName};
use vessl_core::object::{ObjectKind, ObjectName};
use vessl_core::wire::registry::{ObjectUpdate, ObjectView, VersionView};

use super::runs::{from_json, moment, nanos, to_json};
use super::versions::{Which, find, newest};
use super::{Result, Store};

/// What people say about a thing or one of its versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// What it is, in words.
    pub description: Option<String>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Whatever its makers keep with it.
    pub metadata: BTreeMap<String, String>,
}

impl About {
    /// Takes over what changes.
    pub fn update(&mut self, change: ObjectUpdate) {
        if let Some(description) = change.description {
            self.description = Some(description).filter(|text| !text.is_empty());
        }
        if let Some(tags) = change.tags {
            self.tags = tags;
        }
        for (key, value) in change.metadata {
            if value.is_empty() {
                self.metadata.remove(&key);
            } else {
                self.metadata.insert(key, value);
            }
        }
    }

    /// From the columns `description, tags, metadata`, the first of which is number `first`.
    pub(super) fn of_row(row: &Row<'_>, first: usize) -> Result<Self> {
        let (tags, metadata): (String, String) = (row.get(first + 1)?, row.get(first + 2)?);
        Ok(Self {
            description: row.get(first)?,
            tags: from_json("tags", &tags)?,
            metadata: from_json("metadata", &metadata)?,
        })
    }
}

/// Who made something, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Who; not known of what is older than users.
    pub by: Option<UserName>,
    /// When.
    pub at: Timestamp,
}

/// Which things are listed.
#[derive(Clone, Debug)]
pub struct ObjectQuery {
    /// Their kind.
    pub kind: ObjectKind,
    /// Their organization.
    pub organization: OrganizationName,
    /// Their project, for artifacts of one project.
    pub project: Option<ProjectName>,
}

/// One artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Name.
    pub name: ArtifactName,
    /// Its newest version.
    pub newest: VersionView,
}

const SELECT: &str = "SELECT id, kind, organization, project, name, description, tags, metadata, created_by, created_at FROM objects";

impl Store {
    /// Makes a thing without versions; answers false if one of that name is there.
    pub async fn create_object(&self, name: ObjectName, about: About, made: Made) -> Result<bool> {
        self.write(move |db| insert(db, &name, &about, &made)).await
    }

    /// One thing with its newest version and its aliases.
    pub async fn object(&self, name: ObjectName) -> Result<Option<ObjectView>> {
        self.read(move |db| match id_of(db, &name)? {
            Some(id) => {
                let mut rows = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
                rows.query_and_then([id], |row| view(db, row))?.next().transpose()
            }
            None => Ok(None),
        })
        .await
    }

    /// Things by project and name.
    pub async fn objects(&self, query: ObjectQuery) -> Result<Vec<ObjectView>> {
        self.read(move |db| {
            let sql = format!(
                "{SELECT} WHERE kind = ?1 AND organization = ?2 AND (?3 IS NULL OR project = ?3) ORDER BY project, name"
            );
            let mut rows = db.prepare_cached(&sql)?;
            let project = query.project.as_ref().map(ProjectName::as_str);
            let of = params![query.kind.word(), query.organization.as_str(), project];
            rows.query_and_then(of, |row| view(db, row))?.collect()
        })
        .await
    }

    /// Changes what is said of a thing; answers false if there is none.
    pub async fn update_object(&self, name: ObjectName, change: ObjectUpdate) -> Result<bool> {
        self.write(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(false) };
            let sql = "SELECT description, tags, metadata FROM objects WHERE id = ?1";
            let mut rows = db.prepare_cached(sql)?;
            let found = rows.query_and_then([id], |row| About::of_row(row, 0))?.next().transpose()?;
            let mut about = found.unwrap_or_default();
            about.update(change);
            let sql = "UPDATE objects SET description = ?2, tags = ?3, metadata = ?4 WHERE id = ?1";
            let (tags, metadata) = (to_json("tags", &about.tags)?, to_json("metadata", &about.metadata)?);
            db.prepare_cached(sql)?.execute(params![id, about.description, tags, metadata])?;
            Ok(true)
        })
        .await
    }

    /// Forgets a thing with all of its versions, whose numbers are never given again; answers false if there is none.
    pub async fn delete_object(&self, name: ObjectName) -> Result<bool> {
        self.write(move |db| delete(db, &name)).await
    }

    /// Lets a version go by another name; answers false if there is no such version.
    pub async fn set_alias(&self, name: ObjectName, alias: String, number: u64) -> Result<bool> {
        self.write(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(false) };
            if find(db, id, &Which::Number(number))?.is_none() {
                return Ok(false);
            }
            let sql = "INSERT OR REPLACE INTO aliases (object, alias, number) VALUES (?1, ?2, ?3)";
            db.prepare_cached(sql)?.execute(params![id, alias, number])?;
            Ok(true)
        })
        .await
    }

    /// Forgets another name of a version; answers false if there is none.
    pub async fn delete_alias(&self, name: ObjectName, alias: String) -> Result<bool> {
        self.write(move |db| {
            let Some(id) = id_of(db, &name)? else { return Ok(false) };
            let sql = "DELETE FROM aliases WHERE object = ?1 AND alias = ?2";
            Ok(db.prepare_cached(sql)?.execute(params![id, alias])? > 0)
        })
        .await
    }

    /// Newest manifest of each of these artifacts that has one.
    pub async fn newest(&self, wanted: Vec<ArtifactName>) -> Result<BTreeMap<ArtifactName, String>> {
        let names = wanted.iter().cloned().map(ObjectName::from).collect();
        let mut found = self.newest_versions(names).await?;
        let manifest = |name: ArtifactName| {
            let version = found.remove(&ObjectName::from(name.clone()))?;
            Some((name, version.manifest))
        };
        Ok(wanted.into_iter().filter_map(manifest).collect())
    }

    /// Newest version of each of these that has one.
    pub async fn newest_versions(
        &self,
        wanted: Vec<ObjectName>,
    ) -> Result<BTreeMap<ObjectName, VersionView>> {
        self.read(move |db| {
            let mut found = BTreeMap::new();
            for name in wanted {
                if let Some(id) = id_of(db, &name)?
                    && let Some(version) = newest(db, id)?
                {
                    found.insert(name, version);
                }
            }
            Ok(found)
        })
        .await
    }

    /// Every artifact of an organization that has a version, by project and name.
    pub async fn artifacts(&self, organization: OrganizationName) -> Result<Vec<Artifact>> {
        let query =
            ObjectQuery { kind: ObjectKind::Artifact, organization: organization.clone(), project: None };
        let artifact = |view: ObjectView| {
            let project = ProjectRef::new(organization.clone(), view.project.unwrap_or_default());
            Some(Artifact { name: project.artifact(view.name), newest: view.newest? })
        };
        Ok(self.objects(query).await?.into_iter().filter_map(artifact).collect())
    }
}

/// The row of a thing.
pub(super) fn id_of(db: &Connection, name: &ObjectName) -> Result<Option<i64>> {
    let sql = "SELECT id FROM objects WHERE kind = ?1 AND organization = ?2 AND project = ?3 AND name = ?4";
    Ok(db.prepare_cached(sql)?.query_row(key(name), |row| row.get(0)).optional()?)
}

/// The row of a thing, which is made if it is not there.
pub(super) fn ensure(db: &Connection, name: &ObjectName, made: &Made) -> Result<i64> {
    if let Some(id) = id_of(db, name)? {
        return Ok(id);
    }
    insert(db, name, &About::default(), made)?;
    Ok(db.last_insert_rowid())
}

fn insert(db: &Connection, name: &ObjectName, about: &About, made: &Made) -> Result<bool> {
    if id_of(db, name)?.is_some() {
        return Ok(false);
    }
    let sql = "INSERT INTO objects
        (kind, organization, project, name, description, tags, metadata, last, created_by, created_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, coalesce((SELECT last FROM past_numbers
            WHERE kind = ?1 AND organization = ?2 AND project = ?3 AND name = ?4), 0), ?8, ?9)";
    let (kind, organization, project, own) = key(name);
    db.prepare_cached(sql)?.execute(params![
        kind,
        organization,
        project,
        own,
        about.description,
        to_json("tags", &about.tags)?,
        to_json("metadata", &about.metadata)?,
        made.by.as_ref().map(UserName::as_str),
        nanos(made.at),
    ])?;
    let sql = "DELETE FROM past_numbers WHERE kind = ?1 AND organization = ?2 AND project = ?3 AND name = ?4";
    db.prepare_cached(sql)?.execute(key(name))?;
    Ok(true)
}

/// Removes a thing and keeps what its last number was.
pub(super) fn delete(db: &Connection, name: &ObjectName) -> Result<bool> {
    let Some(id) = id_of(db, name)? else { return Ok(false) };
    let sql = "INSERT INTO past_numbers (kind, organization, project, name, last)
               SELECT kind, organization, project, name, last FROM objects WHERE id = ?1 AND last > 0";
    db.prepare_cached(sql)?.execute([id])?;
    db.prepare_cached("DELETE FROM objects WHERE id = ?1")?.execute([id])?;
    Ok(true)
}

fn key(name: &ObjectName) -> (&str, &str, &str, &str) {
    let project = name.project.as_ref().map_or("", ProjectName::as_str);
    (name.kind.word(), name.organization.as_str(), project, &name.name)
}

fn view(db: &Connection, row: &Row<'_>) -> Result<ObjectView> {
    let (id, kind): (i64, String) = (row.get(0)?, row.get(1)?);
    let kind = super::runs::word("kind of a thing", &kind)?;
    let (organization, project, name): (String, String, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
    let project = Some(project).filter(|project| !project.is_empty());
    let full = ObjectName {
        kind,
        organization: organization.as_str().into(),
        project: project.as_deref().map(ProjectName::from),
        name: name.clone(),
    };
    let About { description, tags, metadata } = About::of_row(row, 5)?;
    Ok(ObjectView {
        kind,
        organization,
        project,
        name,
        address: full.to_string(),
        description,
        tags,
        metadata,
        newest: newest(db, id)?,
        aliases: aliases(db, id)?,
        created_by: row.get(8)?,
        created_at: moment(row.get(9)?),
    })
}

fn aliases(db: &Connection, id: i64) -> Result<BTreeMap<String, u64>> {
    let mut rows = db.prepare_cached("SELECT alias, number FROM aliases WHERE object = ?1")?;
    let found = rows.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.collect::<rusqlite::Result<_>>()?)
}
