//! Rows of runs: insert, load, page through, save guarded by revision, delete. It holds no rule about runs.
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::de::{DeserializeOwned, IntoDeserializer};
use serde::{Deserialize, Serialize};
use vessl_core::credential::{CredentialKind, CredentialRef};
use vessl_core::ids::{
    AttemptId, ClusterName, CredentialName, NodeName, Nonce, PresetName, ProjectRef, RunId, UserName,
};
use vessl_core::object::{ObjectName, VolumeRef};
use vessl_core::plan::{Amounts, Plan};
use vessl_core::record::{Transfer, Usage};
use vessl_core::run::{Run, State, Status, Verdict};
use vessl_core::units::Span;
use vessl_core::wire::{PhaseChange, RunEventKind, RunFrom, RunKind, StatusChange, Sweep};

use super::unfinished::UnreadableRun;
use super::versions::put_export;
use super::{Result, Store, StoreError};

/// One run with everything that changes during its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Grows by one with every save; a save names the one it loaded.
    pub revision: u64,
    /// Project.
    pub project: ProjectRef,
    /// Name.
    pub name: String,
    /// Description.
    pub description: Option<String>,
    /// The rest.
    pub doc: Doc,
}

impl StoredRun {
    /// Identity.
    pub fn id(&self) -> RunId {
        self.doc.run.id
    }
    /// Status word last stored.
    pub fn status(&self) -> Status {
        self.doc.history.last().map_or(Status::Queued, |change| change.status)
    }
}

/// What the `doc` column holds as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doc {
    /// State as the rules see it.
    pub run: Run,
    /// Tags.
    pub tags: Vec<String>,
    /// What it is.
    pub kind: RunKind,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Who submitted it; absent in runs from before that was kept.
    #[serde(default)]
    pub created_by: Option<UserName>,
    /// Cluster.
    pub cluster: ClusterName,
    /// Preset.
    pub preset: Option<PresetName>,
    /// Amounts.
    pub resources: Amounts,
    /// Image as written.
    pub image: String,
    /// Digest of its manifest, once it is here.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// How its commands ended, once they did.
    #[serde(default)]
    pub commands: Option<CommandsEnd>,
    /// Why the run is where it is.
    pub why: String,
    /// When that was decided.
    pub decided_at: Timestamp,
    /// Last event of this attempt's agent that was taken over.
    pub agent_seq: u64,
    /// Last event of the run.
    pub seq: u64,
    /// Every change of status, oldest first, never empty.
    pub history: Vec<StatusChange>,
    /// Results of the imports.
    pub imports: Vec<Transfer>,
    /// Results of the exports.
    pub exports: Vec<Transfer>,
    /// What its agent was doing since when, oldest first.
    #[serde(default)]
    pub phases: Vec<PhaseChange>,
    /// What it took of the machine, once that is known.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// Milliseconds that were added to the time limit of this attempt.
    #[serde(default)]
    pub extended: u64,
    /// Candidate nodes; empty means every node of the cluster.
    pub nodes: Vec<NodeName>,
    /// The sweep that it belongs to.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// Longest time of the commands as its submit asked for it.
    #[serde(default)]
    pub max_runtime: Option<Span>,
    /// The run that it was made from.
    #[serde(default)]
    pub from: Option<RunFrom>,
    /// Attempts before the current one, oldest first.
    #[serde(default)]
    pub attempts: Vec<PastAttempt>,
    /// Ports that everybody may use who reaches the server's port.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub public_ports: BTreeSet<u16>,
}

/// An attempt that another one followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastAttempt {
    /// Its number.
    pub number: u32,
    /// What made it this one.
    pub nonce: Nonce,
    /// How it ended.
    pub verdict: Verdict,
    /// Where it was placed.
    pub node: Option<NodeName>,
    /// When its commands started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Results of its imports.
    #[serde(default)]
    pub imports: Vec<Transfer>,
    /// Digest of its image.
    #[serde(default)]
    pub image_digest: Option<String>,
    /// Indices of the GPUs that it had; not kept of attempts from before that was recorded.
    #[serde(default)]
    pub gpus: Vec<u32>,
}

/// How the commands of a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandsEnd {
    /// Exit status, 128+n for a signal.
    pub exit_code: i32,
    /// In words.
    pub words: String,
}

/// Which stored values a run needs when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredKeys")]
pub struct Keys {
    /// Key of the agent's `env` secrets → name of the stored secret.
    pub stored: BTreeMap<String, String>,
    /// Credentials.
    pub credentials: BTreeSet<CredentialRef>,
    /// Key of the agent's `env` secrets that were taken over from another run → the run that they were given to.
    pub given: BTreeMap<String, RunId>,
}

