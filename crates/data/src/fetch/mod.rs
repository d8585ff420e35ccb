//! Downloads over HTTP, from whatever kind of server: tried again, gone on with where they stopped, waiting as long as a server asks,
//! given up when nothing moves. Who asks knows addresses and logins; a login goes to the address alone that it was meant for.
//! It must not know what the bytes mean.
//!
//! ```text
//! request → 2xx, 3xx, 4xx
//!         → 429 → wait as told, a few times
//!         → 5xx, cut connection → wait, again, a few times
//! ```
mod retry;

use std::error::Error;
use std::io;

use reqwest::header::CONTENT_RANGE;
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{IntoUrl, RequestBuilder, Response, StatusCode};

pub(crate) use retry::Retries;
pub use retry::RetryPolicy;

/// Bytes that must have come for the tries to begin anew.
const PROGRESS: u64 = 256 << 10;
/// Most redirects in a row.
const REDIRECTS: usize = 8;

/// Why there is no answer, or not all of it, in words that complete "the server: ".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The server limits the rate, and its limit did not end in the time that is waited.
    #[error("too many requests (429), {0}")]
    Busy(String),
    /// It answers in plain HTTP where HTTPS was asked for.
    #[error("it does not speak https")]
    Plain,
    /// It cannot be reached, stalled, or kept failing.
    #[error("{0}")]
    Unreachable(String),
    /// It sends more bytes than there should be.
    #[error("it is longer than {0} bytes")]
    TooLong(u64),
    /// The bytes cannot be put where they go.
    #[error(transparent)]
    Write(io::Error),
}

/// Where a download goes: it grows at its end.
pub trait Sink {
    /// Bytes that are there.
    fn received(&self) -> u64;

    /// Adds bytes at the end, once there is room.
    fn append(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>>;
}

/// Whether the proxy of the environment is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// As the environment says.
    Environment,
    /// Never: for this machine.
    None,
}

/// Asks servers, with one retry policy.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    policy: RetryPolicy,
}

impl Client {
    /// With the certificates of this machine.
    pub fn new(policy: &RetryPolicy, proxy: Proxy) -> Result<Self, FetchError> {
        // Fails only if another part of the process chose a provider before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("vessl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(policy.connect)
            .read_timeout(policy.stall)
            .referer(false)
            .redirect(Policy::custom(redirect));
        let http = if proxy == Proxy::None { builder.no_proxy() } else { builder }.build();
        let failed =
            |e| FetchError::Unreachable(format!("the http client cannot be set up: {}", root_cause(&e)));
        Ok(Self { http: http.map_err(failed)?, policy: policy.clone() })
    }

    /// A request to be completed and given to [`Client::ask`].
    pub fn get(&self, url: impl IntoUrl) -> RequestBuilder {
        self.http.get(url)
    }

    /// Sends a request until there is an answer that is not a passing failure.
    pub async fn ask(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, FetchError> {
        let mut retries = Retries::new(&self.policy);
        loop {
            let failed = match request().send().await {
                Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    retries.retry_after(response.headers()).await.map_err(FetchError::Busy)?;
                    continue;
                }
                Ok(response) if response.status().is_server_error() => {
                    FetchError::Unreachable(format!("it fails with status {}", response.status()))
                }
                Ok(response) => return Ok(response),
                Err(error) if is_final(&error) => return Err(self.failure(&error)),
                Err(error) => {
                    if error.is_connect() {
                        retries.shorten();
                    }
                    self.failure(&error)
                }
            };
            retries.after_failure().await.map_err(|()| failed)?;
        }
    }

    /// Reads at most `most` bytes of an answer.
    pub async fn body(&self, mut response: Response, most: u64) -> Result<Vec<u8>, FetchError> {
        let mut all = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.failure(&e))? {
            if (all.len() + chunk.len()) as u64 > most {
                return Err(FetchError::TooLong(most));
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    /// Downloads what is missing of `size` bytes in `sink`. `ask` gets the answer from a byte on, or from the first if there is
    /// none; `explain` says its failures and those of the download in one language.
    pub async fn download<E>(
        &self,
        size: u64,
        sink: &mut impl Sink,
        ask: impl AsyncFn(Option<u64>) -> Result<Response, E>,
        explain: impl Fn(FetchError) -> E,
    ) -> Result<(), E> {
        let mut retries = Retries::new(&self.policy);
        let mut moved_at = sink.received();
        while sink.received() < size {
            let from = sink.received();
            let response = ask((from > 0).then_some(from)).await?;
            let skip = skipped(&response, from).map_err(&explain)?;
            let received = self.receive(response, skip, size, sink).await;
            let Err(cut) = received.map_err(&explain)? else { continue };
            if sink.received() >= moved_at + PROGRESS {
                moved_at = sink.received();
                retries = Retries::new(&self.policy);
            }
            retries.after_failure().await.map_err(|()| explain(cut))?;
        }
        Ok(())
    }

    /// Receives one answer without its first `skip` bytes. The inner error is a passing one.
    async fn receive(
        &self,
        mut response: Response,
        mut skip: u64,
        size: u64,
        sink: &mut impl Sink,
    ) -> Result<Result<(), FetchError>, FetchError> {
        loop {
            let mut chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) if sink.received() < size => {
                    return Ok(Err(FetchError::Unreachable("the connection was cut".into())));
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(self.failure(&error))),
            };
            let old = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= old as u64;
            bytes::Buf::advance(&mut chunk, old);
            if sink.received() + chunk.len() as u64 > size {
                return Err(FetchError::TooLong(size));
            }
            sink.append(&chunk).await.map_err(FetchError::Write)?;
        }
    }

    /// A failure in words; addresses with query strings and credentials never appear.
    fn failure(&self, error: &reqwest::Error) -> FetchError {
        let cause = root_cause(error);
        let seconds = |time: std::time::Duration| time.as_secs_f32();
        FetchError::Unreachable(if error.is_timeout() && error.is_connect() {
            format!("it cannot be reached: no connection within {} s", seconds(self.policy.connect))
        } else if error.is_timeout() {
            format!("it stalled: nothing came for {} s", seconds(self.policy.stall))
        } else if cause.contains("InvalidContentType") || cause.contains("tls handshake eof") {
            return FetchError::Plain;
        } else if error.is_connect() {
            format!("it cannot be reached: {cause}")
        } else if error.is_body() || error.is_decode() {
            format!("the connection was cut: {cause}")
        } else {
            cause
        })
    }
}

/// How many bytes of an answer are there already: all before `from` if the server does not know ranges.
fn skipped(response: &Response, from: u64) -> Result<u64, FetchError> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(from);
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begins = range.and_then(|r| r.strip_prefix("bytes ")?.split_once('-')?.0.parse::<u64>().ok());
    if begins == Some(from) {
        return Ok(0);
    }
    Err(FetchError::Unreachable("it answers another range than was asked for".into()))
}

/// Follows where a server sends for its files, but never from an encrypted address to a plain one. reqwest drops the
/// `Authorization` header when host, port or scheme changes.
fn redirect(attempt: Attempt<'_>) -> Action {
    let was_encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if was_encrypted && attempt.url().scheme() != "https" {
        return attempt.error("it redirects from https to plain http");
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it redirects more than 8 times");
    }
    attempt.follow()
}

/// Failures that another try would not change.
fn is_final(error: &reqwest::Error) -> bool {
    error.is_redirect() || error.is_builder() || root_cause(error).contains("certificate")
}

/// The innermost reason of an error.
fn root_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
