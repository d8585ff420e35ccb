//! What stands between us and a server of buckets and misbehaves as a test wants. It hands every request on as it is, so that signatures
//! stay right.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A request that was seen; names of headers are lower case.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// How many requests of the same method and path came before.
    pub(crate) before: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is a request of this method whose path has these words.
    pub(crate) fn is(&self, method: &str, words: &str) -> bool {
        self.method == method && self.path.contains(words)
    }
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is answered as it should be.
    None,
    /// The server never hears of it.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// So many bytes of the body come, and then the connection ends.
    Cut(usize),
    /// The server does it, and the answer is lost.
    Lost,
    /// One byte of the body is another.
    Corrupt(usize),
    /// The answer is whole by its head and has only so many bytes.
    Truncate(usize),
    /// The server does not see this header.
    Without(&'static str),
    /// The answer has another header.
    With(&'static str, String),
    /// Nothing is answered while the proxy lives.
    Silence,
}

type Rule = dyn Fn(&Asked) -> Fault + Send + Sync;

struct Inner {
    upstream: String,
    rule: Box<Rule>,
    seen: Mutex<Vec<Asked>>,
    end: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

pub(crate) struct Proxy {
    inner: Arc<Inner>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(upstream: &str, rule: impl Fn(&Asked) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            upstream: upstream.to_owned(),
            rule: Box::new(rule),
            seen: Mutex::default(),
            end: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let serve = Arc::clone(&inner);
        let thread = std::thread::spawn(move || {
            let mut threads = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                if serve.end.load(Ordering::SeqCst) {
                    break;
                }
                let inner = Arc::clone(&serve);
                threads.push(std::thread::spawn(move || {
                    // A client that goes away is part of some tests.
                    let _ = answer(&inner, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                }));
            }
            for thread in threads {
                let _ = thread.join();
            }
        });
        Self { inner, address, thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Asked> {
        self.inner.seen.lock().unwrap().clone()
    }

    /// How many requests were of this kind.
    pub(crate) fn count(&self, method: &str, words: &str) -> usize {
        self.seen().iter().filter(|asked| asked.is(method, words)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.end.store(true, Ordering::SeqCst);
        for stream in self.inner.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(inner: &Inner, mut client: &TcpStream) -> std::io::Result<()> {
    inner.open.lock().unwrap().push(client.try_clone()?);
    let mut reader = BufReader::new(client);
    let (first, headers) = read_head(&mut reader)?;
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(()) };
    let mut asked = Asked { method, path, headers, before: 0 };
    {
        let mut seen = inner.seen.lock().unwrap();
        asked.before = seen.iter().filter(|old| old.method == asked.method && old.path == asked.path).count();
        seen.push(asked.clone());
    }
    let fault = (inner.rule)(&asked);
    let size = asked.header("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
    let mut body = vec![0; size];
    reader.read_exact(&mut body)?;
    if let Fault::Silence = fault {
        // Ends when the client goes away or the proxy does.
        return client.read(&mut [0]).map(drop);
    }
    if let Fault::Answer(status, headers, text) = &fault {
        let mut head =
            format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", text.len());
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let text = if asked.method == "HEAD" { "" } else { text };
        return client.write_all(format!("{head}\r\n{text}").as_bytes());
    }
    forward(inner, &asked, &fault, &body, client)
}

fn forward(
    inner: &Inner,
    asked: &Asked,
    fault: &Fault,
    body: &[u8],
    mut client: &TcpStream,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(&inner.upstream)?;
    let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", asked.method, asked.path);
    for (name, value) in &asked.headers {
        if name != "connection" && !matches!(fault, Fault::Without(hidden) if hidden == name) {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    server.write_all(format!("{head}\r\n").as_bytes())?;
    server.write_all(body)?;
    let mut reader = BufReader::new(server);
    let (first, headers) = read_head(&mut reader)?;
    let mut body = Vec::new();
    reader.read_to_end(&mut body)?;
    if let Fault::Lost = fault {
        return Ok(());
    }
    let mut head = format!("{first}\r\n");
    for (name, value) in &headers {
        let value = match fault {
            Fault::Truncate(length) if name == "content-length" => length.to_string(),
            Fault::With(other, _) if other == name => continue,
            _ => value.clone(),
        };
        head.extend([name, ": ", &value, "\r\n"]);
    }
    if let Fault::With(name, value) = fault {
        head.extend([name, ": ", value, "\r\n"]);
    }
    match fault {
        Fault::Cut(length) | Fault::Truncate(length) => body.truncate(*length),
        Fault::Corrupt(at) => body[*at] ^= 1,
        _ => {}
    }
    client.write_all(format!("{head}\r\n").as_bytes())?;
    client.write_all(&body)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(String, Vec<(String, String)>)> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        Ok::<_, std::io::Error>(line.trim_end().to_owned())
    };
    let (first, mut headers) = (line()?, Vec::new());
    while let Some((name, value)) = line()?.split_once(": ") {
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    Ok((first, headers))
}
