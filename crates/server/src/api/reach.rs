//! Ways into a run over a connection that is upgraded: a program beside the commands, and a connection to something inside.
use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{HeaderValue, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use vessl_core::access::Caller;
use vessl_core::door::Target;
use vessl_core::wire::ErrorBody;
use vessl_reach::door::Dialed;
use vessl_reach::frames::{DIAL_PROTOCOL, PROTOCOL};
use vessl_reach::relay;

use super::Api;
use super::error::{Failure, Result};
use super::extract::{Query, RunPath};

/// Where to connect to.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DialQuery {
    /// TCP port of the loopback address of the run.
    port: Option<u16>,
    /// Path of a unix socket in the run, instead.
    path: Option<String>,
}

/// Start a program beside the commands of a run that runs. The connection is upgraded to frames, in which the client says what to start.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/exec", tag = "runs",
    operation_id = "execInRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path)),
    responses(
        (status = 101, description = "frames follow"),
        (status = 404, description = "there is no such run", body = ErrorBody),
        (status = 409, description = "it has no container now", body = ErrorBody),
        (status = 426, description = "the request asks for no upgrade", body = ErrorBody),
    )
)]
pub(super) async fn exec(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    request: Request,
) -> Result<Response<Body>> {
    let upgrade = wanted(request, PROTOCOL)?;
    let run = api.control.reachable(&caller, &of).await?;
    let stopping = api.control.stopping();
    let room = api.ways.clone().try_acquire_owned().map_err(|_| busy())?;
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let gone = async {
            stopping.cancelled().await;
            "the server is stopping"
        };
        let served = relay::serve(TokioIo::new(stream), |begin| run.exec(begin), gone).await;
        if let Err(error) = served {
            tracing::debug!(%error, "a session ended");
        }
        drop(room);
    });
    Ok(switched(PROTOCOL))
}

/// Connect to something that listens inside a run that runs. The connection is upgraded to the bytes as they are.
#[utoipa::path(
    get, path = "/organizations/{organization}/projects/{project}/runs/{id}/dial", tag = "runs",
    operation_id = "dialInRun",
    params(("organization" = String, Path), ("project" = String, Path), ("id" = u64, Path), DialQuery),
    responses(
        (status = 101, description = "bytes follow"),
        (status = 404, description = "there is no such run", body = ErrorBody),
        (status = 409, description = "it has no container now, or nothing listens there", body = ErrorBody),
        (status = 426, description = "the request asks for no upgrade", body = ErrorBody),
    )
)]
pub(super) async fn dial(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RunPath(of): RunPath,
    Query(query): Query<DialQuery>,
    request: Request,
) -> Result<Response<Body>> {
    let upgrade = wanted(request, DIAL_PROTOCOL)?;
    let to = match (query.port, query.path) {
        (Some(port), None) if port > 0 => Target::Port(port),
        (None, Some(path)) if path.starts_with('/') => Target::Path(path),
        _ => {
            return Err(Failure::malformed(
                "name a `port` from 1 to 65535, or the absolute `path` of a socket",
            ));
        }
    };
    let run = api.control.reachable(&caller, &of).await?;
    let room = api.ways.clone().try_acquire_owned().map_err(|_| busy())?;
    let dialed = run.dial(to).await?;
    let stopping = api.control.stopping();
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let stream = TokioIo::new(stream);
        let copied = async {
            match dialed {
                Dialed::Tcp(inside) => both_ways(stream, inside).await,
                Dialed::Unix(inside) => both_ways(stream, inside).await,
            }
        };
        tokio::select! {
            // Who hangs up in the middle is nothing to report.
            _ = copied => {}
            () = stopping.cancelled() => {}
        }
        drop(room);
    });
    Ok(switched(DIAL_PROTOCOL))
}

pub(super) async fn both_ways(
    mut outside: impl AsyncRead + AsyncWrite + Unpin,
    mut inside: impl AsyncRead + AsyncWrite + Unpin,
) -> std::io::Result<()> {
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}

/// The connection of a request that asks for this protocol, once it is upgraded.
pub(super) fn wanted(mut request: Request, protocol: &str) -> Result<OnUpgrade> {
    let asks = |name, word: &str| {
        let value = request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        value.is_some_and(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
    };
    if asks(header::CONNECTION, "upgrade") && asks(header::UPGRADE, protocol) {
        return Ok(hyper::upgrade::on(&mut request));
    }
    let words = format!("this is for a connection that is upgraded to `{protocol}`");
    Err(Failure::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", words))
}

pub(super) fn switched(protocol: &'static str) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    answer
}

pub(super) fn busy() -> Failure {
    let words = "too many sessions and connections into runs are open";
    Failure::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", words)
        .hint(Some("close some, and try again".to_owned()))
}
