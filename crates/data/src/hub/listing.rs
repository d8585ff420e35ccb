//! The list of files of a commit, a page after the other. Everything in it is taken for hostile.
use std::collections::HashSet;

use reqwest::header::{HeaderMap, LINK};
use serde::Deserialize;

use super::answers::{Asked, Hub};
use super::digest::Expected;
use super::error::shown;
use super::{HubError, Repository};

/// Most bytes of a page; Hugging Face sends 1000 entries of some 300 bytes.
const LONGEST_PAGE: u64 = 16 << 20;
/// Asks for all directories.
const FIRST: &str = "recursive=true";
/// Most files and directories of a repository.
const MOST: usize = 1_000_000;
/// Longest path of Linux, in bytes.
const LONGEST_PATH: usize = 4095;
/// Longest name of a file or directory on Linux, in bytes.
const LONGEST_NAME: usize = 255;
/// Deepest path, in directories: what removes the files again opens a directory a level.
const DEEPEST: usize = 128;

/// A file of the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// Checked: relative, plain, and short enough.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// What its bytes must come to.
    pub(super) expected: Expected,
}

/// Reads a list.
pub(super) struct Pages<'a> {
    hub: &'a Hub<'a>,
    commit: &'a str,
    /// The query of the next page, if there is one.
    next: Option<String>,
    entries: usize,
    bytes: u64,
}

/// An entry as the server sends it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Lfs>,
}

/// The real content of a file in whose place git has a pointer.
#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

impl<'a> Pages<'a> {
    pub(super) fn new(hub: &'a Hub<'a>, commit: &'a str) -> Self {
        Self { hub, commit, next: Some(FIRST.to_owned()), entries: 0, bytes: 0 }
    }

    /// The files of the next page, the largest first; `None` after the last page.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Listed>>, HubError> {
        let Some(query) = self.next.take() else { return Ok(None) };
        let (hub, repository) = (self.hub, self.hub.repository);
        let asked = Asked::Listing(self.commit);
        let response = hub.get(&repository.tree_url(self.commit, &query), asked, None).await?;
        let next = next_query(response.headers());
        let body = hub.body(response, LONGEST_PAGE, asked).await?;
        let bad = |why| HubError::Listing { repository: repository.to_string(), why };
        let page: Vec<Entry> =
            serde_json::from_slice(&body).map_err(|error| bad(format!("it is no list: {error}")))?;
        self.entries += page.len();
        if self.entries > MOST {
            return Err(bad(format!("it has more than {MOST} files and directories")));
        }
        if next.is_some() && (page.is_empty() || next.as_ref() == Some(&query)) {
            return Err(bad("its pages do not end".to_owned()));
        }
        self.next = next;
        let files = files(repository, page)?;
        let bytes = files.iter().try_fold(self.bytes, |sum, file| sum.checked_add(file.size));
        self.bytes = bytes.ok_or_else(|| bad("its files are larger than any disk".to_owned()))?;
        Ok(Some(files))
    }

    /// Bytes of all files so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is no further page.
    pub(super) fn is_over(&self) -> bool {
        self.next.is_none()
    }
}

/// The query of the next page: `Link: <URL>; rel="next"` (RFC 8288). The rest of that address is not used, so that a listing
/// cannot send the token elsewhere.
fn next_query(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let next = links.flat_map(|value| value.split(',')).find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| {
            matches!(parameter.trim().split_once('='), Some(("rel", rel)) if rel.trim_matches('"') == "next")
        };
        parameters.split(';').any(is_next).then_some(url)
    })?;
    let query = next.split_once('?')?.1.split('#').next()?;
    Some(query.to_owned())
}

/// Checks the entries of a page.
fn files(repository: &Repository, page: Vec<Entry>) -> Result<Vec<Listed>, HubError> {
    let bad = |why| HubError::Listing { repository: repository.to_string(), why };
    let mut files = Vec::with_capacity(page.len());
    for entry in page {
        match entry.kind.as_str() {
            "file" => files.push(file(repository, entry)?),
            "directory" => {}
            kind => {
                let (path, kind) = (shown(&entry.path), shown(kind));
                return Err(bad(format!("`{path}` in it is a `{kind}`, which cannot be imported")));
            }
        }
    }
    if let Some(path) = conflict(&files) {
        return Err(twice(repository, path));
    }
    files.sort_by_key(|file| std::cmp::Reverse(file.size));
    Ok(files)
}

/// The error of a path that stands for two things.
pub(super) fn twice(repository: &Repository, path: &str) -> HubError {
    let why = format!("it has two entries for `{}`, or a file and a directory of that name", shown(path));
    HubError::Listing { repository: repository.to_string(), why }
}

