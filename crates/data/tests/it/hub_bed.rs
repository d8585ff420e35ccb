//! A stand-in for Hugging Face: the API that an import uses, a second server that large files are sent to, and faults.
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::Digest as _;
use vessl_core::secret::Secret;
use vessl_data::Watch;
use vessl_data::dir::Dir;
use vessl_data::fetch::RetryPolicy;
use vessl_data::hub::{self, HubError, Imported, Kind, Login, Pinned, Repository, Request};

use crate::scripted::{Reply, Request as Asked, Scripted};

pub(crate) const COMMIT: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c";
pub(crate) const TOKEN: &str = "hf_s3cretw0rd";
const CREDENTIAL: &str = "mine";

/// A file of the repository.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    /// Whether it is stored beside git, as large ones are.
    pub(crate) is_large: bool,
}

/// What is told instead of the truth; the number says how often the same was asked before.
type Fault = dyn Fn(&Asked, usize, Reply) -> Reply + Send + Sync;

/// The repository and its rules.
pub(crate) struct Site {
    pub(crate) kind: &'static str,
    pub(crate) id: &'static str,
    pub(crate) files: BTreeMap<String, Content>,
    /// Entries of a page.
    pub(crate) page: usize,
    /// Replaces the list of files.
    pub(crate) entries: Option<Vec<String>>,
    pub(crate) is_private: bool,
    pub(crate) is_gated: bool,
    pub(crate) fault: Box<Fault>,
    /// The same at the second server.
    pub(crate) far_fault: Box<Fault>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let plain = |text: &str| Content { bytes: text.as_bytes().to_vec(), is_large: false };
        let large = Content { bytes: large(), is_large: true };
        let files = BTreeMap::from([
            ("README.md".to_owned(), plain("# x\n")),
            ("empty".to_owned(), plain("")),
            ("a b/ü%2F#?.txt".to_owned(), plain("odd\n")),
            ("a b/deep/er/x".to_owned(), plain("x")),
            ("model.bin".to_owned(), large),
        ]);
        Self {
            kind: "models",
            id: "owner/name",
            files,
            page: 1000,
            entries: None,
            is_private: false,
            is_gated: false,
            fault: Box::new(|_, _, reply| reply),
            far_fault: Box::new(|_, _, reply| reply),
        }
    }

    fn list(&self) -> Vec<String> {
        if let Some(entries) = &self.entries {
            return entries.clone();
        }
        let mut all = vec![r#"{"type":"directory","oid":"0","size":0,"path":"a b"}"#.to_owned()];
        all.extend(self.files.iter().map(|(path, content)| entry(path, content)));
        all
    }
}

/// More than a socket takes at once.
fn large() -> Vec<u8> {
    (0..=250_u8).cycle().take(5_000_000).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

/// As the server lists it.
pub(crate) fn entry(path: &str, content: &Content) -> String {
    let Content { bytes, is_large } = content;
    let blob = |bytes: &[u8]| {
        hex(&sha1::Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes).finalize())
    };
    let (path, size) = (path.replace('"', "\\\""), bytes.len());
    if *is_large {
        let (sha, oid) = (hex(&sha2::Sha256::digest(bytes)), blob(b"the pointer"));
        return format!(
            r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{path}","lfs":{{"oid":"{sha}","size":{size},"pointerSize":132}}}}"#
        );
    }
    format!(r#"{{"type":"file","oid":"{}","size":{size},"path":"{path}"}}"#, blob(bytes))
}

/// The running servers.
pub(crate) struct Bed {
    near: Scripted,
    far: Scripted,
    /// What the last import went into.
    target: Mutex<tempfile::TempDir>,
}

/// What a test asks for; the rest has defaults.
pub(crate) struct Want<'a> {
    pub(crate) kind: Kind,
    pub(crate) id: &'a str,
    pub(crate) revision: Option<&'a str>,
    pub(crate) token: Option<&'a str>,
    pub(crate) watch: Watch<'a>,
}

impl Default for Want<'_> {
    fn default() -> Self {
        Self { kind: Kind::Model, id: "owner/name", revision: None, token: None, watch: Watch::NONE }
    }
}

impl Bed {
    pub(crate) fn new(site: Site) -> Self {
        let site = Arc::new(site);
        let (there, seen) = (Arc::clone(&site), Times::default());
        let far = Scripted::start(move |asked| {
            let content = there.files.get(&decoded(asked.path.trim_start_matches('/')));
            let reply = content.map_or(Reply::status(404), |content| ranged(asked, &content.bytes));
            (there.far_fault)(asked, seen.count(asked), reply)
        });
        let (address, seen) = (far.address(), Times::default());
        let near = Scripted::start(move |asked| {
            let reply = answer(&site, &address, asked);
            (site.fault)(asked, seen.count(asked), reply)
        });
        Self { near, far, target: Mutex::new(tempfile::tempdir().unwrap()) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.near.address())
    }

    pub(crate) fn near(&self) -> &Scripted {
        &self.near
    }

    pub(crate) fn far(&self) -> &Scripted {
        &self.far
    }

    /// Ranges that were asked for at a server.
    pub(crate) fn ranges(server: &Scripted) -> Vec<usize> {
        server.seen().iter().filter_map(Asked::range).collect()
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.target.lock().unwrap().path().to_owned()
    }

