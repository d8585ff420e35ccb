//! Listening: the socket, the connections, the signals, and the way out. It knows no route.
//!
//! ```text
//! SIGTERM, SIGINT or POST /v1/shutdown ─► no new connection ─► streams end, requests finish ─► drivers finish their turn
//! ```
use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vessl_core::secret::Secret;
use vessl_data::durable;

use crate::ServerError;
use crate::api::{About, Api, Auth};
use crate::challenge::Entrance;
use crate::config::Config;
use crate::control::Control;
use crate::open::{Opened, Setup, open};
use crate::paths::DataDir;
use crate::proxy::{self, CertificateFiles, Proxy};
use crate::ssh::Ssh;

/// Most connections at the same time.
const CONNECTIONS: usize = 4096;
/// Longest time for the head of a request, and for a kept connection without one.
const HEAD: Duration = Duration::from_secs(10);
/// Most bytes of a request head, and of an answer that the client has not taken yet.
const BUFFER: usize = 128 << 10;
/// Open files that are asked for at most.
const DESCRIPTORS: u64 = 1 << 20;
/// Longest time for requests, and after that for drivers, to finish when the server stops.
const FINISH: Duration = Duration::from_secs(5);
/// Pause after the system gave no connection (no descriptors left).
const BREATH: Duration = Duration::from_millis(100);

/// What `server.json` holds.
#[derive(Serialize)]
struct Lead<'a> {
    v: u32,
    pid: u32,
    url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh: Option<String>,
    started_at: Timestamp,
    version: &'a str,
}

/// The connections that are open. One that was upgraded is no longer among them.
#[derive(Default)]
struct Connections {
    open: TaskTracker,
    stop: CancellationToken,
}

impl Connections {
    /// Lets each finish what it is at, and waits for all of them.
    async fn finish(self) {
        self.stop.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Where clients come in.
    fn entrance(&self) -> std::io::Result<Entrance> {
        match self {
            Self::Tcp(tcp) => Ok(Entrance::Tcp(tcp.local_addr()?)),
            Self::Unix(..) => Ok(Entrance::Unix),
        }
    }
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub url: String,
    /// Its token.
    pub token: Secret,
    stop: CancellationToken,
    done: JoinHandle<()>,
}

impl Running {
    /// Stops it and waits until it is gone.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.done.await;
    }

    /// Waits until somebody has stopped it and it is gone.
    pub async fn wait(self) {
        let _ = self.done.await;
    }

    /// Cancelled to stop it.
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }
}

/// Opens a server and lets it listen. Needs a runtime.
pub async fn start(setup: Setup) -> Result<Running, ServerError> {
    let config = setup.config.clone();
    allow_descriptors();
    let ports_listen = ports_address(&config)?;
    let ssh_listen = ssh_address(&config.ssh_listen)?;
    let opened = open(setup).await?;
    let (listener, url) = listen(&config.listen, &opened.data).await?;
    let failed = |source| ServerError::Listen { wanted: url.clone(), source };
    let entrance = listener.entrance().map_err(failed)?;
    let (stop, started_at) = (CancellationToken::new(), opened.control.now());
    let about = About {
        url: url.clone(),
        data_dir: opened.data.root().display().to_string(),
        started_at,
        open_bodies: config.open_bodies,
        stop: stop.clone(),
    };
    let hosts = matches!(listener, Listener::Tcp(_)).then(|| config.allowed_hosts.clone());
    let auth = Auth::new(opened.token.clone(), hosts, entrance);
    let router = Api::new(opened.control.clone(), opened.registry.clone(), auth, about).router();
    let proxy = match ports_listen {
        Some(at) => Some(show_ports(at, &config, &opened.control).await?),
        None => None,
    };
    let ssh = match ssh_listen {
        Some(at) => Some(
            Ssh::listen(at, opened.control.clone())
                .await
                .map_err(|source| ServerError::Listen { wanted: config.ssh_listen.clone(), source })?,
        ),
        None => None,
    };
    lead(&opened, &url, started_at)?;
    tracing::info!(url, "listening");
    let token = opened.token.clone();
    let proxy = proxy.map(|proxy| tokio::spawn(proxy.serve()));
    // It holds nothing that is waited for.
    ssh.map(|ssh| tokio::spawn(ssh.serve()));
    let done = tokio::spawn(serve((opened, proxy), listener, router, stop.clone()));
    Ok(Running { url, token, stop, done })
}

