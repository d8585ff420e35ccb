//! Login: basic, or a token from the address that the registry names.
use base64::Engine;
use reqwest::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode, Url};

use super::Registry;
use super::challenge::{Challenge, parse};
use crate::error::StoreError;
use crate::options::Auth;
use vessl_core::reference::is_loopback;

/// Most bytes of a token service's answer.
const MAX_TOKEN: u64 = 1 << 20;

#[derive(serde::Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Registry {
    /// The `Authorization` header that a 401 answer asks for.
    pub(super) async fn login(&self, refused: &Response) -> Result<HeaderValue, StoreError> {
        let headers = refused.headers().get_all(WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> =
            headers.iter().filter_map(|h| h.to_str().ok()).flat_map(parse).collect();
        let bearer = challenges.iter().find_map(|challenge| match challenge {
            Challenge::Bearer { realm, service, scope } => Some((realm, service, scope)),
            Challenge::Basic => None,
        });
        if let Some((realm, service, scope)) = bearer {
            return self.token(realm, service.as_deref(), scope.as_deref()).await;
        }
        if !challenges.contains(&Challenge::Basic) {
            return Err(self.failed("it refuses and offers no way to log in that is known (401)".into()));
        }
        self.basic().ok_or_else(|| self.no_login(StatusCode::UNAUTHORIZED, ""))
    }

    fn basic(&self) -> Option<HeaderValue> {
        let Auth::Basic { username, password } = &self.auth else { return None };
        let pair =
            base64::engine::general_purpose::STANDARD.encode(format!("{username}:{}", password.expose()));
        secret(&format!("Basic {pair}"))
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scope: Option<&str>,
    ) -> Result<HeaderValue, StoreError> {
        let url = self.token_url(realm, service, scope)?;
        let basic = self.basic();
        let request = || match &basic {
            Some(basic) => self.http.get(url.clone()).header(AUTHORIZATION, basic.clone()),
            None => self.http.get(url.clone()),
        };
        let response = self.ask(request).await?;
        if !response.status().is_success() {
            return Err(self.login_refusal(response).await);
        }
        let body = self.body(response, MAX_TOKEN, "the token").await?;
        let token: Option<Token> = serde_json::from_slice(&body).ok();
        token
            .and_then(|t| t.token.or(t.access_token))
            .and_then(|token| secret(&format!("Bearer {token}")))
            .ok_or_else(|| self.failed("its login service gives no token".into()))
    }

    /// The address of the token service. A credential goes to encrypted or local addresses only, and to the host of a
    /// registry that was itself allowed to be plain.
    fn token_url(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<Url, StoreError> {
        let mut url =
            Url::parse(realm).map_err(|e| self.failed(format!("its login service is no address: {e}")))?;
        let host = url.host_str().unwrap_or_default();
        let is_near = || is_loopback(host) || self.plain && self.is_at(host);
        if url.scheme() != "https" && !(url.scheme() == "http" && is_near()) {
            return Err(self.failed(format!(
                "its login service `{host}` is not encrypted, which only the registry's own host may be; \
                 it must name one with https"
            )));
        }
        let wanted = format!("repository:{}:pull", self.named.repository);
        url.query_pairs_mut().append_pair("scope", scope.unwrap_or(&wanted));
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        Ok(url)
    }

    /// Whether the registry itself is at `host`, on whatever port.
    fn is_at(&self, host: &str) -> bool {
        Url::parse(&self.base).is_ok_and(|base| base.host_str() == Some(host))
    }
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use crate::options::{Auth, Options};
    use crate::registry::Registry;
    use vessl_core::reference::{Named, Reference};

    fn named(text: &str) -> Named {
        match Reference::parse(text) {
            Ok(Reference::Registry(named)) => named,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_login_goes_to_encrypted_or_local_services_only() {
        for (registry, realm, expected) in [
            (
                "quay.io/a/b",
                "https://auth.example/token",
                Ok("https://auth.example/token?scope=repository%3Aa%2Fb%3Apull"),
            ),
            (
                "quay.io/a/b",
                "http://127.0.0.1:1/t?x=1",
                Ok("http://127.0.0.1:1/t?x=1&scope=repository%3Aa%2Fb%3Apull"),
            ),
            (
                "quay.io/a/b",
                "http://auth.example/token",
                Err("login service `auth.example` is not encrypted"),
            ),
            ("quay.io/a/b", "ftp://auth.example/token", Err("not encrypted")),
            ("quay.io/a/b", "token", Err("is no address")),
            (
                "localhost:5000/a/b",
                "http://auth.example/t",
                Err(
                    "login service `auth.example` is not encrypted, which only the registry's own host may be",
                ),
            ),
            ("plain.example:5000/a", "http://auth.example/t", Err("`auth.example` is not encrypted")),
            ("plain.example:5000/a", "http://plain.example.evil/t", Err("not encrypted")),
            ("plain.example:5000/a", "http://evil@xplain.example/t", Err("not encrypted")),
            (
                "plain.example:5000/a",
                "http://Plain.Example:5001/t",
                Ok("http://plain.example:5001/t?scope=repository%3Aa%3Apull"),
            ),
            (
                "plain.example:5000/a",
                "https://auth.example/t",
                Ok("https://auth.example/t?scope=repository%3Aa%3Apull"),
            ),
            ("quay.io/a/b", "http://quay.io/t", Err("not encrypted")),
        ] {
            let options = Options { insecure: vec!["plain.example:5000".to_owned()], ..Options::default() };
            let client = Registry::new(&named(registry), &Auth::Anonymous, &options).unwrap();
            match (client.token_url(realm, None, None), expected) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{registry} {realm}: {got:?}"),
            }
        }
    }
}
