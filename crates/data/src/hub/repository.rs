//! What a repository is called and where its parts are. It contacts nobody.
use std::fmt::{self, Write as _};

use reqwest::Url;
use vessl_core::reference::is_loopback;

use super::HubError;

/// Where Hugging Face is.
pub const ENDPOINT: &str = "https://huggingface.co";
/// Its name, and another that people write.
const HOSTS: [&str; 2] = ["huggingface.co", "hf.co"];
/// The branch that every repository has.
const MAIN: &str = "main";
/// Longest name of an owner or a repository, in bytes. Source: huggingface.co.
const LONGEST_NAME: usize = 96;
/// Longest name of a revision, in bytes.
const LONGEST_REVISION: usize = 255;

/// What is in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A dataset.
    Dataset,
    /// A program with a page.
    Space,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "dataset",
            Self::Space => "space",
        }
    }

    /// What stands before the name in the address of a page or file.
    fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
            Self::Space => "spaces/",
        }
    }
}

/// A repository at a server with the API of Hugging Face. As text it is kind, name and host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    kind: Kind,
    id: String,
    revision: String,
    /// Without a slash at its end.
    endpoint: String,
    /// `host` or `host:port`.
    host: String,
    is_local: bool,
}

impl Repository {
    /// `id` is `owner/name` or `name`; without a revision it is `main`. `endpoint` is an address like [`ENDPOINT`], with a path
    /// if the server is a part of another.
    pub fn new(kind: Kind, id: &str, revision: Option<&str>, endpoint: &str) -> Result<Self, HubError> {
        let revision = revision.unwrap_or(MAIN);
        check_id(id).map_err(|why| bad(id, "repository of Hugging Face", why))?;
        check_revision(revision).map_err(|why| bad(revision, "branch, tag or commit", why))?;
        let url = parse_endpoint(endpoint);
        let (host, is_local) = url.map_err(|why| bad(without_user(endpoint), "address of a server", why))?;
        let (id, revision) = (id.to_owned(), revision.to_owned());
        Ok(Self { kind, id, revision, endpoint: endpoint.trim_end_matches('/').to_owned(), host, is_local })
    }

    /// Reads `[HOST/][datasets/|spaces/]NAME`, where `NAME` is `owner/name` or `name`, with or without `hf://` or `https://` in
    /// front; a first part with a dot or colon is a host. `endpoint` takes the place of Hugging Face itself; any other host is
    /// asked over https, one of this machine over http.
    pub fn parse(text: &str, revision: Option<&str>, endpoint: Option<&str>) -> Result<Self, HubError> {
        let bare = ["hf://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
        let (first, rest) = bare.split_once('/').unwrap_or(("", bare));
        let is_host = first.contains(['.', ':']) && !matches!(first, "." | "..");
        let (host, name) = if is_host { (first, rest) } else { (HOSTS[0], bare) };
        let host = if HOSTS.contains(&host) { HOSTS[0] } else { host };
        let (kind, id) = [Kind::Dataset, Kind::Space]
            .iter()
            .find_map(|kind| Some((*kind, name.strip_prefix(kind.prefix())?)))
            .unwrap_or((Kind::Model, name));
        let scheme = if is_loopback(host) { "http" } else { "https" };
        match endpoint.filter(|_| host == HOSTS[0]) {
            Some(endpoint) => Self::new(kind, id, revision, endpoint),
            None => Self::new(kind, id, revision, &format!("{scheme}://{host}")),
        }
    }

    /// The branch, tag or commit.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether the server is on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.is_local
    }

    /// `host` or `host:port` of the server.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Where people see it.
    pub(super) fn page(&self) -> String {
        format!("{}/{}{}", self.endpoint, self.kind.prefix(), self.id)
    }

    /// Where the commit of its revision is told.
    pub(super) fn revision_url(&self) -> String {
        format!("{}/revision/{}", self.api(), encoded(&self.revision))
    }

    /// Where the files of a commit are listed.
    pub(super) fn tree_url(&self, commit: &str, query: &str) -> String {
        format!("{}/tree/{commit}?{query}", self.api())
    }

    /// Where a file of a commit is.
    pub(super) fn file_url(&self, commit: &str, path: &str) -> String {
        let path: Vec<_> = path.split('/').map(encoded).collect();
        format!("{}/resolve/{commit}/{}", self.page(), path.join("/"))
    }

