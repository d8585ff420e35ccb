//! Organizations, projects, artifacts.
use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use vessl_core::wire::{ArtifactView, ErrorBody, NameCreate, NameView};

use super::Api;
use super::error::Result;
use super::take::Body;

/// All organizations.
#[utoipa::path(
    get, path = "/organizations", tag = "names", operation_id = "listOrganizations",
    responses((status = 200, description = "organizations", body = Vec<NameView>))
)]
pub(super) async fn organizations(State(api): State<Api>) -> Result<Json<Vec<NameView>>> {
    Ok(Json(api.control.organizations().await?))
}

/// Make an organization.
#[utoipa::path(
    post, path = "/organizations", tag = "names", operation_id = "createOrganization",
    request_body = NameCreate,
    responses((status = 201, description = "it is there", body = NameView))
)]
pub(super) async fn create_organization(
    State(api): State<Api>,
    Body(new): Body<NameCreate>,
) -> Result<(StatusCode, Json<NameView>)> {
    Ok((StatusCode::CREATED, Json(api.control.create_organization(&new.name).await?)))
}

/// All projects of an organization.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects", tag = "names", operation_id = "listProjects",
    params(("organization" = String, Path)),
    responses((status = 200, description = "projects", body = Vec<NameView>))
)]
pub(super) async fn projects(
    State(api): State<Api>,
    Path(organization): Path<String>,
) -> Result<Json<Vec<NameView>>> {
    Ok(Json(api.control.projects(&organization).await?))
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
    Path(organization): Path<String>,
    Body(new): Body<NameCreate>,
) -> Result<(StatusCode, Json<NameView>)> {
    Ok((StatusCode::CREATED, Json(api.control.create_project(&organization, &new.name).await?)))
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
    Path((organization, project)): Path<(String, String)>,
) -> Result<Json<Vec<ArtifactView>>> {
    api.control.check_project(&organization, &project).await?;
    Ok(Json(api.registry.artifacts(organization, project).await?))
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
    Path((organization, project, name)): Path<(String, String, String)>,
) -> Result<Json<ArtifactView>> {
    api.control.check_project(&organization, &project).await?;
    Ok(Json(api.registry.artifact([&organization, &project], name).await?))
}
