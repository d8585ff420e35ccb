//! Requests to a bucket: signed by the library, tried again after passing failures, and what a refusal means. It must not know what
//! the requests are for.
use std::error::Error as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use object_store::aws::AwsAuthorizer;
use object_store::client::HttpRequestBody;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use sha2::{Digest as _, Sha256};

use super::error::BucketError;
use super::keys::{Slash, encode};
use super::login::Login;
use super::refusal::{Aim, Refusal};
use super::{Location, Provider};
use crate::fetch::{Retries, RetryPolicy};
use crate::locked;

/// Bytes of a file that are sent as one.
const PIECE: u64 = 256 << 10;
/// Where requests go that nobody gave a region for.
const DEFAULT_REGION: &str = "us-east-1";
/// Said by the body of a request whose file became shorter.
const SHORTER: &str = "the file is shorter than it was";

/// One request, which can be sent again.
#[derive(Debug)]
pub(super) struct Ask {
    method: Method,
    /// Below the bucket (S3) or the server (Google), escaped; or a whole address that the other end gave.
    path: String,
    query: Vec<(&'static str, String)>,
    headers: HeaderMap,
    payload: Payload,
    /// For errors.
    pub(super) key: Option<String>,
    pub(super) aim: Aim,
}

/// What a request carries.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Nothing,
    Bytes(Bytes),
    File(Piece),
}

/// A part of a file, as it was when its digest was taken.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) file: Arc<File>,
    pub(super) from: u64,
    pub(super) length: u64,
    pub(super) sha256: [u8; 32],
    pub(super) sent: Arc<Sent>,
}

/// How many bytes went out.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Of all pieces together.
    all: Arc<AtomicU64>,
    /// Of this one.
    this: AtomicU64,
}

impl Sent {
    pub(super) fn new(all: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { all: Arc::clone(all), this: AtomicU64::new(0) })
    }

    fn add(&self, bytes: u64) {
        self.this.fetch_add(bytes, Ordering::Relaxed);
        self.all.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Forgets what went out in vain.
    fn forget(&self) {
        self.all.fetch_sub(self.this.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        let (query, headers) = (Vec::new(), HeaderMap::new());
        Self { method, path, query, headers, payload: Payload::Nothing, key: None, aim: Aim::Read }
    }

    pub(super) fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    pub(super) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    pub(super) fn payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self.aim = Aim::Write;
        self
    }
}

/// A way to one bucket.
#[derive(Debug)]
pub(super) struct Wire {
    http: Client,
    policy: RetryPolicy,
    login: Login,
    at: Location,
    /// As given, or as the other end told.
    region: Mutex<String>,
    /// Whether the other end is waited for where it takes no connection: it has answered before, or more is lost than time.
    is_waited_for: AtomicBool,
}

impl Wire {
    pub(super) fn new(at: Location, login: Login, policy: &RetryPolicy) -> Result<Self, BucketError> {
        let builder = Client::builder()
            .user_agent(concat!("vessl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(policy.connect)
            .read_timeout(policy.stall)
            .referer(false)
            .http1_only()
            .redirect(Policy::none());
        let builder = if is_near(&at) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|e| BucketError::Unreachable {
            location: at.to_string(),
            why: format!("the http client cannot be set up: {}", root_cause(&e)),
        })?;
        let region = Mutex::new(at.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned()));
        let is_waited_for = AtomicBool::new(false);
        Ok(Self { http, policy: policy.clone(), login, at, region, is_waited_for })
    }

    pub(super) fn at(&self) -> &Location {
        &self.at
    }

    /// Lets requests be as patient with an end that takes no connection as with one that fails otherwise.
    pub(super) fn wait_for_it(&self) {
        self.is_waited_for.store(true, Ordering::Relaxed);
    }

    pub(super) fn retries(&self) -> Retries {
        Retries::new(&self.policy)
    }

