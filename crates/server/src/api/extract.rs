//! What a request brings: JSON bodies and queries, bounded, with failures in the API's own form.
use std::collections::HashMap;
use std::error::Error;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use futures::StreamExt;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vessl_core::ids::{ArtifactName, ProjectRef, RunId, RunRef};
use vessl_core::object::{ObjectKind, ObjectName, VolumeRef};
use vessl_data::blob::Digest;

use super::Api;
use super::error::Failure;
use crate::registry::{Receiver, Takes, UploadRef, named};
use crate::store::objects::ObjectQuery;

/// Largest body in MiB: a run file of 1 MiB in which every byte had to be escaped.
const LARGEST: usize = 8;
/// Largest body in MiB that tells of every file of a version: a million of them have long paths.
pub(super) const EVERY_FILE: usize = 512;
/// Longest time that a body may take to arrive: it is held in memory.
const LONGEST: Duration = Duration::from_mins(1);
/// Longest wait for the bodies of others.
const ROOM: Duration = Duration::from_secs(5);

/// A JSON body of at most so many MiB. An empty body, or `null`, is read as an empty object.
pub(super) struct JsonBody<T, const MOST: usize = LARGEST>(pub(super) T);

/// Bodies that are on their way at the same time; each is held in memory.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Bodies {
    /// Room for so many.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Waits a moment for room.
    async fn room(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let room = tokio::time::timeout(ROOM, Arc::clone(&self.0).acquire_owned()).await;
        room.ok().and_then(Result::ok).ok_or_else(|| {
            let words = "too many requests are on their way, and their bodies do not arrive";
            let hint = "try again; `open_bodies` in the server's settings says how many there may be";
            Failure::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", words).hint(Some(hint.to_owned()))
        })
    }
}

impl FromRef<Api> for Bodies {
    fn from_ref(api: &Api) -> Self {
        api.bodies.clone()
    }
}

impl<T: DeserializeOwned, S: Send + Sync, const MOST: usize> FromRequest<S> for JsonBody<T, MOST>
where
    Bodies: FromRef<S>,
{
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let _room = Bodies::from_ref(state).room().await?;
        // A large one may take as long a MiB as a small one.
        let longest = LONGEST * u32::try_from(MOST.div_ceil(LARGEST)).unwrap_or(1);
        let arrived = tokio::time::timeout(longest, axum::body::to_bytes(request.into_body(), MOST << 20));
        let bytes = arrived.await.map_err(|_| {
            let words = format!("the body did not arrive within {} s", longest.as_secs());
            Failure::new(StatusCode::REQUEST_TIMEOUT, "too_slow", words)
        })?;
        let bytes = bytes.map_err(|_| {
            let words = format!("the body is larger than {MOST} MiB, or it was cut off");
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", words)
        })?;
        let text: &[u8] = if matches!(bytes.trim_ascii(), b"" | b"null") { b"{}" } else { &bytes };
        // The decoder would take the fields in order from a list, too.
        if text.trim_ascii_start().first() == Some(&b'[') {
            return Err(Failure::malformed("the body is a list where an object is expected"));
        }
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Failure::malformed(format!("the body is not what is expected: {error}")))
    }
}

/// A query string.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        query.map(|axum::extract::Query(query)| Self(query)).map_err(|error| {
            let why = error.source().map_or_else(|| error.body_text(), ToString::to_string);
            Failure::malformed(format!("the query is not what is expected: {why}"))
        })
    }
}

/// Names of a path.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(names)| Self(names)).map_err(|error| {
            Failure::malformed(format!("the path is not what is expected: {}", error.body_text()))
        })
    }
}

/// A project of a path.
pub(super) struct ProjectPath(pub(super) ProjectRef);

impl<S: Send + Sync> FromRequestParts<S> for ProjectPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, project)) =
            Path::<(String, String)>::from_request_parts(parts, state).await?;
        Ok(Self(ProjectRef::new(organization, project)))
    }
}

/// An artifact of a path.
pub(super) struct ArtifactPath(pub(super) ArtifactName);

impl<S: Send + Sync> FromRequestParts<S> for ArtifactPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, project, name)) =
            Path::<(String, String, String)>::from_request_parts(parts, state).await?;
        Ok(Self(ProjectRef::new(organization, project).artifact(name)))
    }
}

/// A run of a path.
pub(super) struct RunPath(pub(super) RunRef);

impl<S: Send + Sync> FromRequestParts<S> for RunPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, project, id)) =
            Path::<(String, String, String)>::from_request_parts(parts, state).await?;
        Ok(Self(run_ref(&organization, &project, &id)?))
    }
}

/// A port of a run of a path.
pub(super) struct PortPath(pub(super) RunRef, pub(super) u16);

impl<S: Send + Sync> FromRequestParts<S> for PortPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, project, id, port)) =
            Path::<(String, String, String, String)>::from_request_parts(parts, state).await?;
        let run = run_ref(&organization, &project, &id)?;
        let shown: String = port.chars().take(40).collect();
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| {
            Failure::not_found(format!("there is no port `{}`: ports are 1 to 65535", shown.escape_debug()))
        })?;
        Ok(Self(run, port))
    }
}

fn run_ref(organization: &str, project: &str, id: &str) -> Result<RunRef, Failure> {
    // Anything that is not a number names no run.
    let number = u64::from_str(id).ok().filter(|id| i64::try_from(*id).is_ok());
    let id = number.ok_or_else(|| {
        let shown: String = id.chars().take(40).collect();
        Failure::not_found(format!("there is no run `{}`", shown.escape_debug()))
    })?;
    Ok(RunRef { project: ProjectRef::new(organization, project), id: RunId(id) })
}

