//! Which headers go through and which do not, both ways. Pure.
use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};

use super::target::{Form, Target, is_own_cookie};

/// Headers that are for the next hop alone, besides those that `Connection` names (RFC 9110, 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    // Whoever took the head has answered it.
    header::EXPECT,
];

/// Headers that are never taken away because `Connection` names them: without them a request would be another one.
const KEPT: [HeaderName; 4] = [header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::AUTHORIZATION];

/// What a connection is upgraded to, if that is asked for or answered.
pub(super) fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
    headers.get(header::UPGRADE).filter(|_| asked).cloned()
}

fn tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',').map(str::trim))
}

/// Takes away what was for this hop alone, and puts the upgrade back that goes through.
pub(super) fn strip_hop(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    let named: Vec<HeaderName> = tokens(headers).filter_map(|token| token.parse().ok()).collect();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        // It does not count then; beside the body as it is sent on it would be wrong.
        headers.remove(header::CONTENT_LENGTH);
    }
    for name in HOP_BY_HOP.iter().chain(named.iter().filter(|name| !KEPT.contains(name))) {
        headers.remove(name);
    }
    if let Some(upgrade) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, upgrade);
    }
}

/// Says who asked and where, whatever the request said of it; takes our cookies away.
pub(super) fn forward(headers: &mut HeaderMap, target: &Target, from: IpAddr) {
    // Many programs read `_` in a name as `-`.
    let claims = |name: &&HeaderName| {
        let name = name.as_str().replace('_', "-");
        name.starts_with("x-forwarded-") || name == "forwarded" || name == "x-real-ip"
    };
    let claimed: Vec<HeaderName> = headers.keys().filter(claims).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
    let set = |headers: &mut HeaderMap, name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set(headers, "x-forwarded-for", &from.to_string());
    set(headers, "x-forwarded-proto", target.scheme);
    set(headers, "x-forwarded-host", &target.host);
    if let Form::Path(prefix) = &target.form {
        set(headers, "x-forwarded-prefix", prefix);
    }
    let others = other_cookies(headers);
    headers.remove(header::COOKIE);
    if let Some(others) = others {
        headers.insert(header::COOKIE, others);
    }
}

/// All cookies but ours, as one header.
fn other_cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let values = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    let is_other = |pair: &&[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        !pair.is_empty() && !std::str::from_utf8(name.trim_ascii()).is_ok_and(is_own_cookie)
    };
    let kept: Vec<&[u8]> = pairs.filter(is_other).collect();
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept.join(&b"; "[..])).ok() }
}

/// The values of the cookies of one name.
pub(super) fn cookies<'h>(headers: &'h HeaderMap, name: &'h str) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(move |(known, _)| *known == name).map(|(_, value)| value)
}

