//! Our own program with a data directory of its own, and its server.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::timing::{output, wall};
use crate::{Outcome, stop};

/// The program as it is released.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_vessl");
/// Longest time until the server listens, or a run is where it is waited for.
const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(5);

/// A data directory with its server.
pub(crate) struct World {
    dir: PathBuf,
    server: Child,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// Token of the server.
    pub(crate) token: String,
}

impl World {
    /// Makes it and waits until the server listens. `shared` may be mounted by runs.
    pub(crate) fn start(dir: &Path, shared: &Path) -> Outcome<Self> {
        Self::start_with(dir, shared, "")
    }

    /// The same with more settings.
    pub(crate) fn start_with(dir: &Path, shared: &Path, settings: &str) -> Outcome<Self> {
        fs::create_dir_all(dir.join("home"))?;
        let roots = shared.display();
        let config = format!(
            "listen = \"127.0.0.1:0\"\nssh_listen = \"127.0.0.1:0\"\nssh_all_runs = true\nhostpath_roots = [\"{roots}\"]\n{settings}"
        );
        fs::write(dir.join("server.toml"), config)?;
        let log = fs::File::create(dir.join("log"))?;
        let mut command = program(dir);
        command.args(["server", "run", "--config"]).arg(dir.join("server.toml"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let (server, address, token) = (command.spawn()?, String::new(), String::new());
        let mut world = Self { dir: dir.to_owned(), server, address, token };
        let lead = world.until("the server does not listen", || {
            let text = fs::read(dir.join("data/server.json")).ok()?;
            serde_json::from_slice::<Value>(&text).ok()
        })?;
        let url = lead["url"].as_str().ok_or("`server.json` has no address")?;
        url.trim_start_matches("http://").clone_into(&mut world.address);
        fs::read_to_string(dir.join("data/token"))?.trim().clone_into(&mut world.token);
        Ok(world)
    }

    /// Process of the server.
    pub(crate) fn server(&self) -> u32 {
        self.server.id()
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A call of the program.
    pub(crate) fn command<const N: usize>(&self, args: [&str; N]) -> Command {
        let mut command = program(&self.dir);
        command.args(args);
        command
    }

    /// A run file in this world.
    pub(crate) fn file(&self, name: &str, text: &str) -> Outcome<String> {
        let path = self.dir.join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Submits a run file; its id.
    pub(crate) fn create(&self, file: &str) -> Outcome<String> {
        let run = output(self.command(["run", "create", "-f", file, "--output", "json"]))?;
        Ok(serde_json::from_slice::<Value>(&run)?["id"].to_string())
    }

    /// Submits a run file and waits for its end; the run.
    pub(crate) fn carry_out(&self, file: &str) -> Outcome<Value> {
        let done = output(self.command(["run", "create", "-f", file, "--wait", "--output", "json"]))?;
        Ok(serde_json::from_slice(&done)?)
    }

    /// Waits until there is something.
    pub(crate) fn until<T>(&self, otherwise: &str, mut there: impl FnMut() -> Option<T>) -> Outcome<T> {
        let began = Instant::now();
        loop {
            if let Some(there) = there() {
                return Ok(there);
            }
            stop::check()?;
            if began.elapsed() > PATIENCE {
                let said = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                return Err(format!("{otherwise}: {}", said.lines().last().unwrap_or_default()).into());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Ends a run and waits until it is over.
    pub(crate) fn terminate(&self, id: &str) -> Outcome<()> {
        wall(self.command(["run", "terminate", id]))?;
        wall(self.command(["run", "logs", "-f", id])).map(drop)
    }

    /// Ends what a measurement that failed has left; those that wait first, so that none of them starts.
    fn end_runs(&self) {
        for status in ["queued", "running"] {
            let list = ["run", "list", "--all", "--status", status, "--output", "json"];
            let runs: Vec<Value> = output(self.command(list))
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok())
                .unwrap_or_default();
            for run in runs {
                let _ = self.terminate(&run["id"].to_string());
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end_runs();
        let _ = kill(Pid::from_raw(self.server.id().cast_signed()), Signal::SIGTERM);
        let _ = self.server.wait();
    }
}

/// The program with nothing around it but what belongs to `dir`.
fn program(dir: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir.join("home"))
        .env("VESSL_DATA", dir.join("data"));
    command
}
