//! A web server on loopback that answers, or misbehaves, as a test wants. Tests of other crates use this file too.
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as a scripted server sees it; header names are lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is asked for.
    pub(crate) fn range(&self) -> Option<usize> {
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
    /// It does not even begin.
    Silence,
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

    /// One that never answers.
    pub(crate) fn silent() -> Self {
        Self::start(|_| Reply::default().stopping(0, Stop::Silence))
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
    let wait = || {
        let seen = inner.seen.lock().unwrap();
        drop(inner.arrived.wait_while(seen, |_| !inner.end.load(Ordering::SeqCst)));
        Ok(())
    };
    if let Some((_, Stop::Silence)) = reply.stop {
        return wait();
    }
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
    if stop == Stop::Stall { wait() } else { Ok(()) }
}

fn read_request(stream: &TcpStream) -> std::io::Result<Option<Request>> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    let first = read_line(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut request = Request { method, path, headers: BTreeMap::new(), body: Vec::new() };
    while let Some((name, value)) = read_line(&mut reader)?.split_once(": ") {
        request.headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    if request.header("transfer-encoding") == Some("chunked") {
        while let size @ 1.. = usize::from_str_radix(&read_line(&mut reader)?, 16).unwrap_or(0) {
            read_body(&mut reader, size, &mut request.body)?;
            read_line(&mut reader)?;
        }
    } else {
        let size = request.header("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
        read_body(&mut reader, size, &mut request.body)?;
    }
    Ok(Some(request))
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read_body(reader: &mut impl Read, size: usize, body: &mut Vec<u8>) -> std::io::Result<()> {
    let start = body.len();
    body.resize(start + size, 0);
    reader.read_exact(&mut body[start..])
}
