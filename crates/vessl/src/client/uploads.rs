//! Uploads: which blobs a server lacks, and blobs on their way to it, large ones from where the last try stopped.
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use vessl_core::wire::registry::{BlobState, Digests, PackReceived, UploadCreate, UploadView};
use vessl_data::blob::Digest;

use super::http::ApiRequest;
use super::outgoing::{Pieces, Piped};
use super::path::Path;
use super::{Client, Method, header};
use crate::error::{Error, Result};

/// An upload of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadRef {
    /// Organization.
    pub(crate) organization: String,
    /// Its name.
    pub(crate) id: String,
}

/// A blob as it is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// BLAKE3.
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) size: u64,
    /// Where the bytes that are sent begin.
    pub(crate) offset: u64,
}

const BYTES: &str = "application/octet-stream";

impl Client {
    /// Begins an upload.
    pub(crate) async fn create_upload(&mut self, organization: &str, object: &str) -> Result<UploadView> {
        let path = Path::of(&["organizations", organization, "uploads"]);
        // It is only shown: what is too long for that need not be.
        let object = Some(object.to_owned()).filter(|object| object.len() <= 500);
        self.post(path.into(), &UploadCreate { object }).await
    }

    /// Uploads of the organization that have not ended.
    pub(crate) async fn uploads(&mut self) -> Result<Vec<UploadView>> {
        let organization = self.organization().await?;
        self.get(Path::of(&["organizations", &organization, "uploads"]).into()).await
    }

    /// Ends an upload; what came for it is not kept any more.
    pub(crate) async fn delete_upload(&mut self, upload: &UploadRef) -> Result<()> {
        self.delete(of(upload, &[]).into()).await
    }

    /// Whether an upload goes on.
    pub(crate) async fn upload(&mut self, upload: &UploadRef) -> Result<UploadView> {
        self.get(of(upload, &[]).into()).await
    }

    /// Those of the blobs that the server lacks. The others are kept as long as the upload goes on.
    pub(crate) async fn missing(&mut self, upload: &UploadRef, digests: Vec<String>) -> Result<Vec<String>> {
        let missing: Digests = self.post(of(upload, &["missing"]).into(), &Digests { digests }).await?;
        Ok(missing.digests)
    }

    /// How much of a blob has come.
    pub(crate) async fn blob(&mut self, upload: &UploadRef, digest: Digest) -> Result<BlobState> {
        self.get(of(upload, &["blobs", &digest.to_string()]).into()).await
    }

    /// Sends many small blobs.
    pub(crate) async fn put_pack(&mut self, upload: &UploadRef, pack: Bytes) -> Result<PackReceived> {
        let headers = vec![(header::CONTENT_TYPE, BYTES.to_owned())];
        let path = of(upload, &["pack"]).into();
        self.json(ApiRequest { method: Method::POST, path, body: Some(pack), headers }).await
    }

    /// Sends a blob from an offset on; `read` gives its bytes to where they are sent from, on a thread of its own. What came stays
    /// on the server whatever the error is.
    pub(crate) async fn put_blob(
        &mut self,
        upload: &UploadRef,
        announced: Announced,
        moved: &Arc<AtomicU64>,
        read: impl FnOnce(Pieces) -> Result<()> + Send + 'static,
    ) -> Result<BlobState> {
        let Announced { digest, size, offset } = announced;
        let path = of(upload, &["blobs", &digest.to_string()]);
        let path = path.with("offset", Some(offset)).with("size", Some(size));
        self.put_bytes(path, size - offset, moved, read).await
    }

    /// Puts `length` bytes that `read` gives, and reads the answer. An error of who reads says more than that the body was cut off.
    pub(super) async fn put_bytes<T: serde::de::DeserializeOwned>(
        &mut self,
        path: Path,
        length: u64,
        moved: &Arc<AtomicU64>,
        read: impl FnOnce(Pieces) -> Result<()> + Send + 'static,
    ) -> Result<T> {
        let (body, pieces) = Piped::new(length, Arc::clone(moved));
        let reader = tokio::task::spawn_blocking(move || read(pieces));
        let headers = vec![(header::CONTENT_TYPE, BYTES.to_owned())];
        let request = ApiRequest { method: Method::PUT, path: path.into(), body: None, headers };
        let answer = self.connection.pipe(&request, body).await;
        let read = reader.await.map_err(|e| Error::Bug(format!("the reader of a file ended: {e}")))?;
        match (answer, read) {
            (Ok(answer), Ok(())) => {
                let body = self.connection.body(answer.into_body()).await?;
                self.read(&body)
            }
            (_, Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }
}

fn of(upload: &UploadRef, rest: &[&str]) -> Path {
    let mut segments = vec!["organizations", &upload.organization, "uploads", &upload.id];
    segments.extend(rest);
    Path::of(&segments)
}