fn file(repository: &Repository, entry: Entry) -> Result<Listed, HubError> {
    let Entry { path, size, oid, lfs, .. } = entry;
    check_path(&path).map_err(|why| HubError::BadPath {
        repository: repository.to_string(),
        path: shown(&path),
        why,
    })?;
    let bad = |why: &str| HubError::Listing {
        repository: repository.to_string(),
        why: format!("`{}` in it has {why}", shown(&path)),
    };
    let (size, expected) = match lfs {
        Some(lfs) => (lfs.size, Expected::sha256(&lfs.oid)),
        None => (size, Expected::git_blob(&oid)),
    };
    if i64::try_from(size).is_err() {
        return Err(bad("a size that no file has"));
    }
    let expected = expected.ok_or_else(|| bad("no digest that could be checked"))?;
    Ok(Listed { path, size, expected })
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > LONGEST_PATH {
        return Err("it has more than 4095 bytes");
    }
    if path.contains('\0') {
        return Err("it has a NUL byte");
    }
    if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err("it has an empty part, `.` or `..`");
    }
    if path.split('/').any(|name| name.len() > LONGEST_NAME) {
        return Err("a part of it has more than 255 bytes");
    }
    if path.split('/').count() > DEEPEST {
        return Err("it is more than 128 directories deep");
    }
    Ok(())
}

/// A path that stands for two files, or for a file and a directory. Those on different pages are found when they are made.
fn conflict(files: &[Listed]) -> Option<&str> {
    let mut paths = HashSet::with_capacity(files.len());
    if let Some(again) = files.iter().find(|file| !paths.insert(file.path.as_str())) {
        return Some(&again.path);
    }
    let is_below_one = |file: &&Listed| {
        let path = file.path.as_str();
        path.match_indices('/').any(|(at, _)| paths.contains(&path[..at]))
    };
    files.iter().find(is_below_one).map(|file| file.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::super::repository::Kind;
    use super::*;

    fn repository() -> Repository {
        Repository::new(Kind::Model, "a/b", None, "https://h").unwrap()
    }

    fn read(text: &str) -> Result<Vec<Listed>, String> {
        let page: Vec<Entry> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        files(&repository(), page).map_err(|e| e.to_string())
    }

    #[test]
    fn a_page_is_read() {
        let oid = "0".repeat(40);
        let lfs = "1".repeat(64);
        let text = format!(
            r#"[{{"type":"directory","oid":"x","size":0,"path":"d"}},
                {{"type":"file","oid":"{oid}","size":3,"path":"d/small"}},
                {{"type":"file","oid":"{oid}","size":9,"path":"big","xetHash":"y","lfs":{{"oid":"{lfs}","size":9,"pointerSize":130}}}}]"#
        );
        let read = read(&text).unwrap();
        let names: Vec<_> = read.iter().map(|file| (file.path.as_str(), file.size)).collect();
        assert_eq!(names, [("big", 9), ("d/small", 3)]);
        assert_eq!(read[0].expected, Expected::sha256(&lfs).unwrap());
        assert_eq!(read[1].expected, Expected::git_blob(&oid).unwrap());
    }

    #[test]
    fn a_hostile_page_is_refused() {
        let oid = "0".repeat(40);
        let check = |entries: &[(&str, &str)], expected: &str| {
            let entries: Vec<_> = entries
                .iter()
                .map(|(path, rest)| format!(r#"{{"type":"file","oid":"{oid}","path":"{path}"{rest}}}"#))
                .collect();
            let said = read(&format!("[{}]", entries.join(","))).unwrap_err();
            assert!(said.contains(expected), "{said}");
        };
        for path in ["../x", "a/../x", "/x", "a//b", "a/", "", ".", "a/./b"] {
            check(&[(path, "")], "it has an empty part, `.` or `..`");
        }
        check(&[(&"x".repeat(256), "")], "more than 255 bytes");
        check(&[(&"x/".repeat(3000), "")], "more than 4095 bytes");
        check(&[(&("x/".repeat(128) + "x"), "")], "128 directories");
        check(&[("a\\u0000b", "")], "a NUL byte");
        check(&[("a", ""), ("b", ""), ("a", "")], "two entries for `a`");
        check(&[("a/b/c", ""), ("a", "")], "or a file and a directory");
        check(&[("a", r#","size":-1"#)], "invalid value");
        check(&[("a", r#","size":18446744073709551615"#)], "a size that no file has");
        check(&[("a", r#","lfs":{"oid":"zz","size":1}"#)], "no digest that could be checked");
        let said = read(r#"[{"type":"commit","path":"sub"}]"#).unwrap_err();
        assert!(said.contains("`sub` in it is a `commit`, which cannot be imported"), "{said}");
    }

    #[test]
    fn only_the_query_of_the_next_page_is_used() {
        let check = |value: &str, expected: Option<&str>| {
            let headers = HeaderMap::from_iter([(LINK, value.parse().unwrap())]);
            assert_eq!(next_query(&headers).as_deref(), expected, "{value}");
        };
        check(
            r#"<https://h/api/x?recursive=true&cursor=YQ%3D%3D>; rel="next""#,
            Some("recursive=true&cursor=YQ%3D%3D"),
        );
        check(
            r#"<https://evil/?a=1>; rel="prev", <https://evil/x?cursor=2#f>; title=x; rel=next"#,
            Some("cursor=2"),
        );
        check(r#"<https://h/api/x>; rel="next""#, None);
        check(r#"<https://h/api/x?a=1>; rel="last""#, None);
        check("nonsense", None);
        assert_eq!(next_query(&HeaderMap::new()), None);
    }
}
