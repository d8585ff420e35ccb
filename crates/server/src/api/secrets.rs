//! Secrets and credentials: written, listed by name, deleted; never read.
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::ids::OrganizationName;
use vessl_core::wire::{CredentialCreate, ErrorBody, SecretCreate, SecretView, StoredKind};

use super::Api;
use super::error::Result;
use super::extract::{JsonBody, Path, Query};
use crate::control::NewValue;
use crate::store::secrets::Class;

/// Whose they are.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Owner {
    /// Organization; absent is the default one.
    organization: Option<String>,
}

impl Owner {
    fn name(self, api: &Api) -> OrganizationName {
        self.organization.map_or_else(|| api.control.inventory().project.organization.clone(), Into::into)
    }
}

/// Names of the stored secrets.
#[utoipa::path(
    get, path = "/secrets", tag = "secrets", operation_id = "listSecrets", params(Owner),
    responses((status = 200, description = "names", body = Vec<SecretView>))
)]
pub(super) async fn secrets(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(owner): Query<Owner>,
) -> Result<Json<Vec<SecretView>>> {
    Ok(Json(api.control.secret_names(&caller, &owner.name(&api), Class::Secret).await?))
}

/// Store a secret; one of the same name is replaced.
#[utoipa::path(
    post, path = "/secrets", tag = "secrets", operation_id = "createSecret", params(Owner),
    request_body = SecretCreate,
    responses((status = 201, description = "it is stored", body = SecretView))
)]
pub(super) async fn create_secret(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(owner): Query<Owner>,
    JsonBody(new): JsonBody<SecretCreate>,
) -> Result<(StatusCode, Json<SecretView>)> {
    let SecretCreate { name, kind: _, value } = new;
    let new = NewValue { name, kind: StoredKind::Secret, username: None, value, session_token: None };
    let view = api.control.put_secret(&caller, &owner.name(&api), Class::Secret, new).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Forget a secret.
#[utoipa::path(
    delete, path = "/secrets/{name}", tag = "secrets", operation_id = "deleteSecret",
    params(("name" = String, Path), Owner),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such secret", body = ErrorBody),
    )
)]
pub(super) async fn delete_secret(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(owner): Query<Owner>,
) -> Result<StatusCode> {
    api.control.delete_secret(&caller, &owner.name(&api), Class::Secret, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Names of the stored credentials.
#[utoipa::path(
    get, path = "/credentials", tag = "secrets", operation_id = "listCredentials", params(Owner),
    responses((status = 200, description = "names", body = Vec<SecretView>))
)]
pub(super) async fn credentials(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(owner): Query<Owner>,
) -> Result<Json<Vec<SecretView>>> {
    Ok(Json(api.control.secret_names(&caller, &owner.name(&api), Class::Credential).await?))
}

/// Store a credential; one of the same name is replaced.
#[utoipa::path(
    post, path = "/credentials", tag = "secrets", operation_id = "createCredential", params(Owner),
    request_body = CredentialCreate,
    responses((status = 201, description = "it is stored", body = SecretView))
)]
pub(super) async fn create_credential(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(owner): Query<Owner>,
    JsonBody(new): JsonBody<CredentialCreate>,
) -> Result<(StatusCode, Json<SecretView>)> {
    let CredentialCreate { name, kind, username, value, session_token } = new;
    let new = NewValue { name, kind: kind.into(), username, value, session_token };
    let view = api.control.put_secret(&caller, &owner.name(&api), Class::Credential, new).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Forget a credential.
#[utoipa::path(
    delete, path = "/credentials/{name}", tag = "secrets", operation_id = "deleteCredential",
    params(("name" = String, Path), Owner),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is no such credential", body = ErrorBody),
    )
)]
pub(super) async fn delete_credential(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Query(owner): Query<Owner>,
) -> Result<StatusCode> {
    api.control.delete_secret(&caller, &owner.name(&api), Class::Credential, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
