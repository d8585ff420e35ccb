//! A server with the S3 API that keeps its objects in memory and costs next to nothing: what is measured beside it is its clients.
//! It knows what they ask for of small objects; anything else it refuses, so that nothing is measured that did not happen.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use md5::{Digest, Md5};

use crate::Outcome;

/// Objects of one page of a list.
const PAGE: usize = 1000;
/// The only bucket.
const BUCKET: &str = "/bkt";
/// When everything was made, in both forms that are asked for.
const MADE: &str = "2026-01-01T00:00:00.000Z";
const MADE_HTTP: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// An object.
#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    tag: String,
    /// Headers that its maker wants to find again.
    noted: Vec<(String, String)>,
}

impl Object {
    fn new(bytes: Vec<u8>, noted: Vec<(String, String)>) -> Self {
        let tag = Md5::digest(&bytes).iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { bytes: bytes.into(), tag, noted }
    }
}

type Objects = Arc<RwLock<BTreeMap<String, Object>>>;

/// The server; it ends with the process.
pub(crate) struct Store {
    pub(crate) address: String,
    objects: Objects,
}

impl Store {
    pub(crate) fn start() -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, objects) = (listener.local_addr()?.to_string(), Objects::default());
        let shared = objects.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let objects = shared.clone();
                std::thread::spawn(move || serve(&stream, &objects));
            }
        });
        Ok(Self { address, objects })
    }

    pub(crate) fn put(&self, key: &str, bytes: Vec<u8>) {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.insert(key.to_owned(), Object::new(bytes, Vec::new()));
    }

    /// Objects whose keys begin so.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.keys().filter(|key| key.starts_with(prefix)).count()
    }
}

/// What is asked.
struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

/// What is answered.
#[derive(Default)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<[u8]>,
}

fn serve(stream: &TcpStream, objects: &Objects) {
    // A client that is gone wants no answer.
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    while let Ok(Some(request)) = read(&mut reader, stream) {
        let answer = answer(&request, objects);
        if send(stream, request.method == "HEAD", &answer).is_err() {
            return;
        }
    }
}

/// The next request; `None` at the end.
fn read(reader: &mut impl BufRead, mut out: &TcpStream) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (plain(name), plain(value))
    };
    let query = query.split('&').filter(|text| !text.is_empty()).map(pair).collect();
    let (method, path) = (method.to_owned(), plain(path));
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if headers.contains_key("expect") {
        out.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path, query, headers, body }))
}

/// Text without its percent signs.
fn plain(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn send(mut out: &TcpStream, head_only: bool, answer: &Answer) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, answer.body.len());
    for (name, value) in &answer.headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    if !head_only {
        bytes.extend_from_slice(&answer.body);
    }
    out.write_all(&bytes)
}

fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

fn refused(number: u16, code: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{code}</Message></Error>");
    Answer { body: body.into_bytes().into(), ..status(number) }
}

fn answer(request: &Request, objects: &Objects) -> Answer {
    let Some(key) = request.path.strip_prefix(BUCKET) else { return refused(404, "NoSuchBucket") };
    let key = key.strip_prefix('/').unwrap_or(key);
    match (request.method.as_str(), key) {
        ("HEAD", "") => status(200),
        ("GET", "") if request.query.contains_key("location") => {
            let body = "<?xml version=\"1.0\"?><LocationConstraint></LocationConstraint>";
            Answer { body: body.as_bytes().into(), ..status(200) }
        }
        ("GET", "") if request.query.get("list-type").is_some_and(|kind| kind == "2") => {
            list(request, objects)
        }
        ("GET" | "HEAD", key) if !key.is_empty() => get(request, key, objects),
        ("PUT", key) if is_whole(request, key) => put(request, key, objects),
        _ => refused(501, "NotImplemented"),
    }
}

/// Whether a put is one of a whole object as it is.
fn is_whole(request: &Request, key: &str) -> bool {
    let forms = ["uploadId", "x-amz-copy-source", "x-amz-decoded-content-length"];
    !key.is_empty()
        && request.headers.contains_key("content-length")
        && forms.iter().all(|name| !request.query.contains_key(*name) && !request.headers.contains_key(*name))
}

