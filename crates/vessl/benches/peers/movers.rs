//! Data in and out of buckets on loopback, and datasets on their way to the server, beside the tools that people use for it.
use std::fs;
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::disk::Disk;
use crate::docker::require;
use crate::store::Store;
use crate::table::{Limit, Row, Table};
use crate::timing::{median, number, wall};
use crate::world::{PROGRAM, World};
use crate::{Outcome, stop};

/// Most rounds: each of them fills new directories.
const ROUNDS: usize = 3;
/// Of the servers and of every client.
const KEY: &str = "benchmark";
const SECRET: &str = "not-so-secret";
/// What `second import` may take, in milliseconds, besides the listing that shows that nothing has changed.
const SECOND: f64 = 50.0;

/// Files of one size: `count` of `size` bytes each.
struct Shape {
    name: &'static str,
    count: usize,
    size: usize,
    import: &'static str,
    second: &'static str,
    export: &'static str,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "one",
        count: 1,
        size: 1_000_000_000,
        import: "import of 1 x 1 GB from a bucket",
        second: "the same once more",
        export: "export of 1 x 1 GB to a bucket",
    },
    Shape {
        name: "some",
        count: 2_000,
        size: 8 << 10,
        import: "import of 2 000 x 8 KiB from a bucket",
        second: "the same once more",
        export: "export of 2 000 x 8 KiB to a bucket",
    },
    Shape {
        name: "many",
        count: 100_000,
        size: 1 << 10,
        import: "import of 100 000 x 1 KiB from a bucket",
        second: "the same once more",
        export: "export of 100 000 x 1 KiB to a bucket",
    },
];

/// All of it on a file system of its own, where nothing is removed meanwhile. Rows are told as they come: all of them take minutes.
pub(crate) fn rows(dir: &Path, tools: &Path, rounds: usize, table: &mut Table) -> Outcome<()> {
    require("restic")?;
    for tool in ["movers/bin/s5cmd", "movers/bin/rclone", "movers/bin/dvc", "buckets/bin/s3s-fs"] {
        let path = tools.join(tool);
        if !path.exists() {
            return Err(format!("`{}` is missing; `.ci/tools bench` installs it", path.display()).into());
        }
    }
    let disk = Disk::make(&dir.join("movers"))?;
    let rounds = rounds.min(ROUNDS);
    let mut memory = 0.0_f64;
    for shape in &SHAPES {
        stop::check()?;
        eprintln!("measuring: {} x {} B", shape.count, shape.size);
        let place = disk.0.join(shape.name);
        let bench = Buckets::start(tools, &place, shape)?;
        // The largest takes longest, and its medians differ least.
        let (shown, most) = bench.measure(if shape.is_many() { 1 } else { rounds })?;
        table.add(shown);
        memory = memory.max(most);
    }
    table.add(vec![Row {
        what: "peak memory of a run that imports and exports",
        unit: "MB",
        ours: memory,
        peer: None,
        limit: Limit::AtMost(150.0),
    }]);
    table.add(uploads(&disk.0.join("uploads"), tools, rounds)?);
    Ok(())
}

impl Shape {
    /// Whether there are so many files that s3s-fs, which walks through all of them for each page of a list, and `rclone serve s3`, which
    /// takes a millisecond for each, would be measured in place of their clients.
    fn is_many(&self) -> bool {
        self.count > 10_000
    }
}

/// A server with the S3 API and something in it, and who gets at it.
struct Buckets<'a> {
    tools: &'a Path,
    dir: &'a Path,
    shape: &'a Shape,
    server: Server,
}

/// What answers.
enum Server {
    Disk(S3),
    Memory(Store),
}

impl Server {
    fn address(&self) -> &str {
        match self {
            Self::Disk(server) => &server.address,
            Self::Memory(server) => &server.address,
        }
    }
}

