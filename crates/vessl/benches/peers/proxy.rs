//! Requests and a long answer through the proxy of ports, beside nginx before the same program.
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::docker::require;
use crate::table::{Limit, Row};
use crate::timing::{in_turn, median, ms, output, wall};
use crate::world::World;
use crate::{Outcome, stop};

/// Most rounds: each measures for some seconds.
const ROUNDS: usize = 5;
/// Seconds of requests in a round.
const SECONDS: u32 = 3;
/// Connections that ask at the same time.
const CONNECTIONS: u32 = 16;
/// Bytes of the long answer.
const BYTES: usize = 512 << 20;

pub(crate) fn rows(dir: &Path, rounds: usize) -> Outcome<Vec<Row>> {
    for program in ["nginx", "wrk", "curl"] {
        require(program)?;
    }
    let (dir, rounds) = (dir.join("proxy"), rounds.min(ROUNDS));
    fs::create_dir_all(dir.join("pages"))?;
    fs::write(dir.join("pages/short"), [b'x'; 100])?;
    fs::write(dir.join("pages/long"), vec![b'x'; BYTES])?;
    let (inner, outer) = (free_port()?, free_port()?);
    // The program of the run is where nginx gets at it too.
    let world = World::start_with(&dir.join("world"), &dir, "network = \"host\"\n")?;
    let upstream = configuration(&dir, "upstream", inner, "location / { }", "")?;
    let text = format!(
        "name: bench\nimage: host://\nmount: {{'{0}': 'hostpath://{0}'}}\nports: [{inner}]\nrun:\n  - command: nginx -c {1}\n",
        dir.display(),
        upstream.display()
    );
    let id = world.create(&world.file("run.yaml", &text)?)?;
    let port = inner.to_string();
    let opened = world.until("the port cannot be opened", || {
        TcpStream::connect(("127.0.0.1", inner)).ok()?;
        let opened = world.command(["run", "open", &id, &port, "--public", "--output", "json"]);
        serde_json::from_slice::<Value>(&output(opened).ok()?).ok()
    })?;
    let ours = opened["path_url"].as_str().ok_or("the port has no path")?.to_owned();
    // Connections to the program are kept, as ours are.
    let pass = "location / { proxy_pass http://program; proxy_http_version 1.1; proxy_set_header Connection ''; \
                proxy_max_temp_file_size 0; }";
    let nginx = configuration(
        &dir,
        "nginx",
        outer,
        pass,
        &format!("upstream program {{ server 127.0.0.1:{inner}; keepalive 64; }}"),
    )?;
    let nginx = Nginx::start(&nginx, outer, &world)?;
    let peers = format!("http://127.0.0.1:{outer}/");
    let (mut rates, mut tails) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..rounds {
        stop::check()?;
        let ask = |url: &str, rates: &mut Vec<f64>, tails: &mut Vec<f64>| -> Outcome<()> {
            let (micros, tail) = requests(&format!("{url}short"))?;
            rates.push(micros);
            tails.push(tail);
            Ok(())
        };
        if round % 2 == 0 {
            ask(&ours, &mut rates.0, &mut tails.0)?;
            ask(&peers, &mut rates.1, &mut tails.1)?;
        } else {
            ask(&peers, &mut rates.1, &mut tails.1)?;
            ask(&ours, &mut rates.0, &mut tails.0)?;
        }
    }
    let long = in_turn(rounds, || download(&format!("{ours}long")), || download(&format!("{peers}long")))?;
    drop(nginx);
    world.terminate(&id)?;
    let row = |what, unit, (ours, peer): (f64, f64), limit| Row {
        what,
        unit,
        ours,
        peer: Some(("nginx", peer)),
        limit: Limit::Ratio(limit),
    };
    Ok(vec![
        // Half of the requests in a time is twice the time of a request.
        row("a request through the proxy", "us", (median(rates.0), median(rates.1)), 2.0),
        row("the slowest of 100 of them (p99)", "us", (median(tails.0), median(tails.1)), 2.0),
        row("512 MiB through the proxy", "ms", long, 1.0 / 0.7),
    ])
}

/// Microseconds for each request, all connections together, and the latency that one in a hundred has.
fn requests(url: &str) -> Outcome<(f64, f64)> {
    let mut wrk = Command::new("wrk");
    wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--latency"]);
    let said = String::from_utf8(output({
        wrk.args(["--duration", &format!("{SECONDS}s"), url]);
        wrk
    })?)?;
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return Err(format!("requests to {url} failed: {said}").into());
    }
    let rate: f64 =
        after(&said, "Requests/sec:").and_then(|text| text.parse().ok()).ok_or("wrk says no rate")?;
    let tail = after(&said, "99%").and_then(micros).ok_or("wrk says no latency")?;
    Ok((1e6 / rate, tail))
}

/// The word after another.
fn after<'s>(said: &'s str, word: &str) -> Option<&'s str> {
    said.split_once(word)?.1.split_whitespace().next()
}

/// A latency as wrk writes it.
fn micros(text: &str) -> Option<f64> {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

fn download(url: &str) -> Outcome<f64> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--output", "/dev/null", url]);
    let began = Instant::now();
    wall(curl)?;
    Ok(ms(began.elapsed()))
}

/// A port that nobody has now.
fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn configuration(dir: &Path, name: &str, port: u16, inside: &str, before: &str) -> Outcome<PathBuf> {
    let path = dir.join(format!("{name}.conf"));
    let text = format!(
        "daemon off; worker_processes 1; pid /tmp/{name}-{port}.pid; error_log stderr warn; user root;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000; root {}/pages; {before}\n\
         server {{ listen 127.0.0.1:{port}; {inside} }} }}\n",
        dir.display()
    );
    fs::write(&path, text)?;
    Ok(path)
}

struct Nginx(Child);

impl Nginx {
    fn start(configuration: &Path, port: u16, world: &World) -> Outcome<Self> {
        let mut command = Command::new("nginx");
        command.arg("-c").arg(configuration).stdin(Stdio::null()).stdout(Stdio::null());
        let nginx = Self(command.spawn()?);
        world.until("nginx does not listen", || TcpStream::connect(("127.0.0.1", port)).ok())?;
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if let Ok(id) = i32::try_from(self.0.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}
