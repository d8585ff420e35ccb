//! The requests of S3 and what their answers say. The listing is asked for with escaped keys and read by us, because the library's loses or
//! refuses keys that are not paths. It sends nothing.
use http::{HeaderName, Method, header};
use reqwest::Response;
use serde::Deserialize;

use super::keys::{self, Plus, Slash};
use super::refusal::Aim;
use super::store::{Listed, Page, When};
use super::wire::Ask;

/// Asks for the checksum that is kept of an object.
const CHECKSUM_MODE: HeaderName = HeaderName::from_static("x-amz-checksum-mode");

/// Before the time of the last change, where a listing has that instead of tags.
pub(super) const TIME: char = '@';

fn object(method: Method, key: &str) -> Ask {
    Ask::new(method, format!("/{}", keys::encode(key, Slash::Kept))).key(key)
}

pub(super) fn list(prefix: &str, from: Option<&str>) -> Ask {
    let ask = Ask::new(Method::GET, String::new())
        .query("list-type", "2")
        .query("encoding-type", "url")
        .query("max-keys", "1000")
        .query("prefix", prefix);
    match from {
        Some(from) => ask.query("continuation-token", from),
        None => ask,
    }
}

#[derive(Deserialize)]
#[serde(rename = "ListBucketResult", rename_all = "PascalCase")]
struct Listing {
    #[serde(default)]
    contents: Vec<Content>,
    #[serde(default)]
    common_prefixes: Vec<Prefix>,
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

/// What lies deeper, by what its keys begin with.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Prefix {
    prefix: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Content {
    #[serde(default)]
    key: String,
    size: u64,
    #[serde(rename = "ETag", default)]
    tag: String,
    #[serde(default)]
    last_modified: String,
}

impl Content {
    fn listed(self) -> Listed {
        let tag = match plain(&self.tag) {
            "" if self.last_modified.is_empty() => String::new(),
            "" => format!("{TIME}{}", self.last_modified),
            tag => tag.to_owned(),
        };
        Listed { key: Ok(self.key), size: self.size, tag, modified: self.last_modified }
    }
}

/// Part of a listing as it came, and whether its keys are said to be escaped.
pub(super) fn page(body: &str) -> Result<(Page, bool), String> {
    let listing: Listing = quick_xml::de::from_str(body).map_err(|e| format!("its listing: {e}"))?;
    let is_escaped = listing.encoding_type.as_deref() == Some("url");
    let deeper = listing.common_prefixes.into_iter().map(|common| Listed::directory(common.prefix));
    let objects = listing.contents.into_iter().map(Content::listed).chain(deeper).collect();
    match (listing.is_truncated, listing.next_continuation_token) {
        (true, None) => Err("its listing is not whole and says not how to go on".to_owned()),
        (true, next) => Ok((Page { objects, next }, is_escaped)),
        (false, _) => Ok((Page { objects, next: None }, is_escaped)),
    }
}

/// What the keys of a page look like. Some servers say that keys are escaped, and they are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escapes<'p> {
    /// There is nothing to be seen: they are the same in both forms.
    Alike,
    /// One has a character that no escaped text has.
    No,
    /// This one has another meaning in each form.
    Perhaps(&'p str),
}

pub(super) fn escapes(page: &Page) -> Escapes<'_> {
    let keys = || page.objects.iter().filter_map(|object| object.key.as_deref().ok());
    let never = |byte: u8| !byte.is_ascii_graphic() || b"\"<>\\^`{|}".contains(&byte);
    if keys().any(|key| key.bytes().any(never) || keys::unescape(key, Plus::Space).is_none()) {
        return Escapes::No;
    }
    keys().find(|key| key.contains(['+', '%'])).map_or(Escapes::Alike, Escapes::Perhaps)
}

