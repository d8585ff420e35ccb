//! A log on its way out: bytes per second over HTTP, the last lines of a large log, how late a follower hears, and the
//! memory that all of it takes, beside a plain `cat` of the same segment files.
//!
//! `cargo bench -p vessl-server --bench logs [-- --check]`; with `--check` it fails where a limit is missed.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops at what it did not expect"
)]
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vessl_core::plan::Node;
use vessl_core::record::MachineReport;
use vessl_data::log::{Stream, Writer};
use vessl_server::Config;
use vessl_server::testing::{Clock, Machine, Running, Setup, World, start};

const LINE: &[u8; 65] = b"epoch 0001 step 000123 loss 0.123456 lr 0.000100 tokens/s 123456\n";
/// Bytes of the log, and of one write to it.
const SIZE: usize = 1 << 30;
const CHUNK: usize = 1000 * LINE.len();
const FOLLOWED: usize = 200;
const RUNS: &str = "/v1/organizations/default/projects/default/runs";
const FASTEST_TAIL: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_millis(50);
const RATE: f64 = 300.0;
const MEMORY: u64 = 16 << 20;
const AT_REST: u64 = 30 << 20;

fn main() -> ExitCode {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let client = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let running = server.block_on(start(setup(dir.path()))).unwrap();
    let rest = resident();
    let (path, log) = client.block_on(submit(&running, dir.path()));
    let mut writer = write(&log);
    let bare = rate(|| cat(&log));
    let memory = resident();
    let out = rate(|| client.block_on(read(&running, &format!("{path}/logs"))));
    let grown = resident().saturating_sub(memory);
    let tail = client.block_on(tail(&running, &path));
    let late = client.block_on(follow(&running, &path, &mut writer));
    println!(
        "1 GiB of 65-byte lines: out {out:.0} MB/s, `cat` of its segments {bare:.0} MB/s, ratio {:.2}",
        out / bare
    );
    println!("last 200 lines: {:.2} ms", tail.as_secs_f64() * 1e3);
    println!(
        "follower hears after: p50 {:.2} ms, p99 {:.2} ms",
        late.0.as_secs_f64() * 1e3,
        late.1.as_secs_f64() * 1e3
    );
    println!("memory: {} MiB at rest, {} KiB more for reading it all", rest >> 20, grown >> 10);
    server.block_on(running.stop());
    let missed = out < RATE || tail > FASTEST_TAIL || late.1 > LATEST || grown > MEMORY || rest > AT_REST;
    if missed {
        println!(
            "a limit is missed: {RATE} MB/s, {FASTEST_TAIL:?}, {LATEST:?}, {} KiB, {} MiB at rest",
            MEMORY >> 10,
            AT_REST >> 20
        );
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

async fn submit(running: &Running, dir: &Path) -> (String, PathBuf) {
    let yaml =
        "name: bench\nimage: alpine:3\nrun:\n  - command: |\n      fake say running\n      fake hold\n";
    let body = json!({ "yaml": yaml }).to_string();
    let mut stream = ask(running, &format!("POST {RUNS}"), &body).await;
    let mut answer = vec![0; 16 << 10];
    let read = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let id = answer.split("\"id\":").nth(1).unwrap().split(',').next().unwrap();
    (format!("{RUNS}/{id}"), dir.join(format!("data/runs/{id}/1/log")))
}

fn write(log: &Path) -> Writer {
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    let mut writer = Writer::open(log).unwrap();
    let chunk = LINE.repeat(CHUNK / LINE.len());
    for n in 0..SIZE / CHUNK {
        writer.append(n as u64, Stream::Stdout, &chunk).unwrap();
    }
    writer.flush().unwrap();
    writer
}

/// Megabytes per second of something that moves the whole log.
fn rate(moved: impl FnOnce() -> usize) -> f64 {
    let began = Instant::now();
    let bytes = moved();
    assert!(bytes >= SIZE / CHUNK * CHUNK, "{bytes} bytes only");
    f64::from(u32::try_from(bytes >> 10).unwrap()) * 1.024e-3 / began.elapsed().as_secs_f64()
}

fn cat(log: &Path) -> usize {
    let mut buffer = vec![0; 1 << 20];
    let mut all = 0;
    for entry in std::fs::read_dir(log).unwrap() {
        let mut file = std::fs::File::open(entry.unwrap().path()).unwrap();
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                n => all += n,
            }
        }
    }
    all
}

/// Opens a connection and sends one request.
async fn ask(running: &Running, line: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.url.strip_prefix("http://").unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
         Accept: application/vnd.vessl.log\r\nContent-Length: {}\r\n\r\n{body}",
        running.token,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Reads an answer to its end; its bytes.
async fn read(running: &Running, path: &str) -> usize {
    let mut stream = ask(running, &format!("GET {path}"), "").await;
    let mut buffer = vec![0; 1 << 20];
    let mut all = 0;
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return all,
            n => all += n,
        }
    }
}

/// Median time of the last 200 lines.
async fn tail(running: &Running, path: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..50 {
        let began = Instant::now();
        let bytes = read(running, &format!("{path}/logs?tail=200")).await;
        assert!(bytes >= 200 * LINE.len() && bytes < 400 * LINE.len(), "{bytes} bytes");
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

/// Median and 99th percentile of the time between a write and its arrival.
async fn follow(running: &Running, path: &str, writer: &mut Writer) -> (Duration, Duration) {
    let mut stream = ask(running, &format!("GET {path}/logs?tail=1&follow=1"), "").await;
    let mut buffer = vec![0; 64 << 10];
    let mut times = Vec::new();
    // The head and the last line first.
    let mut seen = stream.read(&mut buffer).await.unwrap();
    while seen < 200 {
        seen += stream.read(&mut buffer).await.unwrap();
    }
    for n in 0..FOLLOWED {
        let began = Instant::now();
        writer.append((SIZE + n) as u64, Stream::Stdout, LINE).unwrap();
        writer.flush().unwrap();
        let mut arrived = 0;
        while arrived < LINE.len() {
            arrived += stream.read(&mut buffer).await.unwrap();
        }
        times.push(began.elapsed());
    }
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Resident bytes of this process, which is server and client in one.
fn resident() -> u64 {
    let pages: u64 =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