/// Every connection is a descriptor, and the usual 1024 are soon used up; more may be had for the asking.
fn allow_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard.min(DESCRIPTORS).max(soft), hard)
    {
        tracing::warn!(%error, "the server may have {soft} open files and no more");
    }
}

/// Writes down how clients find the server.
fn lead(opened: &Opened, url: &str, started_at: Timestamp) -> Result<(), ServerError> {
    let ports = opened.control.ports_url();
    let ssh = opened.control.ssh().map(|ssh| format!("{}:{}", ssh.host, ssh.port));
    let version = env!("CARGO_PKG_VERSION");
    let lead = Lead { v: 1, pid: std::process::id(), url, ports: ports.as_deref(), ssh, started_at, version };
    let text = serde_json::to_vec(&lead).unwrap_or_default();
    let path = opened.data.server_json();
    durable::write_atomic(&path, &text, 0o600)
        .map_err(|source| ServerError::file("write", path.display(), source))
}

/// Lets ports of runs be reached.
async fn show_ports(listen: SocketAddr, config: &Config, control: &Control) -> Result<Proxy, ServerError> {
    let settings = proxy::Settings {
        listen,
        domain: config.ports_domain.clone(),
        by_path: config.ports_by_path,
        tcp: config.tcp_range(),
        certificate: (!config.ports_certificate.is_empty()).then(|| CertificateFiles {
            certificate: config.ports_certificate.clone().into(),
            key: config.ports_key.clone().into(),
        }),
    };
    let failed = |source| ServerError::Listen { wanted: config.ports_listen.clone(), source };
    Proxy::listen(settings, control.clone()).await.map_err(failed)
}

async fn serve(
    (opened, proxy): (Opened, Option<JoinHandle<()>>),
    listener: Listener,
    router: Router,
    stop: CancellationToken,
) {
    let connections = Connections::default();
    accept(&listener, &router, &connections, &stop).await;
    tracing::info!("stopping");
    let socket = match listener {
        Listener::Tcp(_) => None,
        Listener::Unix(_, path) => Some(path),
    };
    // Followers are told first, so that their streams end and do not hold the requests up.
    opened.control.stopping().cancel();
    let _ = tokio::time::timeout(FINISH, connections.finish()).await;
    if let Some(proxy) = proxy {
        let _ = tokio::time::timeout(FINISH, proxy).await;
    }
    opened.control.stop(FINISH).await;
    for path in socket.into_iter().chain([opened.data.server_json()]) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot be removed");
        }
    }
    drop(router);
    drop(opened.control);
    drop(opened.registry);
    drop(opened.lock);
    tracing::info!("stopped");
}

async fn accept(listener: &Listener, router: &Router, connections: &Connections, stop: &CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit,
            () = stop.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let accepted = tokio::select! {
            accepted = accept_one(listener, router, connections, permit) => accepted,
            () = stop.cancelled() => return,
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection could not be taken");
            tokio::time::sleep(BREATH).await;
        }
    }
}

async fn accept_one(
    listener: &Listener,
    router: &Router,
    connections: &Connections,
    permit: OwnedSemaphorePermit,
) -> std::io::Result<()> {
    match listener {
        Listener::Tcp(tcp) => {
            let (stream, _) = tcp.accept().await?;
            stream.set_nodelay(true)?;
            handle(stream, router, connections, permit);
        }
        Listener::Unix(unix, _) => {
            let (stream, _) = unix.accept().await?;
            if is_own(&stream) {
                handle(stream, router, connections, permit);
            }
        }
    }
    Ok(())
}

/// Whether a client is the server's own user, or root. The mode of the socket says the same, but it can be changed.
fn is_own(stream: &UnixStream) -> bool {
    let Ok(peer) = stream.peer_cred() else { return false };
    let known = peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw();
    if !known {
        tracing::warn!(uid = peer.uid(), "another user was turned away from the socket");
    }
    known
}