impl<'a> Buckets<'a> {
    fn start(tools: &'a Path, dir: &'a Path, shape: &'a Shape) -> Outcome<Self> {
        fs::create_dir_all(dir.join("root/bkt"))?;
        make_files(&dir.join("source"), shape.count, shape.size)?;
        if shape.is_many() {
            let server = Store::start()?;
            for path in files(&dir.join("source"))? {
                let key = path.strip_prefix(dir.join("source"))?.display().to_string();
                server.put(&format!("in/{key}"), fs::read(&path)?);
            }
            return Ok(Self { tools, dir, shape, server: Server::Memory(server) });
        }
        let server = Server::Disk(S3::start(tools, &dir.join("root"))?);
        let bench = Self { tools, dir, shape, server };
        // Through the server: what is placed in its directory has no checksum yet.
        wall(bench.s5cmd(&format!("{}/", dir.join("source").display()), "s3://bkt/in/"))?;
        Ok(bench)
    }

    /// Refuses a peer that did less than it should.
    fn check(&self, directory: &str, prefix: &str) -> Outcome<()> {
        let there = files(Path::new(directory))?.len();
        let sent = match &self.server {
            Server::Disk(_) => files(&self.dir.join("root/bkt").join(prefix))?.len(),
            Server::Memory(server) => server.count(&format!("{prefix}/")),
        };
        if (there, sent) == (self.shape.count, self.shape.count) {
            return Ok(());
        }
        Err(format!("`{directory}` has {there} files and `{prefix}` {sent}, not {}", self.shape.count).into())
    }

    fn s5cmd(&self, from: &str, to: &str) -> Command {
        let mut command = self.s5cmd_alone();
        command.args(["cp", from, to]);
        command
    }

    fn s5cmd_list(&self, of: &str) -> Command {
        let mut command = self.s5cmd_alone();
        command.args(["ls", of]);
        command
    }

    fn s5cmd_alone(&self) -> Command {
        let mut command = Command::new(self.tools.join("movers/bin/s5cmd"));
        command
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_REGION", "us-east-1");
        command.args(["--endpoint-url", &format!("http://{}", self.server.address())]);
        command
    }

    fn rclone(&self, from: &str, to: &str) -> Command {
        let mut command = Command::new(self.tools.join("movers/bin/rclone"));
        command.args(["--config", "/dev/null", "copy", from, to, "--transfers", "32", "--checkers", "32"]);
        command.args(["--s3-provider", "Other", "--s3-list-version", "2", "--low-level-retries", "1"]);
        command.args([
            "--s3-access-key-id",
            KEY,
            "--s3-secret-access-key",
            SECRET,
            "--s3-region",
            "us-east-1",
        ]);
        command.args(["--s3-endpoint", &format!("http://{}", self.server.address())]);
        command
    }

