//! The agent program as a child process: its verbs, its pipes, its environment. It knows no run states.
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use vessl_core::ahead::{FetchOrder, FetchStep};
use vessl_core::jupyter;
use vessl_core::network::{Network, Pool, Reach};
use vessl_core::record::{Login, MachineReport, Proof, Secrets};
use vessl_core::wire::{CacheEntry, CachePruned, ImageView, Progress, Pruned};
use zeroize::Zeroizing;

use super::super::{EngineError, PullStep};
use crate::config::Config;

/// Longest time a verb that only looks may take.
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Longest time a verb that removes files may take.
const REMOVE_LIMIT: Duration = Duration::from_mins(10);
/// Bytes of standard error that are quoted in an error.
const QUOTED: usize = 600;
/// What an agent may see of our environment; everything else stays here.
const ENVIRONMENT: [&str; 28] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Which program is the agent, and what it is told about the server.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    told: Vec<(&'static str, OsString)>,
}

impl Program {
    /// The program at `path`, with the settings that it needs. Registries of `insecure_registries` (`host:port`) are spoken to without
    /// TLS.
    pub(crate) fn new(path: PathBuf, config: &Config) -> Self {
        let told = vec![
            ("VESSL_INSECURE_REGISTRIES", config.insecure_registries.join(",").into()),
            (jupyter::INDEX_VARIABLE, config.jupyter_index.clone().into()),
            (jupyter::WHEELS_VARIABLE, config.jupyter_wheels.clone().into()),
        ];
        Self { path, told }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("agent").env_clear().current_dir("/").stdin(Stdio::null());
        for name in ENVIRONMENT {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.told.iter().map(|(name, value)| (name, value)));
        command
    }

    fn failed(&self, source: std::io::Error) -> EngineError {
        EngineError::Program { program: self.path.clone(), source }
    }

    /// Starts a supervisor that outlives us, and hands it the secrets through its standard input.
    pub(super) async fn supervise(
        &self,
        data: &Path,
        dir: &Path,
        (secrets, network): (&Secrets, Network),
    ) -> Result<Child, EngineError> {
        let mut command = self.on_attempt("supervise", (data, dir))?;
        command.arg("--network").arg(network.to_string()).stdout(Stdio::null());
        self.with_secrets(command, secrets).await
    }

    /// The same for the exports of an attempt alone; it says a line when it has taken them.
    pub(super) async fn export(
        &self,
        data: &Path,
        dir: &Path,
        secrets: &Secrets,
    ) -> Result<Child, EngineError> {
        let mut command = self.on_attempt("export", (data, dir))?;
        command.stdout(Stdio::piped());
        self.with_secrets(command, secrets).await
    }

    /// An agent that works in an attempt's directory and says there what goes wrong.
    fn on_attempt(&self, verb: &str, (data, dir): (&Path, &Path)) -> Result<Command, EngineError> {
        let file = |source| EngineError::File { what: "open", path: dir.join("agent.log"), source };
        let log = open_log(&dir.join("agent.log")).map_err(file)?;
        let mut command = self.command();
        command.arg(verb).arg("--data").arg(data).arg(dir);
        command.stderr(log).kill_on_drop(false);
        Ok(command)
    }

