//! Paths and queries of requests: every name is escaped, so that no name can reach another path.
use std::fmt::Write;

/// A path with escaped segments, and a query.
#[derive(Clone, Debug)]
pub(super) struct Path {
    text: String,
    has_query: bool,
}

impl Path {
    /// A path below `/v1` of these segments.
    pub(super) fn of(segments: &[&str]) -> Self {
        let mut text = "/v1".to_owned();
        for segment in segments {
            text.push('/');
            escape(&mut text, segment);
        }
        Self { text, has_query: false }
    }

    /// The same with one more pair in its query, if there is a value.
    pub(super) fn with(mut self, key: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.text.push(if self.has_query { '&' } else { '?' });
            self.has_query = true;
            escape(&mut self.text, key);
            self.text.push('=');
            escape(&mut self.text, &value.to_string());
        }
        self
    }
}

impl From<Path> for String {
    fn from(path: Path) -> Self {
        path.text
    }
}

/// Percent-encodes everything that RFC 3986 does not call unreserved; a segment of dots alone would be resolved away.
fn escape(text: &mut String, part: &str) {
    let only_dots = matches!(part, "." | "..");
    for byte in part.bytes() {
        match byte {
            b'.' if only_dots => text.push_str("%2E"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        let path = Path::of(&["secrets", "a/b ?", ".."])
            .with("q", Some("한"))
            .with("n", None::<u8>)
            .with("m", Some(1));
        assert_eq!(String::from(path), "/v1/secrets/a%2Fb%20%3F/%2E%2E?q=%ED%95%9C&m=1");
    }
}
