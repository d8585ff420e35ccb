//! Versions of datasets, models and artifacts, and their files.
use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::object::ObjectKind;
use vessl_core::wire::registry::{FileDifference, ObjectUpdate, VersionCreate, VersionView};
use vessl_core::wire::{ErrorBody, FileView};

use super::error::Result;
use super::extract::{EVERY_FILE, JsonBody, ObjectPath, Query, switch};
use super::files::send;
use super::objects::{OfProject, number};
use super::{Api, to_the_end};
use crate::registry::{Holes, Listed};

/// All versions, newest first.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}/versions", tag = "objects",
    operation_id = "listVersions",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), OfProject),
    responses(
        (status = 200, description = "versions", body = Vec<VersionView>),
        (status = 404, description = "there is no such thing", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
) -> Result<Json<Vec<VersionView>>> {
    Ok(Json(api.registry.versions(&caller, &name).await?))
}

/// Make a version: all of the changes at once. The upload ends with it; the same request again is answered with the same version.
#[utoipa::path(
    post, path = "/organizations/{organization}/objects/{kind}/{name}/versions", tag = "objects",
    operation_id = "createVersion",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), OfProject),
    request_body = VersionCreate,
    responses(
        (status = 201, description = "it is there", body = VersionView),
        (status = 200, description = "the same upload had made it before", body = VersionView),
        (status = 409, description = "a blob is not here", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
    JsonBody(new): JsonBody<VersionCreate, EVERY_FILE>,
) -> Result<(StatusCode, Json<VersionView>)> {
    new.base.map(number).transpose()?;
    let making = async move { api.registry.create_version(&caller, &name, new).await };
    let (version, is_new) = to_the_end(making).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(version)))
}

/// One version, by its number, by an alias, or the newest as `latest`.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}/versions/{version}", tag = "objects",
    operation_id = "readVersion",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path),
        ("version" = String, Path), OfProject,
    ),
    responses(
        (status = 200, description = "the version", body = VersionView),
        (status = 404, description = "there is no such version", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
) -> Result<Json<VersionView>> {
    Ok(Json(api.registry.version(&caller, &path.name, &path.part("version")?).await?))
}

/// Change description, tags or metadata of a version.
#[utoipa::path(
    patch, path = "/organizations/{organization}/objects/{kind}/{name}/versions/{version}", tag = "objects",
    operation_id = "updateVersion",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path),
        ("version" = String, Path), OfProject,
    ),
    request_body = ObjectUpdate,
    responses((status = 200, description = "the version after the change", body = VersionView))
)]
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
    JsonBody(change): JsonBody<ObjectUpdate>,
) -> Result<Json<VersionView>> {
    let version = path.part("version")?;
    Ok(Json(api.registry.update_version(&caller, (&path.name, &version), change).await?))
}

/// Delete a version. Its number is never given to another one. What runs that have not ended import stays for them.
#[utoipa::path(
    delete, path = "/organizations/{organization}/objects/{kind}/{name}/versions/{version}", tag = "objects",
    operation_id = "deleteVersion",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path),
        ("version" = String, Path), OfProject,
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such version", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
) -> Result<StatusCode> {
    api.registry.delete_version(&caller, &path.name, &path.part("version")?).await?;
    api.collect();
    Ok(StatusCode::NO_CONTENT)
}

/// Which files are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// The project of an artifact.
    #[serde(rename = "project")]
    _project: Option<String>,
    /// Only what is in this directory; default: in the topmost one.
    #[serde(default)]
    path: String,
    /// Whether also what is in the directories that are in it.
    #[serde(default, deserialize_with = "switch")]
    recursive: bool,
}

/// Files, links and directories of a version. With `recursive`, and without `path`, the directory itself is the first one, as `.`.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}/versions/{version}/files", tag = "objects",
    operation_id = "listVersionFiles",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path),
        ("version" = String, Path), Listing,
    ),
    responses(
        (status = 200, description = "files", body = Vec<FileView>),
        (status = 404, description = "there is no such version or directory", body = ErrorBody),
    )
)]
pub(super) async fn files(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
    Query(listing): Query<Listing>,
) -> Result<Json<Vec<FileView>>> {
    let version = path.part("version")?;
    let listed = Listed { path: listing.path, recursive: listing.recursive };
    Ok(Json(api.registry.version_files(&caller, (&path.name, &version), listed).await?))
}

/// Which file.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WhichFile {
    /// The project of an artifact.
    #[serde(rename = "project")]
    _project: Option<String>,
    /// Its path, as it is listed.
    path: String,
    /// Whether a file with holes is wanted in its packed form; of other files there is none.
    #[serde(default, deserialize_with = "switch")]
    packed: bool,
}

/// Bytes of one file. `Range: bytes=FROM-[TO]` works; `ETag` is the BLAKE3 of the whole file, of a file with holes that of its packed
/// form.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}/versions/{version}/files/content",
    tag = "objects", operation_id = "readVersionFile",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path),
        ("version" = String, Path), WhichFile,
    ),
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
    path: ObjectPath,
    Query(file): Query<WhichFile>,
    headers: HeaderMap,
) -> Result<Response> {
    let version = path.part("version")?;
    let holes = if file.packed { Holes::Packed } else { Holes::Zeros };
    let of = (&path.name, version.as_str());
    send(api.registry.version_content(&caller, of, file.path, holes).await?, &headers)
}

/// Two versions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Two {
    /// The project of an artifact.
    #[serde(rename = "project")]
    _project: Option<String>,
    /// The version before: number, alias or `latest`.
    from: String,
    /// The version after.
    to: String,
}

/// What two versions have that is not the same, by path.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}/diff", tag = "objects",
    operation_id = "diffVersions",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), Two),
    responses(
        (status = 200, description = "differences", body = Vec<FileDifference>),
        (status = 404, description = "there is no such version", body = ErrorBody),
    )
)]
pub(super) async fn diff(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
    Query(two): Query<Two>,
) -> Result<Json<Vec<FileDifference>>> {
    Ok(Json(api.registry.diff(&caller, &name, (&two.from, &two.to)).await?))
}
