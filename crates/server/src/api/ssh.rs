//! SSH into runs: whose keys are good, and a way for clients that reach the API alone.
use axum::body::Body;
use axum::extract::{Request, State};
use axum::{Extension, Json};
use http::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use vessl_core::access::Caller;
use vessl_core::wire::{ErrorBody, SshKeyCreate, SshKeyView};
use vessl_reach::frames::SSH_PROTOCOL;

use super::Api;
use super::error::{Failure, Result};
use super::extract::{JsonBody, Path, RunPath};
use super::reach::{both_ways, busy, switched, wanted};

/// Where a client is that comes through the API, as programs of the run are told.
const THROUGH_API: &str = "127.0.0.1 0 127.0.0.1 0";

/// Public keys that let their owners into runs by SSH.
#[utoipa::path(
    get, path = "/ssh-keys", tag = "ssh", operation_id = "listSshKeys",
    responses((status = 200, description = "the keys", body = Vec<SshKeyView>))
)]
pub(super) async fn keys(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Vec<SshKeyView>>> {
    Ok(Json(api.control.ssh_keys(&caller).await?))
}

/// Add a public key of the caller's; it is good at once. One that is there already stays as it is.
#[utoipa::path(
    post, path = "/ssh-keys", tag = "ssh", operation_id = "createSshKey",
    request_body = SshKeyCreate,
    responses(
        (status = 201, description = "it is added", body = SshKeyView),
        (status = 200, description = "it was there already, like this", body = SshKeyView),
        (status = 409, description = "another key has the name", body = ErrorBody),
        (status = 422, description = "this is no public key that is taken", body = ErrorBody),
    )
)]
pub(super) async fn add_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    JsonBody(new): JsonBody<SshKeyCreate>,
) -> Result<(StatusCode, Json<SshKeyView>)> {
    let control = api.control.clone();
    let adding = async move { control.add_ssh_key(&caller, new).await };
    let (view, is_new) = super::to_the_end(adding).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

/// Delete a public key by its name or fingerprint. Connections that it opened end.
#[utoipa::path(
    delete, path = "/ssh-keys/{key}", tag = "ssh", operation_id = "deleteSshKey",
    params(("key" = String, Path)),
    responses(
        (status = 200, description = "it is gone", body = SshKeyView),
        (status = 404, description = "there is no such key", body = ErrorBody),
    )
)]
pub(super) async fn delete_key(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(key): Path<String>,
) -> Result<Json<SshKeyView>> {
    let control = api.control.clone();
    let deleting = async move { control.delete_ssh_key(&caller, &key).await };
    Ok(Json(super::to_the_end(deleting).await?))
}

/// Speak SSH with the server. The connection is upgraded to the bytes of a client of SSH, which then proves its key as on any other
/// connection; its user name says which run it means.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/ssh", tag = "runs",
    operation_id = "sshToRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 101, description = "bytes follow"),
        (status = 404, description = "there is no such run", body = ErrorBody),
        (status = 426, description = "the request asks for no upgrade", body = ErrorBody),
    )
)]
pub(super) async fn connect(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    request: Request,
) -> Result<Response<Body>> {
    let upgrade = wanted(request, SSH_PROTOCOL)?;
    api.control.may_ssh(&caller, &of).await?;
    let room = api.ways.clone().try_acquire_owned().map_err(|_| busy())?;
    let pair = std::os::unix::net::UnixStream::pair().and_then(|(ours, theirs)| {
        ours.set_nonblocking(true)?;
        Ok((UnixStream::from_std(ours)?, theirs))
    });
    let (ours, theirs) = pair.map_err(|error| Failure::internal(&error))?;
    let control = api.control.clone();
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let serving = control.serve_ssh(theirs.into(), THROUGH_API, None);
        let passing = both_ways(TokioIo::new(stream), ours);
        let stopping = control.stopping();
        tokio::select! {
            // Who hangs up in the middle is nothing to report.
            _ = passing => {}
            served = serving => if let Err(error) = served {
                tracing::warn!(error = %crate::chain(&error), "a connection by SSH is not served");
            },
            () = stopping.cancelled() => {}
        }
        drop(room);
    });
    Ok(switched(SSH_PROTOCOL))
}