    /// The rows of this shape, and the most memory in megabytes that an agent had.
    fn measure(&self, rounds: usize) -> Outcome<(Vec<Row>, f64)> {
        let (mut first, mut second, mut out, mut lists) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mut s5_in, mut rclone_in, mut s5_out, mut rclone_out) =
            <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
        let memory = Peak::watch();
        let source = self.dir.join("source").display().to_string();
        for round in 0..rounds {
            stop::check()?;
            let to = |tool: &str| self.dir.join(format!("{tool}-{round}")).display().to_string();
            let key = |tool: &str| format!("out/{tool}-{round}");
            let mut ours = || -> Outcome<()> {
                let world = self.world(round)?;
                first.push(self.import(&world)?);
                second.push(self.import(&world)?);
                out.push(self.export(&world, &key("ours"))?);
                Ok(())
            };
            let mut peers = || -> Outcome<()> {
                s5_in.push(wall(self.s5cmd("s3://bkt/in/*", &format!("{}/", to("s5cmd"))))? / 1e3);
                rclone_in.push(wall(self.rclone(":s3:bkt/in", &to("rclone")))? / 1e3);
                lists.push(wall(self.s5cmd_list("s3://bkt/in/*"))?);
                s5_out.push(
                    wall(self.s5cmd(&format!("{source}/"), &format!("s3://bkt/{}/", key("s5cmd"))))? / 1e3,
                );
                rclone_out.push(wall(self.rclone(&source, &format!(":s3:bkt/{}", key("rclone"))))? / 1e3);
                for tool in ["s5cmd", "rclone"] {
                    self.check(&to(tool), &key(tool))?;
                }
                Ok(())
            };
            if round % 2 == 0 {
                ours()?;
                peers()?;
            } else {
                peers()?;
                ours()?;
            }
        }
        let Shape { import, second: again, export, .. } = self.shape;
        let row = |what, ours, s5cmd: Vec<f64>, rclone: Vec<f64>| {
            let (s5cmd, rclone) = (median(s5cmd), median(rclone));
            let peer = Some(if s5cmd <= rclone { ("s5cmd", s5cmd) } else { ("rclone", rclone) });
            Row { what, unit: "s", ours: median(ours), peer, limit: Limit::Ratio(1.0) }
        };
        let twice = median(second) * 1e3;
        let rows = vec![
            row(import, first, s5_in, rclone_in),
            Row {
                what: again,
                unit: "ms",
                ours: twice,
                peer: None,
                limit: Limit::AtMost(SECOND + median(lists)),
            },
            row(export, out, s5_out, rclone_out),
        ];
        Ok((rows, memory.end()))
    }

    fn world(&self, round: usize) -> Outcome<World> {
        let world = World::start(&self.dir.join(format!("ours-{round}")), self.dir)?;
        let mut create = world.command(["credential", "create", "keys", "--kind", "s3", "--username", KEY]);
        let mut child = create.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        child.stdin.take().ok_or("no pipe")?.write_all(SECRET.as_bytes())?;
        if child.wait()?.success() { Ok(world) } else { Err("no credential could be made".into()) }
    }

    fn bucket(&self, prefix: &str) -> String {
        let address = self.server.address();
        format!("s3: {{bucket: bkt, prefix: {prefix}, endpoint: 'http://{address}', credential_name: keys}}")
    }

    /// Seconds of an import.
    fn import(&self, world: &World) -> Outcome<f64> {
        let text = format!(
            "name: import\nimage: host://\nimport:\n  /in:\n    {}\nrun: 'true'\n",
            self.bucket("in")
        );
        seconds(&world.carry_out(&world.file("import.yaml", &text)?)?["imports"][0], self.shape.count)
    }

    /// Seconds of an export of the same files.
    fn export(&self, world: &World, prefix: &str) -> Outcome<f64> {
        let source = self.dir.join("source");
        let text = format!(
            "name: export\nimage: host://\nexport:\n  /out:\n    {}\nrun: mkdir -p /out && cp -r {}/. /out\n",
            self.bucket(prefix),
            source.display()
        );
        seconds(&world.carry_out(&world.file("export.yaml", &text)?)?["exports"][0], self.shape.count)
    }
}

/// Seconds of an import or export, as the run has them.
fn seconds(moved: &Value, files: usize) -> Outcome<f64> {
    if moved["files"].as_u64() != u64::try_from(files).ok() {
        return Err(format!("{files} files should have been moved: {moved}").into());
    }
    Ok(moved["millis"].as_f64().ok_or("the run has no time of it")? / 1e3)
}

