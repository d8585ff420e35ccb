//! Durable submits per second and their latency, over HTTP on loopback, beside the bare `fdatasync` of the same disk.
//!
//! `cargo bench -p vessl-server --bench submit [-- --check]`; with `--check` it fails where a limit is missed.
//! The machine is scripted: the first run takes all of it, so every other one is stored and waits.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at what it did not expect"
)]
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vessl_core::plan::Node;
use vessl_core::record::MachineReport;
use vessl_server::Config;
use vessl_server::testing::{Clock, Machine, Running, Setup, World, start};

const ALONE: usize = 400;
const CLIENTS: usize = 64;
const EACH: usize = 100;
/// Limits: median of one client, submits per second of many.
const MEDIAN: Duration = Duration::from_millis(5);
const RATE: f64 = 1000.0;

fn main() -> ExitCode {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clients = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = server.block_on(start(setup(dir.path()))).unwrap();
    let bare = quantiles(fdatasyncs(dir.path()));
    let mut connection = clients.block_on(Connection::open(&running));
    let alone = quantiles(clients.block_on(async {
        let mut times = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            times.push(connection.submit().await);
        }
        times
    }));
    let began = Instant::now();
    let many = quantiles(clients.block_on(together(&running)));
    let rate = count(CLIENTS * EACH) / began.elapsed().as_secs_f64();
    report("fdatasync of 4 KiB", bare);
    report("submit, 1 client", alone);
    report(&format!("submit, {CLIENTS} clients"), many);
    println!("1 client: {:.1} times the bare fdatasync", alone.0.as_secs_f64() / bare.0.as_secs_f64());
    println!(
        "{CLIENTS} clients: {rate:.0} submits per second, {:.1} per fdatasync",
        rate * bare.0.as_secs_f64()
    );
    server.block_on(running.stop());
    let missed = alone.0 > MEDIAN || rate < RATE;
    if missed {
        println!("a limit is missed: median of 1 client {MEDIAN:?}, {RATE} per second");
    }
    let check = std::env::args().any(|arg| arg == "--check");
    if missed && check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn setup(dir: &Path) -> Setup {
    let node = Node { name: "bench".to_owned(), cpu_milli: 4000, memory: 16_000_000_000, gpus: Vec::new() };
    let report = MachineReport { v: 1, boot_id: String::new(), node };
    let machine = Machine::Fake(World::new(report, Timestamp::now));
    Setup { config: Config::default(), data: dir.join("data"), machine, clock: Clock::System }
}

/// Appends 4 KiB and syncs, many times: what the disk can do.
fn fdatasyncs(dir: &Path) -> Vec<Duration> {
    let mut file = std::fs::File::create(dir.join("bare")).unwrap();
    let once = |_| {
        let began = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        began.elapsed()
    };
    (0..ALONE).map(once).collect()
}

/// Every client submits one run after the other, all at the same time.
async fn together(running: &Running) -> Vec<Duration> {
    let client = async |_| {
        let mut connection = Connection::open(running).await;
        let mut times = Vec::with_capacity(EACH);
        for _ in 0..EACH {
            times.push(connection.submit().await);
        }
        times
    };
    futures::future::join_all((0..CLIENTS).map(client)).await.concat()
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(running: &Running) -> Self {
        let stream = TcpStream::connect(running.url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let yaml = "name: bench\nimage: alpine:3\nresources:\n  preset: cpu-large\nenv:\n  A: 1e-4\n  B: text\n\
                    run:\n  - command: |\n      fake say running\n      fake hold\n";
        let body = json!({ "yaml": yaml }).to_string();
        let request = format!(
            "POST /v1/organizations/default/projects/default/runs HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            running.token,
            body.len()
        );
        Self { stream, request: request.into_bytes(), answer: Vec::new() }
    }

    /// Submits one run and reads the whole answer.
    async fn submit(&mut self) -> Duration {
        let began = Instant::now();
        self.stream.write_all(&self.request).await.unwrap();
        self.answer.clear();
        while !self.is_whole() {
            assert!(self.stream.read_buf(&mut self.answer).await.unwrap() > 0, "the server hung up");
        }
        let text = String::from_utf8_lossy(&self.answer);
        assert!(text.starts_with("HTTP/1.1 201"), "{text}");
        began.elapsed()
    }

    fn is_whole(&self) -> bool {
        let text = String::from_utf8_lossy(&self.answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.and_then(|length| length.parse().ok()).is_some_and(|length: usize| body.len() >= length)
    }
}

/// Median and 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn report(what: &str, (median, p99): (Duration, Duration)) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!("{what:<22} p50 {:7.3} ms   p99 {:7.3} ms", ms(median), ms(p99));
}

fn count(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}
