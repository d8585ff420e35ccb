//! What a registry answers when it wants a login: the `WWW-Authenticate` header (RFC 9110 §11.6.1, and the distribution
//! project's token specification). Text only.

/// One way to log in that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User name and password with every request.
    Basic,
    /// A token from another address.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// Every challenge of a header value that is understood; others are skipped.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((scheme, after)) = scheme(rest) {
        let (parameters, after) = parameters(after);
        rest = after;
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer") {
            let get = |name: &str| {
                let same = |(key, _): &&(&str, String)| key.eq_ignore_ascii_case(name);
                parameters.iter().find(same).map(|(_, value)| value.clone())
            };
            if let Some(realm) = get("realm") {
                found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
            }
        }
    }
    found
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn scheme(text: &str) -> Option<(&str, &str)> {
    token(text.trim_start_matches([' ', '\t', ',']))
}

/// `key=value` pairs up to the next scheme.
fn parameters(mut text: &str) -> (Vec<(&str, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = text.trim_start_matches([' ', '\t', ',']);
        let Some((key, after)) = token(start) else { return (found, start) };
        let Some(after) = after.trim_start().strip_prefix('=') else { return (found, text) };
        let (value, after) = value(after.trim_start());
        found.push((key, value));
        text = after;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            _ => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: &str, scope: &str) -> Challenge {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Challenge::Bearer { realm: realm.into(), service: some(service), scope: some(scope) }
    }

    fn check(header: &str, expected: &[Challenge]) {
        assert_eq!(parse(header), expected, "{header}");
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        check(r#"Basic realm="Registry""#, &[Challenge::Basic]);
        check("basic", &[Challenge::Basic]);
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull,push""#,
            &[bearer("https://auth.docker.io/token", "registry.docker.io", "repository:library/x:pull,push")],
        );
        check(r#"Bearer service = q , realm="a\"b""#, &[bearer("a\"b", "q", "")]);
        check(
            r#"Negotiate, Digest realm="x", nonce="y", Basic realm="z", BEARER Realm=r"#,
            &[Challenge::Basic, bearer("r", "", "")],
        );
        check(r#"Bearer scope="x""#, &[]);
        check("", &[]);
        check("=,=", &[]);
        check(r#"Bearer realm="unclosed"#, &[bearer("unclosed", "", "")]);
    }

    proptest! {
        #[test]
        fn any_header_is_read(text in "\\PC{0,80}") {
            parse(&text);
        }

        #[test]
        fn header_like_text_is_read(text in r#"((Basic|Bearer|[a-z]{1,3}) ?([a-z]{1,4}=("[a-z\\",]{0,5}"?|[a-z]{0,3}),? ?){0,3}){0,3}"#) {
            parse(&text);
        }
    }
}
