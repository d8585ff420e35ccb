//! A web server on loopback that answers as a test wants, or not at all.
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Gives the answer to a path: status line and headers, and the body; `None` keeps the client waiting.
type Script = dyn Fn(&str) -> Option<(String, Vec<u8>)> + Send + Sync;

/// Gone when dropped.
pub(crate) struct Web {
    address: SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    pub(crate) fn start(script: impl Fn(&str) -> Option<(String, Vec<u8>)> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let script: Arc<Script> = Arc::new(script);
        let thread = std::thread::spawn(move || {
            let waiting = Arc::new(Mutex::new(Vec::new()));
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let (script, waiting) = (script.clone(), waiting.clone());
                std::thread::spawn(move || {
                    // A client that goes away is part of some tests.
                    if let Ok(Some(stream)) = answer(stream, &*script) {
                        waiting.lock().unwrap().push(stream);
                    }
                });
            }
        });
        Self { address, end, thread: Some(thread) }
    }

    /// One that never answers.
    pub(crate) fn silent() -> Self {
        Self::start(|_| None)
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request; gives the stream back if the client is to wait.
fn answer(stream: TcpStream, script: &Script) -> std::io::Result<Option<TcpStream>> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let Some((head, body)) = script(first.split(' ').nth(1).unwrap_or_default()) else {
        return Ok(Some(stream));
    };
    let mut out = &stream;
    write!(out, "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())?;
    out.write_all(&body)?;
    Ok(None)
}
