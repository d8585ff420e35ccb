//! Import of one commit of a Hugging Face repository: models, datasets, spaces. It must not know where the directory is or why
//! somebody wants the commit.
//!
//! ```text
//! pin:    GET api/models/ID/revision/REV ─► commit
//! import: GET api/models/ID/tree/COMMIT (pages) ─► GET ID/resolve/COMMIT/PATH ─ redirect ─► bytes ─► digest
//! ```
//!
//! The server is taken for hostile:
//! - Every file has a digest in the list: SHA-256, or git's name of the content. What does not come to it is an error, and the list is
//!   that of a commit whose id the caller keeps.
//! - Names are checked before a byte of their page is fetched; nothing is written outside of the directory.
//! - The token goes to the endpoint alone, in a header; neither a redirect nor the address of a next page takes it elsewhere.
//! - Pages are fetched while files are; memory does not grow with the repository.
mod answers;
mod digest;
mod error;
mod import;
mod listing;
mod part;
mod repository;
mod work;

pub use error::HubError;
pub use repository::{ENDPOINT, Kind, Repository};

use std::time::Duration;

use serde::Deserialize;
use vessl_core::secret::Secret;

use crate::dir::Dir;
use crate::fetch::RetryPolicy;
use crate::{Owner, Watch};
use answers::{Asked, Hub};
use digest::is_hex;
use part::Target;

/// How long a server of Hugging Face is usually waited for: its limits end after five minutes.
pub fn patience() -> RetryPolicy {
    RetryPolicy { longest_wait: Duration::from_secs(330), ..RetryPolicy::default() }
}

/// Most bytes of what is told about a revision: it names every file.
const LONGEST_REVISION: u64 = 64 << 20;

/// A token, with the name that people know it by.
#[derive(Clone, Copy, Debug)]
pub struct Login<'a> {
    /// Name of the credential, for errors.
    pub credential: &'a str,
    /// The token itself.
    pub token: &'a Secret,
}

/// What to ask, and how.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Where from.
    pub repository: &'a Repository,
    /// `None` asks as nobody.
    pub login: Option<Login<'a>>,
    /// Progress counts bytes received; their sum is told as soon as everything is listed.
    pub watch: Watch<'a>,
    /// How patient it is, usually as [`patience`] says.
    pub retry: &'a RetryPolicy,
}

/// What a revision is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Full id of the commit.
    pub commit: String,
}

/// What was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Full id of the commit.
    pub commit: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
}

#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// Asks which commit the revision is. One request; blocking.
pub fn pin(request: &Request<'_>) -> Result<Pinned, HubError> {
    let hub = Hub::new(request)?;
    let find = async {
        let response = hub.get(&request.repository.revision_url(), Asked::Revision, None).await?;
        hub.body(response, LONGEST_REVISION, Asked::Revision).await
    };
    let body = work::drive(request.watch.stop, find)?;
    let answer = serde_json::from_slice::<Revision>(&body).ok().filter(|answer| is_hex(&answer.sha, 40));
    let Some(Revision { sha: commit }) = answer else {
        let (repository, asked) = (request.repository.to_string(), "its revision".to_owned());
        return Err(HubError::Answer { repository, asked, said: "without a commit".to_owned() });
    };
    Ok(Pinned { commit })
}

/// Fetches every file of a commit into `into`, a fresh, empty directory that nobody else sees. `owner` gets everything that is
/// made in it. Blocking; every thread it started has ended when it returns.
///
/// All of it is verified when this returns; it does not wait for the disk. After an error the directory holds some of the files.
pub fn import(
    request: &Request<'_>,
    commit: &str,
    into: &Dir,
    owner: Option<Owner>,
) -> Result<Imported, HubError> {
    if !is_hex(commit, 40) {
        let text = error::shown(commit);
        return Err(HubError::Bad { text, what: "commit", why: "it has not 40 hexadecimal digits" });
    }
    import::import(request, commit, Target { dir: into, owner })
}