    /// Sends a request until there is an answer that is not a passing failure. The inner error is a refusal.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Result<Response, Refusal>, BucketError> {
        let mut retries = self.retries();
        let mut moved = false;
        loop {
            let region = locked(&self.region).clone();
            let sent = self.request(ask, &region).await?.send().await;
            if sent.is_ok() {
                self.wait_for_it();
            }
            let failed = match sent {
                Ok(response) if is_answer(response.status()) => return Ok(Ok(response)),
                Ok(response) => {
                    let refusal = Refusal::read(response).await;
                    if !moved && self.moves(&refusal, &region) {
                        moved = true;
                        continue;
                    }
                    if !refusal.passes() {
                        return Ok(Err(refusal));
                    }
                    ask.forget();
                    if let Some(wait) = &refusal.wait {
                        let busy = |why| self.unreachable(ask, format!("too many requests, {why}"));
                        retries.wait_as(wait).await.map_err(busy)?;
                        continue;
                    }
                    self.explain(refusal, ask)
                }
                Err(error) => {
                    if error.is_connect() && !self.is_waited_for.load(Ordering::Relaxed) {
                        retries.shorten();
                    }
                    let failed = self.unreachable(ask, self.words(&error));
                    if is_final(&error) {
                        return Err(failed);
                    }
                    ask.forget();
                    failed
                }
            };
            retries.after_failure().await.map_err(|()| failed)?;
        }
    }

    /// Like [`Wire::send`], where every refusal is an error.
    pub(super) async fn must(&self, ask: &Ask) -> Result<Response, BucketError> {
        self.send(ask).await?.map_err(|refusal| self.explain(refusal, ask))
    }

    pub(super) fn explain(&self, refusal: Refusal, ask: &Ask) -> BucketError {
        let region = locked(&self.region).clone();
        refusal.explain(ask.key.as_deref(), ask.aim, &self.at, (&self.login, &region))
    }

    /// Whether the other end told of the region where the bucket is, and nobody gave another.
    fn moves(&self, refusal: &Refusal, asked: &str) -> bool {
        let Some(told) = refusal.region.as_ref().filter(|_| self.at.region.is_none()) else { return false };
        if told == asked || self.at.provider != Provider::S3 {
            return false;
        }
        locked(&self.region).clone_from(told);
        true
    }

    async fn request(&self, ask: &Ask, region: &str) -> Result<RequestBuilder, BucketError> {
        let url = self.url(ask, region);
        let bad = |e: &dyn std::fmt::Display| BucketError::Address {
            location: self.name(ask),
            why: format!("it gives no web address: {e}"),
        };
        let signed = http::Request::builder().method(&ask.method).uri(&url).body(HttpRequestBody::empty());
        let mut signed = signed.map_err(|e| bad(&e))?;
        signed.headers_mut().clone_from(&ask.headers);
        let is_given = ask.is_address();
        match &self.login {
            Login::Nobody => {}
            _ if is_given => {}
            Login::Aws { credentials, .. } => {
                let credential = credentials.get_credential().await;
                let credential = credential.map_err(|e| self.login.failed(&self.at, &e))?;
                AwsAuthorizer::new(&credential, "s3", region)
                    .try_authorize(&mut signed, ask.payload.sha256().as_ref().map(<[u8; 32]>::as_slice))
                    .map_err(|e| self.login.failed(&self.at, &e))?;
            }
            Login::Google { credentials, .. } => {
                let credential = credentials.get_credential().await;
                let credential = credential.map_err(|e| self.login.failed(&self.at, &e))?;
                let bearer = HeaderValue::try_from(format!("Bearer {}", credential.bearer));
                let mut bearer = bearer.map_err(|_| bad(&"its token has odd characters"))?;
                bearer.set_sensitive(true);
                signed.headers_mut().insert(header::AUTHORIZATION, bearer);
            }
        }
        let request =
            self.http.request(ask.method.clone(), url).headers(std::mem::take(signed.headers_mut()));
        Ok(ask.payload.attach(request, &ask.method))
    }

    fn url(&self, ask: &Ask, region: &str) -> String {
        let mut url =
            if ask.is_address() { ask.path.clone() } else { format!("{}{}", self.at.base(region), ask.path) };
        for (n, (name, value)) in ask.query.iter().enumerate() {
            url.push(if n == 0 && !url.contains('?') { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&encode(value, Slash::Escaped));
        }
        url
    }

    fn name(&self, ask: &Ask) -> String {
        ask.key.as_ref().map_or_else(|| self.at.to_string(), |key| self.at.of_key(key))
    }

    fn unreachable(&self, ask: &Ask, why: String) -> BucketError {
        BucketError::Unreachable { location: self.name(ask), why }
    }

    /// What cut an answer short.
    pub(super) fn cut(&self, key: &str, error: Option<&reqwest::Error>) -> BucketError {
        let why = error.map_or_else(|| "the connection was cut".to_owned(), |error| self.words(error));
        BucketError::Unreachable { location: self.at.of_key(key), why }
    }

    /// A failure in words, without addresses.
    fn words(&self, error: &reqwest::Error) -> String {
        let cause = root_cause(error);
        if error.is_timeout() && error.is_connect() {
            format!("it cannot be reached: no connection within {} s", self.policy.connect.as_secs_f32())
        } else if error.is_timeout() {
            format!("it stalled: nothing came for {} s", self.policy.stall.as_secs_f32())
        } else if cause.contains("InvalidContentType") || cause.contains("tls handshake eof") {
            "it does not speak https; write the endpoint with `http://`".to_owned()
        } else if error.is_connect() {
            format!("it cannot be reached: {cause}")
        } else if error.is_body() || error.is_decode() {
            format!("the connection was cut: {cause}")
        } else {
            cause
        }
    }
}

