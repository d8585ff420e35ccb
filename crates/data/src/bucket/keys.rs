//! Which keys can be files of a directory, and how keys are written in addresses. It asks nobody.
use std::fmt::Write as _;

use crate::tree::{MAX_NAME, MAX_PATH};

/// Most keys of an error that are named.
const NAMED: usize = 5;

/// What a key is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The directory itself.
    Top,
    /// A directory.
    Dir(&'a str),
    /// A file.
    File(&'a str),
}

/// Where a key below the prefix lies, or why it cannot lie anywhere.
pub(super) fn place(key: &str) -> Result<Place<'_>, &'static str> {
    if key.is_empty() {
        return Ok(Place::Top);
    }
    if key.starts_with('/') {
        return Err("it begins with `/`");
    }
    let path = key.strip_suffix('/').unwrap_or(key);
    for name in path.split('/') {
        match name {
            "" => return Err("it has an empty name"),
            "." | ".." => return Err("it has a name `.` or `..`"),
            _ if name.len() > MAX_NAME => return Err("it has a name of more than 255 bytes"),
            _ => {}
        }
    }
    if path.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("it has a control character");
    }
    if path.len() > MAX_PATH {
        return Err("it is too long for a path");
    }
    Ok(if path.len() < key.len() { Place::Dir(path) } else { Place::File(path) })
}

/// Why an object of this key cannot be asked for: web addresses have no names `.` and `..`.
pub(super) fn unaddressable(key: &str) -> bool {
    key.split('/').any(|name| matches!(name, "." | ".."))
}

/// Every directory above a path, the outermost first.
pub(super) fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

/// Keys that cannot be files, counted; the first are kept.
#[derive(Debug, Default)]
pub(super) struct Bad {
    count: u64,
    first: Vec<String>,
}

impl Bad {
    pub(super) fn add(&mut self, key: &str, why: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("`{}` ({why})", key.escape_debug()));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The words of the error.
    pub(super) fn into_words(self) -> (String, Vec<String>) {
        let count = if self.count == 1 { "1 key".to_owned() } else { format!("{} keys", self.count) };
        (count, self.first)
    }
}

/// Whether the characters `/` of a key stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slash {
    /// They part names.
    Kept,
    /// They are characters like others.
    Escaped,
}

/// A text as part of a web address: all but letters, digits and `-._~` is written as `%` and hex digits.
pub(super) fn encode(text: &str, slash: Slash) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            b'/' if slash == Slash::Kept => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// What `+` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    /// A space.
    Space,
    /// Itself.
    Plain,
}

/// The bytes of an escaped text; `None` if it is not one.
pub(super) fn unescape(text: &str, plus: Plus) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |b: Option<u8>| char::from(b?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(if byte == b'+' && plus == Plus::Space { b' ' } else { byte });
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_can_be_files() {
        let check = |key: &str, expected: Result<Place<'_>, &str>| assert_eq!(place(key), expected, "{key}");
        let long = "x".repeat(255);
        check("", Ok(Place::Top));
        check("a", Ok(Place::File("a")));
        check("a/b c+%/ü", Ok(Place::File("a/b c+%/ü")));
        check("a/b/", Ok(Place::Dir("a/b")));
        check("...", Ok(Place::File("...")));
        check(&long, Ok(Place::File(&long)));
        check("/a", Err("it begins with `/`"));
        check("/", Err("it begins with `/`"));
        check("a//b", Err("it has an empty name"));
        check("a//", Err("it has an empty name"));
        check("a/../b", Err("it has a name `.` or `..`"));
        check("./a", Err("it has a name `.` or `..`"));
        check("../", Err("it has a name `.` or `..`"));
        check(&format!("{long}x"), Err("it has a name of more than 255 bytes"));
        check("a\nb", Err("it has a control character"));
        check("a\0", Err("it has a control character"));
        check(&"a/".repeat(2049), Err("it is too long for a path"));
    }

    #[test]
    fn directories_above() {
        assert_eq!(above("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(above("a").count(), 0);
    }

    #[test]
    fn keys_in_addresses() {
        assert_eq!(encode("a b/ü+~", Slash::Kept), "a%20b/%C3%BC%2B~");
        assert_eq!(encode("a/b", Slash::Escaped), "a%2Fb");
        assert_eq!(unescape("a+b%2B%c3", Plus::Space), Some(b"a b+\xc3".to_vec()));
        assert_eq!(unescape("a+b", Plus::Plain), Some(b"a+b".to_vec()));
        assert_eq!(unescape("%4", Plus::Plain), None);
        assert_eq!(unescape("%+4", Plus::Plain), None);
    }
}
