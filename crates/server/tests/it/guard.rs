//! Who is let in.
use axum::body::Body;
use http::{Request, StatusCode, header};

use crate::world::{Place, RUNS};

async fn check(host: &str, token: Option<&str>, path: &str, expected: StatusCode) {
    let place = Place::new();
    let server = place.open().await;
    let mut request = Request::builder().uri(path).header(header::HOST, host);
    let token = token.map(|token| token.replace("TOKEN", &server.token));
    if let Some(token) = &token {
        request = request.header(header::AUTHORIZATION, token);
    }
    let (status, body) = server.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(status, expected, "{host} {path}: {body}");
    assert!(!body.to_string().contains(&server.token));
}

#[tokio::test]
async fn the_token_opens_everything_and_nothing_else_does() {
    for path in ["/v1/whoami", "/v1/server", RUNS, "/v1/openapi.json"] {
        check("127.0.0.1:80", Some("Bearer TOKEN"), path, StatusCode::OK).await;
        check("127.0.0.1:80", None, path, StatusCode::UNAUTHORIZED).await;
        check("127.0.0.1:80", Some("Bearer nonsense"), path, StatusCode::UNAUTHORIZED).await;
        check("127.0.0.1:80", Some("Basic TOKEN"), path, StatusCode::UNAUTHORIZED).await;
        check("rebound.example", Some("Bearer TOKEN"), path, StatusCode::MISDIRECTED_REQUEST).await;
    }
    check("localhost", None, "/healthz", StatusCode::OK).await;
    check("rebound.example", None, "/healthz", StatusCode::MISDIRECTED_REQUEST).await;
    check("localhost", Some("Bearer TOKEN"), "/v1/nowhere", StatusCode::NOT_FOUND).await;
    check("localhost", None, "/v1/nowhere", StatusCode::NOT_FOUND).await;
    check("localhost", None, "/", StatusCode::NOT_FOUND).await;
}

#[tokio::test]
async fn what_only_the_owner_may_read_only_the_owner_can() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let server = place.open().await;
    let data = place.dir.path().join("data");
    let mode = |name: &str| std::fs::metadata(data.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["token", "secret.key", "instance", "server.lock", "vessl.db", "vessl.db-wal", "vessl.db-shm"]
    {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(server.token.len(), 64);
}
