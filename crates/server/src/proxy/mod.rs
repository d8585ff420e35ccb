//! Ports of runs from outside: a listener of its own, where every `http` port has a host name and a path, and ports of the machine for
//! `tcp` ports.
//!
//! ```text
//! browser ─► http://8501-100000000001.vessl.localhost:7381/ ─► target ─► control (pass?) ─► dial ─► the program in the run
//! ```
//! It never serves the API, holds no rule about who may, and starts nothing.
mod forward;
mod headers;
mod pages;
mod target;
mod tcp;
mod tls;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use self::forward::Way;
use self::pages::Refusal;
use self::target::{Form, Names, Target};
pub(crate) use self::tls::CertificateFiles;
use crate::control::{Control, PortsAt};

/// Most connections at the same time, as far as this process may have so many descriptors; those of `tcp` ports have room
/// of their own. One that is idle ends after [`HEAD`], so that who holds many keeps others waiting no longer than that.
const CONNECTIONS: usize = 16_384;
/// Descriptors of this process for each connection: its own, the one to the program, and one for everything else.
const DESCRIPTORS: u64 = 3;
/// Longest time for the head of a request, and for a kept connection without one.
const HEAD: Duration = Duration::from_secs(10);
/// Most bytes of a request head.
const HEAD_BYTES: usize = 64 << 10;
/// Pause after the system gave no connection (no descriptors left).
const BREATH: Duration = Duration::from_millis(100);
/// Seconds after which a silent connection is asked whether it is still there.
const SILENT: u32 = 60;

/// How ports are shown.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Where to listen; the number gives way to a free one.
    pub(crate) listen: SocketAddr,
    /// Domain of the host names.
    pub(crate) domain: String,
    /// Whether ports are below paths too.
    pub(crate) by_path: bool,
    /// Ports of the machine for `tcp` ports.
    pub(crate) tcp: Option<RangeInclusive<u16>>,
    /// With it connections are encrypted.
    pub(crate) certificate: Option<CertificateFiles>,
}

/// A proxy that listens.
#[derive(Debug)]
pub(crate) struct Proxy {
    listener: TcpListener,
    door: Arc<Door>,
    at: SocketAddr,
    tcp: Option<RangeInclusive<u16>>,
    open: TaskTracker,
}

/// What every connection needs.
#[derive(Debug)]
struct Door {
    control: Control,
    names: Names,
    tls: Option<Arc<ServerConfig>>,
}

impl Proxy {
    /// Listens, and says where.
    pub(crate) async fn listen(settings: Settings, control: Control) -> io::Result<Self> {
        let listener = match TcpListener::bind(settings.listen).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let free = SocketAddr::new(settings.listen.ip(), 0);
                let listener = TcpListener::bind(free).await?;
                let (taken, instead) = (settings.listen, listener.local_addr()?);
                tracing::warn!(
                    "`ports_listen` {taken} is taken: ports of runs are reached at {instead} instead"
                );
                listener
            }
            listener => listener?,
        };
        let at = listener.local_addr()?;
        let Settings { domain, by_path, tcp, certificate, .. } = settings;
        let tls = certificate.map(tls::config).transpose()?;
        // A certificate is for names, and the path is below an address.
        let by_path = by_path && tls.is_none();
        control.ports_are_at(PortsAt { address: at, domain: domain.clone(), by_path, tls: tls.is_some() });
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(url = format!("{scheme}://{at}"), "ports of runs are reached here");
        let door = Arc::new(Door { control, names: Names { domain, by_path, scheme }, tls });
        Ok(Self { listener, door, at, tcp, open: TaskTracker::new() })
    }

    /// Serves until the server stops. Connections end with it.
    pub(crate) async fn serve(self) {
        if let Some(range) = &self.tcp {
            self.open.spawn(tcp::keep(self.door.control.clone(), self.at.ip(), range.clone()));
        }
        self.accept().await;
        self.open.close();
        self.open.wait().await;
    }

    async fn accept(&self) {
        let stopping = self.door.control.stopping();
        let room = Arc::new(Semaphore::new(connections()));
        loop {
            let taken = async {
                let permit = Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
                let (stream, from) = self.listener.accept().await?;
                Ok::<_, io::Error>((stream, from, permit))
            };
            let taken = tokio::select! {
                taken = taken => taken,
                () = stopping.cancelled() => return,
            };
            match taken {
                Ok((stream, from, permit)) => {
                    prepare(&stream);
                    let way = Way::new(from.ip(), permit, stopping.clone());
                    self.open.spawn(connection(Arc::clone(&self.door), stream, way));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to a port of a run could not be taken");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }
}

/// As many as there is room for.
fn connections() -> usize {
    let allowed = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(allowed / DESCRIPTORS).unwrap_or(CONNECTIONS).min(CONNECTIONS)
}

/// Small answers do not wait for more, and a machine that is gone is noticed.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &SILENT);
}

async fn connection(door: Arc<Door>, stream: TcpStream, way: Way) {
    match door.tls.clone() {
        None => serve(door, stream, way).await,
        // Who does not get through that far is nobody yet.
        Some(tls) => {
            let accepted = TlsAcceptor::from(tls).accept(stream);
            if let Ok(Ok(stream)) = tokio::time::timeout(HEAD, accepted).await {
                serve(door, stream, way).await;
            }
        }
    }
}

async fn serve<S>(door: Arc<Door>, stream: S, way: Way)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stopping = way.stopping.clone();
    let way = Arc::new(way);
    let service = service_fn(move |request| {
        let (door, way) = (Arc::clone(&door), Arc::clone(&way));
        async move { Ok::<_, Infallible>(door.answer(&way, request).await) }
    });
    let connection = Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        // A client that goes away in the middle is nothing to report.
        _ = connection.as_mut() => {}
        () = stopping.cancelled() => {}
    }
}

impl Door {
    async fn answer(&self, way: &Way, request: Request<Incoming>) -> Response<Body> {
        let asked = request.headers().get(http::header::ACCEPT).cloned();
        match self.pass_on(way, request).await {
            Ok(response) => response,
            Err(refusal) => {
                let asked = asked.map(|accept| (http::header::ACCEPT, accept)).into_iter().collect();
                refusal.answer(&asked)
            }
        }
    }

    async fn pass_on(&self, way: &Way, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if request.method() == Method::CONNECT {
            return Err(Refusal::Malformed("this is no proxy for other hosts"));
        }
        let target = Target::of(&request, &self.names)?;
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some((code, place)) = target.code()
        {
            return Ok(self.let_in(&target, &code, &place).await);
        }
        let name = target.cookie();
        let passes = headers::cookies(request.headers(), &name);
        let port = self.control.way_to_port(target.to, passes).await;
        let port = port.map_err(|why| Refusal::NoWay(target.to, why))?;
        if !port.public && target::is_foreign(request.headers(), &target, &self.names.domain) {
            return Err(Refusal::Foreign);
        }
        way.forward(request, &target, &port).await
    }

    /// Gives the pass for a code. With a code that is not good, the place itself says what is missing.
    async fn let_in(&self, target: &Target, code: &str, place: &str) -> Response<Body> {
        let pass = self.control.exchange(target.to, code).await;
        let path = match &target.form {
            Form::Host => None,
            Form::Path(prefix) => Some(prefix.as_str()),
        };
        pages::seen(place, pass.map(|pass| pages::cookie(&target.cookie(), &pass, path)))
    }
}
