//! Files that runs exported: list, and bytes with ranges.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::Stream;
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::wire::{ErrorBody, FileView};
use vessl_data::sparse::ReadAt;

use super::Api;
use super::error::{Failure, Result};
use super::extract::{Query, RunPath, switch};
use crate::registry::{Bytes, Content, Directories, Holes};

/// Bytes that are read and sent at once.
const CHUNK: usize = 256 << 10;

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Container path of the export.
    export: String,
    /// Path below it, as `listFiles` writes it.
    path: String,
    /// Whether a file with holes is wanted in its packed form; of other files there is none.
    #[serde(default, deserialize_with = "switch")]
    packed: bool,
}

/// What is listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Whether directories are listed that something is in.
    #[serde(default, deserialize_with = "switch")]
    all_directories: bool,
}

/// Files, symbolic links and directories that the run exported.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/files", tag = "files",
    operation_id = "listFiles",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), Listing),
    responses((status = 200, description = "files", body = Vec<FileView>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<FileView>>> {
    api.control.attempt(&caller, &of, None).await?;
    let directories = if listing.all_directories { Directories::All } else { Directories::Empty };
    Ok(Json(api.registry.files(&caller, &of, directories).await?))
}

/// Bytes of one file. `Range: bytes=FROM-[TO]` works; `ETag` is the BLAKE3 of the whole file, of a file with holes that of its packed
/// form.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/files/content", tag = "files",
    operation_id = "readFile",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), Which),
    responses(
        (status = 200, description = "the file", content_type = "application/octet-stream"),
        (status = 206, description = "a part of it", content_type = "application/octet-stream"),
        (status = 404, description = "there is no such file", body = ErrorBody),
        (status = 416, description = "the part is not in the file", body = ErrorBody),
    )
)]
pub(super) async fn content(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(which): Query<Which>,
    headers: HeaderMap,
) -> Result<Response> {
    api.control.attempt(&caller, &of, None).await?;
    let holes = if which.packed { Holes::Packed } else { Holes::Zeros };
    send(api.registry.content(&caller, &of, (which.export, which.path), holes).await?, &headers)
}

/// The bytes that are asked for.
pub(super) fn send(content: Content, headers: &HeaderMap) -> Result<Response> {
    let Content { size, tag, bytes } = content;
    let part = range(headers, size).map_err(|()| {
        let words = format!("the range is not within the {size} bytes of the file");
        Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "bad_range", words)
    })?;
    let (from, to) = part.unwrap_or((0, size));
    let body = Body::from_stream(pieces(bytes, from, to));
    let named = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, (to - from).to_string()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{tag}\"")),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
    ];
    let mut response = (named, body).into_response();
    if part.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {from}-{}/{size}", to - 1);
        let range = range.parse().map_err(|_| Failure::malformed("the range is not one"))?;
        response.headers_mut().insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// The bytes of a file, read piece by piece where waiting for the disk harms nobody.
fn pieces(file: Bytes, from: u64, to: u64) -> impl Stream<Item = std::io::Result<Vec<u8>>> {
    let file = Arc::new(file);
    futures::stream::try_unfold(from, move |at| {
        let file = Arc::clone(&file);
        async move {
            let length = usize::try_from(to - at).unwrap_or(usize::MAX).min(CHUNK);
            if length == 0 {
                return Ok(None);
            }
            let read = move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at).map(|()| piece)
            };
            let piece = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)??;
            Ok(Some((piece, at + length as u64)))
        }
    })
}

/// The one range that is asked for, as begin and end; nothing for the whole file; an error if it is not in the file.
/// What is not understood is the whole file, as the standard wants it.
fn range(headers: &HeaderMap, size: u64) -> std::result::Result<Option<(u64, u64)>, ()> {
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((from, to)) = asked.and_then(|text| text.strip_prefix("bytes=")).and_then(|r| r.split_once('-'))
    else {
        return Ok(None);
    };
    let (from, to) = match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), Ok(to)) if from <= to => (from, to.saturating_add(1).min(size)),
        (Ok(from), Err(_)) if to.is_empty() => (from, size),
        (Err(_), Ok(last)) if from.is_empty() => (size.saturating_sub(last), size),
        _ => return Ok(None),
    };
    if from < to { Ok(Some((from, to))) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: std::result::Result<Option<(u64, u64)>, ()>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, text.parse().unwrap());
        assert_eq!(range(&headers, 10), expected, "{text}");
    }

    #[test]
    fn ranges() {
        check("bytes=0-", Ok(Some((0, 10))));
        check("bytes=3-4", Ok(Some((3, 5))));
        check("bytes=9-99", Ok(Some((9, 10))));
        check("bytes=-4", Ok(Some((6, 10))));
        check("bytes=-40", Ok(Some((0, 10))));
        check("bytes=10-", Err(()));
        check("bytes=-0", Err(()));
        check("bytes=4-3", Ok(None));
        check("bytes=0-1,3-4", Ok(None));
        check("lines=0-1", Ok(None));
        check("bytes=0-18446744073709551615", Ok(Some((0, 10))));
    }
}
