//! Storages and the volumes that lie on them.
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::object::VolumeRef;
use vessl_core::wire::registry::{StorageCreate, StorageView, VolumeCreate, VolumeView};
use vessl_core::wire::{ErrorBody, count};

use super::Api;
use super::error::Result;
use super::extract::{JsonBody, Path, Query, VolumePath};

/// Storages of an organization, the built-in one first.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages", tag = "storages", operation_id = "listStorages",
    params(("organization" = String, Path)),
    responses(
        (status = 200, description = "storages", body = Vec<StorageView>),
        (status = 404, description = "there is no such organization", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
) -> Result<Json<Vec<StorageView>>> {
    Ok(Json(api.registry.storages(&caller, &organization.into()).await?))
}

/// Name a place for volumes: a directory of the machine below `hostpath_roots`, an NFS export, or a bucket.
#[utoipa::path(
    post, path = "/organizations/{organization}/storages", tag = "storages", operation_id = "createStorage",
    params(("organization" = String, Path)),
    request_body = StorageCreate,
    responses(
        (status = 201, description = "it is there", body = StorageView),
        (status = 409, description = "it was there before, or the directory may not be used", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    JsonBody(new): JsonBody<StorageCreate>,
) -> Result<(StatusCode, Json<StorageView>)> {
    Ok((StatusCode::CREATED, Json(api.registry.create_storage(&caller, &organization.into(), new).await?)))
}

/// Forget a storage that has no volumes.
#[utoipa::path(
    delete, path = "/organizations/{organization}/storages/{storage}", tag = "storages",
    operation_id = "deleteStorage",
    params(("organization" = String, Path), ("storage" = String, Path)),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such storage", body = ErrorBody),
        (status = 409, description = "it has volumes", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((organization, storage)): Path<(String, String)>,
) -> Result<StatusCode> {
    api.registry.delete_storage(&caller, &organization.into(), &storage.into()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which volumes.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// A word that the name contains.
    keyword: Option<String>,
    /// At most this many; default 1000.
    #[serde(default, deserialize_with = "count")]
    limit: Option<u32>,
}

/// Volumes of a storage, by name.
#[utoipa::path(
    get, path = "/organizations/{organization}/storages/{storage}/volumes", tag = "storages",
    operation_id = "listVolumes",
    params(("organization" = String, Path), ("storage" = String, Path), Which),
    responses(
        (status = 200, description = "volumes", body = Vec<VolumeView>),
        (status = 404, description = "there is no such storage", body = ErrorBody),
    )
)]
pub(super) async fn volumes(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((organization, storage)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Json<Vec<VolumeView>>> {
    let of = (&organization.into(), &storage.into());
    Ok(Json(api.registry.volumes(&caller, of, which.keyword.as_deref(), which.limit).await?))
}

/// Make a volume of a storage.
#[utoipa::path(
    post, path = "/organizations/{organization}/storages/{storage}/volumes", tag = "storages",
    operation_id = "createVolume",
    params(("organization" = String, Path), ("storage" = String, Path)),
    request_body = VolumeCreate,
    responses(
        (status = 201, description = "it is there", body = VolumeView),
        (status = 409, description = "it was there before", body = ErrorBody),
    )
)]
pub(super) async fn create_volume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((organization, storage)): Path<(String, String)>,
    JsonBody(new): JsonBody<VolumeCreate>,
) -> Result<(StatusCode, Json<VolumeView>)> {
    let (organization, storage, volume) = (organization.into(), storage.into(), new.name.into());
    let volume = VolumeRef { organization, storage, volume };
    Ok((StatusCode::CREATED, Json(api.registry.create_volume(&caller, &volume, new.tags).await?)))
}

/// Delete a volume with everything in it. Refused while a run that has not ended uses it.
#[utoipa::path(
    delete, path = "/organizations/{organization}/storages/{storage}/volumes/{volume}", tag = "storages",
    operation_id = "deleteVolume",
    params(("organization" = String, Path), ("storage" = String, Path), ("volume" = String, Path)),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such volume", body = ErrorBody),
        (status = 409, description = "a run uses it", body = ErrorBody),
    )
)]
pub(super) async fn delete_volume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    VolumePath(volume): VolumePath,
) -> Result<StatusCode> {
    api.registry.delete_volume(&caller, &volume).await?;
    Ok(StatusCode::NO_CONTENT)
}
