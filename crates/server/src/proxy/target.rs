//! Which port of which run a request is for, read from its host name or its path. Pure: it knows no run.
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, header};

use vessl_core::ids::RunId;

use super::pages::Refusal;
use crate::control::PortOf;

/// Name of the one parameter of a query that is ours.
pub(super) const CODE: &str = "vessl-code";

/// Where ports are.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Domain below which each has a host name.
    pub(super) domain: String,
    /// Whether each has a path too.
    pub(super) by_path: bool,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
}

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The port.
    pub(super) to: PortOf,
    /// How it was named.
    pub(super) form: Form,
    /// Path and query as its program sees them.
    pub(super) rest: PathAndQuery,
    /// The `Host` of the request.
    pub(super) host: String,
    /// How it came, `http` or `https`.
    pub(super) scheme: &'static str,
}

/// How a port is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// By a host name of its own.
    Host,
    /// By the begin of the path, without a `/` at its end.
    Path(String),
}

impl Target {
    /// Reads a request.
    pub(super) fn of<B>(request: &Request<B>, names: &Names) -> Result<Self, Refusal> {
        let host = host(request)?;
        let root = PathAndQuery::from_static("/");
        let sent = request.uri().path_and_query().cloned().unwrap_or(root);
        let (name, _) = split_port(&host);
        if let Some(to) = port_of_host(name, &names.domain) {
            return Ok(Self { to, form: Form::Host, rest: sent, host, scheme: names.scheme });
        }
        if !(names.by_path && is_loopback(name)) {
            return Err(Refusal::WrongHost(names.domain.clone()));
        }
        let (to, prefix) = port_of_path(sent.path()).ok_or(Refusal::NoPath)?;
        let rest = &sent.as_str()[prefix.len()..];
        if !rest.starts_with('/') {
            return Err(Refusal::Moved(format!("{prefix}/{rest}")));
        }
        let rest = PathAndQuery::try_from(rest).map_err(|_| Refusal::Malformed("its path cannot be read"))?;
        Ok(Self { to, form: Form::Path(prefix.to_owned()), rest, host, scheme: names.scheme })
    }

    /// The code of the query, and the place without it.
    pub(super) fn code(&self) -> Option<(String, String)> {
        let pairs: Vec<&str> = self.rest.query()?.split('&').collect();
        let is_code = |pair: &&str| pair.strip_prefix(CODE).is_some_and(|value| value.starts_with('='));
        let code = pairs.iter().copied().find(is_code)?;
        let others: Vec<&str> = pairs.iter().copied().filter(|pair| !is_code(pair)).collect();
        let prefix = match &self.form {
            Form::Host => "",
            Form::Path(prefix) => prefix,
        };
        // With two at its begin it would be the name of another host.
        let path = self.rest.path().trim_start_matches(['/', '\\']);
        let mut place = format!("{prefix}/{path}");
        if !others.is_empty() {
            place.push('?');
            place.push_str(&others.join("&"));
        }
        Some((code[CODE.len() + 1..].to_owned(), place))
    }

    /// Name of the cookie that has the pass.
    pub(super) fn cookie(&self) -> String {
        match &self.form {
            Form::Host => HOST_COOKIE.to_owned(),
            Form::Path(_) => format!("{PATH_COOKIE}{}-{}", self.to.run.0, self.to.port),
        }
    }
}

const HOST_COOKIE: &str = "__Host-vessl-port";
const PATH_COOKIE: &str = "vessl-port-";

/// Whether a cookie of this name is ours, and no program's.
pub(super) fn is_own_cookie(name: &str) -> bool {
    name == HOST_COOKIE || name.starts_with(PATH_COOKIE)
}

/// The one host that a request names.
fn host<B>(request: &Request<B>) -> Result<String, Refusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::Malformed("it must have one `Host` header"));
    };
    let host = host.to_str().map_err(|_| Refusal::Malformed("its `Host` cannot be read"))?;
    let named = request.uri().authority();
    if named.is_some_and(|named| !named.as_str().eq_ignore_ascii_case(host)) {
        return Err(Refusal::Malformed("it names two hosts"));
    }
    Ok(host.to_ascii_lowercase())
}

/// Name and port of an authority.
pub(super) fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

/// The port that a host name in small letters is of: `PORT-RUN.DOMAIN`.
pub(super) fn port_of_host(name: &str, domain: &str) -> Option<PortOf> {
    let label = name.strip_suffix(domain)?.strip_suffix('.')?;
    let (port, run) = label.split_once('-')?;
    port_of(run, port)
}

/// The port that a path is of, and its begin: `/runs/RUN/ports/PORT`.
fn port_of_path(path: &str) -> Option<(PortOf, &str)> {
    let rest = path.strip_prefix("/runs/")?;
    let (run, rest) = rest.split_once('/')?;
    let rest = rest.strip_prefix("ports/")?;
    let port = rest.split('/').next()?;
    let length = path.len() - rest.len() + port.len();
    Some((port_of(run, port)?, &path[..length]))
}

