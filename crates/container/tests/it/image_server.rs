//! Servers for pulls: Debian's real registry, and a scripted one that misbehaves as a test wants.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::image_build::{Built, digest};

/// `docker-registry serve` with its own port and storage, gone when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::start_with("", |_| {})
    }

    /// With basic auth for one user.
    pub(crate) fn start_private(user: &str, password: &str) -> Self {
        let auth = "auth: {htpasswd: {realm: tests, path: DIR/htpasswd}}\n";
        Self::start_with(auth, |dir| {
            let made = Command::new("htpasswd").args(["-nbB", user, password]).output();
            let made = made.expect("`htpasswd` is needed by the tests (Debian: apache2-utils)");
            std::fs::write(dir.join("htpasswd"), made.stdout).unwrap();
        })
    }

    fn start_with(more: &str, prepare: impl Fn(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: DIR/data}}}}\nhttp: {{addr: 127.0.0.1:0}}\n{more}"
        );
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config.replace("DIR", dir.path().to_str().unwrap())).unwrap();
        let spawned = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.expect("`docker-registry` is needed by the tests (Debian: docker-registry)");
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let address = read_address(&mut log);
        // The log must be read, or the registry would stop at a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, address: address.expect("docker-registry did not start"), _dir: dir }
    }
}

fn read_address(log: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    while log.read_line(&mut line).ok()? > 0 {
        if let Some((_, after)) = line.split_once("listening on ") {
            return Some(after.split(['"', ' ', ',']).next()?.trim().to_owned());
        }
        line.clear();
    }
    None
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request as a scripted server sees it; header names are lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What a scripted server answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Sends only so many bytes of the body, and then does as this says.
    pub(crate) stop: Option<(usize, Stop)>,
}

/// How an answer ends that does not end well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Cut,
    Stall,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn ok(body: &[u8]) -> Self {
        Self { status: 200, body: body.to_vec(), ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn stopping(mut self, after: usize, stop: Stop) -> Self {
        self.stop = Some((after, stop));
        self
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

struct Inner {
    script: Box<Script>,
    seen: Mutex<Vec<Request>>,
    arrived: Condvar,
    end: AtomicBool,
}

/// A server that answers each request as its script says; gone when dropped.
pub(crate) struct Scripted {
    inner: Arc<Inner>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Scripted {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            script: Box::new(script),
            seen: Mutex::default(),
            arrived: Condvar::new(),
            end: AtomicBool::new(false),
        });
        let serve = Arc::clone(&inner);
        let thread = std::thread::spawn(move || accept(&serve, &listener));
        Self { inner, address, thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// Waits until a request fits.
    pub(crate) fn wait_for(&self, fits: impl Fn(&Request) -> bool) {
        let seen = self.inner.seen.lock().unwrap();
        let waited = self
            .inner
            .arrived
            .wait_timeout_while(seen, Duration::from_secs(20), |seen| !seen.iter().any(&fits))
            .unwrap();
        assert!(!waited.1.timed_out(), "the request never came");
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.inner.end.store(true, Ordering::SeqCst);
        self.inner.arrived.notify_all();
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(inner: &Arc<Inner>, listener: &TcpListener) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if inner.end.load(Ordering::SeqCst) {
            break;
        }
        let Ok(stream) = stream else { continue };
        let inner = Arc::clone(inner);
        connections.push(std::thread::spawn(move || {
            // A client that goes away is part of some tests.
            let _ = answer(&inner, stream);
        }));
    }
    for connection in connections {
        let _ = connection.join();
    }
}

fn answer(inner: &Inner, mut stream: TcpStream) -> std::io::Result<()> {
    let Some(request) = read_request(&stream)? else { return Ok(()) };
    let reply = (inner.script)(&request);
    inner.seen.lock().unwrap().push(request);
    inner.arrived.notify_all();
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    for (name, value) in &reply.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let Some((after, stop)) = reply.stop else { return stream.write_all(&reply.body) };
    stream.write_all(&reply.body[..after])?;
    if stop == Stop::Stall {
        let seen = inner.seen.lock().unwrap();
        drop(inner.arrived.wait_while(seen, |_| !inner.end.load(Ordering::SeqCst)));
    }
    Ok(())
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut lines = BufReader::new(stream).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Ok(Some(Request { path, headers }))
}

/// What a well-behaved registry with one image (in any repository, under any tag) answers.
pub(crate) fn serve(image: &Built, request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    if request.path.contains("/manifests/") {
        let nested = image.blobs.get(last).filter(|_| last.starts_with("sha256:"));
        let manifest = nested.unwrap_or(&image.manifest);
        return Reply::ok(manifest).with("Docker-Content-Digest", &digest(manifest));
    }
    let Some(blob) = image.blobs.get(last) else { return Reply::status(404) };
    match request.range() {
        Some(from) => Reply { status: 206, ..Reply::ok(&blob[from..]) }
            .with("Content-Range", &format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
        None => Reply::ok(blob),
    }
}
