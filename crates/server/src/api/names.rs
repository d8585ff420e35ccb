//! Organizations, projects, artifacts.
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::ids::ProjectRef;
use vessl_core::wire::{ArtifactView, ErrorBody, NameCreate, NameView, position};

use super::Api;
use super::error::Result;
use super::extract::{ArtifactPath, JsonBody, Path, ProjectPath, Query};

/// All organizations.
#[utoipa::path(
    get, path = "/organizations", tag = "names", operation_id = "listOrganizations",
    responses((status = 200, description = "organizations", body = Vec<NameView>))
)]
pub(super) async fn organizations(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<NameView>>> {
    Ok(Json(api.control.organizations(&caller).await?))
}

/// Make an organization.
#[utoipa::path(
    post, path = "/organizations", tag = "names", operation_id = "createOrganization",
    request_body = NameCreate,
    responses((status = 201, description = "it is there", body = NameView))
)]
pub(super) async fn create_organization(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<NameCreate>,
) -> Result<(StatusCode, Json<NameView>)> {
    Ok((StatusCode::CREATED, Json(api.control.create_organization(&caller, &new.name.into()).await?)))
}

/// All projects of an organization.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects", tag = "names", operation_id = "listProjects",
    params(("organization" = String, Path)),
    responses((status = 200, description = "projects", body = Vec<NameView>))
)]
pub(super) async fn projects(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
) -> Result<Json<Vec<NameView>>> {
    Ok(Json(api.control.projects(&caller, &organization.into()).await?))
}

/// Make a project.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects", tag = "names", operation_id = "createProject",
    params(("organization" = String, Path)),
    request_body = NameCreate,
    responses((status = 201, description = "it is there", body = NameView))
)]
pub(super) async fn create_project(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    JsonBody(new): JsonBody<NameCreate>,
) -> Result<(StatusCode, Json<NameView>)> {
    Ok((
        StatusCode::CREATED,
        Json(api.control.create_project(&caller, &ProjectRef::new(organization, new.name)).await?),
    ))
}

/// Artifacts of a project, each with its newest version.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/artifacts", tag = "names",
    operation_id = "listArtifacts",
    params(("organization" = String, Path), ("project" = String, Path)),
    responses(
        (status = 200, description = "artifacts", body = Vec<ArtifactView>),
        (status = 404, description = "there is no such project", body = ErrorBody),
    )
)]
pub(super) async fn artifacts(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ProjectPath(project): ProjectPath,
) -> Result<Json<Vec<ArtifactView>>> {
    api.control.check_project(&caller, &project).await?;
    Ok(Json(api.registry.artifacts(&caller, &project).await?))
}

/// One artifact with its versions, newest first.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/artifacts/{name}", tag = "names",
    operation_id = "readArtifact",
    params(("organization" = String, Path), ("project" = String, Path), ("name" = String, Path)),
    responses(
        (status = 200, description = "the artifact", body = ArtifactView),
        (status = 404, description = "there is no such artifact", body = ErrorBody),
    )
)]
pub(super) async fn artifact(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ArtifactPath(artifact): ArtifactPath,
) -> Result<Json<ArtifactView>> {
    api.control.check_project(&caller, &artifact.project()).await?;
    Ok(Json(api.registry.artifact(&caller, artifact).await?))
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only this one, from 1; default: all of them.
    #[serde(default, deserialize_with = "position")]
    version: Option<u64>,
}

/// Delete an artifact, or one version of it. Files of the runs that made it stay with those, and so do imports of runs that
/// have not ended. A number is never given to another version.
#[utoipa::path(
    delete, path = "/organizations/{organization}/projects/{project}/artifacts/{name}", tag = "names",
    operation_id = "deleteArtifact",
    params(("organization" = String, Path), ("project" = String, Path), ("name" = String, Path), Which),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such artifact or version", body = ErrorBody),
    )
)]
pub(super) async fn delete_artifact(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ArtifactPath(artifact): ArtifactPath,
    Query(which): Query<Which>,
) -> Result<StatusCode> {
    api.control.check_project(&caller, &artifact.project()).await?;
    api.registry.delete_artifact(&caller, artifact, which.version).await?;
    api.collect();
    Ok(StatusCode::NO_CONTENT)
}