impl Ask {
    fn is_address(&self) -> bool {
        self.path.starts_with("http")
    }

    fn forget(&self) {
        if let Payload::File(piece) = &self.payload {
            piece.sent.forget();
        }
    }
}

impl Payload {
    fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::Nothing => None,
            Self::Bytes(bytes) => Some(Sha256::digest(bytes).into()),
            Self::File(piece) => Some(piece.sha256),
        }
    }

    fn attach(&self, request: RequestBuilder, method: &Method) -> RequestBuilder {
        match self {
            Self::Nothing if matches!(*method, Method::PUT | Method::POST) => {
                request.header(header::CONTENT_LENGTH, 0).body("")
            }
            Self::Nothing => request,
            Self::Bytes(bytes) => request.body(bytes.clone()),
            Self::File(piece) => {
                let stream = futures::stream::try_unfold((piece.clone(), 0), async |(piece, done)| {
                    let Some(bytes) = piece.read(done)? else { return Ok::<_, io::Error>(None) };
                    let done = done + bytes.len() as u64;
                    piece.sent.add(bytes.len() as u64);
                    Ok(Some((bytes, (piece, done))))
                });
                let body = reqwest::Body::wrap_stream(stream);
                request.header(header::CONTENT_LENGTH, piece.length).body(body)
            }
        }
    }
}

impl Piece {
    fn read(&self, done: u64) -> io::Result<Option<Bytes>> {
        let length = (self.length - done).min(PIECE);
        if length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, self.from + done).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => io::Error::other(SHORTER),
            _ => e,
        })?;
        Ok(Some(bytes.into()))
    }
}

/// Whether it is what was asked for; 308 says how much of an upload is there.
fn is_answer(status: StatusCode) -> bool {
    status.is_success() || status == StatusCode::PERMANENT_REDIRECT
}

/// Failures that another try would not change.
fn is_final(error: &reqwest::Error) -> bool {
    let cause = root_cause(error);
    error.is_builder() || cause.contains("certificate") || cause == SHORTER
}

/// Whether the other end is this machine, to which no proxy leads.
fn is_near(at: &Location) -> bool {
    let Some(endpoint) = &at.endpoint else { return false };
    let Ok(url) = reqwest::Url::parse(endpoint) else { return false };
    url.host_str().is_some_and(|host| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    })
}

/// The innermost reason of an error.
fn root_cause(error: &reqwest::Error) -> String {
    let Some(mut last) = error.source() else { return error.to_string() };
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// How long a server is asked that takes no connection.
    async fn patience(is_waited_for: bool) -> Duration {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let at = Location {
            provider: Provider::S3,
            bucket: "bkt".to_owned(),
            prefix: String::new(),
            endpoint: Some(format!("http://{closed}")),
            region: None,
        };
        // The clock of these tests jumps to the next time that anybody waits for, be it this one.
        let connect = Duration::from_millis(1);
        let wire =
            Wire::new(at, Login::Nobody, &RetryPolicy { connect, retries: 8, ..RetryPolicy::default() });
        let wire = wire.unwrap();
        if is_waited_for {
            wire.wait_for_it();
        }
        let began = tokio::time::Instant::now();
        let failed = wire.send(&Ask::new(Method::GET, String::new())).await.map(|_| ()).unwrap_err();
        assert!(failed.to_string().contains("cannot be reached"), "{failed}");
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_address_is_said_soon_and_a_server_that_goes_down_is_waited_for() {
        assert!(patience(false).await < Duration::from_secs(2));
        assert!(patience(true).await > Duration::from_secs(30));
    }
}