/// A key as it is; the error is what of it can be shown.
pub(super) fn unescaped(key: &str) -> Result<String, String> {
    let Some(bytes) = keys::unescape(key, Plus::Space) else { return Err(key.to_owned()) };
    String::from_utf8(bytes).map_err(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

/// An `ETag` without quotes.
fn plain(tag: &str) -> &str {
    tag.trim_start_matches("W/").trim_matches('"')
}

pub(super) fn tag(response: &Response) -> String {
    let tag = response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok());
    plain(tag.unwrap_or_default()).to_owned()
}

pub(super) fn head(key: &str) -> Ask {
    object(Method::HEAD, key).header(CHECKSUM_MODE, "ENABLED")
}

pub(super) fn get(key: &str, tag: &str) -> Ask {
    let ask = object(Method::GET, key).header(CHECKSUM_MODE, "ENABLED");
    if tag.is_empty() { ask } else { ask.header(header::IF_MATCH, &format!("\"{tag}\"")) }
}

pub(super) fn put(key: &str, when: &When) -> Ask {
    let ask = object(Method::PUT, key);
    match when {
        When::Always => ask,
        When::New => ask.header(header::IF_NONE_MATCH, "*"),
        When::Is(tag) => ask.header(header::IF_MATCH, &format!("\"{tag}\"")),
    }
}

pub(super) fn delete(key: &str) -> Ask {
    let mut ask = object(Method::DELETE, key);
    ask.aim = Aim::Write;
    ask
}

pub(super) fn begin(key: &str) -> Ask {
    let mut ask = object(Method::POST, key).query("uploads", "");
    ask.aim = Aim::Write;
    ask
}

pub(super) fn begun(body: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Begun {
        upload_id: String,
    }
    let begun: Begun = quick_xml::de::from_str(body).map_err(|e| format!("the begin of an upload: {e}"))?;
    Ok(begun.upload_id)
}

/// One part of an upload; parts are counted from 1.
pub(super) fn part(key: &str, upload: &str, number: usize) -> Ask {
    object(Method::PUT, key).query("partNumber", number.to_string()).query("uploadId", upload)
}

/// Which parts of an upload are there.
pub(super) fn parts(key: &str, upload: &str) -> Ask {
    object(Method::GET, key).query("max-parts", "1").query("uploadId", upload)
}

pub(super) fn complete(key: &str, upload: &str) -> Ask {
    object(Method::POST, key).query("uploadId", upload)
}

/// What makes the parts one object, in their order.
pub(super) fn completion(tags: &[String]) -> String {
    let parts = tags.iter().enumerate().map(|(n, tag)| {
        let tag = quick_xml::escape::escape(tag.as_str());
        format!("<Part><PartNumber>{}</PartNumber><ETag>\"{tag}\"</ETag></Part>", n + 1)
    });
    let parts: String = parts.collect();
    format!(
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{parts}</CompleteMultipartUpload>"
    )
}

/// The tag of what was completed.
pub(super) fn completed(body: &str) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Completed {
        #[serde(rename = "ETag", default)]
        tag: String,
    }
    let completed: Completed =
        quick_xml::de::from_str(body).map_err(|e| format!("the end of an upload: {e}"))?;
    Ok(plain(&completed.tag).to_owned())
}

pub(super) fn abort(key: &str, upload: &str) -> Ask {
    let mut ask = object(Method::DELETE, key).query("uploadId", upload);
    ask.aim = Aim::Write;
    ask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_a_listing() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
            <Name>b</Name><Prefix>a%2F</Prefix><KeyCount>2</KeyCount><MaxKeys>2</MaxKeys><EncodingType>url</EncodingType>\
            <IsTruncated>true</IsTruncated><NextContinuationToken>1/x+&amp;=</NextContinuationToken>\
            <Contents><Key>a/b+c%2Bd%0A&amp;</Key><LastModified>x</LastModified><ETag>&quot;ab-2&quot;</ETag><Size>5</Size>\
            <StorageClass>STANDARD</StorageClass></Contents>\
            <CommonPrefixes><Prefix>x</Prefix></CommonPrefixes>\
            <Contents><Key>a/%FF</Key><LastModified>now</LastModified><Size>0</Size></Contents></ListBucketResult>";
        let (page, is_escaped) = page(body).unwrap();
        assert!(is_escaped);
        assert_eq!(page.next.as_deref(), Some("1/x+&="));
        let listed = |key: &str, size, tag: &str, modified: &str| Listed {
            key: Ok(key.into()),
            size,
            tag: tag.into(),
            modified: modified.into(),
        };
        let expected = [
            listed("a/b+c%2Bd%0A&", 5, "ab-2", "x"),
            listed("a/%FF", 0, "@now", "now"),
            listed("x", 0, "", ""),
        ];
        assert_eq!(page.objects, expected);
        assert_eq!(escapes(&page), Escapes::Perhaps("a/b+c%2Bd%0A&"));
        assert_eq!(unescaped("a/b+c%2Bd%0A&").as_deref(), Ok("a/b c+d\n&"));
        assert_eq!(unescaped("a/%FF"), Err("a/\u{fffd}".to_owned()));
    }

    #[test]
    fn keys_that_are_said_to_be_escaped_and_are_not() {
        let check = |keys: &[&str], expected: Escapes<'_>| {
            let object = |key: &&str| Listed::directory((*key).to_owned());
            let page = Page { objects: keys.iter().map(object).collect(), next: None };
            assert_eq!(escapes(&page), expected, "{keys:?}");
        };
        check(&["a/b", "c-._~"], Escapes::Alike);
        check(&["a", "a+b", "a b"], Escapes::No);
        check(&["a", "100%"], Escapes::No);
        check(&["a", "a+b"], Escapes::Perhaps("a+b"));
        check(&["a%20b"], Escapes::Perhaps("a%20b"));
        check(&["\u{fc}"], Escapes::No);
    }

    #[test]
    fn a_listing_that_cannot_go_on_is_refused() {
        assert!(page("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>").is_err());
        assert!(page("<html>").is_err());
        let last = page("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>").unwrap().0;
        assert!(last.next.is_none() && last.objects.is_empty());
    }
}
