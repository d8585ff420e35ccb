//! Links to ports of runs, and to JupyterLab.
use axum::extract::State;
use axum::{Extension, Json};
use vessl_core::access::Caller;
use vessl_core::wire::{ErrorBody, JupyterOpened, PortOpen, PortOpened};

use super::error::Result;
use super::extract::{JsonBody, PortPath, RunPath};
use super::{Api, to_the_end};

/// A link that opens an `http` port of a run in a browser. Unless the port is public, it has a code that is good once and for a minute.
#[utoipa::path(
    post, path = "/organizations/{organization}/projects/{project}/runs/{id}/ports/{port}/open", tag = "runs",
    operation_id = "openPort",
    params(
        ("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), ("port" = u16, Path)
    ),
    request_body = Option<PortOpen>,
    responses(
        (status = 200, description = "the link", body = PortOpened),
        (status = 404, description = "there is no such run, or its file declares no such port", body = ErrorBody),
        (status = 409, description = "the run has ended, the port is no `http` port, or this server shows none", body = ErrorBody),
    )
)]
pub(super) async fn open(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    PortPath(of, port): PortPath,
    JsonBody(ask): JsonBody<PortOpen>,
) -> Result<Json<PortOpened>> {
    let opened = to_the_end(async move { api.control.open_port(&caller, (&of, port), ask).await }).await?;
    Ok(Json(opened))
}

/// How far JupyterLab of an interactive run is, and a link that opens it once it is ready. The link has a code that is good once and for a
/// minute, unless the port is public.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/jupyter", tag = "runs",
    operation_id = "openJupyter",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 200, description = "how far it is", body = JupyterOpened),
        (status = 404, description = "there is no such run", body = ErrorBody),
        (status = 409, description = "the run is not interactive, has ended, or this server shows no ports", body = ErrorBody),
    )
)]
pub(super) async fn jupyter(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
) -> Result<Json<JupyterOpened>> {
    let opened = to_the_end(async move { api.control.jupyter(&caller, &of).await }).await?;
    Ok(Json(opened))
}
