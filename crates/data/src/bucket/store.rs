//! What can be asked of a bucket, whatever kind it is: pages of a listing, one object from a byte on, writes with a condition. It must
//! not know what the objects are for.
use std::sync::OnceLock;

use http::{Method, header};
use reqwest::Response;

use super::error::BucketError;
use super::refusal::{Aim, Refusal};
use super::s3::Escapes;
use super::sums::Expected;
use super::wire::{Ask, Payload, Wire};
use super::{Provider, gs, s3};

/// Longest answer in bytes: a page of a thousand keys has at most a few megabytes.
const MOST: usize = 64 << 20;

/// A bucket.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) wire: Wire,
    provider: Provider,
    /// Whether keys of listings that are said to be escaped are; known after the first that shows it.
    escapes: OnceLock<bool>,
}

/// An object as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// The whole key, or why it is none.
    pub(super) key: Result<String, String>,
    pub(super) size: u64,
    pub(super) tag: String,
    /// When it was written, as the other end says it (RFC 3339); may be empty.
    pub(super) modified: String,
}

/// How deep a listing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Every key that begins with the prefix.
    All,
    /// Up to the next `/`: what lies deeper is one key that ends in it, if the other end knows that.
    Level,
}

/// Part of a listing.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) objects: Vec<Listed>,
    /// What to give for the next part.
    pub(super) next: Option<String>,
}

/// What is known of an object without its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    pub(super) size: u64,
    pub(super) tag: String,
    pub(super) expected: Expected,
}

/// Bytes of an object: from the first to before the last.
pub(super) type Range = std::ops::Range<u64>;

/// When a write may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// There is no object.
    New,
    /// The object has this tag.
    Is(String),
}

impl Listed {
    /// Keys that begin alike, as one.
    pub(super) fn directory(key: String) -> Self {
        Self { key: Ok(key), size: 0, tag: String::new(), modified: String::new() }
    }
}

impl Store {
    pub(super) fn new(wire: Wire) -> Self {
        let provider = wire.at().provider;
        Self { wire, provider, escapes: OnceLock::new() }
    }

    /// A page of all keys that begin with the prefix.
    pub(super) async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, BucketError> {
        self.page((prefix, Depth::All), from).await
    }

