//! Runs: submit, list, read, change, end, delete, explain.
use axum::extract::State;
use axum::{Extension, Json};
use http::{HeaderMap, HeaderValue, StatusCode};
use vessl_core::access::Caller;
use vessl_core::wire::{
    ErrorBody, Explain, RunCreate, RunExtend, RunQuery, RunReadQuery, RunTerminate, RunUpdate, RunView,
    UNREADABLE,
};

use super::error::Result;
use super::extract::{JsonBody, ProjectPath, Query, RunPath};
use super::{Api, to_the_end};
use crate::control::ControlError;

/// Submit a run, from a file or from another run. When it is answered, the run is on disk.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs", tag = "runs",
    operation_id = "createRun",
    params(("organization" = String, Path), ("project" = String, Path)),
    request_body = RunCreate,
    responses(
        (status = 201, description = "the run is stored", body = RunView),
        (status = 200, description = "the same submit was stored before", body = RunView),
        (status = 404, description = "there is no such project, or no run to be made from", body = ErrorBody),
        (status = 422, description = "the run file has problems", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ProjectPath(project): ProjectPath,
    JsonBody(create): JsonBody<RunCreate>,
) -> Result<(StatusCode, Json<RunView>)> {
    let control = api.control.clone();
    let submitted = to_the_end(async move { control.submit(&caller, &project, create).await }).await?;
    let status = if submitted.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(submitted.view)))
}

/// One page of runs, newest first; the next page is `before` the last id of this one. With another order the next page has an
/// `offset` of as many runs as there were.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs", tag = "runs",
    operation_id = "listRuns",
    params(("organization" = String, Path), ("project" = String, Path), RunQuery),
    responses((
        status = 200, description = "runs", body = Vec<RunView>,
        headers(("vessl-unreadable" = String, description = "ids of runs that belong here but cannot be read, \
with commas between them; absent without any"))
    ))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    ProjectPath(project): ProjectPath,
    Query(query): Query<RunQuery>,
) -> Result<(HeaderMap, Json<Vec<RunView>>)> {
    let (runs, unreadable) = api.control.runs(&caller, &project, query).await?;
    let ids: Vec<String> = unreadable.into_iter().map(|id| id.0.to_string()).collect();
    let mut headers = HeaderMap::new();
    if let (false, Ok(ids)) = (ids.is_empty(), HeaderValue::try_from(ids.join(","))) {
        headers.insert(UNREADABLE, ids);
    }
    Ok((headers, Json(runs)))
}

/// One run, with its canonical run file.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}", tag = "runs",
    operation_id = "readRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), RunReadQuery),
    responses(
        (status = 200, description = "the run", body = RunView),
        (status = 404, description = "there is no such run", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(query): Query<RunReadQuery>,
) -> Result<Json<RunView>> {
    Ok(Json(api.control.run(&caller, &of, query).await?))
}

/// Change name, description or tags.
#[utoipa::path(
    patch, path = "/organizations/{organization}/projects/{project}/runs/{id}", tag = "runs",
    operation_id = "updateRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    request_body = Option<RunUpdate>,
    responses((status = 200, description = "the run after the change", body = RunView))
)]
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    JsonBody(update): JsonBody<RunUpdate>,
) -> Result<Json<RunView>> {
    Ok(Json(to_the_end(async move { api.control.update(&caller, &of, update).await }).await?))
}

/// Delete a run that has ended, with its log and its output files.
#[utoipa::path(
    delete, path = "/organizations/{organization}/projects/{project}/runs/{id}", tag = "runs",
    operation_id = "deleteRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 204, description = "it is gone"),
        (status = 409, description = "it has not ended", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
) -> Result<StatusCode> {
    to_the_end(async move {
        api.control.delete(&caller, &of).await?;
        api.collect();
        Ok::<_, ControlError>(StatusCode::NO_CONTENT)
    })
    .await
}

/// Ask for the end of a run. Asking again is fine.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs/{id}/terminate", tag = "runs",
    operation_id = "terminateRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    request_body = Option<RunTerminate>,
    responses((status = 200, description = "the run; it may take a while to end", body = RunView))
)]
pub(super) async fn terminate(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    JsonBody(ask): JsonBody<RunTerminate>,
) -> Result<Json<RunView>> {
    Ok(Json(to_the_end(async move { api.control.terminate(&caller, &of, ask).await }).await?))
}

/// Give a run that runs more time than its time limit.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs/{id}/extend", tag = "runs",
    operation_id = "extendRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    request_body = RunExtend,
    responses(
        (status = 200, description = "the run, with its new end", body = RunView),
        (status = 409, description = "it does not run, has no time limit, or may not take longer", body = ErrorBody),
    )
)]
pub(super) async fn extend(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    JsonBody(ask): JsonBody<RunExtend>,
) -> Result<Json<RunView>> {
    Ok(Json(to_the_end(async move { api.control.extend(&caller, &of, ask).await }).await?))
}

/// Begin a new attempt of a run that has ended, with the same file and the same settings.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs/{id}/restart", tag = "runs",
    operation_id = "restartRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 200, description = "the run, which waits for its turn", body = RunView),
        (status = 409, description = "it has not ended", body = ErrorBody),
    )
)]
pub(super) async fn restart(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
) -> Result<Json<RunView>> {
    Ok(Json(to_the_end(async move { api.control.restart(&caller, &of).await }).await?))
}

/// Write the exports of a run again that failed, from the files that it left, without starting its commands. Asking again meanwhile is
/// fine.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs/{id}/export", tag = "runs",
    operation_id = "exportRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 200, description = "the run, which is `stopping` until the exports are written", body = RunView),
        (status = 409, description = "no export failed, its files are not there any more, or it has not ended", body = ErrorBody),
    )
)]
pub(super) async fn export(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
) -> Result<Json<RunView>> {
    Ok(Json(to_the_end(async move { api.control.export(&caller, &of).await }).await?))
}

/// Why a run is where it is, and what would let it go on.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/explain", tag = "runs",
    operation_id = "explainRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses((status = 200, description = "the deciding fact", body = Explain))
)]
pub(super) async fn explain(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
) -> Result<Json<Explain>> {
    Ok(Json(api.control.explain(&caller, &of).await?))
}
