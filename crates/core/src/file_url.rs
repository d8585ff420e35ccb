//! Paths of a machine in a `file://` address, as git reads it: a path is any bytes, and `%` with two hex digits is one of them.

/// The path that is written behind `file://`.
pub fn path(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut path = Vec::with_capacity(rest.len());
    while let [first, behind @ ..] = rest {
        // Zero is no byte of a path.
        let code = behind.get(..2).and_then(code).filter(|code| *first == b'%' && *code != 0);
        path.push(code.unwrap_or(*first));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    path
}

fn code(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(digits[0])? << 4 | digit(digits[1])?).ok()
}

/// The one text for a path: what is neither white space nor a control character stays as it is, so that people can read it.
pub fn text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    let escape =
        |text: &mut String, bytes: &[u8]| text.extend(bytes.iter().map(|byte| format!("%{byte:02X}")));
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() || c.is_whitespace() {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_one_text() {
        for (bytes, expected) in [
            (&b"/a b"[..], "/a%20b"),
            (b"/a%20b", "/a%2520b"),
            (b"/100%", "/100%25"),
            ("/\u{fc}\u{a0}x".as_bytes(), "/\u{fc}%C2%A0x"),
            (b"/\xff\xc3\n", "/%FF%C3%0A"),
        ] {
            assert_eq!(text(bytes), expected);
            assert_eq!(path(expected), bytes, "{expected}");
        }
    }

    #[test]
    fn escapes_are_read_as_git_does() {
        for (written, expected) in [
            ("/a%20b", "/a b"),
            ("/a b", "/a b"),
            ("/%2e%2E/x%", "/../x%"),
            ("/100%/%zz/%00/%2", "/100%/%zz/%00/%2"),
            ("/%c3%bc/%\u{fc}", "/\u{fc}/%\u{fc}"),
            ("/%25%32e", "/%2e"),
        ] {
            assert_eq!(path(written), expected.as_bytes(), "{written}");
        }
    }
}
