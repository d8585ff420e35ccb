//! The requests of Google Cloud Storage (its JSON interface) and what their answers say. The tag of an object is its generation. It
//! sends nothing.
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, header};
use reqwest::Response;
use serde::Deserialize;

use super::Location;
use super::keys::{Slash, encode};
use super::refusal::Aim;
use super::store::{About, Listed, Page, When};
use super::sums::Expected;
use super::wire::Ask;

fn objects(at: &Location) -> String {
    format!("/storage/v1/b/{}/o", encode(&at.bucket, Slash::Escaped))
}

pub(super) fn list(at: &Location, prefix: &str, from: Option<&str>) -> Ask {
    let ask = Ask::new(Method::GET, objects(at))
        .query("prefix", prefix)
        .query("maxResults", "1000")
        .query("fields", "nextPageToken,prefixes,items(name,size,generation,updated)");
    match from {
        Some(from) => ask.query("pageToken", from),
        None => ask,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    items: Vec<Item>,
    /// What lies deeper, by what its keys begin with.
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    #[serde(default)]
    name: String,
    size: Number,
    generation: Number,
    crc32c: Option<String>,
    md5_hash: Option<String>,
    #[serde(default)]
    updated: String,
}

/// Numbers of 64 bits are texts there; not everywhere.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Number(u64),
}

impl Number {
    fn value(&self) -> Result<u64, String> {
        match self {
            Self::Number(number) => Ok(*number),
            Self::Text(text) => text.parse().map_err(|_| "a size that is no number".to_owned()),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

pub(super) fn page(body: &str) -> Result<Page, String> {
    let listing: Listing = serde_json::from_str(body).map_err(|e| format!("its listing: {e}"))?;
    let object = |item: Item| {
        let Item { name, size, generation, updated, .. } = item;
        Ok(Listed { key: Ok(name), size: size.value()?, tag: generation.text(), modified: updated })
    };
    let objects = listing.items.into_iter().map(object).collect::<Result<Vec<_>, String>>()?;
    let objects = objects.into_iter().chain(listing.prefixes.into_iter().map(Listed::directory)).collect();
    Ok(Page { objects, next: listing.next_page_token.filter(|next| !next.is_empty()) })
}

pub(super) fn head(at: &Location, key: &str) -> Ask {
    Ask::new(Method::GET, format!("{}/{}", objects(at), encode(key, Slash::Escaped)))
        .query("fields", "name,size,generation,crc32c,md5Hash")
        .key(key)
}

/// An object, as answers describe it.
pub(super) fn about(body: &str) -> Result<About, String> {
    let item: Item = serde_json::from_str(body).map_err(|e| format!("what it says of an object: {e}"))?;
    let bytes = |text: &Option<String>| STANDARD.decode(text.as_ref()?).ok();
    let expected = Expected {
        crc32c: bytes(&item.crc32c).and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?))),
        md5: bytes(&item.md5_hash).and_then(|bytes| bytes.try_into().ok()),
        ..Expected::default()
    };
    Ok(About { size: item.size.value()?, tag: item.generation.text(), expected })
}

pub(super) fn get(at: &Location, key: &str, tag: &str) -> Ask {
    // Without the header, what is stored compressed comes decompressed, with another size.
    let ask = Ask::new(Method::GET, format!("/download{}/{}", objects(at), encode(key, Slash::Escaped)))
        .key(key)
        .query("alt", "media")
        .header(header::ACCEPT_ENCODING, "gzip");
    if tag.is_empty() { ask } else { ask.query("generation", tag) }
}

pub(super) fn tag(response: &Response) -> String {
    let generation = response.headers().get("x-goog-generation").and_then(|tag| tag.to_str().ok());
    generation.unwrap_or_default().to_owned()
}

pub(super) fn delete(at: &Location, key: &str) -> Ask {
    let path = format!("{}/{}", objects(at), encode(key, Slash::Escaped));
    let mut ask = Ask::new(Method::DELETE, path).key(key);
    ask.aim = Aim::Write;
    ask
}

fn upload(at: &Location, key: &str, kind: &str) -> Ask {
    let mut ask = Ask::new(Method::POST, format!("/upload{}", objects(at)))
        .key(key)
        .query("uploadType", kind)
        .query("name", key);
    ask.aim = Aim::Write;
    ask.header(header::CONTENT_TYPE, "application/octet-stream")
}

pub(super) fn put(at: &Location, key: &str, when: &When) -> Ask {
    let ask = upload(at, key, "media");
    match when {
        When::Always => ask,
        When::New => ask.query("ifGenerationMatch", "0"),
        When::Is(tag) => ask.query("ifGenerationMatch", tag),
    }
}

pub(super) fn begin(at: &Location, key: &str) -> Ask {
    upload(at, key, "resumable")
}

/// A piece of an upload that was begun; the address is the permission.
pub(super) fn piece(key: &str, upload: &str, range: &str) -> Ask {
    let mut ask = Ask::new(Method::PUT, upload.to_owned()).key(key).header(header::CONTENT_RANGE, range);
    ask.aim = Aim::Write;
    ask
}

/// How many bytes of an upload are there.
pub(super) fn received(response: &Response) -> u64 {
    let range = response.headers().get(header::RANGE).and_then(|range| range.to_str().ok());
    let last = range.and_then(|range| range.rsplit_once('-')?.1.parse::<u64>().ok());
    last.map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_listing() {
        let body = r#"{"kind":"storage#objects","nextPageToken":"t","items":[
            {"name":"a/../b","size":"5","generation":"170"},{"name":"c/","size":0,"generation":7}],"prefixes":["d/"]}"#;
        let page = page(body).unwrap();
        let listed = |key: &str, size, tag: &str| Listed {
            key: Ok(key.into()),
            size,
            tag: tag.into(),
            modified: String::new(),
        };
        assert_eq!(page.objects, [listed("a/../b", 5, "170"), listed("c/", 0, "7"), listed("d/", 0, "")]);
        assert_eq!(page.next.as_deref(), Some("t"));
        assert!(super::page("{}").unwrap().objects.is_empty());
        assert!(super::page("[]").is_err());
    }

    #[test]
    fn an_object_with_its_checksums() {
        let body = r#"{"name":"k","size":"3","generation":"1","crc32c":"AAAABQ==","md5Hash":"AAAAAAAAAAAAAAAAAAAAAQ=="}"#;
        let about = about(body).unwrap();
        assert_eq!(about.expected.crc32c, Some(5));
        assert_eq!(about.expected.md5.map(|md5| md5[15]), Some(1));
    }
}
