//! A web server on loopback that gives out git repositories with `git http-backend`, or misbehaves.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::git_bed::contains;

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
    Redirect(SocketAddr),
    /// Reads the request and says nothing.
    Silent,
}

pub(crate) struct Web {
    address: SocketAddr,
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it saw.
#[derive(Default)]
struct Seen {
    logins: Mutex<Vec<String>>,
    /// A word that must not be in the arguments or environment of any process while a request is served.
    watched: Mutex<Option<String>>,
    leaks: Mutex<Vec<String>>,
}

impl Web {
    pub(crate) fn start(mode: Mode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let (theirs, end) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away is its own affair.
                let silent = serve(&stream, &mode, &theirs).unwrap_or(false);
                kept.extend(silent.then_some(stream));
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/repo", self.address)
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
        self.seen.logins.lock().unwrap().clone()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Asked {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn read(stream: &TcpStream) -> std::io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut headers = Vec::new();
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let Some((key, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((key.to_ascii_lowercase(), value.to_owned()));
        }
        let mut asked = Self { method, path, query, headers, body: Vec::new() };
        let mut body = Vec::new();
        if asked.header("transfer-encoding") == "chunked" {
            read_chunks(&mut reader, &mut body)?;
        } else {
            body.resize(asked.header("content-length").parse().unwrap_or(0), 0);
            reader.read_exact(&mut body)?;
        }
        asked.body = body;
        Ok(asked)
    }
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
        let start = body.len();
        body.resize(start + size, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(());
        }
    }
}

/// Answers one request; true if the connection should stay open without an answer.
fn serve(stream: &TcpStream, mode: &Mode, seen: &Seen) -> std::io::Result<bool> {
    let asked = Asked::read(stream)?;
    let login = asked.header("authorization");
    if !login.is_empty() {
        seen.logins.lock().unwrap().push(login.to_owned());
    }
    look_for_leaks(seen);
    let plain = |status: &str| {
        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
    };
    let answer = match mode {
        Mode::Silent => return Ok(true),
        Mode::Status(status) => plain(&format!("{status} as asked")),
        Mode::Redirect(to) => {
            let location = format!("http://{to}{}?{}", asked.path, asked.query);
            plain(&format!("302 Found\r\nLocation: {location}"))
        }
        Mode::Login(_, expected) if login != format!("Basic {expected}") => {
            plain("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"git\"")
        }
        Mode::Open(root) | Mode::Login(root, _) => backend(root, &asked)?,
        Mode::Dumb(root) => match std::fs::read(root.join(asked.path.trim_start_matches('/'))) {
            Ok(bytes) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    bytes.len()
                );
                [head.into_bytes(), bytes].concat()
            }
            Err(_) => plain("404 Not Found"),
        },
    };
    let mut stream = stream;
    stream.write_all(&answer)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(false)
}

/// Calls `git http-backend` as a web server does.
fn backend(root: &Path, asked: &Asked) -> std::io::Result<Vec<u8>> {
    let mut child = Command::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &asked.method)
        .env("PATH_INFO", &asked.path)
        .env("QUERY_STRING", &asked.query)
        .env("CONTENT_TYPE", asked.header("content-type"))
        .env("CONTENT_LENGTH", asked.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", asked.header("content-encoding"))
        .env("GIT_PROTOCOL", asked.header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    child.stdin.take().expect("piped").write_all(&asked.body)?;
    let output = child.wait_with_output()?.stdout;
    let split = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
    let head = String::from_utf8_lossy(&output[..split]).into_owned();
    let status = head.lines().find_map(|l| l.strip_prefix("Status: ")).unwrap_or("200 OK");
    let length = output.len().saturating_sub(split + 4);
    let mut answer =
        format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
            .into_bytes();
    answer.extend_from_slice(&output[(split + 4).min(output.len())..]);
    Ok(answer)
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
