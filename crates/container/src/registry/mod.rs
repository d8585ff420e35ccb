//! A registry client for pulling: anonymous, basic and token login, bounded retries, resumed downloads.
//!
//! It speaks of one repository and keeps its token. It verifies sizes but not digests (who unpacks does), never sends a
//! credential to an address it was not meant for, and waits only while the other side moves.
//!
//! ```text
//! request → 401 + challenge → token (or basic) → request → 2xx
//!         → 429 → wait as told, a few times
//!         → 5xx, cut connection → wait, again, a few times
//! ```
mod challenge;
mod download;
mod login;
mod patience;
mod words;

use reqwest::header::{ACCEPT, HeaderValue, RANGE, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use tokio::sync::Mutex;

use crate::error::StoreError;
use crate::manifest;
use crate::options::{Auth, Options};
use patience::Patience;
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
    options: Options,
}

impl Registry {
    pub(crate) fn new(named: &Named, auth: &Auth, options: &Options) -> Result<Self, StoreError> {
        let loopback = is_loopback(&named.registry);
        let plain = loopback || options.insecure.iter().any(|r| r.eq_ignore_ascii_case(&named.registry));
        let scheme = if plain { "http" } else { "https" };
        let base = format!("{scheme}://{}/v2/{}", named.endpoint(), named.repository);
        let http = client(options, loopback).map_err(|e| StoreError::Unreachable {
            registry: named.registry.clone(),
            repository: named.repository.clone(),
            reason: format!("the http client cannot be set up: {}", words::root_cause(&e)),
        })?;
        let named = named.clone();
        Ok(Self {
            http,
            base,
            named,
            auth: auth.clone(),
            plain,
            token: Mutex::default(),
            options: options.clone(),
        })
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

    /// Asks for `path` below the repository, from byte `from` on, with all patience and logins there are.
    async fn get(&self, path: &str, from: Option<u64>) -> Result<Response, StoreError> {
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
                _ => return Err(self.refusal(path, response).await),
            }
        }
    }

    /// Sends a request until there is an answer that is not a passing failure.
    async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, StoreError> {
        let mut patience = Patience::new(&self.options);
        loop {
            let failed = match request().send().await {
                Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    let wait = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
                    patience.told_to_wait(wait).await.map_err(|reason| self.busy(reason))?;
                    continue;
                }
                Ok(response) if response.status().is_server_error() => {
                    format!("it fails with status {}", response.status())
                }
                Ok(response) => return Ok(response),
                Err(error) if words::is_final(&error) => return Err(self.unreachable(self.failure(&error))),
                Err(error) => {
                    if error.is_connect() {
                        patience.hurry();
                    }
                    self.failure(&error)
                }
            };
            patience.after_failure().await.map_err(|()| self.unreachable(failed))?;
        }
    }

    /// Reads at most `most` bytes of an answer.
    async fn body(&self, mut response: Response, most: u64, what: &str) -> Result<Vec<u8>, StoreError> {
        let mut all = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|e| self.unreachable(self.failure(&e)))?;
            let Some(chunk) = chunk else { return Ok(all) };
            if (all.len() + chunk.len()) as u64 > most {
                let reason = format!("it is larger than {most} bytes");
                return Err(StoreError::Corrupt { what: format!("{what} of `{}`", self.named), reason });
            }
            all.extend_from_slice(&chunk);
        }
    }

    fn unreachable(&self, reason: String) -> StoreError {
        let (registry, repository) = self.place();
        StoreError::Unreachable { registry, repository, reason }
    }

    fn busy(&self, reason: String) -> StoreError {
        let (registry, repository) = self.place();
        StoreError::Busy { registry, repository, reason }
    }

    fn place(&self) -> (String, String) {
        (self.named.registry.clone(), self.named.repository.clone())
    }

    fn failure(&self, error: &reqwest::Error) -> String {
        words::failure(error, &self.options)
    }
}

fn client(options: &Options, loopback: bool) -> reqwest::Result<Client> {
    // Fails only if another part of the process chose a provider before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("vessl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(options.connect)
        .read_timeout(options.stall)
        .referer(false)
        .redirect(reqwest::redirect::Policy::custom(redirect));
    if loopback { builder.no_proxy() } else { builder }.build()
}

/// Follows where a registry sends for its blobs, but never from an encrypted address to a plain one. reqwest drops the
/// `Authorization` header when host, port or scheme changes.
fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let was_encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_encrypted && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to plain http");
    }
    if attempt.previous().len() > 8 {
        return attempt.error("it redirects more than 8 times");
    }
    attempt.follow()
}
