//! Uploads: blobs that come in pieces, or many at once.
use axum::body::Body;
use axum::extract::State;
use axum::{Extension, Json};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use vessl_core::access::Caller;
use vessl_core::wire::ErrorBody;
use vessl_core::wire::registry::{BlobState, Digests, PackReceived, UploadCreate, UploadView};
use vessl_data::blob::Digest;

use super::error::Result;
use super::extract::{BlobPath, JsonBody, Path, Query, UploadPath, pour};
use super::objects::number;
use super::{Api, to_the_end};
use crate::registry::Announced;

/// Begin an upload. It ends with the version that it makes, with `DELETE`, or a day after anything came last.
#[utoipa::path(
    post, path = "/organizations/{organization}/uploads", tag = "uploads", operation_id = "createUpload",
    params(("organization" = String, Path)),
    request_body = Option<UploadCreate>,
    responses(
        (status = 201, description = "it has begun", body = UploadView),
        (status = 404, description = "there is no such organization", body = ErrorBody),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
    JsonBody(new): JsonBody<UploadCreate>,
) -> Result<(StatusCode, Json<UploadView>)> {
    let begun = api.registry.begin_upload(&caller, &organization.into(), new.object).await?;
    Ok((StatusCode::CREATED, Json(begun)))
}

/// Uploads that have begun and not ended, the oldest first. What came for them is kept until they end.
#[utoipa::path(
    get, path = "/organizations/{organization}/uploads", tag = "uploads", operation_id = "listUploads",
    params(("organization" = String, Path)),
    responses((status = 200, description = "uploads", body = Vec<UploadView>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(organization): Path<String>,
) -> Result<Json<Vec<UploadView>>> {
    Ok(Json(api.registry.uploads(&caller, &organization.into()).await?))
}

/// Whether an upload goes on, and until when.
#[utoipa::path(
    get, path = "/organizations/{organization}/uploads/{upload}", tag = "uploads", operation_id = "readUpload",
    params(("organization" = String, Path), ("upload" = String, Path)),
    responses(
        (status = 200, description = "it goes on", body = UploadView),
        (status = 404, description = "it has ended", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    UploadPath(of): UploadPath,
) -> Result<Json<UploadView>> {
    Ok(Json(api.registry.upload(&caller, &of).await?))
}

/// End an upload whose blobs are not needed.
#[utoipa::path(
    delete, path = "/organizations/{organization}/uploads/{upload}", tag = "uploads", operation_id = "deleteUpload",
    params(("organization" = String, Path), ("upload" = String, Path)),
    responses(
        (status = 204, description = "it has ended"),
        (status = 404, description = "it had ended", body = ErrorBody),
    )
)]
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    UploadPath(of): UploadPath,
) -> Result<StatusCode> {
    api.registry.end_upload(&caller, &of).await?;
    api.collect();
    Ok(StatusCode::NO_CONTENT)
}

/// Which of these blobs are not here. Those that are stay until the upload ends.
#[utoipa::path(
    post, path = "/organizations/{organization}/uploads/{upload}/missing", tag = "uploads",
    operation_id = "listMissingBlobs",
    params(("organization" = String, Path), ("upload" = String, Path)),
    request_body = Digests,
    responses((status = 200, description = "those that are to be put", body = Digests))
)]
pub(super) async fn missing(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    UploadPath(of): UploadPath,
    JsonBody(wanted): JsonBody<Digests>,
) -> Result<Json<Digests>> {
    Ok(Json(Digests { digests: api.registry.missing(&caller, &of, wanted.digests).await? }))
}

/// How much of a blob is here.
#[utoipa::path(
    get, path = "/organizations/{organization}/uploads/{upload}/blobs/{digest}", tag = "uploads",
    operation_id = "readBlob",
    params(("organization" = String, Path), ("upload" = String, Path), ("digest" = String, Path, pattern = "^[0-9a-f]{64}$")),
    responses((status = 200, description = "where to go on", body = BlobState))
)]
pub(super) async fn blob(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    BlobPath { upload, digest }: BlobPath,
) -> Result<Json<BlobState>> {
    Ok(Json(api.registry.blob(&caller, &upload, digest).await?))
}

/// Which piece of the blob it is.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Piece {
    /// Where it begins; default: at the beginning. What is here from there on comes anew.
    #[serde(default)]
    offset: u64,
    /// Bytes of the whole blob.
    size: u64,
}

impl Piece {
    fn of(self, digest: Digest) -> Result<Announced> {
        Ok(Announced { digest, size: number(self.size)?, offset: number(self.offset)? })
    }
}

/// Put a blob, or go on with it. What came stays when the connection is cut. When all of it is here, it is checked, and on disk when
/// this is answered.
#[utoipa::path(
    put, path = "/organizations/{organization}/uploads/{upload}/blobs/{digest}", tag = "uploads",
    operation_id = "putBlob",
    params(("organization" = String, Path), ("upload" = String, Path), ("digest" = String, Path, pattern = "^[0-9a-f]{64}$"), Piece),
    request_body(content = String, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "how much is here", body = BlobState),
        (status = 409, description = "it would have a gap, or another request brings it", body = ErrorBody),
        (status = 422, description = "it is another blob, or longer", body = ErrorBody),
    )
)]
pub(super) async fn put(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    BlobPath { upload, digest }: BlobPath,
    Query(piece): Query<Piece>,
    body: Body,
) -> Result<Json<BlobState>> {
    let piece = piece.of(digest)?;
    let mut receiver = api.registry.receive(&caller, &upload, piece).await?;
    pour(body, &mut receiver).await?;
    let ending = async move { api.registry.received(&upload, piece, receiver).await };
    Ok(Json(to_the_end(ending).await?))
}

/// Put many small blobs: of each 32 bytes of digest, 8 bytes of length (little-endian), its bytes; at most 4 MiB of each. All of
/// them are on disk when this is answered, or none is here.
#[utoipa::path(
    post, path = "/organizations/{organization}/uploads/{upload}/pack", tag = "uploads", operation_id = "putPack",
    params(("organization" = String, Path), ("upload" = String, Path)),
    request_body(content = Option<String>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "all are here", body = PackReceived),
        (status = 422, description = "one of them is not what it should be", body = ErrorBody),
    )
)]
pub(super) async fn pack(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    UploadPath(of): UploadPath,
    body: Body,
) -> Result<Json<PackReceived>> {
    let mut receiver = api.registry.receive_pack(&caller, &of).await?;
    pour(body, &mut receiver).await?;
    let ending = async move { api.registry.received_pack(&of, receiver).await };
    let blobs = to_the_end(ending).await?;
    Ok(Json(PackReceived { blobs: blobs as u64 }))
}
