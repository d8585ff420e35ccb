//! What a request brings: JSON bodies and queries, bounded, with failures in the API's own form.
use std::str::FromStr;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use vessl_core::plan::RunId;

use super::error::Failure;

/// Largest body in bytes: a run file of 1 MiB in which every byte had to be escaped.
const LARGEST: usize = 8 << 20;

/// A JSON body. An empty body is read as an empty object.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &S) -> Result<Self, Failure> {
        let bytes = axum::body::to_bytes(request.into_body(), LARGEST).await.map_err(|_| {
            let words = "the body is larger than 8 MiB, or it was cut off";
            Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", words)
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
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
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(query)| Self(query)).map_err(|error| {
            Failure::malformed(format!("the query is not what is expected: {}", error.body_text()))
        })
    }
}

/// Organization, project and run of a path.
pub(super) struct OfRun {
    pub(super) organization: String,
    pub(super) project: String,
    pub(super) id: RunId,
}

impl OfRun {
    /// Organization and project.
    pub(super) fn place(&self) -> [&str; 2] {
        [&self.organization, &self.project]
    }
}

impl<S: Send + Sync> FromRequestParts<S> for OfRun {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((organization, project, id)) =
            path.map_err(|error| Failure::malformed(error.body_text()))?;
        // Anything that is not a number names no run.
        let id = u64::from_str(&id).ok().filter(|id| i64::try_from(*id).is_ok()).ok_or_else(|| {
            let shown: String = id.chars().take(40).collect();
            Failure::not_found(format!("there is no run `{}`", shown.escape_debug()))
        })?;
        Ok(Self { organization, project, id: RunId(id) })
    }
}

/// Reads a switch: present without a value, `1` and `true` are on; `0` and `false` are off.
pub(super) fn switch<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    match String::deserialize(from)?.as_str() {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(serde::de::Error::custom(format!("`{other}` is neither 1 nor 0"))),
    }
}
