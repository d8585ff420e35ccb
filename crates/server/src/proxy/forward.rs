//! One request to the program of a port, and its answer: bodies go through as they come, and so does a connection that is upgraded.
//!
//! Every connection of a client has at most one to a program at a time. It is kept for the next request for a moment.
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use vessl_core::ids::AttemptId;
use vessl_data::locked;
use vessl_reach::door::Dialed;

use super::headers;
use super::pages::Refusal;
use super::target::Target;
use crate::control::{PortOf, PortWay};

/// How long a connection to a program may lie between two requests: shorter than programs wait themselves, so that none is used
/// that is being closed.
const FRESH: Duration = Duration::from_secs(1);
/// Longest wait for a kept connection to have finished what it was at.
const FINISH: Duration = Duration::from_millis(100);

/// A connection to a program that is kept.
#[derive(Debug)]
struct Kept {
    to: (AttemptId, u16),
    sender: SendRequest<Body>,
    since: Instant,
}

/// What belongs to one connection of a client.
#[derive(Debug)]
pub(super) struct Way {
    /// Where it comes from.
    pub(super) from: IpAddr,
    /// Room that it takes up; an upgraded connection takes it along.
    pub(super) room: Arc<OwnedSemaphorePermit>,
    /// Cancelled when the server stops.
    pub(super) stopping: CancellationToken,
    kept: Mutex<Option<Kept>>,
}

impl Way {
    /// A new one.
    pub(super) fn new(from: IpAddr, room: OwnedSemaphorePermit, stopping: CancellationToken) -> Self {
        Self { from, room: Arc::new(room), stopping, kept: Mutex::default() }
    }

    /// Sends a request on and gives back what the program answers.
    pub(super) async fn forward(
        &self,
        mut request: Request<Incoming>,
        target: &Target,
        port: &PortWay,
    ) -> Result<Response<Body>, Refusal> {
        let wanted = headers::upgrade_of(request.headers());
        let outside = wanted.is_some().then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        headers::strip_hop(&mut parts.headers, wanted);
        headers::forward(&mut parts.headers, target, self.from);
        parts.uri = Uri::from(target.rest.clone());
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let body = if body.is_end_stream() { Body::empty() } else { Body::new(body) };
        let mut response = self.send(Request::from_parts(parts, body), target.to, port).await?;
        let upgraded = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let strange =
                || Refusal::NoAnswer(target.to, "it changed the protocol, as nobody had asked".to_owned());
            let outside = outside.ok_or_else(strange)?;
            let protocol = headers::upgrade_of(response.headers());
            let inside = hyper::upgrade::on(&mut response);
            let (room, stopping) = (Arc::clone(&self.room), self.stopping.clone());
            tokio::spawn(async move {
                if let (Ok(outside), Ok(inside)) = tokio::join!(outside, inside) {
                    both_ways(TokioIo::new(outside), TokioIo::new(inside), &stopping).await;
                }
                drop(room);
            });
            protocol
        } else {
            None
        };
        let (mut parts, body) = response.into_parts();
        headers::strip_hop(&mut parts.headers, upgraded);
        headers::answer(&mut parts.headers, &target.form);
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    async fn send(
        &self,
        request: Request<Body>,
        to: PortOf,
        port: &PortWay,
    ) -> Result<Response<Incoming>, Refusal> {
        let of = (port.at, to.port);
        let failed = |error: hyper::Error| Refusal::NoAnswer(to, crate::chain(&error));
        let mut request = request;
        if let Some(mut sender) = self.take(of).await {
            let copy = repeatable(&request);
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(of, sender, &response);
                    return Ok(response);
                }
                // The program has closed the connection meanwhile, which is its right.
                Err(mut error) => match error.take_message().or(copy) {
                    Some(again) => request = again,
                    None => return Err(failed(error.into_error())),
                },
            }
        }
        let refused = |why| Refusal::NoWay(to, why);
        let mut sender = match port.dial().await.map_err(refused)? {
            Dialed::Tcp(stream) => begin(stream).await,
            Dialed::Unix(stream) => begin(stream).await,
        }
        .map_err(failed)?;
        let response = sender.send_request(request).await.map_err(failed)?;
        self.keep(of, sender, &response);
        Ok(response)
    }

    /// The kept connection, if it leads there and takes another request.
    async fn take(&self, to: (AttemptId, u16)) -> Option<SendRequest<Body>> {
        let kept = locked(&self.kept).take();
        let mut kept = kept.filter(|kept| kept.to == to && kept.since.elapsed() < FRESH)?;
        let ready = tokio::time::timeout(FINISH, kept.sender.ready()).await;
        matches!(ready, Ok(Ok(()))).then_some(kept.sender)
    }

    fn keep(&self, to: (AttemptId, u16), sender: SendRequest<Body>, response: &Response<Incoming>) {
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            *locked(&self.kept) = Some(Kept { to, sender, since: Instant::now() });
        }
    }
}

/// The same request once more, if doing it twice is no more than doing it once.
fn repeatable(request: &Request<Body>) -> Option<Request<Body>> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_end_stream();
    is_safe.then(|| {
        let mut copy = Request::new(Body::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

async fn begin<S>(stream: S) -> hyper::Result<SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        Builder::new().title_case_headers(true).handshake(TokioIo::new(stream)).await?;
    // It ends with the last of sender and bodies; what went wrong is said to them.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

/// Copies until both have ended, one is gone, or the server stops.
pub(super) async fn both_ways(
    mut outside: impl AsyncRead + AsyncWrite + Unpin,
    mut inside: impl AsyncRead + AsyncWrite + Unpin,
    stopping: &CancellationToken,
) {
    tokio::select! {
        // Who hangs up in the middle is nothing to report.
        _ = tokio::io::copy_bidirectional(&mut outside, &mut inside) => {}
        () = stopping.cancelled() => {}
    }
}
