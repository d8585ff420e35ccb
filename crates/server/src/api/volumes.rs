//! Files of volumes.
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::wire::registry::{BlobState, VolumeChange, VolumeCopied, VolumeCopy};
use vessl_core::wire::{ErrorBody, FileView};

use super::error::Result;
use super::extract::{JsonBody, Query, VolumePath, pour, switch};
use super::files::send;
use super::objects::number;
use super::{Api, to_the_end};
use crate::registry::{FilePiece, Listed};

/// Which files.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// Only what is in this directory; default: in the topmost one.
    #[serde(default)]
    path: String,
    /// Whether also what is in the directories that are in it.
    #[serde(default, deserialize_with = "switch")]
    recursive: bool,
}

/// Files, links and directories of a volume.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/files", tag = "storages",
    operation_id = "listVolumeFiles",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), Listing),
    responses(
        (status = 200, description = "files", body = Vec<FileView>),
        (status = 404, description = "there is no such volume or directory", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<FileView>>> {
    let listed = Listed { path: listing.path, recursive: listing.recursive };
    Ok(Json(api.registry.volume_files(&caller, &volume, listed).await?))
}

/// What is deleted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Deleted {
    /// Its path.
    path: String,
    /// Whether a directory is deleted with everything in it.
    #[serde(default, deserialize_with = "switch")]
    recursive: bool,
}

/// Delete a file or link of a volume, or a directory with everything in it.
#[utoipa::path(
    delete, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/files", tag = "storages",
    operation_id = "deleteVolumeFile",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), Deleted),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such file", body = ErrorBody),
        (status = 409, description = "it is a directory", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    Query(deleted): Query<Deleted>,
) -> Result<StatusCode> {
    let listed = Listed { path: deleted.path, recursive: deleted.recursive };
    to_the_end(async move { api.registry.delete_file(&caller, &volume, listed).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichFile {
    /// Its path, as it is listed.
    path: String,
}

/// Bytes of one file of a volume. `Range: bytes=FROM-[TO]` works; `ETag` is another one when the file has changed.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/files/content", tag = "storages",
    operation_id = "readVolumeFile",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), WhichFile),
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
    VolumePath(volume): VolumePath,
    Query(file): Query<WhichFile>,
    headers: HeaderMap,
) -> Result<Response> {
    send(api.registry.volume_content(&caller, &volume, file.path).await?, &headers)
}

/// How much of a file is here that has not come as a whole.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/files/incoming", tag = "storages",
    operation_id = "readIncomingFile",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), WhichFile),
    responses((status = 200, description = "where to go on", body = BlobState))
)]
pub(super) async fn incoming(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    Query(file): Query<WhichFile>,
) -> Result<Json<BlobState>> {
    Ok(Json(api.registry.incoming_file(&caller, &volume, file.path).await?))
}

/// Which piece of which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Piece {
    /// Where the file goes; directories on the way are made.
    path: String,
    /// Where the piece begins; default: at the beginning. What is here from there on comes anew.
    #[serde(default)]
    offset: u64,
    /// Bytes of the whole file.
    size: u64,
    /// Permission bits in octal; default `644`.
    mode: Option<String>,
    /// When it was last modified; default: now.
    #[param(value_type = Option<String>, format = DateTime)]
    modified_at: Option<Timestamp>,
    /// A word that all files have which one command puts: they are one change of the volume.
    command: Option<String>,
}

/// Put a file, or go on with it. What came stays for a day when the connection is cut. When all of it is here, the file gets its
/// place at once, and is on disk when this is answered.
#[utoipa::path(
    put, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/files/content", tag = "storages",
    operation_id = "putVolumeFile",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), Piece),
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "how much is here", body = BlobState),
        (status = 409, description = "it would have a gap, another request brings it, or it cannot be there", body = ErrorBody),
        (status = 422, description = "more came than was announced", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    Query(piece): Query<Piece>,
    body: Body,
) -> Result<Json<BlobState>> {
    let Piece { path, offset, size, mode, modified_at, command } = piece;
    let piece = FilePiece { path, offset: number(offset)?, size: number(size)?, mode, modified_at };
    let mut receiver = api.registry.receive_file(&caller, &volume, piece).await?;
    pour(body, &mut receiver).await?;
    let ending = async move { api.registry.received_file(&caller, &volume, command, receiver).await };
    Ok(Json(to_the_end(ending).await?))
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichChanges {
    /// Only those that may have changed this file, or something in this directory.
    #[serde(default)]
    path: String,
    /// At most so many.
    #[serde(default, deserialize_with = "vessl_core::wire::count")]
    limit: Option<u32>,
}

/// What changed a volume, the newest first, as far as it is known: exports, and what was done to its files here. What a run writes to a
/// mounted volume is not noticed; of the files themselves only the newest are kept.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/changes", tag = "storages",
    operation_id = "listVolumeChanges",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path), WhichChanges),
    responses(
        (status = 200, description = "at most 1000 changes", body = Vec<VolumeChange>),
        (status = 404, description = "there is no such volume", body = ErrorBody),
    )
)]
pub(super) async fn changes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    Query(WhichChanges { path, limit }): Query<WhichChanges>,
) -> Result<Json<Vec<VolumeChange>>> {
    Ok(Json(api.registry.volume_changes(&caller, &volume, (&path, limit)).await?))
}

/// Copy a file or a directory of a volume to a place of the same or of another volume; what is there is replaced file by file.
#[utoipa::path(
    post, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}/copy", tag = "storages",
    operation_id = "copyVolumeFile",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path)),
    request_body = VolumeCopy,
    responses(
        (status = 200, description = "it is copied", body = VolumeCopied),
        (status = 404, description = "there is no such file", body = ErrorBody),
        (status = 409, description = "something else is there", body = ErrorBody),
    )
)]
pub(super) async fn copy(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
    JsonBody(copy): JsonBody<VolumeCopy>,
) -> Result<Json<VolumeCopied>> {
    Ok(Json(to_the_end(async move { api.registry.copy_file(&caller, &volume, copy).await }).await?))
}