fn get(request: &Request, key: &str, objects: &Objects) -> Answer {
    let found = objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
    let Some(object) = found else { return refused(404, "NoSuchKey") };
    // All of an object at once is a range for some.
    let all = |text: &String| {
        let last = text.strip_prefix("bytes=0-").and_then(|last| last.parse::<usize>().ok());
        last.is_some_and(|last| last + 1 >= object.bytes.len())
    };
    let range = request.headers.get("range");
    if range.is_some_and(|text| !all(text)) {
        return refused(501, "NotImplemented");
    }
    if request.headers.get("if-match").is_some_and(|tag| tag.trim_matches('"') != object.tag) {
        return refused(412, "PreconditionFailed");
    }
    let mut headers = object.noted;
    headers.push(("ETag".to_owned(), format!("\"{}\"", object.tag)));
    headers.push(("Last-Modified".to_owned(), MADE_HTTP.to_owned()));
    headers.push(("Content-Type".to_owned(), "application/octet-stream".to_owned()));
    let size = object.bytes.len();
    if range.is_some() {
        headers.push(("Content-Range".to_owned(), format!("bytes 0-{}/{size}", size.saturating_sub(1))));
    }
    Answer { headers, body: object.bytes, ..status(if range.is_some() { 206 } else { 200 }) }
}

fn put(request: &Request, key: &str, objects: &Objects) -> Answer {
    let noted = request.headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-"));
    let noted = noted.map(|(name, value)| (name.clone(), value.clone())).collect();
    let object = Object::new(request.body.clone(), noted);
    let headers = vec![("ETag".to_owned(), format!("\"{}\"", object.tag))];
    let mut objects = objects.write().unwrap_or_else(PoisonError::into_inner);
    let there = objects.get(key);
    let is_new_only = request.headers.contains_key("if-none-match");
    let is_other = |tag: &String| there.is_none_or(|there| tag.trim_matches('"') != there.tag);
    if is_new_only && there.is_some() || request.headers.get("if-match").is_some_and(is_other) {
        return refused(412, "PreconditionFailed");
    }
    objects.insert(key.to_owned(), object);
    Answer { headers, ..status(200) }
}

fn list(request: &Request, objects: &Objects) -> Answer {
    let empty = String::new();
    let asked = |name: &str| request.query.get(name).unwrap_or(&empty);
    let (prefix, delimiter) = (asked("prefix"), asked("delimiter"));
    let most = asked("max-keys").parse().unwrap_or(PAGE).min(PAGE);
    let mut after = asked("start-after").max(asked("continuation-token")).clone();
    let objects = objects.read().unwrap_or_else(PoisonError::into_inner);
    let (mut text, mut count, mut is_cut) = (String::new(), 0, false);
    loop {
        let from = if after < *prefix { Bound::Included(prefix) } else { Bound::Excluded(&after) };
        let next = objects.range::<String, _>((from, Bound::Unbounded)).next();
        let Some((key, object)) = next.filter(|(key, _)| key.starts_with(prefix)) else { break };
        if count == most {
            is_cut = true;
            break;
        }
        count += 1;
        let rest = &key[prefix.len()..];
        let common = rest.find(delimiter.as_str()).filter(|_| !delimiter.is_empty());
        after = if let Some(end) = common {
            let common = &key[..prefix.len() + end + delimiter.len()];
            let _ = write!(text, "<CommonPrefixes><Prefix>{common}</Prefix></CommonPrefixes>");
            // Behind every key that begins so.
            format!("{common}\u{10ffff}")
        } else {
            let _ = write!(
                text,
                "<Contents><Key>{key}</Key><LastModified>{MADE}</LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
                object.tag,
                object.bytes.len()
            );
            key.clone()
        };
    }
    let next = if is_cut {
        format!("<NextContinuationToken>{after}</NextContinuationToken>")
    } else {
        String::new()
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>bkt</Name><Prefix>{prefix}</Prefix><KeyCount>{count}</KeyCount><MaxKeys>{most}</MaxKeys><IsTruncated>{is_cut}</IsTruncated>{text}{next}</ListBucketResult>"
    );
    let headers = vec![("Content-Type".to_owned(), "application/xml".to_owned())];
    Answer { headers, body: body.into_bytes().into(), ..status(200) }
}
