//! One HTTP/1.1 connection that is kept, and what can go wrong with it. It knows no paths of the API.
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use vessl_core::secret::Secret;
use vessl_core::wire::{ErrorBody, ServerProof};
use vessl_server::challenge::{Entrance, is_answer};

use super::address::Address;
use super::outgoing::{Outgoing, Piped};
use crate::error::{Error, Result};

/// Longest time until the head of an answer is there.
const ANSWER: Duration = Duration::from_mins(1);
/// Bytes of a body for each of which a second is added to that.
const PER_SECOND: u64 = 256 << 10;
/// Longest time until a server has proved itself.
const PROOF: Duration = Duration::from_secs(10);
/// Longest time until the answer to a large body is there once all of it was sent: the server puts it on disk first.
const SETTLE: Duration = Duration::from_mins(10);
/// Largest JSON answer.
const LARGEST: usize = 256 << 20;

/// A connection to one server, opened when it is first needed and again when it was lost.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    token: Option<Secret>,
    open: Option<SendRequest<Outgoing>>,
    was_open: bool,
}

/// One request. Its body may hold secrets, so it has no `Debug`.
#[derive(Clone)]
pub(super) struct ApiRequest {
    /// Verb.
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    /// JSON body, if the headers say no other type.
    pub(super) body: Option<Bytes>,
    /// More headers.
    pub(super) headers: Vec<(header::HeaderName, String)>,
}

impl Connection {
    pub(super) fn new(address: Address, token: Option<Secret>) -> Self {
        Self { address, token, open: None, was_open: false }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Another connection to the same server.
    pub(super) fn another(&self) -> Self {
        Self::new(self.address.clone(), self.token.clone())
    }

    /// Whether there was a connection at all: then whatever fails now was there.
    pub(super) fn was_open(&self) -> bool {
        self.was_open
    }

    /// Opens the connection before it is needed.
    pub(super) async fn open(&mut self) -> Result<()> {
        self.open = Some(self.connect().await?);
        self.was_open = true;
        Ok(())
    }

    /// Sends a request and gives back the answer if its status is a good one.
    pub(super) async fn send(&mut self, request: &ApiRequest) -> Result<Response<Incoming>> {
        // What tells of many files takes longer to send, and to answer.
        let size = request.body.as_ref().map_or(0, Bytes::len) as u64;
        let patience = ANSWER + Duration::from_secs(size / PER_SECOND);
        let answer = tokio::time::timeout(patience, self.exchange(request)).await;
        let late = || Error::NoAnswer { address: self.address.to_string(), seconds: patience.as_secs() };
        let Ok(answer) = answer else {
            self.open = None;
            return Err(late());
        };
        let answer = answer?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(self.refusal(answer).await)
    }

    /// Asks for another protocol on a connection of its own, and gives the connection once the server speaks it.
    pub(super) async fn upgrade(&self, path: String, protocol: &'static str) -> Result<Upgraded> {
        let headers =
            vec![(header::CONNECTION, "upgrade".to_owned()), (header::UPGRADE, protocol.to_owned())];
        let request = self.request(&ApiRequest { method: Method::GET, path, body: None, headers })?;
        let asking = async {
            let mut sender = self.connect().await?;
            let answer = sender.send_request(request).await.map_err(|e| self.unreachable(&words(&e)))?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                return Err(self.refusal(answer).await);
            }
            hyper::upgrade::on(answer).await.map_err(|e| self.unreachable(&words(&e)))
        };
        let late = || Error::NoAnswer { address: self.address.to_string(), seconds: ANSWER.as_secs() };
        tokio::time::timeout(ANSWER, asking).await.map_err(|_| late())?
    }

    /// Sends a request whose body comes from elsewhere, piece by piece. It is sent once: what is left of the body after an error is
    /// lost. A body of which nothing moves any more is given up.
    pub(super) async fn pipe(&mut self, request: &ApiRequest, body: Piped) -> Result<Response<Incoming>> {
        let moved = body.moved();
        let outgoing = self.with_body(request, Outgoing::Piped(body))?;
        let mut kept = self.open.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        self.was_open = true;
        let answer = sender.send_request(outgoing);
        tokio::pin!(answer);
        loop {
            let before = moved.so_far();
            let patience = if moved.is_whole() { SETTLE } else { ANSWER };
            match tokio::time::timeout(patience, &mut answer).await {
                Ok(answer) => {
                    let answer = answer.map_err(|e| self.unreachable(&words(&e)))?;
                    // An answer that came before the end of the body leaves the connection in the middle of it.
                    self.open = moved.is_whole().then_some(sender);
                    let is_good = answer.status().is_success();
                    return if is_good { Ok(answer) } else { Err(self.refusal(answer).await) };
                }
                Err(_) if moved.so_far() > before => {}
                Err(_) => {
                    let (address, seconds) = (self.address.to_string(), patience.as_secs());
                    return Err(Error::NoAnswer { address, seconds });
                }
            }
        }
    }