/// As it is read: once there was a list for each kind.
#[derive(Deserialize)]
struct StoredKeys {
    stored: BTreeMap<String, String>,
    #[serde(default)]
    credentials: BTreeSet<CredentialRef>,
    #[serde(default)]
    given: BTreeMap<String, RunId>,
    #[serde(default)]
    registry: Vec<CredentialName>,
    #[serde(default)]
    git: Vec<CredentialName>,
}

impl From<StoredKeys> for Keys {
    fn from(keys: StoredKeys) -> Self {
        let StoredKeys { stored, mut credentials, given, registry, git } = keys;
        let of = |kind| move |name| CredentialRef { kind, name };
        credentials.extend(registry.into_iter().map(of(CredentialKind::Registry)));
        credentials.extend(git.into_iter().map(of(CredentialKind::Git)));
        Self { stored, credentials, given }
    }
}

/// What a run was submitted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// Its plan.
    pub plan: Plan,
    /// Canonical run file without secret values.
    pub yaml: String,
    /// What it needs.
    pub keys: Keys,
}

/// A run to be inserted.
#[derive(Debug)]
pub struct NewRun {
    /// The run at revision 1.
    pub stored: StoredRun,
    /// What it was submitted with.
    pub texts: Texts,
    /// Sealed literal secrets by key.
    pub sealed: Vec<(String, Vec<u8>)>,
    /// Idempotency key and digest of the submit.
    pub key: Option<(String, Vec<u8>)>,
}

impl NewRun {
    /// Notes which of its literal secrets were given to another run.
    pub fn take_over(&mut self, given: BTreeMap<String, RunId>) {
        let is_own = |key: &String| self.sealed.iter().any(|(name, _)| name == key);
        self.texts.keys.given = given.into_iter().filter(|(key, _)| is_own(key)).collect();
    }
}

/// What became of an insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored.
    New,
    /// The same submit was stored before as this run.
    Repeat(RunId),
    /// Another submit used the key for this run.
    KeyTaken(RunId),
}

/// One event of a run's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    /// From 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What it tells.
    pub kind: RunEventKind,
    /// The new status, for `status`.
    pub status: Option<Status>,
    /// In words.
    pub message: String,
}

/// A finished export to be registered together with the save that takes note of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Export {
    /// The attempt that exported it. What is seen again with the same attempt and path is the same export.
    pub attempt: AttemptId,
    /// Export path in the container.
    pub path: String,
    /// Hash of the tree.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
    /// What it becomes the next version of; `None` for the run's own output files.
    pub object: Option<ObjectName>,
    /// The version that it makes, where that is not the exported tree itself.
    pub merged: Option<Merged>,
    /// The volume that it was written to; then there is no tree.
    pub volume: Option<VolumeRef>,
}

/// An exported tree over another version of what it is exported to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Number of the other version, which must still be the newest; `None` where there was none.
    pub base: Option<u64>,
    /// Hash of the tree.
    pub manifest: String,
    /// Bytes in it.
    pub bytes: u64,
    /// Files in it.
    pub files: u64,
}

/// What is written in one save.
#[derive(Debug)]
pub struct Save {
    /// The run with the revision that was loaded.
    pub stored: StoredRun,
    /// Whether a driver still has work to do.
    pub unfinished: bool,
    /// New events, numbered on from what was loaded.
    pub events: Vec<StoredEvent>,
    /// Results to be registered.
    pub exports: Vec<Export>,
}

impl Store {
    /// Inserts a run with its first event, unless its idempotency key was used before.
    pub async fn insert_run(&self, new: NewRun) -> Result<Inserted> {
        self.write(move |db| insert(db, &new)).await
    }

    /// Loads one run.
    pub async fn run(&self, id: RunId) -> Result<Option<StoredRun>> {
        // A number that SQLite cannot hold is no run's.
        if i64::try_from(id.0).is_err() {
            return Ok(None);
        }
        self.read(move |db| load(db, id)).await
    }

    /// The run that was submitted with this key, with its digest.
    pub async fn run_by_key(&self, project: ProjectRef, key: String) -> Result<Option<(RunId, Vec<u8>)>> {
        self.read(move |db| by_key(db, &project, &key)).await
    }

    /// What the run was submitted with.
    pub async fn run_texts(&self, id: RunId) -> Result<Option<Texts>> {
        if i64::try_from(id.0).is_err() {
            return Ok(None);
        }
        self.read(move |db| texts(db, id)).await
    }

    /// Saves what a driver or a request decided, if nobody saved in between. Answers the new revision.
    pub async fn save_run(&self, save: Save) -> Result<u64> {
        self.write(move |db| update(db, &save)).await
    }

