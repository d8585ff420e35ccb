//! Datasets, model repositories and artifacts, and the other names of their versions.
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::object::ObjectKind;
use vessl_core::wire::ErrorBody;
use vessl_core::wire::registry::{AliasSet, ObjectCreate, ObjectUpdate, ObjectView};

use super::Api;
use super::error::{Failure, Result};
use super::extract::{JsonBody, ObjectPath, Path, Query, kind};
use crate::store::objects::ObjectQuery;

/// The project of an artifact.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OfProject {
    /// The project; of artifacts, and of nothing else.
    project: Option<String>,
}

fn query(organization: String, word: &str, project: Option<String>) -> Result<ObjectQuery> {
    let project = project.map(Into::into);
    Ok(ObjectQuery { kind: kind(word)?, organization: organization.into(), project })
}

/// Datasets, model repositories or artifacts of an organization, each with its newest version.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}", tag = "objects", operation_id = "listObjects",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), OfProject),
    responses(
        (status = 200, description = "all of them", body = Vec<ObjectView>),
        (status = 404, description = "there is no such organization", body = ErrorBody),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((organization, kind)): Path<(String, String)>,
    Query(of): Query<OfProject>,
) -> Result<Json<Vec<ObjectView>>> {
    Ok(Json(api.registry.objects(&caller, query(organization, &kind, of.project)?).await?))
}

/// Make a dataset, a model repository or an artifact. It has no version yet.
#[utoipa::path(
    post, path = "/organizations/{organization}/objects/{kind}", tag = "objects", operation_id = "createObject",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path)),
    request_body = ObjectCreate,
    responses(
        (status = 201, description = "it is there", body = ObjectView),
        (status = 409, description = "it was there before", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((organization, kind)): Path<(String, String)>,
    JsonBody(new): JsonBody<ObjectCreate>,
) -> Result<(StatusCode, Json<ObjectView>)> {
    let query = query(organization, &kind, new.project.clone())?;
    Ok((StatusCode::CREATED, Json(api.registry.create_object(&caller, query, new).await?)))
}

/// One of them.
#[utoipa::path(
    get, path = "/organizations/{organization}/objects/{kind}/{name}", tag = "objects", operation_id = "readObject",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), OfProject),
    responses(
        (status = 200, description = "with its newest version and its aliases", body = ObjectView),
        (status = 404, description = "there is no such thing", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
) -> Result<Json<ObjectView>> {
    Ok(Json(api.registry.object(&caller, &name).await?))
}

/// Change description, tags or metadata.
#[utoipa::path(
    patch, path = "/organizations/{organization}/objects/{kind}/{name}", tag = "objects",
    operation_id = "updateObject",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), OfProject),
    request_body = ObjectUpdate,
    responses((status = 200, description = "after the change", body = ObjectView))
)]
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
    JsonBody(change): JsonBody<ObjectUpdate>,
) -> Result<Json<ObjectView>> {
    Ok(Json(api.registry.update_object(&caller, &name, change).await?))
}

/// Delete it with all of its versions. Refused while a run that has not ended imports it, mounts it or exports to it.
#[utoipa::path(
    delete, path = "/organizations/{organization}/objects/{kind}/{name}", tag = "objects",
    operation_id = "deleteObject",
    params(("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), OfProject),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such thing", body = ErrorBody),
        (status = 409, description = "a run uses it", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ObjectPath { name, .. }: ObjectPath,
) -> Result<StatusCode> {
    api.registry.delete_object(&caller, &name).await?;
    api.collect();
    Ok(StatusCode::NO_CONTENT)
}

/// Let a version go by another name. A version that had it before has it no more.
#[utoipa::path(
    put, path = "/organizations/{organization}/objects/{kind}/{name}/aliases/{alias}", tag = "objects",
    operation_id = "setAlias",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), ("alias" = String, Path),
        OfProject,
    ),
    request_body = AliasSet,
    responses((status = 200, description = "with all of its aliases", body = ObjectView))
)]
pub(super) async fn set_alias(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
    JsonBody(set): JsonBody<AliasSet>,
) -> Result<Json<ObjectView>> {
    let alias = (path.part("alias")?, number(set.version)?);
    Ok(Json(api.registry.set_alias(&caller, &path.name, alias).await?))
}

/// Forget another name of a version.
#[utoipa::path(
    delete, path = "/organizations/{organization}/objects/{kind}/{name}/aliases/{alias}", tag = "objects",
    operation_id = "deleteAlias",
    params(
        ("organization" = String, Path), ("kind" = ObjectKind, Path), ("name" = String, Path), ("alias" = String, Path),
        OfProject,
    ),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "no version has it", body = ErrorBody),
    )
)]
pub(super) async fn delete_alias(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: ObjectPath,
) -> Result<StatusCode> {
    api.registry.delete_alias(&caller, &path.name, path.part("alias")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A number as the database can hold it.
pub(super) fn number(number: u64) -> Result<u64> {
    i64::try_from(number).map_err(|_| Failure::malformed("the number is too large"))?;
    Ok(number)
}