    /// The whole body of an answer.
    pub(super) async fn body(&self, body: Incoming) -> Result<Bytes> {
        let body = Limited::new(body, LARGEST).collect().await;
        Ok(body.map_err(|e| self.cut_off(&*e))?.to_bytes())
    }

    /// Why the body of an answer is not whole.
    fn cut_off(&self, error: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
        if error.is::<LengthLimitError>() {
            return Error::Damaged {
                message: format!("the answer of the server is too large: {} MiB are taken", LARGEST >> 20),
                hint: "ask for less; a list becomes shorter with `--limit`".to_owned(),
            };
        }
        self.unreachable(&format!("the answer was cut off: {error}"))
    }

    /// An error that says that nobody answers.
    pub(super) fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable {
            address: self.address.to_string(),
            reason: reason.to_owned(),
            hint: "`vessl server status` shows the server of this machine, `vessl configure` sets another"
                .to_owned(),
        }
    }

    /// An error that says that the answer makes no sense.
    pub(super) fn protocol(&self, reason: impl std::fmt::Display) -> Error {
        Error::Protocol { address: self.address.to_string(), reason: reason.to_string() }
    }

    /// Sends on the kept connection; one that the server closed meanwhile is replaced once.
    async fn exchange(&mut self, request: &ApiRequest) -> Result<Response<Incoming>> {
        if let Some(mut kept) = self.open.take()
            && kept.ready().await.is_ok()
        {
            match kept.send_request(self.request(request)?).await {
                Ok(answer) => {
                    self.open = Some(kept);
                    return Ok(answer);
                }
                Err(e) if e.is_canceled() || request.method == Method::GET => {}
                Err(e) => return Err(self.unreachable(&words(&e))),
            }
        }
        let request = self.request(request)?;
        let mut fresh = self.connect().await?;
        self.was_open = true;
        let answer = fresh.send_request(request).await.map_err(|e| self.unreachable(&words(&e)))?;
        self.open = Some(fresh);
        Ok(answer)
    }

    /// Opens a connection to a server that has proved itself: nothing is sent to any other.
    async fn connect(&self) -> Result<SendRequest<Outgoing>> {
        let (stream, entrance) = self.address.connect().await.map_err(|e| self.unreachable(&plain(&e)))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|e| self.unreachable(&words(&e)))?;
        tokio::spawn(connection.with_upgrades());
        if let Some(entrance) = entrance {
            let proof = tokio::time::timeout(PROOF, self.challenge(&mut sender, entrance)).await;
            proof.unwrap_or_else(|_| {
                Err(self.unreachable("it does not prove within 10 seconds that it has the token"))
            })?;
        }
        Ok(sender)
    }

    /// Lets the other end of this very connection prove that it has the token.
    async fn challenge(&self, sender: &mut SendRequest<Outgoing>, entrance: Entrance) -> Result<()> {
        let Some(token) = &self.token else { return Err(self.wrong_token()) };
        let nonce = nonce()?;
        let path = format!("/v1/challenge?nonce={nonce}");
        let request = ApiRequest { method: Method::GET, path, body: None, headers: Vec::new() };
        let request = self.bare(&request).body(Outgoing::default());
        let request = request.map_err(|e| Error::Bug(format!("a request could not be made: {e}")))?;
        let answer = sender.send_request(request).await.map_err(|e| self.unreachable(&words(&e)))?;
        let status = answer.status();
        let body = self.body(answer.into_body()).await?;
        if serde_json::from_slice::<ErrorBody>(&body).is_ok_and(|body| body.code == "stopping") {
            return Err(self.unreachable("it is stopping"));
        }
        let unproved = |why| self.protocol(format_args!("it does not prove that it has the token ({why})"));
        if !status.is_success() {
            return Err(unproved(format!("status {status}")));
        }
        let said: ServerProof = serde_json::from_slice(&body).map_err(|e| unproved(e.to_string()))?;
        if is_answer(&said.proof, token.expose(), entrance, &nonce) { Ok(()) } else { Err(self.stranger()) }
    }

    /// A request without a token.
    fn bare(&self, request: &ApiRequest) -> http::request::Builder {
        Request::builder()
            .method(&request.method)
            .uri(&request.path)
            .header(header::HOST, self.address.host())
            .header(header::USER_AGENT, concat!("vessl/", env!("CARGO_PKG_VERSION")))
    }

    fn request(&self, request: &ApiRequest) -> Result<Request<Outgoing>> {
        self.with_body(request, Outgoing::whole(request.body.clone().unwrap_or_default()))
    }

    fn with_body(&self, request: &ApiRequest, body: Outgoing) -> Result<Request<Outgoing>> {
        let mut builder = self.bare(request);
        if let Some(token) = &self.token {
            let mut value =
                header::HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(|_| {
                    Error::Usage {
                        message: "the token has characters that no token has".to_owned(),
                        hint: "set it again with `vessl configure`".to_owned(),
                    }
                })?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let has_type = request.headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE);
        if request.body.is_some() && !has_type {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        builder.body(body).map_err(|e| Error::Bug(format!("a request could not be made: {e}")))
    }

    /// What a status that is not a good one means.
    async fn refusal(&self, answer: Response<Incoming>) -> Error {
        let status = answer.status();
        let body = match self.body(answer.into_body()).await {
            Ok(body) => body,
            Err(e) => return e,
        };
        if status == StatusCode::UNAUTHORIZED {
            return self.wrong_token();
        }
        match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(body) if body.code == "stopping" => self.unreachable("it is stopping"),
            Ok(body) => Error::Refused { status: status.as_u16(), body: Box::new(body) },
            Err(_) => self.protocol(format_args!("status {status} without a reason")),
        }
    }

    /// Something answers there that has another token or none, or that is not at the address where it says it is.
    fn stranger(&self) -> Error {
        Error::Refused {
            status: 401,
            body: Box::new(ErrorBody {
                code: "unauthorized".to_owned(),
                message: format!(
                    "what answers at {} is not the server that this token is of, so nothing was sent to it",
                    self.address
                ),
                hint: Some(format!(
                    "compare address and token with the machine's own (`vessl server status`, and `token` in the data directory) and \
                     keep them with `vessl configure server {} < token`; a forwarded port needs the same address and number at both \
                     ends (`ssh -L 127.0.0.1:7300:127.0.0.1:7300`)",
                    self.address
                )),
                problems: Vec::new(),
            }),
        }
    }

    fn wrong_token(&self) -> Error {
        let said = if self.token.is_some() { "does not know this token" } else { "wants a token" };
        Error::Refused {
            status: 401,
            body: Box::new(ErrorBody {
                code: "unauthorized".to_owned(),
                message: format!("the server at {} {said}", self.address),
                hint: Some(format!(
                    "on its machine it is the file `token` in the data directory that `vessl server status` shows; \
                     keep it with `vessl configure server {} < token`, or set `VESSL_TOKEN`",
                    self.address
                )),
                problems: Vec::new(),
            }),
        }
    }
}

/// A text that no server has seen before.
fn nonce() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::Bug(format!("the system gives no random bytes: {e}")))?;
    Ok(blake3::Hash::from_bytes(bytes).to_string())
}

/// An error of the connection in words, with its causes.
pub(super) fn words(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_canceled() {
        return "it closed the connection".to_owned();
    }
    vessl_core::text::chain(error)
}

fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        std::io::ErrorKind::NotFound => "its socket does not exist".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_no_lost_server() {
        let connection = Connection::new(Address::parse("http://127.0.0.1:1").unwrap(), None);
        let body = Limited::new(Full::new(Bytes::from_static(b"four")), 3);
        let error = connection.cut_off(&*body.collect().await.unwrap_err());
        assert!(error.to_string().contains("too large: 256 MiB"), "{error}");
        assert!(error.hint().unwrap().contains("`--limit`"), "{error:?}");
        let error = connection.cut_off(&std::io::Error::other("gone"));
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
}
