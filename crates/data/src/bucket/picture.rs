//! What was seen in a bucket at one time: every key with its size and the tag of its content. Two imports with the same picture bring
//! the same bytes. It must not know how it was asked for.
//!
//! # Format
//!
//! Text, one object a line, sorted by the bytes of the key; there is exactly one text for a picture. Bytes other than `!` to `~`, and
//! `%`, are written as `%` and two upper-case hex digits; a tag that the server does not tell is `-`. A key that ends in `/` is a
//! directory.
//!
//! ```text
//! vessl-bucket 1
//! 11 5eb63bbbe01eeed093cb22bb8f5acdc3 data/a.txt
//! 0 d41d8cd98f00b204e9800998ecf8427e data/empty/
//! ```
use std::fmt::Write as _;
use std::sync::Arc;

use crate::blob::Digest;

const HEAD: &str = "vessl-bucket 1\n";

/// Every object of an import; cheap to clone.
#[derive(Clone, Default)]
pub struct Picture(Arc<Objects>);

/// One object of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// Its key below the prefix that was imported; one that ends in `/` is a directory.
    pub key: &'a str,
    /// Bytes.
    pub size: u64,
    /// `ETag` without quotes, or generation; `@` and the time of the last change where a listing has no tags; empty if it has neither.
    pub tag: &'a str,
}

/// The objects as they are collected: all texts in one, because there can be a million.
#[derive(Clone, Default)]
pub(super) struct Objects {
    text: String,
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    start: usize,
    key: u32,
    tag: u32,
    size: u64,
}

impl Objects {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// The one at a position.
    pub(super) fn get(&self, at: usize) -> Object<'_> {
        self.at(self.places[at])
    }

    fn at(&self, place: Place) -> Object<'_> {
        let (key, end) = (place.start + place.key as usize, place.start + (place.key + place.tag) as usize);
        Object { key: &self.text[place.start..key], size: place.size, tag: &self.text[key..end] }
    }

    /// Adds one at the end; false if it does not come after all others.
    pub(super) fn push(&mut self, object: Object<'_>) -> bool {
        let Object { key, size, tag } = object;
        let follows = self.places.last().is_none_or(|last| self.at(*last).key < key);
        let place = Place {
            start: self.text.len(),
            key: u32::try_from(key.len()).unwrap_or(u32::MAX),
            tag: u32::try_from(tag.len()).unwrap_or(u32::MAX),
            size,
        };
        self.text.push_str(key);
        self.text.push_str(tag);
        self.places.push(place);
        follows
    }

    pub(super) fn sort(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places.sort_by(|a, b| self.at(*a).key.cmp(self.at(*b).key));
        self.places = places;
    }

    /// Position of a key, if they are sorted.
    pub(super) fn find(&self, key: &str) -> Option<usize> {
        self.places.binary_search_by(|place| self.at(*place).key.cmp(key)).ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Object<'_>> {
        self.places.iter().map(|place| self.at(*place))
    }

    pub(super) fn finish(self) -> Picture {
        Picture(Arc::new(self))
    }
}

impl Picture {
    /// Every object, sorted by key.
    pub fn objects(&self) -> impl Iterator<Item = Object<'_>> {
        self.0.iter()
    }

    /// The object of a key.
    pub fn get(&self, key: &str) -> Option<Object<'_>> {
        self.0.find(key).map(|at| self.0.get(at))
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Whether the tags show that the content is the same as that of another picture of the same place.
    pub(super) fn is_certain(&self) -> bool {
        self.objects().all(|object| !object.tag.is_empty() || object.key.ends_with('/'))
    }

    /// Bytes of all objects.
    pub fn bytes(&self) -> u64 {
        self.objects().map(|object| object.size).fold(0, u64::saturating_add)
    }

    /// Number of objects that are files.
    pub fn files(&self) -> u64 {
        self.objects().filter(|object| !object.key.ends_with('/')).count() as u64
    }

    /// The canonical text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = HEAD.to_owned();
        for object in self.objects() {
            print(object, &mut text);
        }
        text.into_bytes()
    }

    /// Reads the canonical text; `None` if it is not one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let body = std::str::from_utf8(text).ok()?.strip_prefix(HEAD)?;
        let mut objects = Objects::default();
        let mut printed = String::new();
        for line in body.split_inclusive('\n') {
            let mut words = line.strip_suffix('\n')?.split(' ');
            let size = words.next()?.parse().ok()?;
            let (tag, key) = (words.next()?, unescape(words.next()?)?);
            let tag = if tag == "-" { String::new() } else { unescape(tag)? };
            let object = Object { key: &key, size, tag: &tag };
            printed.clear();
            print(object, &mut printed);
            if printed != line || !objects.push(object) {
                return None;
            }
        }
        Some(objects.finish())
    }

    /// BLAKE3 of the canonical text: what was seen, as one value.
    pub fn digest(&self) -> Digest {
        let mut hash = blake3::Hasher::new();
        let mut part = HEAD.to_owned();
        for object in self.objects() {
            print(object, &mut part);
            if part.len() >= 1 << 16 {
                hash.update(part.as_bytes());
                part.clear();
            }
        }
        hash.update(part.as_bytes());
        Digest(*hash.finalize().as_bytes())
    }
}

impl PartialEq for Picture {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.objects().eq(other.objects())
    }
}

impl Eq for Picture {}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.objects()).finish()
    }
}

fn print(Object { key, size, tag }: Object<'_>, out: &mut String) {
    let _ = write!(out, "{size} ");
    if tag.is_empty() {
        out.push('-');
    } else if tag == "-" {
        out.push_str("%2D");
    } else {
        escape(tag, out);
    }
    out.push(' ');
    escape(key, out);
    out.push('\n');
}

fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    String::from_utf8(super::keys::unescape(text, super::keys::Plus::Plain)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(objects: &[(&str, u64, &str)]) -> Picture {
        let mut all = Objects::default();
        for (key, size, tag) in objects {
            all.push(Object { key, size: *size, tag });
        }
        all.sort();
        all.finish()
    }

    #[test]
    fn there_is_one_text_for_a_picture() {
        let seen = picture(&[("b/ ü%\n", 1 << 40, ""), ("a-b", 3, "x-1"), ("a", 0, "-"), ("a/", 0, "d")]);
        let text = String::from_utf8(seen.text()).unwrap();
        let lines = "0 %2D a\n3 x-1 a-b\n0 d a/\n1099511627776 - b/%20%C3%BC%25%0A\n";
        assert_eq!(text, format!("{HEAD}{lines}"));
        let read = Picture::parse(text.as_bytes()).unwrap();
        assert_eq!((read.digest(), Digest::of(text.as_bytes())), (seen.digest(), seen.digest()));
        assert_eq!(read, seen);
        assert_eq!((read.files(), read.bytes()), (3, (1 << 40) + 3));
        assert_eq!(read.get("a/").map(|object| object.tag), Some("d"));
        assert_ne!(seen, picture(&[("a", 0, "-")]));
        assert_eq!(Picture::parse(HEAD.as_bytes()), Some(Picture::default()));
    }

    #[test]
    fn what_is_not_written_that_way_is_refused() {
        for body in [
            "1 x a",
            "1 x b\n1 x a\n",
            "1 x a\n1 x a\n",
            "01 x a\n",
            "1 x a b\n",
            "1  a\n",
            "1 x %61\n",
            "1 x %ff\n",
        ] {
            assert_eq!(Picture::parse(format!("{HEAD}{body}").as_bytes()), None, "{body}");
        }
        assert_eq!(Picture::parse(b"1 x a\n"), None);
    }
}
