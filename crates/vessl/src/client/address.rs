//! Where a server listens and how to open a connection to it: TCP, a unix socket, or TLS. TLS is only set up for an
//! address that asks for it.
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use vessl_server::challenge::Entrance;

use crate::error::{Error, Result};

/// Longest time for opening a connection.
const CONNECT: Duration = Duration::from_secs(10);

/// A parsed server address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http://host[:port]`.
    Tcp { host: String, port: u16 },
    /// `https://host[:port]`.
    Tls { host: String, port: u16 },
    /// `unix:///path`.
    Unix(PathBuf),
}

/// Anything bytes go through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Address {
    /// Reads `http://host[:port]`, `https://host[:port]`, `unix:/path` or `unix:///path`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = |reason: &str| {
            Error::Usage {
            message: format!("`{}` is not a server address: {reason}", redacted(text)),
            hint: "write it like `http://127.0.0.1:7300`, `https://vessl.example.org` or `unix:///path/to/socket`"
                .to_owned(),
        }
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let address = Some(path).filter(|path| path.starts_with('/')).map(|path| Self::Unix(path.into()));
            return address.ok_or_else(|| wrong("the path is not absolute"));
        }
        let uri: http::Uri = text.parse().map_err(|_| wrong("it is not a URL"))?;
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("a user or password does not belong into it"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("it has a path"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        match uri.scheme_str() {
            Some("http") => Ok(Self::Tcp { host, port: authority.port_u16().unwrap_or(80) }),
            Some("https") => Ok(Self::Tls { host, port: authority.port_u16().unwrap_or(443) }),
            _ => Err(wrong("it begins with neither `http://` nor `https://` nor `unix://`")),
        }
    }

    /// The `Host` header.
    pub(super) fn host(&self) -> String {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Self::Tcp { host, port } | Self::Tls { host, port } => format!("{host}:{port}"),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Opens a connection. With it comes where it went in, for which the server must prove itself; `None` where its certificate has
    /// done that.
    pub(super) async fn connect(&self) -> std::io::Result<(Box<dyn Stream>, Option<Entrance>)> {
        let open = async {
            let opened: (Box<dyn Stream>, _) = match self {
                Self::Tcp { host, port } => {
                    let stream = tcp(host, *port).await?;
                    let entrance = Entrance::Tcp(stream.peer_addr()?);
                    (Box::new(stream), Some(entrance))
                }
                Self::Tls { host, port } => (Box::new(tls(host, tcp(host, *port).await?).await?), None),
                Self::Unix(path) => (Box::new(unix(path).await?), Some(Entrance::Unix)),
            };
            Ok::<_, std::io::Error>(opened)
        };
        let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 seconds");
        tokio::time::timeout(CONNECT, open).await.unwrap_or_else(|_| Err(late()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.host()),
            Self::Tls { .. } => write!(f, "https://{}", self.host()),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// The address of a socket has 108 bytes; its path may be longer.
async fn unix(path: &Path) -> std::io::Result<UnixStream> {
    let dir = File::open(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name)).await
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = match host.parse::<std::net::IpAddr>() {
        Ok(ip) => TcpStream::connect((ip, port)).await?,
        Err(_) => TcpStream::connect((host, port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn tls(host: &str, stream: TcpStream) -> std::io::Result<impl Stream + use<>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The address without a password that somebody may have written into it.
fn redacted(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(from), Some(to)) if from + 3 < to => format!("{}***{}", &text[..from + 3], &text[to..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, &str>) {
        let got = Address::parse(text).map(|address| address.to_string()).map_err(|e| e.to_string());
        match (&got, expected) {
            (Ok(got), Ok(want)) => assert_eq!(got, want),
            (Err(got), Err(part)) => assert!(got.contains(part) && !got.contains("hunter2"), "{got}"),
            _ => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn addresses() {
        check("http://127.0.0.1:7300", Ok("http://127.0.0.1:7300"));
        check("http://[::1]:7300/", Ok("http://[::1]:7300"));
        check("https://vessl.example.org", Ok("https://vessl.example.org:443"));
        check("unix:///run/v.sock", Ok("unix:///run/v.sock"));
        check("unix:/run/v.sock", Ok("unix:///run/v.sock"));
        check("unix://run/v.sock", Err("not absolute"));
        check("127.0.0.1:7300", Err("begins with neither"));
        check("ftp://x", Err("begins with neither"));
        check("http://u:hunter2@x", Err("does not belong"));
        check("http://x/api", Err("has a path"));
        check("", Err("not a URL"));
    }
}
