//! The runs that a server goes on with when it starts, and those that it cannot read. It holds no rule about runs.
use serde::Deserialize;
use vessl_core::ids::{ClusterName, RunId};
use vessl_core::plan::Amounts;
use vessl_core::run::Placement;

use super::runs::{SELECT, StoredRun, from_row};
use super::{Result, Store, StoreError};

/// The runs that drivers have work for.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Those that can be read, oldest first.
    pub runs: Vec<StoredRun>,
    /// The others.
    pub unreadable: Vec<UnreadableRun>,
}

/// A run that this program cannot read: a newer one wrote it, or it is damaged. Nothing touches it.
#[derive(Debug, thiserror::Error)]
#[error(
    "the run `{}` (`{name}`) cannot be read: {why}; use the `vessl` that wrote it, perhaps a newer one",
    .id.0
)]
pub struct UnreadableRun {
    /// Identity.
    pub id: RunId,
    /// Name.
    pub name: String,
    /// What was met in its document.
    pub why: serde_json::Error,
    /// What it may hold of a machine, as far as that can be told.
    pub holds: Option<(Placement, Amounts)>,
}

impl UnreadableRun {
    pub(super) fn new(id: RunId, name: String, why: serde_json::Error, doc: &str) -> Self {
        Self { id, name, why, holds: holds(doc) }
    }
}

impl Store {
    /// Every run that a driver has work for, oldest first.
    pub async fn unfinished(&self) -> Result<Unfinished> {
        self.read(|db| {
            let mut rows = db.prepare_cached(&format!("{SELECT} WHERE unfinished = 1 ORDER BY id"))?;
            let mut found = Unfinished::default();
            for row in rows.query_and_then([], from_row)? {
                match row {
                    Ok(stored) => found.runs.push(stored),
                    Err(StoreError::UnreadableRun(run)) => found.unreadable.push(*run),
                    Err(error) => return Err(error),
                }
            }
            Ok(found)
        })
        .await
    }
}

/// What a run holds according to a document of which nothing else needs to be readable.
fn holds(doc: &str) -> Option<(Placement, Amounts)> {
    #[derive(Deserialize)]
    struct OfDoc {
        cluster: ClusterName,
        resources: Amounts,
        run: OfRun,
    }
    #[derive(Deserialize)]
    struct OfRun {
        state: OfState,
    }
    #[derive(Deserialize)]
    struct OfState {
        #[serde(alias = "placement")]
        place: Placement,
    }
    let OfDoc { cluster, resources, run } = serde_json::from_str(doc).ok()?;
    let mut placement = run.state.place;
    if placement.cluster == ClusterName::default() {
        placement.cluster = cluster;
    }
    Some((placement, resources))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_holds_is_read_from_a_document_of_another_version() {
        let check = |state: &str, expected: Option<(&str, &str)>| {
            let doc = format!(
                r#"{{"run":{{"state":{state},"more":1}},"cluster":"c","resources":{{"cpu_milli":1,"memory":1,"gpus":1,"gpu_type":null}},"kind":"later"}}"#
            );
            let found = holds(&doc).map(|(placement, _)| placement);
            let found = found.map(|placement| (placement.cluster.to_string(), placement.node.to_string()));
            let expected = expected.map(|(cluster, node)| (cluster.to_owned(), node.to_owned()));
            assert_eq!(found, expected, "{state}");
        };
        check(r#"{"status":"asleep","place":{"node":"n","gpus":[1]}}"#, Some(("c", "n")));
        check(r#"{"status":"asleep","place":{"node":"n","gpus":[1],"cluster":"d"}}"#, Some(("d", "n")));
        check(r#"{"status":"waking","placement":{"node":"n","gpus":[]}}"#, Some(("c", "n")));
        check(r#"{"status":"asleep","place":null}"#, None);
        check(r#"{"status":"asleep"}"#, None);
        check("3", None);
    }
}
