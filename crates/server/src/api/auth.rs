//! Who may come in: the bearer token, compared in constant time, and the `Host` of the request, so that no web page can
//! reach a loopback server under a name of its own.
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;
use vessl_core::access::Caller;
use vessl_core::secret::Secret;

use super::Api;
use super::error::{Failure, Result};
use crate::challenge::{self, Entrance};

/// Hosts and token of a server.
#[derive(Debug)]
pub struct Auth {
    token: Secret,
    hosts: Option<Vec<String>>,
    entrance: Entrance,
}

impl Auth {
    /// A guard that wants this token, and on TCP one of the loopback names or of `hosts`; clients come in at `entrance`.
    pub fn new(token: Secret, hosts: Option<Vec<String>>, entrance: Entrance) -> Self {
        Self { token, hosts, entrance }
    }

    /// The proof that this server has the token.
    pub(super) fn prove(&self, nonce: &str) -> String {
        challenge::answer(self.token.expose(), self.entrance, nonce)
    }

    fn knows_host(&self, headers: &HeaderMap) -> bool {
        let Some(hosts) = &self.hosts else { return true };
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let Some(host) = host else { return false };
        let name = without_port(host);
        let own = ["127.0.0.1", "localhost", "[::1]"];
        own.iter()
            .copied()
            .chain(hosts.iter().map(String::as_str))
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    fn knows_token(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let given = given.map(|(_, token)| token).unwrap_or_default();
        !self.token.is_empty() && bool::from(given.trim().as_bytes().ct_eq(self.token.expose().as_bytes()))
    }
}

/// Lets only requests in that are addressed to this server.
pub(super) async fn check_host(State(api): State<Api>, request: Request, next: Next) -> Result<Response> {
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        return Err(Failure::malformed("the request has more than one `Host` header"));
    }
    if api.auth.knows_host(request.headers()) {
        return Ok(next.run(request).await);
    }
    let message = "this server does not go by the name in the `Host` header";
    let hint = "use a loopback address, or put the name into `allowed_hosts`".to_owned();
    Err(Failure::new(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message).hint(Some(hint)))
}

/// Lets only requests with the token in, and says who asks.
pub(super) async fn check_token(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Result<Response> {
    if api.auth.knows_token(request.headers()) {
        // There is one token, and it is the administrator's.
        request.extensions_mut().insert(Caller::admin());
        return Ok(next.run(request).await);
    }
    let message = "the request carries no token, or a wrong one";
    let hint = "send `Authorization: Bearer TOKEN`; the token is in the file `token` of the data directory";
    Err(Failure::new(StatusCode::UNAUTHORIZED, "unauthorized", message).hint(Some(hint.to_owned())))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, token: Option<&str>, expected: (bool, bool)) {
        let hosts = Some(vec!["gpu.example".to_owned()]);
        let auth = Auth::new("s3cret".into(), hosts, Entrance::Unix);
        let mut headers = HeaderMap::new();
        host.map(|host| headers.insert(header::HOST, host.parse().unwrap()));
        token.map(|token| headers.insert(header::AUTHORIZATION, token.parse().unwrap()));
        assert_eq!((auth.knows_host(&headers), auth.knows_token(&headers)), expected, "{host:?} {token:?}");
    }

    #[test]
    fn hosts_and_tokens() {
        check(None, None, (false, false));
        check(Some("127.0.0.1:7300"), Some("Bearer s3cret"), (true, true));
        check(Some("localhost"), Some("bearer s3cret"), (true, true));
        check(Some("LocalHost:80"), Some("Bearer s3cret"), (true, true));
        check(Some("GPU.example"), Some("Bearer s3cret"), (true, true));
        check(Some("localhost"), Some("BEARER s3cret"), (true, true));
        check(Some("localhost"), Some("Bearers3cret"), (true, false));
        check(Some("localhost"), Some("Bearer s3cre"), (true, false));
        check(Some("[::1]:80"), Some("Bearer s3crets"), (true, false));
        check(Some("[::1]"), Some("Bearer "), (true, false));
        check(Some("gpu.example:80"), Some("Basic s3cret"), (true, false));
        check(Some("evil.example"), Some("s3cret"), (false, false));
        check(Some("127.0.0.1.evil.example"), Some("Bearer  s3cret"), (false, true));
        check(Some("127.0.0.1:80@evil"), None, (false, false));
    }
}
