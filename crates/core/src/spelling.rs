//! File names as text. A name is any bytes, but the API and JSON carry text. So bytes that are not UTF-8 are written as `%` and
//! two upper-case hex digits, and so is a `%` that would read as such an escape. All other names stay as they are, and no two
//! names have the same text.
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The text for a name or a path.
pub fn spell(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for (at, c) in chunk.valid().char_indices() {
            let rest = &chunk.valid().as_bytes()[at..];
            if spelled(rest).is_some() { text.push_str("%25") } else { text.push(c) }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02X}")));
    }
    text
}

/// The name or path that a text stands for.
pub fn read(text: &str) -> Vec<u8> {
    let mut rest = text.as_bytes();
    let mut name = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let byte = spelled(rest);
        name.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &rest[3..] } else { after };
    }
    name
}

/// The path that a text stands for.
pub fn path(text: &str) -> PathBuf {
    OsString::from_vec(read(text)).into()
}

/// The byte whose spelling `text` begins with: `%25`, or `%80` and above.
fn spelled(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    };
    let byte = digit(*high)? << 4 | digit(*low)?;
    (byte == b'%' || !byte.is_ascii()).then_some(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_text_of_its_own() {
        let check = |name: &[u8], text: &str| {
            assert_eq!(spell(name), text);
            assert_eq!(read(text), name, "{text}");
        };
        check(b"a/b.json", "a/b.json");
        check("né 100% a%20b %ff".as_bytes(), "né 100% a%20b %ff");
        check(b"a\xff", "a%FF");
        check(b"a\xfe", "a%FE");
        check(b"a%FF", "a%25FF");
        check(b"a%25FF", "a%2525FF");
        check(b"%\xff", "%%FF");
        check(b"%8\xff0", "%8%FF0");
        check(b"%%80\xc3", "%%2580%C3");
        check(b"%2", "%2");
    }
}
