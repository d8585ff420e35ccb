//! Logs: from the pipe to the disk, from the disk to a client, the end of a long one, and how late a follower hears.
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use jiff::Timestamp;
use nix::sys::stat::Mode;

use crate::http::{Connection, RUNS, runtime};
use crate::small::memory;
use crate::table::{Limit, Row};
use crate::timing::{drained, in_turn, median, ms, number, output, wall};
use crate::world::World;
use crate::{Bench, Outcome, stop};

const LINE: &[u8; 65] = b"epoch 0001 step 000123 loss 0.123456 lr 0.000100 tokens/s 123456\n";
/// Lines of 100 MB, and of what Docker is asked to print: it takes its time.
const LINES: usize = 100_000_000 / LINE.len();
const FEW_LINES: usize = LINES / 10;
/// How often the 100 MB are in the long log.
const TIMES: usize = 10;
const FOLLOWED: usize = 100;
const RATE: Limit = Limit::AtLeast(300.0);

/// What the measurements share.
struct Logs<'a> {
    bench: &'a Bench<'a>,
    world: World,
    /// A directory that the containers see as `/data`.
    shared: PathBuf,
}

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let shared = bench.dir.join("shared");
    fs::create_dir_all(&shared)?;
    fs::write(shared.join("lines"), LINE.repeat(LINES))?;
    fs::write(shared.join("few"), LINE.repeat(FEW_LINES))?;
    let world = World::start(&bench.dir.join("logs"), &shared)?;
    let logs = Logs { bench, world, shared };
    let mut rows = logs.inwards()?;
    rows.extend(logs.outwards()?);
    rows.extend(logs.long()?);
    rows.push(logs.follow()?);
    Ok(rows)
}

fn rate(bytes: usize, ms: f64) -> f64 {
    number(bytes) / 1e3 / ms
}

fn row(what: &'static str, ours: f64, peer: Option<(&'static str, f64)>) -> Row {
    Row { what, unit: "MB/s", ours, peer, limit: RATE }
}