fn handle<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    router: &Router,
    connections: &Connections,
    permit: OwnedSemaphorePermit,
) {
    let service = TowerToHyperService::new(router.clone());
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let stop = connections.stop.clone();
    connections.open.spawn(async move {
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = stop.cancelled() => None,
        };
        if ended.is_none() {
            connection.as_mut().graceful_shutdown();
            // A client that goes away in the middle is nothing to report.
            let _ = connection.await;
        }
        drop(permit);
    });
}

/// Opens the socket that `listen` names; says how clients reach it.
async fn listen(wanted: &str, data: &DataDir) -> Result<(Listener, String), ServerError> {
    let failed = |source| ServerError::Listen { wanted: wanted.to_owned(), source };
    match listen_address(wanted)? {
        ListenAddress::Own => {
            let path = data.socket();
            let listener = listen_unix(&path).await.map_err(failed)?;
            Ok((listener, format!("unix://{}", path.display())))
        }
        ListenAddress::Unix(path) => {
            let listener = listen_unix(&path).await.map_err(failed)?;
            Ok((listener, format!("unix://{}", path.display())))
        }
        ListenAddress::Tcp(address) => {
            let tcp = TcpListener::bind(address).await.map_err(failed)?;
            let url = format!("http://{}", tcp.local_addr().map_err(failed)?);
            Ok((Listener::Tcp(tcp), url))
        }
    }
}

/// Where a server may listen.
pub(crate) enum ListenAddress {
    /// The socket of the data directory.
    Own,
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Reads `listen` of the configuration; an address that others could reach is refused.
pub(crate) fn listen_address(wanted: &str) -> Result<ListenAddress, ServerError> {
    let wrong = || ServerError::Address(wanted.to_owned());
    if wanted.is_empty() {
        return Ok(ListenAddress::Own);
    }
    if let Some(path) = wanted.strip_prefix("unix:") {
        let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
        return path.is_absolute().then_some(ListenAddress::Unix(path)).ok_or_else(wrong);
    }
    let address: SocketAddr = wanted.parse().map_err(|_| wrong())?;
    if !address.ip().is_loopback() {
        return Err(ServerError::NotLoopback(wanted.to_owned()));
    }
    Ok(ListenAddress::Tcp(address))
}

/// Reads `ports_listen` of the configuration; `None` shows no ports.
pub(crate) fn ports_address(config: &Config) -> Result<Option<SocketAddr>, ServerError> {
    let wanted = &config.ports_listen;
    if wanted.is_empty() {
        return Ok(None);
    }
    let is_encrypted = !config.ports_certificate.is_empty();
    let address = wanted.parse().ok();
    let address = address.filter(|address: &SocketAddr| is_encrypted || address.ip().is_loopback());
    address.map(Some).ok_or_else(|| ServerError::PortsAddress(wanted.clone()))
}

/// Reads `ssh_listen` of the configuration; `None` is not reached. Others than loopback addresses are good: who comes in proves a key.
pub(crate) fn ssh_address(wanted: &str) -> Result<Option<SocketAddr>, ServerError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    wanted.parse().map(Some).map_err(|_| ServerError::SshAddress(wanted.to_owned()))
}

async fn listen_unix(path: &Path) -> std::io::Result<Listener> {
    // An address has 108 bytes; a path may be longer.
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    let address = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name);
    if std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket()) {
        if UnixStream::connect(&address).await.is_ok() {
            return Err(std::io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let bound = UnixListener::bind(&address)?;
    // Who is faster than this is turned away by `is_own`.
    std::fs::set_permissions(&address, Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(bound, path.to_owned()))
}

/// Runs a server until a signal or a request stops it.
pub(crate) async fn until_stopped(setup: Setup) -> Result<(), ServerError> {
    let failed = |source| ServerError::file("listen for", "signals", source);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    // A server in the background does not end with the terminal it was started from.
    let _hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let running = start(setup).await?;
    let stop = running.stopper();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stop.cancelled() => {}
    }
    running.stop().await;
    Ok(())
}
