//! Images of a cluster: list, read, pull, prune.
use axum::body::Body as Answer;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use futures::stream;
use http::header;
use vessl_core::access::Caller;
use vessl_core::ids::OrganizationName;
use vessl_core::reference::Reference;
use vessl_core::wire::{
    CacheEntry, CachePrune, CachePruned, ErrorBody, ImagePull, ImageView, Pruned, PullLine, StoredKind,
};

use super::Api;
use super::error::{Failure, Result};
use super::extract::{JsonBody, Path};
use crate::control::{EngineError, PullStep};
use crate::store::secrets::Class;

/// Images that are here.
#[utoipa::path(
    get, path = "/clusters/{name}/images", tag = "images", operation_id = "listImages",
    params(("name" = String, Path)),
    responses((status = 200, description = "images", body = Vec<ImageView>))
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<ImageView>>> {
    Ok(Json(api.control.images(&caller, &name).await?))
}

/// One image, by its id, digest or reference.
#[utoipa::path(
    get, path = "/clusters/{name}/images/{id}", tag = "images", operation_id = "readImage",
    params(("name" = String, Path), ("id" = String, Path)),
    responses(
        (status = 200, description = "the image", body = ImageView),
        (status = 404, description = "there is no such image", body = ErrorBody),
    )
)]
pub(super) async fn read(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path((name, id)): Path<(String, String)>,
) -> Result<Json<ImageView>> {
    let images = api.control.images(&caller, &name).await?;
    let found =
        images.into_iter().find(|image| image.id == id || image.digest == id || image.reference == id);
    found.map(Json).ok_or_else(|| {
        Failure::not_found(format!("there is no image `{id}` here"))
            .hint(Some("`vessl image list` shows the images there are".to_owned()))
    })
}

/// Pull an image. The answer is JSON lines: steps as they happen, then the image or an error.
#[utoipa::path(
    post, path = "/clusters/{name}/images/pull", tag = "images", operation_id = "pullImage",
    params(("name" = String, Path)),
    request_body = ImagePull,
    responses((status = 200, description = "lines", body = PullLine, content_type = "application/x-ndjson"))
)]
pub(super) async fn pull(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(cluster): Path<String>,
    JsonBody(ask): JsonBody<ImagePull>,
) -> Result<Response> {
    Reference::parse(&ask.reference).map_err(|error| Failure::malformed(error.to_string()))?;
    if let Some(name) = &ask.credential_name {
        is_stored(&api, &caller, &api.control.inventory().project.organization, name).await?;
    }
    let steps = api.control.pull_image(&caller, &cluster, ask).await?;
    let lines = stream::unfold(steps, |mut steps| async {
        let line = line(steps.recv().await?);
        Some((Ok::<_, std::convert::Infallible>(line), steps))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Answer::from_stream(lines)).into_response())
}

/// Refuses a credential that is not stored, and says which could be meant.
async fn is_stored(api: &Api, caller: &Caller, organization: &OrganizationName, name: &str) -> Result<()> {
    let stored = api.control.secret_names(caller, organization, Class::Credential).await?;
    if stored.iter().any(|credential| credential.name == name) {
        return Ok(());
    }
    let store = "store it: `vessl credential create NAME --kind registry --username USER`";
    let of_kind = stored.iter().filter(|credential| credential.kind == StoredKind::Registry);
    let names: Vec<String> = of_kind.map(|credential| format!("`{}`", credential.name)).collect();
    let hint = match names.as_slice() {
        [] => store.to_owned(),
        names => format!("there is {}; or {store}", names.join(", ")),
    };
    Err(Failure::not_found(format!("there is no credential `{name}`")).hint(Some(hint)))
}

/// Remove images and layers that no run uses.
#[utoipa::path(
    post, path = "/clusters/{name}/images/prune", tag = "images", operation_id = "pruneImages",
    params(("name" = String, Path)),
    responses((status = 200, description = "what was freed", body = Pruned))
)]
pub(super) async fn prune(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Pruned>> {
    Ok(Json(api.control.prune_images(&caller, &name).await?))
}

/// What imports brought to the machine, and is kept there for the next ones.
#[utoipa::path(
    get, path = "/clusters/{name}/cache", tag = "images", operation_id = "listCache",
    params(("name" = String, Path)),
    responses((status = 200, description = "entries, what was used last at the end", body = Vec<CacheEntry>))
)]
pub(super) async fn cache(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Vec<CacheEntry>>> {
    Ok(Json(api.control.cache(&caller, &name).await?))
}

/// Remove what no run uses of the cache, what was used longest ago first.
#[utoipa::path(
    post, path = "/clusters/{name}/cache/prune", tag = "images", operation_id = "pruneCache",
    params(("name" = String, Path)),
    request_body = CachePrune,
    responses((status = 200, description = "what was freed", body = CachePruned))
)]
pub(super) async fn prune_cache(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    JsonBody(ask): JsonBody<CachePrune>,
) -> Result<Json<CachePruned>> {
    Ok(Json(api.control.prune_cache(&caller, &name, ask.keep_bytes).await?))
}

fn line(step: std::result::Result<PullStep, EngineError>) -> Bytes {
    let line = match step {
        Ok(PullStep::Progress(progress)) => PullLine::Progress(progress),
        Ok(PullStep::Done(image)) => PullLine::Image(image),
        Err(error) => PullLine::Error(Failure::from(error).into_body()),
    };
    let mut text = serde_json::to_vec(&line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}
