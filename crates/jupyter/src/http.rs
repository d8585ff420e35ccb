//! Requests to JupyterLab, over connections that are made inside the run.
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use vessl_core::door::Target;
use vessl_core::secret::Secret;
use vessl_core::spec::JUPYTER_PORT;
use vessl_reach::door::{Dialed, DoorError, dial};

/// Longest time of one request.
const LIMIT: Duration = Duration::from_secs(15);
/// Largest answer in bytes.
const LARGEST: usize = 8 << 20;

/// Asks for a path. An error if nobody listens, or what listens does not speak HTTP.
pub(crate) async fn get(
    dir: &Path,
    path: &str,
    token: Option<&Secret>,
) -> Result<(StatusCode, Bytes), DoorError> {
    let late = || DoorError::Io(io::Error::new(io::ErrorKind::TimedOut, "it does not answer"));
    let asking = async {
        match dial(dir, Target::Port(JUPYTER_PORT)).await? {
            Dialed::Tcp(stream) => ask(stream, path, token).await,
            Dialed::Unix(stream) => ask(stream, path, token).await,
        }
    };
    tokio::time::timeout(LIMIT, asking).await.map_err(|_| late())?
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    token: Option<&Secret>,
) -> Result<(StatusCode, Bytes), DoorError> {
    let other = |error: hyper::Error| DoorError::Io(io::Error::other(error));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let mut request = Request::get(path).header(header::HOST, "localhost");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("token {}", token.expose()));
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(other)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok((status, body.map_err(io::Error::other)?.to_bytes()))
    };
    // The connection works while the request does.
    tokio::select! {
        answer = answer => answer,
        ended = connection => match ended {
            Err(error) => Err(other(error)),
            Ok(()) => Err(DoorError::Io(io::ErrorKind::UnexpectedEof.into())),
        },
    }
}