    fn ask<T>(
        &self,
        want: &Want<'_>,
        work: impl Fn(&Request<'_>) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let repository = Repository::new(want.kind, want.id, want.revision, &self.endpoint())?;
        let token = want.token.map(Secret::from);
        let login = token.as_ref().map(|token| Login { credential: CREDENTIAL, token });
        let retry = RetryPolicy {
            stall: Duration::from_secs(10),
            pause: Duration::from_millis(1),
            ..hub::patience()
        };
        work(&Request { repository: &repository, login, watch: want.watch, retry: &retry })
    }

    pub(crate) fn pin(&self, want: &Want<'_>) -> Result<Pinned, HubError> {
        self.ask(want, hub::pin)
    }

    /// Imports into a new directory.
    pub(crate) fn import(&self, want: &Want<'_>) -> Result<Imported, HubError> {
        *self.target.lock().unwrap() = tempfile::tempdir().unwrap();
        let dir = Dir::open(&self.target()).unwrap();
        self.ask(want, |request| hub::import(request, COMMIT, &dir, None))
    }

    /// What an import that cannot succeed says.
    pub(crate) fn refusal(&self, want: &Want<'_>) -> String {
        let said = self.import(want).unwrap_err().to_string();
        assert!(!said.contains(TOKEN), "{said}");
        said
    }
}

/// How often something was asked.
#[derive(Default)]
struct Times(Mutex<HashMap<String, usize>>);

impl Times {
    fn count(&self, asked: &Asked) -> usize {
        let mut all = self.0.lock().unwrap();
        let times = all.entry(asked.path.clone()).or_default();
        *times += 1;
        *times - 1
    }
}

fn refused(status: u16, code: &str, message: &str) -> Reply {
    Reply::status(status).with("X-Error-Code", code).with("X-Error-Message", message)
}

fn answer(site: &Site, far: &str, asked: &Asked) -> Reply {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let token = asked.header("authorization");
    let is_let_in = token == Some(&format!("Bearer {TOKEN}"));
    if token.is_some() && !is_let_in {
        return Reply::status(401).with("X-Error-Message", "Invalid credentials in Authorization header");
    }
    let (kind, id) = (site.kind, site.id);
    let files = if kind == "models" { format!("/{id}/resolve/") } else { format!("/{kind}/{id}/resolve/") };
    let api = format!("/api/{kind}/{id}/");
    let rest = path.strip_prefix(&files).or(path.strip_prefix(&api));
    let Some(rest) = rest.filter(|_| is_let_in || !site.is_private) else {
        return refused(if token.is_some() { 404 } else { 401 }, "RepoNotFound", "Repository not found");
    };
    if path.starts_with(&files) && site.is_gated {
        let status = if token.is_some() { 403 } else { 401 };
        return refused(status, "GatedRepo", "Access to model owner/name is restricted.");
    }
    let (verb, rest) = if path.starts_with(&files) { ("", rest) } else { rest.split_once('/').unwrap() };
    let (revision, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !["main", "v1", "refs%2Fpr%2F1", COMMIT].contains(&revision) {
        return refused(404, "RevisionNotFound", "Invalid rev id");
    }
    match verb {
        "revision" => Reply::ok(format!(r#"{{"id":"{id}","sha":"{COMMIT}","siblings":[]}}"#).as_bytes()),
        "tree" => tree(site, asked, query),
        _ => file(site, far, asked, &decoded(path)),
    }
}

fn tree(site: &Site, asked: &Asked, query: &str) -> Reply {
    let all = site.list();
    let from = query.split('&').find_map(|pair| pair.strip_prefix("cursor=")).unwrap_or("0");
    let from: usize = from.parse().unwrap();
    let to = (from + site.page).min(all.len());
    let reply = Reply::ok(format!("[{}]", all[from..to].join(",")).as_bytes());
    let reply = reply.with("Content-Type", "application/json");
    if to == all.len() {
        return reply;
    }
    let (host, path) = (asked.header("host").unwrap(), asked.path.split('?').next().unwrap());
    reply.with("Link", &format!("<http://{host}{path}?recursive=true&cursor={to}>; rel=\"next\""))
}

fn file(site: &Site, far: &str, asked: &Asked, path: &str) -> Reply {
    let Some(content) = site.files.get(path) else {
        return refused(404, "EntryNotFound", "Entry not found");
    };
    let reply = if content.is_large {
        let to = asked.path.split("/resolve/").nth(1).unwrap().split_once('/').unwrap().1;
        let (etag, size) = (hex(&sha2::Sha256::digest(&content.bytes)), content.bytes.len().to_string());
        let reply = Reply::status(302).with("Location", &format!("http://{far}/{to}"));
        reply.with("X-Linked-ETag", &format!("\"{etag}\"")).with("X-Linked-Size", &size)
    } else {
        ranged(asked, &content.bytes).with("ETag", &format!("\"{}\"", hex(&sha2::Sha256::digest(path))))
    };
    reply.with("X-Repo-Commit", COMMIT)
}

/// The content from the byte on that is asked for.
fn ranged(asked: &Asked, bytes: &[u8]) -> Reply {
    match asked.range() {
        None => Reply::ok(bytes),
        Some(from) if from >= bytes.len() => Reply::status(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            Reply { status: 206, ..Reply::ok(&bytes[from..]) }.with("Content-Range", &range)
        }
    }
}

fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

/// Every file below a directory, by its path.
pub(crate) fn all_files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path().strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(path, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    found
}
