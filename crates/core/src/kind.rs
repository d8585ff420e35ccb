//! The kinds of runs, events, clusters, stored values and moved bytes, in one word each. The words are formats: the API has them, and
//! rows and files on disk. A word of a newer version is read as `other`, so that what holds it can still be shown.
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::credential::CredentialKind;

/// What a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// It carries out its commands and ends.
    Batch,
    /// It is there for a person until its time is over.
    Interactive,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// What an event of a run tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunEventKind {
    /// The run has another status.
    Status,
    /// Something begins that has no status of its own.
    Phase,
    /// The image is here.
    Image,
    /// What an import brings is on the machine before the run has its place.
    FetchedAhead,
    /// What an import needs comes from the bucket of the blobs.
    BroughtHome,
    /// An import is over.
    Imported,
    /// An item of the commands starts.
    Item,
    /// The commands ended.
    CommandsEnded,
    /// Its time limit is longer now.
    Extended,
    /// It will be ended soon, by its time limit or because nobody uses it.
    EndsSoon,
    /// An export is over.
    Exported,
    /// The agent cannot be reached, or can be reached again.
    Contact,
    /// Files of another run were in the way.
    SetAside,
    /// How far bytes are; never stored.
    Progress,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// What runs the containers of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterKind {
    /// The machine of the server.
    Local,
    /// A Kubernetes cluster.
    Kubernetes,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// What a stored value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoredKind {
    /// A value for `env`.
    Secret,
    /// A login to a container registry.
    Registry,
    /// A login to a git server.
    Git,
    /// Keys of a store with the S3 API.
    S3,
    /// A service account of Google Cloud.
    Gcs,
    /// A token of Hugging Face.
    Hf,
    /// One that no run of this version can use.
    #[serde(other)]
    Other,
}

impl StoredKind {
    /// What it logs in to.
    pub fn credential(self) -> Option<CredentialKind> {
        CredentialKind::ALL.into_iter().find(|kind| Self::from(*kind) == self)
    }
}

impl From<CredentialKind> for StoredKind {
    fn from(kind: CredentialKind) -> Self {
        match kind {
            CredentialKind::Registry => Self::Registry,
            CredentialKind::Git => Self::Git,
            CredentialKind::S3 => Self::S3,
            CredentialKind::Gcs => Self::Gcs,
            CredentialKind::Hf => Self::Hf,
        }
    }
}

/// What bytes are moved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProgressKind {
    /// An image is pulled.
    Image,
    /// An import.
    Import,
    /// An export.
    Export,
    /// A client downloads a file; no server sends it.
    #[serde(skip_deserializing)]
    Download,
    /// One that this version does not know.
    #[serde(other)]
    Other,
}

/// Each is shown as in JSON.
macro_rules! show {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.serialize(f)
            }
        }
    )*};
}

show!(RunKind, RunEventKind, ClusterKind, StoredKind, ProgressKind);

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;

    fn check<T: DeserializeOwned + fmt::Display>(words: &str) {
        for word in words.split(' ').chain(["other"]) {
            assert_eq!(serde_json::from_str::<T>(&format!("\"{word}\"")).unwrap().to_string(), word);
        }
        assert_eq!(serde_json::from_str::<T>("\"of 2030\"").unwrap().to_string(), "other");
    }

    #[test]
    fn the_words_on_disk_stay_and_an_unknown_one_can_be_shown() {
        check::<RunKind>("batch interactive");
        check::<RunEventKind>(
            "status phase image fetched_ahead imported item commands_ended exported contact set_aside progress",
        );
        check::<ClusterKind>("local kubernetes");
        check::<StoredKind>("secret registry git s3 gcs hf");
        check::<ProgressKind>("image import export");
    }

    #[test]
    fn only_a_usable_credential_logs_in() {
        assert_eq!(StoredKind::from(CredentialKind::Git).credential(), Some(CredentialKind::Git));
        assert_eq!((StoredKind::Secret.credential(), StoredKind::Other.credential()), (None, None));
    }
}
