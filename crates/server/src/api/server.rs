//! The server itself: who am I, is it well, what is it, stop it.
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{Method, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::wire::{ServerProof, ServerView, WhoAmI};

use super::Api;
use super::error::{Failure, Result};
use super::extract::Query;
use crate::challenge::LONGEST_NONCE;
use crate::offsite::Bucket;

/// Who the token belongs to and what the server is.
#[utoipa::path(
    get, path = "/whoami", tag = "server", operation_id = "whoami",
    responses((status = 200, description = "you", body = WhoAmI))
)]
pub(super) async fn whoami(State(api): State<Api>, Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    let inventory = api.control.inventory();
    Json(WhoAmI {
        user: caller.user.to_string(),
        organization: inventory.project.organization.to_string(),
        project: inventory.project.project.to_string(),
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: inventory.instance.clone(),
    })
}

/// A random text of the client's.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Nonce {
    /// 1 to 128 letters and digits, another one each time.
    #[param(min_length = 1, max_length = 128, pattern = "^[0-9A-Za-z]+$")]
    nonce: String,
}

/// The proof that this server has the token: ask for it before you send the token, and compare it in constant time with
/// what the token gives. Needs no token.
#[utoipa::path(
    get, path = "/challenge", tag = "server", operation_id = "challenge", security(()),
    params(Nonce),
    responses((status = 200, description = "the proof", body = ServerProof))
)]
pub(super) async fn challenge(
    State(api): State<Api>,
    Query(Nonce { nonce }): Query<Nonce>,
) -> Result<Json<ServerProof>> {
    let plain = nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if nonce.is_empty() || nonce.len() > LONGEST_NONCE || !plain {
        return Err(Failure::malformed(format!("`nonce` must be 1 to {LONGEST_NONCE} letters and digits")));
    }
    Ok(Json(ServerProof { proof: api.auth.prove(&nonce) }))
}

/// The server itself.
#[utoipa::path(
    get, path = "/server", tag = "server", operation_id = "readServer",
    responses((status = 200, description = "the server", body = ServerView))
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ServerView>> {
    let about = &api.about;
    Ok(Json(ServerView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        instance: api.control.inventory().instance.clone(),
        url: about.url.clone(),
        data_dir: about.data_dir.clone(),
        started_at: about.started_at,
        ports: api.control.ports_url(),
        ssh: api.control.ssh(),
        unfinished_runs: api.control.unfinished(&caller)?,
        blobs: api.registry.bucket().map(Bucket::standing),
    }))
}

/// Stop the server. Runs go on; the next start finds them.
#[utoipa::path(
    post, path = "/shutdown", tag = "server", operation_id = "shutdown",
    responses((status = 202, description = "it stops"))
)]
pub(super) async fn shutdown(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode> {
    api.control.may_operate(&caller)?;
    api.about.stop.cancel();
    Ok(StatusCode::ACCEPTED)
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "server", operation_id = "openapi",
    responses((status = 200, description = "the OpenAPI document", content_type = "application/json"))
)]
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi()).into_response()
}

/// Says that the server answers; needs no token.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Nothing is at this path.
pub(super) async fn nowhere() -> Failure {
    Failure::not_found("there is nothing at this path").hint(Some("the API is below `/v1`".to_owned()))
}

/// Something is at this path, but not for this method; which ones there are stands in the header `Allow`.
pub(super) async fn wrong_method(method: Method) -> Failure {
    let message = format!("this path does not take `{method}`");
    let hint = "the methods that it takes are in the header `Allow` of this answer".to_owned();
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message).hint(Some(hint))
}