/// All files below a directory.
fn files(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// A server with the S3 API on loopback, and its objects as files.
struct S3 {
    process: Child,
    address: String,
}

impl S3 {
    /// s3s-fs.
    fn start(tools: &Path, root: &Path) -> Outcome<Self> {
        let mut command = Command::new(tools.join("buckets/bin/s3s-fs"));
        command.args(["--host", "127.0.0.1", "--port", "0", "--access-key", KEY, "--secret-key", SECRET]);
        command.arg(root).env("RUST_LOG", "info");
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let said = process.stdout.take().ok_or("no pipe")?;
        let mut server = Self { process, address: String::new() };
        let mut lines = BufReader::new(said).lines().map_while(Result::ok);
        let address = lines.by_ref().find_map(|line| {
            let after = line.split_once("http://")?.1.to_owned();
            Some(after.chars().take_while(|c| c.is_ascii_digit() || ".:".contains(*c)).collect::<String>())
        });
        server.address = address.ok_or("the server of buckets ended before it listened")?;
        // It goes on writing, and must be read.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(server)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A gigabyte and more that no tool can make smaller; the same in each run.
pub(crate) fn make_files(dir: &Path, count: usize, size: usize) -> Outcome<()> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let mut buffer = vec![0; size.min(1 << 20)];
    for n in 0..count {
        let dir = dir.join(format!("{:03}", n / 1000));
        fs::create_dir_all(&dir)?;
        let mut file = fs::File::create(dir.join(format!("{n:06}")))?;
        let mut left = size;
        while left > 0 {
            let part = left.min(buffer.len());
            noise.fill(&mut buffer[..part]);
            file.write_all(&buffer[..part])?;
            left -= part;
        }
    }
    Ok(())
}

/// Xorshift: bytes without any pattern that a packer finds.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Looks again and again at how much memory the agents had at most.
struct Peak {
    over: std::sync::Arc<AtomicBool>,
    thread: std::thread::JoinHandle<u64>,
}

impl Peak {
    fn watch() -> Self {
        let over = std::sync::Arc::new(AtomicBool::new(false));
        let seen = std::sync::Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !seen.load(Ordering::Relaxed) {
                most = agents().into_iter().filter_map(|agent| peak_of(&agent)).fold(most, u64::max);
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        Self { over, thread }
    }

    /// Megabytes.
    fn end(self) -> f64 {
        self.over.store(true, Ordering::Relaxed);
        let kilobytes = self.thread.join().unwrap_or_default();
        number(usize::try_from(kilobytes).unwrap_or(usize::MAX)) * 1024.0 / 1e6
    }
}

/// Directories in `/proc` of the agents of this program.
fn agents() -> Vec<PathBuf> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let is_agent = |path: &PathBuf| {
        let Ok(line) = fs::read(path.join("cmdline")) else { return false };
        let mut words = line.split(|b| *b == 0);
        words.next() == Some(PROGRAM.as_bytes()) && words.next() == Some(b"agent")
    };
    processes.filter_map(|entry| Some(entry.ok()?.path())).filter(is_agent).collect()
}

/// Most kilobytes that a process had.
fn peak_of(process: &Path) -> Option<u64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// A dataset of 2 GB to the server, and once more when 1 MB of it is other.
fn uploads(dir: &Path, tools: &Path, rounds: usize) -> Outcome<Vec<Row>> {
    const SIZE: (usize, usize) = (2, 1_000_000_000);
    eprintln!("measuring: datasets of 2 GB");
    let (mut ours, mut ours_again) = (Vec::new(), Vec::new());
    let (mut restic, mut restic_again, mut dvc) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        stop::check()?;
        let dir = dir.join(round.to_string());
        let data = dir.join("dvc/data");
        make_files(&data, SIZE.0, SIZE.1)?;
        let source = data.display().to_string();
        let world = World::start(&dir.join("ours"), &dir)?;
        wall(world.command(["dataset", "create", "big"]))?;
        let upload = || world.command(["dataset", "upload", "big", &source, "/"]);
        let repository = dir.join("restic");
        let saved = |verb: &[&str]| {
            let mut command = Command::new("restic");
            command
                .env("RESTIC_PASSWORD", SECRET)
                .arg("--no-cache")
                .arg("--repo")
                .arg(&repository)
                .args(verb);
            command
        };
        wall(saved(&["init"]))?;
        let added = |verb: &[&str]| {
            let mut command = Command::new(tools.join("movers/bin/dvc"));
            command.current_dir(dir.join("dvc")).env("DVC_NO_ANALYTICS", "1").args(verb);
            command
        };
        wall(added(&["init", "--no-scm"]))?;
        ours.push(wall(upload())? / 1e3);
        restic.push(wall(saved(&["backup", &source]))? / 1e3);
        dvc.push(wall(added(&["add", "data"]))? / 1e3);
        change_a_megabyte(&data.join("000/000001"))?;
        ours_again.push(wall(upload())? / 1e3);
        restic_again.push(wall(saved(&["backup", &source]))? / 1e3);
    }
    let (restic, dvc) = (median(restic), median(dvc));
    let peer = if restic <= dvc { ("restic backup", restic) } else { ("dvc add", dvc) };
    Ok(vec![
        Row {
            what: "upload of a dataset of 2 GB",
            unit: "s",
            ours: median(ours),
            peer: Some(peer),
            limit: Limit::Ratio(0.8),
        },
        Row {
            what: "the same with 1 MB changed",
            unit: "s",
            ours: median(ours_again),
            peer: Some(("restic backup", median(restic_again))),
            limit: Limit::Ratio(0.3),
        },
    ])
}

/// In the middle of the file.
fn change_a_megabyte(path: &Path) -> Outcome<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    let mut bytes = vec![0; 1_000_000];
    Noise(0x2545_f491_4f6c_dd1d).fill(&mut bytes);
    file.seek(SeekFrom::Start(500_000_000))?;
    Ok(file.write_all(&bytes)?)
}