    /// Starts it with these secrets on its standard input.
    async fn with_secrets(&self, mut command: Command, secrets: &Secrets) -> Result<Child, EngineError> {
        let document = self.document(secrets)?;
        command.stdin(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.failed(error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // An agent that ends before it has read everything says why by itself.
            let _ = stdin.write_all(&document).await;
            let _ = stdin.shutdown().await;
        }
        Ok(child)
    }

    /// Asks what became of an attempt whose lock is free.
    pub(super) async fn proof(&self, dir: &Path) -> Result<Proof, EngineError> {
        let mut command = self.command();
        command.arg("proof").arg(dir);
        self.json("proof", command, LOOK_LIMIT).await
    }

    /// Tells the agent of an attempt to listen anew; false if there is none.
    pub(super) async fn listen(&self, dir: &Path) -> Result<bool, EngineError> {
        let mut command = self.command();
        command.arg("listen").arg(dir);
        let said: serde_json::Value = self.json("listen", command, LOOK_LIMIT).await?;
        Ok(said["told"] == true)
    }

    /// Removes what an attempt left.
    pub(super) async fn remove(&self, data: &Path, dir: &Path) -> Result<(), EngineError> {
        let mut command = self.command();
        command.arg("remove").arg("--data").arg(data).arg(dir);
        self.output("remove", command, REMOVE_LIMIT).await.map(drop)
    }

    /// Removes what an attempt left for its exports.
    pub(super) async fn forget(&self, data: &Path, dir: &Path) -> Result<(), EngineError> {
        let mut command = self.command();
        command.arg("forget").arg("--data").arg(data).arg(dir);
        self.output("forget", command, REMOVE_LIMIT).await.map(drop)
    }

    /// Sets up what runs with a network of their own share, and tries it.
    pub(super) async fn open_network(&self, pool: Pool, reach: Reach) -> Result<(), EngineError> {
        let word = match reach {
            Reach::Beyond => "beyond",
            Reach::Everything => "everything",
        };
        let mut command = self.command();
        command.arg("network").arg(pool.to_string()).arg(word);
        self.output("network", command, LOOK_LIMIT).await.map(drop)
    }

    /// Starts the process that serves a connection by SSH. It outlives us; it asks on the socket while we are there.
    pub(super) fn ssh(
        &self,
        data: &Path,
        connection: OwnedFd,
        ends: &str,
    ) -> Result<(Child, UnixStream), EngineError> {
        let failed = |source| self.failed(source);
        let (questions, theirs) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        questions.set_nonblocking(true).map_err(failed)?;
        let mut command = self.command();
        command.args(["ssh", "--data"]).arg(data).args(["--from", ends]);
        // It has nothing of our environment; nobody reads what it says.
        command.env_clear().stdin(connection).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
        command.process_group(0).kill_on_drop(false);
        let child = command.spawn().map_err(failed)?;
        Ok((child, UnixStream::from_std(questions).map_err(failed)?))
    }

    /// Asks what the machine has.
    pub(crate) async fn machine(&self) -> Result<MachineReport, EngineError> {
        let mut command = self.command();
        command.arg("machine");
        self.json("machine", command, LOOK_LIMIT).await
    }

    /// Lists images.
    pub(in crate::engine) async fn images(&self, data: &Path) -> Result<Vec<ImageView>, EngineError> {
        self.json("images list", self.on_images(data, "list"), LOOK_LIMIT).await
    }

    /// Removes unused images.
    pub(in crate::engine) async fn prune(&self, data: &Path) -> Result<Pruned, EngineError> {
        self.json("images prune", self.on_images(data, "prune"), REMOVE_LIMIT).await
    }

    /// Looks at an image of this machine.
    pub(in crate::engine) async fn check_image(
        &self,
        data: &Path,
        reference: &str,
        roots: &[String],
    ) -> Result<Option<String>, EngineError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            why: Option<String>,
        }
        let mut command = self.on_images(data, "check");
        command.arg(reference).args(roots);
        let answer: Answer = self.json("images check", command, LOOK_LIMIT).await?;
        Ok(answer.why)
    }

    /// Lists what imports brought to the machine.
    pub(in crate::engine) async fn cache(&self, data: &Path) -> Result<Vec<CacheEntry>, EngineError> {
        self.json("cache list", self.on_cache(data, &["list"]), LOOK_LIMIT).await
    }

    /// Removes what no run uses of it until at most `keep` bytes are left.
    pub(in crate::engine) async fn prune_cache(
        &self,
        data: &Path,
        keep: u64,
    ) -> Result<CachePruned, EngineError> {
        self.json("cache prune", self.on_cache(data, &["prune", &keep.to_string()]), REMOVE_LIMIT).await
    }

    fn on_cache(&self, data: &Path, words: &[&str]) -> Command {
        let mut command = self.command();
        command.args(["cache", "--data"]).arg(data).args(words);
        command
    }

    fn on_images(&self, data: &Path, verb: &str) -> Command {
        let mut command = self.command();
        command.args(["images", "--data"]).arg(data).arg(verb);
        command
    }

    /// Pulls an image. Dropping the receiver ends the pull; what was fetched stays usable.
    pub(in crate::engine) async fn pull(
        &self,
        data: &Path,
        reference: String,
        login: Option<Login>,
    ) -> Result<mpsc::Receiver<Result<PullStep, EngineError>>, EngineError> {
        let mut command = self.on_images(data, "pull");
        command.arg(reference);
        let document = login.map(|login| self.document(&login)).transpose()?;
        self.lines("images pull", command, document, step).await
    }

    /// Fetches what a run imports. Dropping the receiver ends it; what came as a whole stays.
    pub(in crate::engine) async fn fetch(
        &self,
        data: &Path,
        order: &FetchOrder,
    ) -> Result<mpsc::Receiver<Result<FetchStep, EngineError>>, EngineError> {
        let mut command = self.command();
        command.args(["fetch", "--data"]).arg(data);
        let document = self.document(order)?;
        self.lines("fetch", command, Some(document), |line| serde_json::from_str(line)).await
    }

    fn document(&self, what: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, EngineError> {
        serde_json::to_vec(what).map(Zeroizing::new).map_err(|error| self.failed(error.into()))
    }

    /// Starts a verb that prints a line for each step; it gets the document on its standard input. Dropping the receiver ends it.
    async fn lines<T: Send + 'static>(
        &self,
        verb: &'static str,
        mut command: Command,
        document: Option<Zeroizing<Vec<u8>>>,
        parse: fn(&str) -> serde_json::Result<T>,
    ) -> Result<mpsc::Receiver<Result<T, EngineError>>, EngineError> {
        command.kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.failed(error))?;
        if let Some(mut stdin) = child.stdin.take() {
            if let Some(document) = document {
                let _ = stdin.write_all(&document).await;
            }
            let _ = stdin.shutdown().await;
        }
        let (steps, received) = mpsc::channel(16);
        tokio::spawn(follow(verb, child, steps, parse));
        Ok(received)
    }

    async fn json<T: DeserializeOwned>(
        &self,
        verb: &'static str,
        command: Command,
        limit: Duration,
    ) -> Result<T, EngineError> {
        let output = self.output(verb, command, limit).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| EngineError::Verb {
            verb,
            why: format!("it printed something unknown: {error}"),
        })
    }

    async fn output(
        &self,
        verb: &'static str,
        mut command: Command,
        limit: Duration,
    ) -> Result<Output, EngineError> {
        command.kill_on_drop(true);
        let output = tokio::time::timeout(limit, command.output())
            .await
            .map_err(|_| EngineError::Verb {
                verb,
                why: format!("it took longer than {} s", limit.as_secs()),
            })?
            .map_err(|error| self.failed(error))?;
        if output.status.success() {
            return Ok(output);
        }
        Err(EngineError::Verb { verb, why: said(&output.stderr, output.status) })
    }
}

