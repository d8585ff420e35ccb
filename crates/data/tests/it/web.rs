//! A web server on loopback that gives out git repositories with `git http-backend`, or misbehaves.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::git_bed::contains;
use crate::scripted::{Reply, Request, Scripted, Stop};

/// How it behaves.
#[derive(Clone, Debug)]
pub(crate) enum Mode {
    /// Gives out `repo` below this directory to everybody.
    Open(PathBuf),
    /// The same for one `user:password`, in base64.
    Login(PathBuf, &'static str),
    /// Only plain files.
    Dumb(PathBuf),
    /// Answers everything with this status.
    Status(u16),
    /// Sends everybody to another server.
    Redirect(String),
    /// Reads the request and says nothing.
    Silent,
}

pub(crate) struct Web {
    server: Scripted,
    seen: Arc<Seen>,
}

/// What it saw.
#[derive(Default)]
struct Seen {
    /// A word that must not be in the arguments or environment of any process while a request is served.
    watched: Mutex<Option<String>>,
    leaks: Mutex<Vec<String>>,
}

impl Web {
    pub(crate) fn start(mode: Mode) -> Self {
        let seen = Arc::new(Seen::default());
        let theirs = seen.clone();
        let server = Scripted::start(move |request| {
            look_for_leaks(&theirs);
            answer(&mode, request)
        });
        Self { server, seen }
    }

    pub(crate) fn address(&self) -> String {
        self.server.address()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/repo", self.address())
    }

    /// Looks for `word` in the arguments and environment of every process at each request.
    pub(crate) fn watch_for(&self, word: &str) {
        *self.seen.watched.lock().unwrap() = Some(word.to_owned());
    }

    pub(crate) fn leaks(&self) -> Vec<String> {
        self.seen.leaks.lock().unwrap().clone()
    }

    /// `Authorization` headers seen.
    pub(crate) fn logins(&self) -> Vec<String> {
        let seen = self.server.seen();
        seen.iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect()
    }
}

fn answer(mode: &Mode, asked: &Request) -> Reply {
    match mode {
        Mode::Silent => Reply::default().stopping(0, Stop::Silence),
        Mode::Status(status) => Reply::status(*status),
        Mode::Redirect(to) => Reply::status(302).with("Location", &format!("http://{to}{}", asked.path)),
        Mode::Login(_, expected) if asked.header("authorization") != Some(&format!("Basic {expected}")) => {
            Reply::status(401).with("WWW-Authenticate", "Basic realm=\"git\"")
        }
        Mode::Open(root) | Mode::Login(root, _) => {
            lfs(root, asked).unwrap_or_else(|| backend(root, asked).unwrap())
        }
        Mode::Dumb(root) => {
            let path = asked.path.split('?').next().unwrap_or_default();
            std::fs::read(root.join(path.trim_start_matches('/')))
                .map_or_else(|_| Reply::status(404), |bytes| Reply::ok(&bytes))
        }
    }
}

/// Gives out what lies in `lfs/` by its digest, as the specification of Git LFS says.
fn lfs(root: &Path, asked: &Request) -> Option<Reply> {
    if let Some(digest) = asked.path.strip_prefix("/content/") {
        let content = std::fs::read(root.join("lfs").join(digest));
        return Some(content.map_or_else(|_| Reply::status(404), |bytes| Reply::ok(&bytes)));
    }
    asked.path.ends_with("/info/lfs/objects/batch").then_some(())?;
    let body = String::from_utf8_lossy(&asked.body);
    let host = asked.header("host").unwrap_or_default();
    let objects = body.split("\"oid\":\"").skip(1).map(|rest| {
        let (oid, size) = (&rest[..64], rest.split("\"size\":").nth(1).unwrap_or_default());
        let size: String = size.chars().take_while(char::is_ascii_digit).collect();
        let found = if root.join("lfs").join(oid).exists() {
            format!("\"actions\":{{\"download\":{{\"href\":\"http://{host}/content/{oid}\"}}}}")
        } else {
            "\"error\":{\"code\":404,\"message\":\"nobody has it\"}".to_owned()
        };
        format!("{{\"oid\":\"{oid}\",\"size\":{size},{found}}}")
    });
    let objects: Vec<_> = objects.collect();
    let text = format!("{{\"transfer\":\"basic\",\"objects\":[{}]}}", objects.join(","));
    Some(Reply::ok(text.as_bytes()).with("Content-Type", "application/vnd.git-lfs+json"))
}

/// Calls `git http-backend` as a web server does.
fn backend(root: &Path, asked: &Request) -> std::io::Result<Reply> {
    let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
    let header = |name| asked.header(name).unwrap_or_default();
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("piped").write_all(&asked.body)?;
    let output = child.wait_with_output()?.stdout;
    let split = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..split]);
    let mut reply = Reply::ok(&output[(split + 4).min(output.len())..]);
    for (name, value) in head.lines().filter_map(|line| line.split_once(": ")) {
        match name {
            "Status" => reply.status = value.get(..3).and_then(|code| code.parse().ok()).unwrap_or(500),
            _ => reply = reply.with(name, value),
        }
    }
    Ok(reply)
}

fn look_for_leaks(seen: &Seen) {
    let Some(word) = seen.watched.lock().unwrap().clone() else { return };
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        for file in ["cmdline", "environ"] {
            let path = process.path().join(file);
            if std::fs::read(&path).is_ok_and(|bytes| contains(&bytes, &word)) {
                seen.leaks.lock().unwrap().push(path.display().to_string());
            }
        }
    }
}