    /// Events after `after`, oldest first, at most `limit`.
    pub async fn events(&self, id: RunId, after: u64, limit: u32) -> Result<Vec<StoredEvent>> {
        self.read(move |db| events(db, id, after, limit)).await
    }

    /// Sealed literal secrets of a run by key.
    pub async fn run_secrets(&self, id: RunId) -> Result<BTreeMap<String, Vec<u8>>> {
        self.read(move |db| {
            let mut rows = db.prepare_cached("SELECT name, sealed FROM run_secrets WHERE run = ?1")?;
            let found = rows.query_map([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    /// Deletes a run that no driver works for, with everything stored for it.
    pub async fn delete_run(&self, id: RunId, revision: u64) -> Result<()> {
        self.write(move |db| {
            let sql = "DELETE FROM runs WHERE id = ?1 AND revision = ?2 AND unfinished = 0";
            match db.prepare_cached(sql)?.execute(params![id.0, revision])? {
                0 => Err(StoreError::Stale(id)),
                _ => Ok(()),
            }
        })
        .await
    }
}

pub(super) const SELECT: &str =
    "SELECT revision, organization, project, name, description, doc, id FROM runs";

fn insert(db: &Connection, new: &NewRun) -> Result<Inserted> {
    let (stored, id) = (&new.stored, new.stored.id());
    if let Some((key, digest)) = &new.key
        && let Some((earlier, found)) = by_key(db, &stored.project, key)?
    {
        return Ok(if found == *digest { Inserted::Repeat(earlier) } else { Inserted::KeyTaken(earlier) });
    }
    db.prepare_cached(
        "INSERT INTO runs (id, organization, project, revision, status, unfinished, name, description, doc,
         idempotency_key, submit_digest, created_at) VALUES (?1, ?2, ?3, ?4, ?5, 1, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        id.0,
        stored.project.organization.as_str(),
        stored.project.project.as_str(),
        stored.revision,
        stored.status().word(),
        stored.name,
        stored.description,
        to_json("run", &stored.doc)?,
        new.key.as_ref().map(|key| &key.0),
        new.key.as_ref().map(|key| &key.1),
        nanos(stored.doc.created_at),
    ])?;
    put_tags(db, stored)?;
    let texts = &new.texts;
    db.prepare_cached("INSERT INTO run_texts (run, plan, yaml, keys) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id.0, to_json("plan", &texts.plan)?, texts.yaml, to_json("keys", &texts.keys)?])?;
    for (name, sealed) in &new.sealed {
        db.prepare_cached("INSERT INTO run_secrets (run, name, sealed) VALUES (?1, ?2, ?3)")?
            .execute(params![id.0, name, sealed])?;
    }
    let first = StoredEvent {
        seq: stored.doc.seq,
        at: stored.doc.created_at,
        kind: RunEventKind::Status,
        status: Some(stored.status()),
        message: stored.doc.why.clone(),
    };
    put_event(db, id, &first)?;
    Ok(Inserted::New)
}

fn by_key(db: &Connection, project: &ProjectRef, key: &str) -> Result<Option<(RunId, Vec<u8>)>> {
    let sql = "SELECT id, submit_digest FROM runs WHERE organization = ?1 AND project = ?2 AND idempotency_key = ?3";
    let mut row = db.prepare_cached(sql)?;
    let found = row.query_row(params![project.organization.as_str(), project.project.as_str(), key], |row| {
        Ok((RunId(row.get(0)?), row.get(1)?))
    });
    Ok(found.optional()?)
}

pub(super) fn load(db: &Connection, id: RunId) -> Result<Option<StoredRun>> {
    let mut rows = db.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
    rows.query_and_then([id.0], from_row)?.next().transpose()
}

fn texts(db: &Connection, id: RunId) -> Result<Option<Texts>> {
    let mut row = db.prepare_cached("SELECT plan, yaml, keys FROM run_texts WHERE run = ?1")?;
    let found: Option<(String, String, String)> =
        row.query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    let Some((plan, yaml, keys)) = found else { return Ok(None) };
    Ok(Some(Texts { plan: from_json("plan", &plan)?, yaml, keys: from_json("keys", &keys)? }))
}

fn update(db: &Connection, save: &Save) -> Result<u64> {
    let stored = &save.stored;
    let changed = db
        .prepare_cached(
            "UPDATE runs SET revision = revision + 1, status = ?3, unfinished = ?4, name = ?5, description = ?6,
             doc = ?7, started_at = ?8, ended_at = ?9 WHERE id = ?1 AND revision = ?2",
        )?
        .execute(params![
            stored.id().0,
            stored.revision,
            stored.status().word(),
            save.unfinished,
            stored.name,
            stored.description,
            to_json("run", &stored.doc)?,
            stored.doc.run.started_at().map(nanos),
            stored.doc.run.ended_at().map(nanos),
        ])?;
    if changed == 0 {
        return Err(StoreError::Stale(stored.id()));
    }
    put_tags(db, stored)?;
    for event in &save.events {
        put_event(db, stored.id(), event)?;
    }
    for export in &save.exports {
        put_export(db, stored, export)?;
    }
    Ok(stored.revision + 1)
}

/// Keeps the tags that runs are found by as the run has them.
fn put_tags(db: &Connection, stored: &StoredRun) -> Result<()> {
    let of = params![stored.id().0, to_json("tags", &stored.doc.tags)?];
    let sql = "DELETE FROM run_tags WHERE run = ?1 AND tag NOT IN (SELECT value FROM json_each(?2))";
    db.prepare_cached(sql)?.execute(of)?;
    let sql = "INSERT OR IGNORE INTO run_tags (run, tag) SELECT ?1, value FROM json_each(?2)";
    db.prepare_cached(sql)?.execute(of)?;
    Ok(())
}

fn put_event(db: &Connection, id: RunId, event: &StoredEvent) -> Result<()> {
    let sql = "INSERT INTO run_events (run, seq, at, kind, status, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    db.prepare_cached(sql)?.execute(params![
        id.0,
        event.seq,
        nanos(event.at),
        event.kind.to_string(),
        event.status.map(Status::word),
        event.message
    ])?;
    Ok(())
}

fn events(db: &Connection, id: RunId, after: u64, limit: u32) -> Result<Vec<StoredEvent>> {
    let sql = "SELECT seq, at, kind, status, message FROM run_events WHERE run = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
    let mut rows = db.prepare_cached(sql)?;
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    rows.query_and_then(params![id.0, after, limit], |row| {
        let (kind, status): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        Ok(StoredEvent {
            seq: row.get(0)?,
            at: moment(row.get(1)?),
            kind: word("kind of an event", &kind)?,
            status: status.map(|status| word("status", &status)).transpose()?,
            message: row.get(4)?,
        })
    })?
    .collect()
}

pub(super) fn from_row(row: &Row<'_>) -> Result<StoredRun> {
    let (organization, project, doc): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(5)?);
    let (id, name) = (RunId(row.get(6)?), row.get(3)?);
    match serde_json::from_str(&doc) {
        Err(why) => Err(Box::new(UnreadableRun::new(id, name, why, &doc)).into()),
        Ok(found) => Ok(StoredRun {
            revision: row.get(0)?,
            project: ProjectRef::new(organization, project),
            name,
            description: row.get(4)?,
            doc: placed(found),
        }),
    }
}

/// What was stored before placements named their cluster gets the one of its run.
fn placed(mut doc: Doc) -> Doc {
    if let State::Pending { placement }
    | State::Active { placement, .. }
    | State::Ended { placement: Some(placement), .. } = &mut doc.run.state
        && placement.cluster == ClusterName::default()
    {
        placement.cluster = doc.cluster.clone();
    }
    doc
}

pub(super) fn to_json(what: &'static str, value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Unreadable { what, source })
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(what: &'static str, text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Unreadable { what, source })
}

/// The word of a column.
pub(super) fn word<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    T::deserialize(text.into_deserializer()).map_err(|source| StoreError::Unreadable { what, source })
}

/// Nanoseconds since 1970, as every time column holds it.
pub(super) fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// The time of a column.
pub(super) fn moment(nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use vessl_core::wire::StoredKind;

    use super::*;

    #[test]
    fn keys_with_a_list_for_each_kind_are_read() {
        let keys: Keys =
            from_json("keys", r#"{"stored":{"A":"a"},"registry":["hub"],"git":["gh"]}"#).unwrap();
        let texts: Vec<String> = keys.credentials.iter().cloned().map(String::from).collect();
        assert_eq!(texts, ["registry/hub", "git/gh"]);
        assert_eq!(from_json::<Keys>("keys", &to_json("keys", &keys).unwrap()).unwrap(), keys);
    }

    #[test]
    fn a_row_of_a_newer_version_can_be_shown() {
        assert_eq!(word::<RunEventKind>("kind", "of \"2030\"").unwrap(), RunEventKind::Other);
        assert_eq!(word::<StoredKind>("kind", "of 2030").unwrap(), StoredKind::Other);
        assert!(word::<Status>("status", "asleep").is_err());
    }

    #[test]
    fn times_survive_their_column() {
        for text in ["1970-01-01T00:00:00Z", "2024-05-01T12:00:00.123456789Z", "2262-04-11T00:00:00Z"] {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(moment(nanos(at)), at);
        }
    }
}