/// Takes away from an answer what a program may not say: about our cookies, about those of other ports, and below a path about the site of
/// all runs.
pub(super) fn answer(headers: &mut HeaderMap, form: &Form) {
    let is_own = |value: &HeaderValue| {
        let name = value.as_bytes().split(|byte| *byte == b'=').next().unwrap_or_default();
        std::str::from_utf8(name.trim_ascii()).is_ok_and(is_own_cookie)
    };
    if headers.contains_key(header::SET_COOKIE) {
        let set = headers.get_all(header::SET_COOKIE).iter().filter(|value| !is_own(value));
        let set: Vec<HeaderValue> = set.filter_map(of_this_host).collect();
        headers.remove(header::SET_COOKIE);
        for cookie in set {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    if matches!(form, Form::Path(_)) {
        headers.remove("clear-site-data");
        headers.remove("service-worker-allowed");
    }
}

/// A cookie without its `Domain`: with one it would go to the ports of all runs.
fn of_this_host(cookie: &HeaderValue) -> Option<HeaderValue> {
    let is_domain = |attribute: &[u8]| {
        let name = attribute.split(|byte| *byte == b'=').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"domain")
    };
    let parts = cookie.as_bytes().split(|byte| *byte == b';').enumerate();
    let kept: Vec<&[u8]> =
        parts.filter(|(nth, part)| *nth == 0 || !is_domain(part)).map(|(_, part)| part).collect();
    HeaderValue::from_bytes(&kept.join(&b";"[..])).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::super::target::Names;
    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn what_is_for_one_hop_does_not_go_through() {
        for (before, after) in [
            (vec![("connection", "close"), ("accept", "x")], vec!["accept: x"]),
            (vec![("connection", "X-Hop, keep-alive"), ("x-hop", "1"), ("keep-alive", "2")], vec![]),
            (
                vec![("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3")],
                vec!["x-c: 3"],
            ),
            (
                vec![
                    ("connection", "host, cookie, content-length"),
                    ("host", "h"),
                    ("cookie", "c"),
                    ("content-length", "1"),
                ],
                vec!["content-length: 1", "cookie: c", "host: h"],
            ),
            (vec![("transfer-encoding", "chunked"), ("content-length", "5")], vec![]),
            (vec![("te", "trailers"), ("proxy-authorization", "x"), ("expect", "100-continue")], vec![]),
            (vec![("upgrade", "websocket")], vec![]),
            (
                vec![
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-key", "k"),
                ],
                vec!["connection: upgrade", "sec-websocket-key: k", "upgrade: websocket"],
            ),
        ] {
            let mut headers = map(&before);
            let upgrade = upgrade_of(&headers);
            strip_hop(&mut headers, upgrade);
            assert_eq!(lines(&headers), after, "{before:?}");
        }
    }

    fn target(host: &str, uri: &str) -> Target {
        let names = Names { domain: "vessl.localhost".to_owned(), by_path: true, scheme: "http" };
        Target::of(&Request::builder().uri(uri).header("host", host).body(()).unwrap(), &names).unwrap()
    }

    #[test]
    fn who_asked_is_said_anew_and_our_cookies_stay_here() {
        let mut headers = map(&[
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "7.7.7.7"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=6.6.6.6"),
            ("authorization", "Bearer app"),
            ("cookie", "a=b; __Host-vessl-port=secret;c=d"),
            ("cookie", "vessl-port-7-80=x;  e = f"),
        ]);
        forward(&mut headers, &target("80-7.vessl.localhost:7381", "/"), [127, 0, 0, 1].into());
        assert_eq!(
            lines(&headers),
            [
                "authorization: Bearer app",
                "cookie: a=b; c=d; e = f",
                "x-forwarded-for: 127.0.0.1",
                "x-forwarded-host: 80-7.vessl.localhost:7381",
                "x-forwarded-proto: http",
            ]
        );
        let mut headers = map(&[("cookie", "__Host-vessl-port=secret"), ("x-forwarded-prefix", "/x")]);
        forward(&mut headers, &target("localhost", "/runs/7/ports/80/x"), [127, 0, 0, 1].into());
        assert_eq!(lines(&headers).len(), 4);
        assert_eq!(headers["x-forwarded-prefix"], "/runs/7/ports/80");
    }

    #[test]
    fn cookies_are_found_by_their_name() {
        let headers = map(&[("cookie", "a=1; p=2;p=3"), ("cookie", "xp=4; p=5=6")]);
        assert_eq!(cookies(&headers, "p").collect::<Vec<_>>(), ["2", "3", "5=6"]);
    }

    #[test]
    fn a_cookie_is_for_its_own_port_alone() {
        let set = "a=1; Path=/; domain = vessl.localhost; HttpOnly";
        let mut headers =
            map(&[("set-cookie", set), ("set-cookie", "domain=2; Domain=.x"), ("set-cookie", "b=3")]);
        answer(&mut headers, &Form::Host);
        let found: Vec<_> = headers.get_all(header::SET_COOKIE).iter().map(|v| v.to_str().unwrap()).collect();
        assert_eq!(found, ["a=1; Path=/; HttpOnly", "domain=2", "b=3"]);
    }

    #[test]
    fn a_program_does_not_set_our_cookies() {
        let lines_of = |form: &Form| {
            let mut headers = map(&[
                ("set-cookie", "a=b; Path=/"),
                ("set-cookie", "__Host-vessl-port=x; Path=/"),
                ("set-cookie", "vessl-port-8-80=x"),
                ("clear-site-data", "\"*\""),
            ]);
            answer(&mut headers, form);
            lines(&headers)
        };
        assert_eq!(lines_of(&Form::Host), ["clear-site-data: \"*\"", "set-cookie: a=b; Path=/"]);
        assert_eq!(lines_of(&Form::Path(String::new())), ["set-cookie: a=b; Path=/"]);
    }
}