fn port_of(run: &str, port: &str) -> Option<PortOf> {
    let run = RunId(number(run)?);
    let port = u16::try_from(number(port)?).ok().filter(|port| *port > 0)?;
    Some(PortOf { run, port })
}

/// A number that is written in one way only.
fn number(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

fn is_loopback(name: &str) -> bool {
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a page of somebody else makes the browser send this with the cookies of its user. `sec-fetch-site` says so where browsers
/// send it, `origin` where they do not. Other ports of the same run may, and so may a link that is followed.
pub(super) fn is_foreign(headers: &HeaderMap, target: &Target, domain: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let origin = text("origin").map(str::to_ascii_lowercase);
    let of_origin = origin.as_deref().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let is_related = of_origin.is_some_and(|host| {
        let same_run = |to: PortOf| to.run == target.to.run;
        host == target.host || port_of_host(split_port(host).0, domain).is_some_and(same_run)
    });
    match text("sec-fetch-site") {
        Some("same-origin" | "none") => false,
        Some(_) => {
            let followed = text("sec-fetch-mode") == Some("navigate")
                && matches!(text("sec-fetch-dest"), Some("document"))
                && origin.is_none();
            !(followed || is_related)
        }
        None => origin.is_some() && !is_related,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: Names = Names { domain: String::new(), by_path: true, scheme: "http" };

    fn names() -> Names {
        Names { domain: "vessl.localhost".to_owned(), ..NAMES }
    }

    fn read(host: &str, uri: &str) -> Result<Target, Refusal> {
        let request = Request::builder().uri(uri).header("host", host).body(()).unwrap();
        Target::of(&request, &names())
    }

    #[test]
    fn a_host_name_names_a_port() {
        for (host, expected) in [
            ("8501-100000000001.vessl.localhost:7381", Some((100_000_000_001, 8501))),
            ("8501-7.vessl.localhost", Some((7, 8501))),
            ("8501-7.VESSL.Localhost:1", Some((7, 8501))),
            ("65535-7.vessl.localhost", Some((7, 65535))),
            ("65536-7.vessl.localhost", None),
            ("0-7.vessl.localhost", None),
            ("080-7.vessl.localhost", None),
            ("80-07.vessl.localhost", None),
            ("+80-7.vessl.localhost", None),
            ("80-7-8.vessl.localhost", None),
            ("80-.vessl.localhost", None),
            ("-7.vessl.localhost", None),
            ("80.vessl.localhost", None),
            ("vessl.localhost", None),
            ("80-7vessl.localhost", None),
            ("x.80-7.vessl.localhost", None),
            ("80-7.x.vessl.localhost", None),
            ("80-7.vessl.localhost.", None),
            ("80-7.vessl.localhost.evil.example", None),
            ("80-7.evil.localhost", None),
            ("80-99999999999999999999.vessl.localhost", None),
            ("evil.example", None),
            ("127.0.0.1.evil.example", None),
            ("10.0.0.1", None),
        ] {
            let found = read(host, "/a/b?c=d");
            let expected = match expected {
                Some((run, port)) => Ok(Target {
                    to: PortOf { run: RunId(run), port },
                    form: Form::Host,
                    rest: PathAndQuery::from_static("/a/b?c=d"),
                    scheme: "http",
                    host: host.to_ascii_lowercase(),
                }),
                None => Err(Refusal::WrongHost("vessl.localhost".to_owned())),
            };
            assert_eq!(found, expected, "{host}");
        }
    }

    #[test]
    fn a_path_names_a_port_on_loopback_names_alone() {
        for (uri, expected) in [
            ("/runs/7/ports/80/", Ok((7, 80, "/"))),
            ("/runs/7/ports/80/a%2Fb/..%2f?x=/runs/8/", Ok((7, 80, "/a%2Fb/..%2f?x=/runs/8/"))),
            ("/runs/7/ports/80/../../../8/ports/90/", Ok((7, 80, "/../../../8/ports/90/"))),
            ("/runs/7/ports/80//x", Ok((7, 80, "//x"))),
            ("/runs/7/ports/80", Err(Refusal::Moved("/runs/7/ports/80/".to_owned()))),
            ("/runs/7/ports/80?a=b", Err(Refusal::Moved("/runs/7/ports/80/?a=b".to_owned()))),
            ("/runs/7%2Fports/80/", Err(Refusal::NoPath)),
            ("/runs%2F7/ports/80/", Err(Refusal::NoPath)),
            ("/runs/%37/ports/80/", Err(Refusal::NoPath)),
            ("/runs/7/ports/080/", Err(Refusal::NoPath)),
            ("/runs/7/ports/80x/", Err(Refusal::NoPath)),
            ("/runs//ports/80/", Err(Refusal::NoPath)),
            ("/Runs/7/ports/80/", Err(Refusal::NoPath)),
            ("//runs/7/ports/80/", Err(Refusal::NoPath)),
            ("/v1/runs", Err(Refusal::NoPath)),
            ("/", Err(Refusal::NoPath)),
        ] {
            let found = read("127.0.0.1:7381", uri).map(|target| {
                assert_eq!(target.form, Form::Path("/runs/7/ports/80".to_owned()), "{uri}");
                (target.to.run.0, target.to.port, target.rest.to_string())
            });
            assert_eq!(found, expected.map(|(run, port, rest)| (run, port, rest.to_owned())), "{uri}");
        }
        for host in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "[::1]"] {
            assert!(read(host, "/runs/7/ports/80/").is_ok(), "{host}");
        }
        for host in ["::1", "evil.localhost", "127.0.0.1.", "localhost.", "0.0.0.0", "2130706433", ""] {
            let found = read(host, "/runs/7/ports/80/");
            // `::1` would be name and port, as no client writes it.
            assert!(found.is_err(), "{host}: {found:?}");
        }
        let request =
            Request::builder().uri("/runs/7/ports/80/").header("host", "localhost").body(()).unwrap();
        let off = Names { by_path: false, ..names() };
        assert!(matches!(Target::of(&request, &off), Err(Refusal::WrongHost(_))));
    }

    #[test]
    fn a_request_names_one_host() {
        let own = "80-7.vessl.localhost";
        let built = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header("host", *host);
            }
            Target::of(&request.body(()).unwrap(), &names())
        };
        assert!(built("http://80-7.vessl.localhost/x", &[own]).is_ok());
        assert!(matches!(built("http://80-8.vessl.localhost/x", &[own]), Err(Refusal::Malformed(_))));
        assert!(matches!(built("/", &[]), Err(Refusal::Malformed(_))));
        assert!(matches!(built("/", &[own, own]), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn the_code_is_taken_out_of_the_query() {
        for (uri, expected) in [
            ("/", None),
            ("/?a=b", None),
            ("/?vessl-code", None),
            ("/?vessl-codes=x", None),
            ("/?vessl-code=x", Some(("x", "/"))),
            ("/a?b=c&vessl-code=x&d=e&vessl-code=y", Some(("x", "/a?b=c&d=e"))),
            ("//evil.example/?vessl-code=x", Some(("x", "/evil.example/"))),
            ("/\\evil.example/?vessl-code=x", Some(("x", "/evil.example/"))),
        ] {
            let found = read("80-7.vessl.localhost", uri).unwrap().code();
            let expected = expected.map(|(code, place): (&str, &str)| (code.to_owned(), place.to_owned()));
            assert_eq!(found, expected, "{uri}");
        }
        let found = read("localhost", "/runs/7/ports/80/x?vessl-code=k").unwrap();
        assert_eq!(found.code(), Some(("k".to_owned(), "/runs/7/ports/80/x".to_owned())));
        assert_eq!(found.cookie(), "vessl-port-7-80");
    }

    #[test]
    fn pages_of_others_do_not_use_the_cookies_of_the_user() {
        let target = read("80-7.vessl.localhost:7381", "/").unwrap();
        let check = |headers: &[(&'static str, &str)], expected: bool| {
            let headers = headers.iter().map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
            });
            assert_eq!(
                is_foreign(&headers.clone().collect(), &target, "vessl.localhost"),
                expected,
                "{:?}",
                headers.collect::<Vec<_>>()
            );
        };
        let (site, mode, dest) = ("sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest");
        check(&[], false);
        check(&[("origin", "http://80-7.vessl.localhost:7381")], false);
        check(&[("origin", "http://81-7.vessl.localhost:7381")], false);
        check(&[("origin", "http://80-8.vessl.localhost:7381")], true);
        check(&[("origin", "http://80-7.vessl.localhost.evil.example")], true);
        check(&[("origin", "null")], true);
        check(&[(site, "same-origin"), ("origin", "null")], false);
        check(&[(site, "none"), (mode, "navigate"), (dest, "document")], false);
        check(&[(site, "cross-site"), (mode, "navigate"), (dest, "document")], false);
        check(&[(site, "cross-site"), (mode, "navigate"), (dest, "iframe")], true);
        check(
            &[
                (site, "cross-site"),
                (mode, "navigate"),
                (dest, "document"),
                ("origin", "http://evil.example"),
            ],
            true,
        );
        check(&[(site, "same-site"), (mode, "no-cors")], true);
        check(&[(site, "same-site"), (mode, "cors"), ("origin", "http://81-7.vessl.localhost:7381")], false);
        check(&[(site, "same-site"), (mode, "cors"), ("origin", "http://80-8.vessl.localhost:7381")], true);
        check(&[(site, ""), ("origin", "http://80-8.vessl.localhost:7381")], true);
    }
}