/// Something with versions, of a path; the project of an artifact stands in the query.
pub(super) struct ObjectPath {
    /// Its full name.
    pub(super) name: ObjectName,
    parts: HashMap<String, String>,
}

impl ObjectPath {
    /// Another part of the path.
    pub(super) fn part(&self, name: &str) -> Result<String, Failure> {
        let part = self.parts.get(name).cloned();
        part.ok_or_else(|| Failure::malformed(format!("the path has no `{name}`")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ObjectPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct InProject {
            project: Option<String>,
        }
        let Path(path) = Path::<HashMap<String, String>>::from_request_parts(parts, state).await?;
        let Query(InProject { project }) = Query::from_request_parts(parts, state).await?;
        let mut found = Self { name: ObjectName::dataset("", ""), parts: path };
        let query = ObjectQuery {
            kind: kind(&found.part("kind")?)?,
            organization: found.part("organization")?.into(),
            project: project.map(Into::into),
        };
        found.name = named(query, found.part("name")?)?;
        Ok(found)
    }
}

/// The kind of a path.
pub(super) fn kind(word: &str) -> Result<ObjectKind, Failure> {
    ObjectKind::of_word(word).ok_or_else(|| {
        let shown: String = word.chars().take(40).collect();
        let words = format!(
            "there is no kind `{}`: it is dataset, model-repository or artifact",
            shown.escape_debug()
        );
        Failure::not_found(words)
    })
}

/// A volume of a path.
pub(super) struct VolumePath(pub(super) VolumeRef);

impl<S: Send + Sync> FromRequestParts<S> for VolumePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, storage, volume)) =
            Path::<(String, String, String)>::from_request_parts(parts, state).await?;
        let (organization, storage, volume) = (organization.into(), storage.into(), volume.into());
        Ok(Self(VolumeRef { organization, storage, volume }))
    }
}

/// An upload of a path.
pub(super) struct UploadPath(pub(super) UploadRef);

impl<S: Send + Sync> FromRequestParts<S> for UploadPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, id)) = Path::<(String, String)>::from_request_parts(parts, state).await?;
        Ok(Self(UploadRef { organization: organization.into(), id }))
    }
}

/// A blob of an upload, of a path.
pub(super) struct BlobPath {
    /// The upload.
    pub(super) upload: UploadRef,
    /// The blob.
    pub(super) digest: Digest,
}

impl<S: Send + Sync> FromRequestParts<S> for BlobPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path((organization, id, digest)) =
            Path::<(String, String, String)>::from_request_parts(parts, state).await?;
        let digest = digest.parse::<Digest>().map_err(|error| Failure::unfit(error.to_string()))?;
        Ok(Self { upload: UploadRef { organization: organization.into(), id }, digest })
    }
}

/// Gives a body to who takes it in, piece by piece. What came before it was cut is written.
pub(super) async fn pour<T: Takes, G: Send + 'static>(
    body: Body,
    to: &mut Receiver<T, G>,
) -> Result<(), Failure> {
    let mut stream = body.into_data_stream();
    loop {
        match tokio::time::timeout(LONGEST, stream.next()).await {
            Ok(Some(Ok(bytes))) => to.append(bytes).await?,
            Ok(None) => return Ok(()),
            Ok(Some(Err(_))) => {
                to.flush().await?;
                return Err(Failure::malformed("the body was cut off"));
            }
            Err(_) => {
                to.flush().await?;
                let words = format!("nothing of the body came for {} s", LONGEST.as_secs());
                return Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "too_slow", words));
            }
        }
    }
}

/// Reads a switch: `1` and `true` are on; `0` and `false` are off.
pub(super) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!("`{other}` is neither 1 nor 0"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body as Sent;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
        let request = Request::new(Sent::from_stream(never));
        let refused =
            JsonBody::<serde_json::Value>::from_request(request, &Bodies::new(1)).await.err().unwrap();
        assert!(format!("{refused:?}").contains("did not arrive within 60 s"), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_that_do_not_arrive_take_bounded_room_and_leave_it_again() {
        let bodies = Bodies::new(2);
        let never = || {
            let never = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            JsonBody::<serde_json::Value>::from_request(Request::new(Sent::from_stream(never)), &bodies)
        };
        let whole = || JsonBody::<serde_json::Value>::from_request(Request::new(Sent::from("{}")), &bodies);
        let others = async { tokio::join!(never(), never()) };
        let late = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let refused = whole().await.err().map(|refused| format!("{refused:?}"));
            assert!(refused.is_some_and(|said| said.contains("too many requests")));
        };
        let _ = tokio::join!(others, late);
        assert!(whole().await.is_ok(), "there is room again");
    }

    #[tokio::test]
    async fn a_query_that_is_none_is_told_in_our_words() {
        #[derive(Debug, Deserialize)]
        struct Number {
            #[expect(dead_code, reason = "only its type counts")]
            n: u64,
        }
        let (mut parts, ()) = http::Request::get("/?n=x").body(()).unwrap().into_parts();
        let refused = Query::<Number>::from_request_parts(&mut parts, &()).await.err().unwrap();
        let said = format!("{refused:?}");
        assert!(said.contains("expected: n: invalid digit found in string"), "{said}");
    }
}