impl Logs<'_> {
    /// A run file of one command.
    fn file(&self, name: &str, command: &str, env: &str) -> Outcome<String> {
        let (image, shared) = (&self.bench.images.small, self.shared.display());
        let text = format!(
            "name: {name}\nimage: {image}\nmount:\n  /data: hostpath://{shared}\n{env}run:\n  - command: {command}\n"
        );
        self.world.file(&format!("{name}.yaml"), &text)
    }

    /// A container of the same command; its id.
    fn container(&self, command: &str) -> Outcome<String> {
        let mount = format!("{}:/data:ro", self.shared.display());
        let image = &self.bench.images.small;
        let mut run =
            self.bench.docker.command(["run", "--detach", "--network", "host", "--volume", &mount, image]);
        run.args(["sh", "-c", command]);
        Ok(String::from_utf8(output(run)?)?.trim().to_owned())
    }

    fn remove(&self, container: &str) -> Outcome<()> {
        wall(self.bench.docker.command(["rm", "--force", container])).map(drop)
    }

    /// From the start of the commands to their end, 100 MB of lines.
    fn inwards(&self) -> Outcome<Vec<Row>> {
        let plain = self.file("plain", "cat /data/lines", "")?;
        let secrets = "env:\n  A: {value: correct horse battery staple, secret: true}\n  \
                       B: {value: 0123456789abcdef, secret: true}\n";
        let masked = self.file("masked", "cat /data/lines", secrets)?;
        let ours = || self.one_in(&plain);
        let (ours, docker) = in_turn(self.bench.rounds, ours, || self.one_docker_in("cat /data/lines"))?;
        let masked = (0..self.bench.rounds).map(|_| self.one_in(&masked)).collect::<Outcome<Vec<_>>>()?;
        Ok(vec![
            row("log in, 100 MB of 65-byte lines", ours, Some(("docker json-file", docker))),
            row("log in, two secrets masked", median(masked), None),
        ])
    }

    fn one_in(&self, file: &str) -> Outcome<f64> {
        stop::check()?;
        let run = self.world.carry_out(file)?;
        let at = |key: &str| -> Outcome<Timestamp> { Ok(run[key].as_str().ok_or("no time")?.parse()?) };
        let time = at("ended_at")?.duration_since(at("started_at")?);
        wall(self.world.command(["run", "delete", &run["id"].to_string()]))?;
        Ok(rate(LINES * LINE.len(), time.as_secs_f64() * 1e3))
    }

    fn one_docker_in(&self, command: &str) -> Outcome<f64> {
        let container = self.container(command)?;
        wall(self.bench.docker.command(["wait", &container]))?;
        let times = ["inspect", "--format", "{{.State.StartedAt}} {{.State.FinishedAt}}", &container];
        let text = String::from_utf8(output(self.bench.docker.command(times))?)?;
        let (started, ended) = text.trim().split_once(' ').ok_or("a container has no times")?;
        let time = ended.parse::<Timestamp>()?.duration_since(started.parse::<Timestamp>()?);
        self.remove(&container)?;
        Ok(rate(LINES * LINE.len(), time.as_secs_f64() * 1e3))
    }

    /// The whole log to a client: over HTTP, printed to nowhere, printed into a pipe.
    fn outwards(&self) -> Outcome<Vec<Row>> {
        let run = self.world.carry_out(&self.file("out", "cat /data/lines", "")?)?;
        let (id, all) = (run["id"].to_string(), LINES * LINE.len());
        let container = self.container("cat /data/few")?;
        wall(self.bench.docker.command(["wait", &container]))?;
        let rounds = self.bench.rounds;
        let api = (0..rounds).map(|_| self.over_http(&id)).collect::<Outcome<Vec<_>>>()?;
        let printed = in_turn(
            rounds,
            || Ok(rate(all, wall(self.world.command(["run", "logs", &id]))?)),
            || Ok(rate(FEW_LINES * LINE.len(), wall(self.bench.docker.command(["logs", &container]))?)),
        )?;
        let piped = in_turn(
            rounds,
            || whole(self.world.command(["run", "logs", &id]), all),
            || whole(self.bench.docker.command(["logs", &container]), FEW_LINES * LINE.len()),
        )?;
        self.remove(&container)?;
        Ok(vec![
            row("log out, over HTTP", median(api), None),
            row("log out, `run logs` to /dev/null", printed.0, Some(("docker logs", printed.1))),
            row("log out, `run logs` into a pipe", piped.0, Some(("docker logs", piped.1))),
        ])
    }

    fn over_http(&self, id: &str) -> Outcome<f64> {
        let client = runtime()?;
        client.block_on(async {
            let mut connection = Connection::open(&self.world).await?;
            let began = Instant::now();
            let bytes = connection.log(&format!("{RUNS}/{id}/logs")).await?;
            Ok(rate(bytes, ms(began.elapsed())))
        })
    }

    /// A log of 1 GB: its last lines, and what it costs the server.
    fn long(&self) -> Outcome<Vec<Row>> {
        let command = format!("for n in {}; do cat /data/lines; done", ["x"; TIMES].join(" "));
        let container = self.container(&command)?;
        wall(self.bench.docker.command(["wait", &container]))?;
        let server = self.world.server();
        // The most it ever had, with logs of 100 MB.
        let before = memory(server, "VmHWM:")?;
        let run = self.world.carry_out(&self.file("long", &command, "")?)?;
        let id = run["id"].to_string();
        whole(self.world.command(["run", "logs", &id]), TIMES * LINES * LINE.len())?;
        let grown = memory(server, "VmHWM:")? - before;
        let tail = in_turn(
            self.bench.rounds,
            || wall(self.world.command(["run", "logs", "--tail", "200", &id])),
            || wall(self.bench.docker.command(["logs", "--tail", "200", &container])),
        )?;
        self.remove(&container)?;
        let peer = Some(("docker logs --tail", tail.1));
        Ok(vec![
            Row {
                what: "last 200 lines of a log of 1 GB",
                unit: "ms",
                ours: tail.0,
                peer,
                limit: Limit::AtMost(10.0),
            },
            Row {
                what: "server peak memory, 1 GB of log over 100 MB",
                unit: "MB",
                ours: grown,
                peer: None,
                limit: Limit::AtMost(4.0),
            },
        ])
    }

    /// How long a line takes from a writer outside, through the container, to a follower.
    fn follow(&self) -> Outcome<Row> {
        let (ours, docker) = (Fifo::make(&self.shared, "ours")?, Fifo::make(&self.shared, "docker")?);
        let id = self.world.create(&self.file("follow", "cat /data/ours", "")?)?;
        let container = self.container("cat /data/docker")?;
        let mut ours = Follower::start(self.world.command(["run", "logs", "-f", &id]), ours)?;
        let mut docker = Follower::start(self.bench.docker.command(["logs", "-f", &container]), docker)?;
        // The first line also waits for the start of the container.
        ours.hear()?;
        docker.hear()?;
        let (late, peer) = in_turn(self.bench.rounds.max(FOLLOWED), || ours.hear(), || docker.hear())?;
        ours.end()?;
        docker.end()?;
        self.remove(&container)?;
        let peer = Some(("docker logs -f", peer));
        let limit = Limit::AtMost(50.0);
        Ok(Row { what: "a line to a follower, p50", unit: "ms", ours: late, peer, limit })
    }
}

/// Megabytes per second into a pipe; all of `bytes` must come.
fn whole(command: Command, bytes: usize) -> Outcome<f64> {
    let (got, time) = drained(command)?;
    if got == bytes { Ok(rate(bytes, time)) } else { Err(format!("{got} bytes of {bytes}").into()) }
}

/// A named pipe whose reader is in a container.
struct Fifo(File);

impl Fifo {
    fn make(dir: &Path, name: &str) -> Outcome<Self> {
        let path = dir.join(name);
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o644))?;
        // Open for both, so that nobody waits for the other side.
        Ok(Self(OpenOptions::new().read(true).write(true).open(path)?))
    }
}

/// A program that prints what comes.
struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
    fifo: Option<Fifo>,
}

impl Follower {
    fn start(mut command: Command, fifo: Fifo) -> Outcome<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        Ok(Self { child, lines, fifo: Some(fifo) })
    }

    /// Writes a line and waits for it, in milliseconds.
    fn hear(&mut self) -> Outcome<f64> {
        let fifo = self.fifo.as_mut().ok_or("the pipe is closed")?;
        let began = Instant::now();
        fifo.0.write_all(LINE)?;
        let mut line = Vec::new();
        self.lines.read_until(b'\n', &mut line)?;
        if line == LINE { Ok(ms(began.elapsed())) } else { Err("a follower lost a line".into()) }
    }

    fn end(mut self) -> Outcome<()> {
        self.fifo = None;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