    fn api(&self) -> String {
        format!("{}/api/{}s/{}", self.endpoint, self.kind.word(), self.id)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` at `{}`", self.kind.word(), self.id, self.host)
    }
}

fn bad(text: &str, what: &'static str, why: &'static str) -> HubError {
    HubError::Bad { text: super::error::shown(text), what, why }
}

fn check_id(id: &str) -> Result<(), &'static str> {
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !matches!(name, "" | "." | "..") && name.len() <= LONGEST_NAME && name.chars().all(allowed)
    };
    if id.split('/').count() > 2 || !id.split('/').all(is_name) {
        return Err("write `owner/name`, of letters, digits, `-`, `_` and `.`");
    }
    Ok(())
}

fn check_revision(revision: &str) -> Result<(), &'static str> {
    if revision.is_empty() || revision.len() > LONGEST_REVISION {
        return Err("it has no characters, or more than 255");
    }
    let refused = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if revision.contains("..") || revision == "." || revision.contains(refused) {
        return Err("it has characters that no branch or tag has");
    }
    Ok(())
}

/// Checks an endpoint: its host with the port, and whether that is this machine.
fn parse_endpoint(text: &str) -> Result<(String, bool), &'static str> {
    let url = Url::parse(text).map_err(|_| "write `https://` and a host")?;
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "https" | "http")) else {
        return Err("only https and http are possible");
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user or password; use a credential");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has more than a host and a path");
    }
    let is_local = is_loopback(host);
    Ok((authority(&url), is_local))
}

/// `host` or `host:port`, if the port is not the usual one.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// An address without what may be a password.
fn without_user(endpoint: &str) -> &str {
    endpoint.rsplit_once('@').map_or(endpoint, |(_, rest)| rest)
}

/// One part of a path in an address (RFC 3986).
fn encoded(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn where_the_parts_are() {
        let model = Repository::new(Kind::Model, "a/b", None, "https://huggingface.co/").unwrap();
        assert_eq!(model.to_string(), "model `a/b` at `huggingface.co`");
        assert_eq!(model.revision_url(), "https://huggingface.co/api/models/a/b/revision/main");
        assert_eq!(
            model.file_url(COMMIT, "x y/ü%2F#?.bin"),
            format!("https://huggingface.co/a/b/resolve/{COMMIT}/x%20y/%C3%BC%252F%23%3F.bin")
        );
        let data = Repository::new(Kind::Dataset, "b", Some("refs/pr/1"), "http://h:80/x/hf").unwrap();
        assert_eq!(data.revision_url(), "http://h:80/x/hf/api/datasets/b/revision/refs%2Fpr%2F1");
        assert_eq!(data.file_url(COMMIT, "f"), format!("http://h:80/x/hf/datasets/b/resolve/{COMMIT}/f"));
        let tree = format!("http://h:80/x/hf/api/datasets/b/tree/{COMMIT}?cursor=x");
        assert_eq!(data.tree_url(COMMIT, "cursor=x"), tree);
    }

    #[test]
    fn the_ways_people_write_it() {
        let check = |text: &str, endpoint: Option<&str>, expected: &str| {
            let said = Repository::parse(text, None, endpoint);
            assert_eq!(said.map_or_else(|e| e.to_string(), |r| r.page()), expected, "{text}");
        };
        check("huggingface.co/a/b", None, "https://huggingface.co/a/b");
        check("hf://huggingface.co/datasets/a/b", None, "https://huggingface.co/datasets/a/b");
        check("hf.co/a/b", Some("http://mirror"), "http://mirror/a/b");
        check("gpt2", None, "https://huggingface.co/gpt2");
        check("spaces/a/b", None, "https://huggingface.co/spaces/a/b");
        check("a/b", Some("http://mirror/"), "http://mirror/a/b");
        check("hf.local:8080/a/b", Some("http://mirror"), "https://hf.local:8080/a/b");
        check("127.0.0.1:80/a/b", None, "http://127.0.0.1:80/a/b");
        let refused =
            "is no repository of Hugging Face: write `owner/name`, of letters, digits, `-`, `_` and `.`";
        for id in ["a/b/c", "../b", "a/..", "a//b", "", "a b", "a/b?x", "a%2e"] {
            check(&format!("huggingface.co/{id}"), None, &format!("`{id}` {refused}"));
        }
    }

    #[test]
    fn what_cannot_be_asked_for() {
        let check = |revision: Option<&str>, endpoint: &str, expected: &str| {
            let said = Repository::new(Kind::Model, "a/b", revision, endpoint).unwrap_err().to_string();
            assert!(said.contains(expected), "{said}");
        };
        check(Some(""), ENDPOINT, "no characters");
        check(Some("a/../b"), ENDPOINT, "no branch or tag has");
        check(Some("a b"), ENDPOINT, "no branch or tag has");
        check(None, "huggingface.co", "write `https://`");
        check(None, "ftp://x", "only https and http");
        check(None, "https://u:p@x", "`x` is no address of a server: it holds a user or password");
        check(None, "https://x?y", "more than a host");
    }
}