/// Waits for the first line that a program prints; false if it ends without one.
pub(super) async fn first_line(child: &mut Child) -> bool {
    let Some(stdout) = child.stdout.take() else { return false };
    matches!(BufReader::new(stdout).lines().next_line().await, Ok(Some(_)))
}

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn said(stderr: &[u8], status: std::process::ExitStatus) -> String {
    let tail = String::from_utf8_lossy(&stderr[stderr.len().saturating_sub(QUOTED)..]).trim().to_owned();
    if tail.is_empty() { format!("it ended with {status} and said nothing") } else { tail }
}

async fn follow<T>(
    verb: &'static str,
    mut child: Child,
    steps: mpsc::Sender<Result<T, EngineError>>,
    parse: fn(&str) -> serde_json::Result<T>,
) {
    let stderr = child.stderr.take();
    let errors = tokio::spawn(async move {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(1 << 20).read_to_end(&mut text).await;
        }
        text
    });
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).lines();
        loop {
            let line = tokio::select! {
                line = lines.next_line() => line,
                () = steps.closed() => return, // nobody listens: the child is killed with its handle
            };
            let Ok(Some(line)) = line else { break };
            let step = parse(&line).map_err(|error| EngineError::Verb {
                verb,
                why: format!("it printed something unknown: {error}"),
            });
            if steps.send(step).await.is_err() {
                return;
            }
        }
    }
    let errors = errors.await.unwrap_or_default();
    let failure = match child.wait().await {
        Ok(status) if status.success() => return,
        Ok(status) => said(&errors, status),
        Err(error) => error.to_string(),
    };
    let _ = steps.send(Err(EngineError::Verb { verb, why: failure })).await;
}

fn step(line: &str) -> serde_json::Result<PullStep> {
    match serde_json::from_str::<Progress>(line) {
        Ok(progress) => Ok(PullStep::Progress(progress)),
        Err(_) => serde_json::from_str::<ImageView>(line).map(PullStep::Done),
    }
}
