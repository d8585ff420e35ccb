//! What a registry answers that has one image.
use crate::image_build::{Built, digest};
use crate::scripted::{Reply, Request};

/// What a well-behaved registry with one image (in any repository, under any tag) answers.
pub(crate) fn serve(image: &Built, request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    if request.path.contains("/manifests/") {
        let nested = image.blobs.get(last).filter(|_| last.starts_with("sha256:"));
        let manifest = nested.unwrap_or(&image.manifest);
        return Reply::ok(manifest).with("Docker-Content-Digest", &digest(manifest));
    }
    let Some(blob) = image.blobs.get(last) else { return Reply::status(404) };
    match request.range() {
        Some(from) => Reply { status: 206, ..Reply::ok(&blob[from..]) }
            .with("Content-Range", &format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
        None => Reply::ok(blob),
    }
}