    /// A page of a listing.
    pub(super) async fn page(
        &self,
        (prefix, depth): (&str, Depth),
        from: Option<&str>,
    ) -> Result<Page, BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::list(prefix, from),
            Provider::Gs => gs::list(self.wire.at(), prefix, from),
        };
        let ask = if depth == Depth::Level { ask.query("delimiter", "/") } else { ask };
        let body = self.text(self.wire.must(&ask).await?).await?;
        let page = match self.provider {
            Provider::S3 => {
                let (page, is_escaped) = s3::page(&body).map_err(|why| self.odd(why))?;
                if is_escaped { self.unescaped(page).await? } else { page }
            }
            Provider::Gs => gs::page(&body).map_err(|why| self.odd(why))?,
        };
        if page.next.is_some() && page.next.as_deref() == from {
            return Err(self.odd("its listing does not end".to_owned()));
        }
        Ok(page)
    }

    /// A page whose keys are said to be escaped. Where both could be, the bucket is asked once which of two objects it has.
    async fn unescaped(&self, mut page: Page) -> Result<Page, BucketError> {
        let known = self.escapes.get().copied();
        let are_escaped = match (s3::escapes(&page), known) {
            (Escapes::Alike, _) | (_, Some(false)) => false,
            (_, Some(true)) => true,
            (Escapes::No, None) => *self.escapes.get_or_init(|| false),
            (Escapes::Perhaps(key), None) => {
                let plain = s3::unescaped(key).unwrap_or_default();
                let are = self.about(&plain).await?.is_some() || self.about(key).await?.is_none();
                *self.escapes.get_or_init(|| are)
            }
        };
        if are_escaped {
            for object in &mut page.objects {
                object.key = object.key.as_ref().map_err(String::clone).and_then(|key| s3::unescaped(key));
            }
        }
        Ok(page)
    }

    /// `None` if there is no such object.
    pub(super) async fn about(&self, key: &str) -> Result<Option<About>, BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::head(key),
            Provider::Gs => gs::head(self.wire.at(), key),
        };
        let response = match self.wire.send(&ask).await? {
            Ok(response) => response,
            Err(refusal) if refusal.is_missing() => return Ok(None),
            Err(refusal) => return Err(self.wire.explain(refusal, &ask)),
        };
        if self.provider == Provider::S3 {
            let size = response
                .headers()
                .get(header::CONTENT_LENGTH)
                .and_then(|size| size.to_str().ok()?.parse().ok());
            let size = size.ok_or_else(|| self.odd("it does not say how large an object is".to_owned()))?;
            return Ok(Some(About { size, tag: s3::tag(&response), expected: Expected::of(&response) }));
        }
        let body = self.text(response).await?;
        gs::about(&body).map(Some).map_err(|why| self.odd(why))
    }

    /// Asks for an object, or a part of it, as it is with a tag (if that is not empty). The inner error is a refusal.
    pub(super) async fn get(
        &self,
        key: &str,
        tag: &str,
        range: Option<Range>,
    ) -> Result<Result<Response, Refusal>, BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::get(key, tag),
            Provider::Gs => gs::get(self.wire.at(), key, tag),
        };
        let ask = match range {
            Some(range) => ask.header(header::RANGE, &format!("bytes={}-{}", range.start, range.end - 1)),
            None => ask,
        };
        self.wire.send(&ask).await
    }

    /// The tag that an answer is of.
    pub(super) fn tag(&self, response: &Response) -> String {
        match self.provider {
            Provider::S3 => s3::tag(response),
            Provider::Gs => gs::tag(response),
        }
    }

    /// Writes an object; what the answer says of it. The inner error is a refusal.
    pub(super) async fn put(
        &self,
        key: &str,
        payload: Payload,
        when: &When,
    ) -> Result<Result<About, Refusal>, BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::put(key, when),
            Provider::Gs => gs::put(self.wire.at(), key, when),
        };
        let response = match self.wire.send(&ask.payload(payload)).await? {
            Ok(response) => response,
            Err(refusal) => return Ok(Err(refusal)),
        };
        self.written(response).await.map(Ok)
    }

    /// Removes an object; one that is not there is fine.
    pub(super) async fn delete(&self, key: &str) -> Result<(), BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::delete(key),
            Provider::Gs => gs::delete(self.wire.at(), key),
        };
        match self.wire.send(&ask).await? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is_missing() => Ok(()),
            Err(refusal) => Err(self.wire.explain(refusal, &ask)),
        }
    }

    /// What the answer to a write says of the object. The size is known at Google alone.
    pub(super) async fn written(&self, response: Response) -> Result<About, BucketError> {
        if self.provider == Provider::S3 {
            let (tag, expected) = (s3::tag(&response), Expected::of(&response));
            return Ok(About { size: 0, tag, expected });
        }
        let body = self.text(response).await?;
        gs::about(&body).map_err(|why| self.odd(why))
    }

    /// Begins an upload in parts.
    pub(super) async fn begin(&self, key: &str) -> Result<String, BucketError> {
        let ask = match self.provider {
            Provider::S3 => s3::begin(key),
            Provider::Gs => gs::begin(self.wire.at(), key),
        };
        let response = self.wire.must(&ask).await?;
        if self.provider == Provider::Gs {
            let place = response.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
            let place = place.filter(|place| place.starts_with("http"));
            return place.map(str::to_owned).ok_or_else(|| self.odd("it begins no upload".to_owned()));
        }
        let body = self.text(response).await?;
        s3::begun(&body).map_err(|why| self.odd(why))
    }

    /// What is done with an error that is a sentence.
    pub(super) fn odd(&self, why: String) -> BucketError {
        BucketError::Answer { location: self.wire.at().to_string(), why }
    }

    /// The body of an answer that is not large.
    pub(super) async fn text(&self, response: Response) -> Result<String, BucketError> {
        let bytes = self.bytes(response, MOST).await?;
        String::from_utf8(bytes).map_err(|_| self.odd("its answer is not UTF-8".to_owned()))
    }

    async fn bytes(&self, mut response: Response, most: usize) -> Result<Vec<u8>, BucketError> {
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= most => body.extend_from_slice(&chunk),
                Ok(Some(_)) => return Err(self.odd("its answer is too long".to_owned())),
                Ok(None) => return Ok(body),
                Err(error) => return Err(self.wire.cut("", Some(&error))),
            }
        }
    }

    /// The whole of an object of at most so many bytes with its tag; `None` if there is none, or it may not be known.
    pub(super) async fn read(
        &self,
        key: &str,
        most: usize,
    ) -> Result<Option<(Vec<u8>, String)>, BucketError> {
        let mut retries = self.wire.retries();
        loop {
            let response = match self.get(key, "", None).await? {
                Ok(response) => response,
                Err(refusal) if refusal.is_missing() || refusal.status == 403 => return Ok(None),
                Err(refusal) => return Err(self.refused(refusal, key, Aim::Read)),
            };
            let tag = self.tag(&response);
            match self.bytes(response, most).await {
                // Not every emulator of Google tells the generation with the bytes.
                Ok(bytes) if tag.is_empty() => {
                    let about = self.about(key).await?;
                    return Ok(about.map(|about| (bytes, about.tag)));
                }
                Ok(bytes) => return Ok(Some((bytes, tag))),
                Err(cut @ BucketError::Unreachable { .. }) => {
                    retries.after_failure().await.map_err(|()| cut)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The error of a refusal that concerns a key.
    pub(super) fn refused(&self, refusal: Refusal, key: &str, aim: Aim) -> BucketError {
        let mut ask = Ask::new(Method::GET, String::new()).key(key);
        ask.aim = aim;
        self.wire.explain(refusal, &ask)
    }
}
