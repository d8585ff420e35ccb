//! A registry client for pulling: anonymous, basic and token login over the retries and ranges of [`vessl_data::fetch`].
//!
//! It speaks of one repository and keeps its token. It verifies sizes but not digests (who unpacks does), and never sends a
//! credential to an address it was not meant for.
//!
//! ```text
//! request → 401 + challenge → token (or basic) → request → 2xx
//! ```
mod answers;
mod challenge;
mod login;

use std::path::Path;

use reqwest::header::{ACCEPT, HeaderValue, RANGE};
use reqwest::{RequestBuilder, Response, StatusCode};
use tokio::sync::Mutex;
use vessl_data::fetch::{Client, FetchError, Proxy, Sink};

use crate::error::StoreError;
use crate::manifest::{self, Descriptor};
use crate::options::{Auth, Options};
use vessl_core::reference::{Digest, Named, is_loopback};

/// One repository of one registry.
pub(crate) struct Registry {
    http: Client,
    /// `https://host/v2/repository`.
    base: String,
    named: Named,
    auth: Auth,
    plain: bool,
    /// The `Authorization` header that worked last.
    token: Mutex<Option<HeaderValue>>,
}

impl Registry {
    pub(crate) fn new(named: &Named, auth: &Auth, options: &Options) -> Result<Self, StoreError> {
        let loopback = is_loopback(&named.registry);
        let plain = loopback || options.insecure.iter().any(|r| r.eq_ignore_ascii_case(&named.registry));
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}", named.endpoint(), named.repository);
        let proxy = if loopback { Proxy::None } else { Proxy::Environment };
        let http = Client::new(&options.fetch, proxy).map_err(|error| StoreError::Registry {
            registry: named.registry.clone(),
            repository: named.repository.clone(),
            reason: error.to_string(),
        })?;
        let named = named.clone();
        Ok(Self { http, base, named, auth: auth.clone(), plain, token: Mutex::default() })
    }

    /// A manifest by tag or digest, not verified.
    pub(crate) async fn manifest(&self, version: &str) -> Result<Vec<u8>, StoreError> {
        let response = self.get(&format!("manifests/{version}"), None).await?;
        self.body(response, manifest::MAX_MANIFEST, "the manifest").await
    }

    /// A small blob, not verified.
    pub(crate) async fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let response = self.get(&format!("blobs/{digest}"), None).await?;
        self.body(response, manifest::MAX_CONFIG, "the configuration").await
    }

    /// Asks for `path` below the repository, from byte `from` on, with all patience and logins there are. Of a registry that
    /// refuses to begin there all of it is the answer, as of one that knows no ranges.
    async fn get(&self, path: &str, mut from: Option<u64>) -> Result<Response, StoreError> {
        let url = format!("{}/{path}", self.base);
        let mut logged_in = false;
        loop {
            let token = self.token.lock().await.clone();
            let request = || {
                let mut request = self.http.get(&url);
                if path.starts_with("manifests/") {
                    request = request.header(ACCEPT, manifest::ACCEPT);
                }
                if let Some(from) = from {
                    request = request.header(RANGE, format!("bytes={from}-"));
                }
                match &token {
                    Some(token) => request.header(reqwest::header::AUTHORIZATION, token.clone()),
                    None => request,
                }
            };
            let response = self.ask(request).await?;
            match response.status() {
                status if status.is_success() => return Ok(response),
                StatusCode::UNAUTHORIZED if !logged_in => {
                    let token = self.login(&response).await?;
                    *self.token.lock().await = Some(token);
                    logged_in = true;
                }
                StatusCode::RANGE_NOT_SATISFIABLE if from.is_some() => from = None,
                _ => return Err(self.refusal(path, response).await),
            }
        }
    }

    /// Sends a request until there is an answer that is not a passing failure.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, StoreError> {
        self.http.ask(request).await.map_err(|error| self.explain(error, "the answer"))
    }

    /// Reads at most `most` bytes of an answer.
    async fn body(&self, response: Response, most: u64, what: &str) -> Result<Vec<u8>, StoreError> {
        let what = || format!("{what} of `{}`", self.named);
        self.http.body(response, most).await.map_err(|error| self.explain(error, &what()))
    }

    /// Downloads what is missing of a blob; `store` is named if it cannot take it.
    pub(crate) async fn download(
        &self,
        blob: &Descriptor,
        sink: &mut impl Sink,
        store: &Path,
    ) -> Result<(), StoreError> {
        let path = format!("blobs/{}", blob.digest);
        let what = format!("blob `{}` of `{}`", blob.digest, self.named);
        let explain = |error| match error {
            FetchError::Write(error) => StoreError::io("write a download in", store, error),
            error => self.explain(error, &what),
        };
        self.http.download(blob.size, sink, async |from| self.get(&path, from).await, explain).await
    }

    /// A failure of this registry, or of `what` it sent.
    fn explain(&self, error: FetchError, what: &str) -> StoreError {
        match error {
            FetchError::TooLong(_) => {
                StoreError::Corrupt { what: what.to_owned(), reason: error.to_string() }
            }
            FetchError::Plain => {
                self.failed(format!("{error}; if plain http is meant, list it in `{}`", Options::INSECURE))
            }
            error => self.failed(error.to_string()),
        }
    }

    fn failed(&self, reason: String) -> StoreError {
        let (registry, repository) = self.place();
        StoreError::Registry { registry, repository, reason }
    }

    fn place(&self) -> (String, String) {
        (self.named.registry.clone(), self.named.repository.clone())
    }
}
