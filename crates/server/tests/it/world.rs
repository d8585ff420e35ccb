//! A server for a test: its data directory, its machine, its clock; and one function to ask it.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;
use vessl_core::access::Caller;
use vessl_core::ids::{AttemptId, ClusterName, Nonce, ProjectRef, RunId, RunRef};
use vessl_core::plan::{Gpu, Node};
use vessl_core::record::MachineReport;
use vessl_server::testing::{About, Api, Auth, Clock, Entrance, Machine, Opened, Setup, World, open};
use vessl_server::{Config, ServerError};

/// Longest time that a test waits for anything.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
pub(crate) const RUNS: &str = "/v1/organizations/default/projects/default/runs";

/// What stays when a server dies: the disk, the machine, the time.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) world: Arc<World>,
    pub(crate) clock: watch::Sender<Timestamp>,
    pub(crate) config: Config,
    /// More clusters.
    pub(crate) others: BTreeMap<ClusterName, Arc<World>>,
}

fn machine(node: Node, clock: &watch::Sender<Timestamp>) -> Arc<World> {
    let report = MachineReport { v: 1, boot_id: "boot".to_owned(), node };
    let time = clock.subscribe();
    World::new(report, move || *time.borrow())
}

/// A run of the default project.
fn default_run(id: RunId) -> RunRef {
    RunRef { project: ProjectRef::new("default", "default"), id }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A place whose configuration is changed first. The machine has 4 cores, 16 GB and 2 GPUs.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let clock = watch::Sender::new("2024-05-01T12:00:00Z".parse().unwrap());
        let gpu =
            |index| Gpu { index, uuid: format!("GPU-{index}"), product: "NVIDIA T4".to_owned(), memory: 1 };
        let node =
            Node { name: "box".into(), cpu_milli: 4000, memory: 16_512_000_000, gpus: vec![gpu(0), gpu(1)] };
        let world = machine(node, &clock);
        let mut config = Config::default();
        change(&mut config);
        Self { dir: tempfile::tempdir().unwrap(), world, clock, config, others: BTreeMap::new() }
    }

    /// Adds a cluster with one node of this many cores.
    pub(crate) fn cluster(mut self, name: &str, node: &str, cores: u64) -> Self {
        let node = Node { name: node.into(), cpu_milli: cores * 1000, memory: 64 << 30, gpus: Vec::new() };
        self.others.insert(name.into(), machine(node, &self.clock));
        self
    }

    pub(crate) fn setup(&self) -> Setup {
        Setup {
            config: self.config.clone(),
            data: self.dir.path().join("data"),
            machine: Machine::Fake(Arc::clone(&self.world)),
            others: self
                .others
                .iter()
                .map(|(name, world)| (name.clone(), Machine::Fake(Arc::clone(world))))
                .collect(),
            clock: Clock::Fixed(self.clock.subscribe()),
        }
    }

    /// Opens a server here, without a socket.
    pub(crate) async fn open(&self) -> Server {
        self.server(open(self.setup()).await.unwrap())
    }

    fn server(&self, opened: Opened) -> Server {
        let about = About {
            url: "http://127.0.0.1:1".to_owned(),
            data_dir: "DATA".to_owned(),
            started_at: *self.clock.borrow(),
            open_bodies: 64,
            stop: tokio_util::sync::CancellationToken::new(),
        };
        let guard = Auth::new(opened.token.clone(), Some(Vec::new()), Entrance::Unix);
        let router = Api::new(opened.control.clone(), opened.registry.clone(), guard, about).router();
        Server { token: opened.token.expose().to_owned(), router, opened, data: self.dir.path().join("data") }
    }

    /// Opens a server as soon as the one before has let go.
    pub(crate) async fn open_when_free(&self) -> Server {
        let waiting = async {
            loop {
                match open(self.setup()).await {
                    Ok(opened) => return self.server(opened),
                    Err(ServerError::Taken { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the lock is free")
    }

    /// Directory of a run.
    pub(crate) fn run_dir(&self, id: RunId) -> std::path::PathBuf {
        self.dir.path().join("data/runs").join(id.0.to_string())
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.clock.send_modify(|now| *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap());
    }
}

/// An open server.
pub(crate) struct Server {
    pub(crate) token: String,
    pub(crate) router: Router,
    pub(crate) opened: Opened,
    data: std::path::PathBuf,
}

/// An answer: status and JSON (or text).
pub(crate) type Answer = (StatusCode, Value);

impl Server {
    /// Stops it as a signal would; the machine goes on.
    pub(crate) async fn close(self) {
        self.opened.control.stop(DEADLINE).await;
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:1")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body)
            .unwrap();
        self.send(request).await
    }

    /// Sends bytes.
    pub(crate) async fn bytes(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "127.0.0.1:1")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body.into())
            .unwrap();
        self.send(request).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let read = axum::body::to_bytes(response.into_body(), usize::MAX);
        let bytes = tokio::time::timeout(DEADLINE, read).await.expect("the answer ends").unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Opens an answer that goes on.
    pub(crate) async fn stream(&self, path: &str) -> Parts {
        let request = Request::builder()
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Body::empty())
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Parts(answer.into_body().into_data_stream())
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// Asks for something that is made or changed.
    pub(crate) async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, value) = self.ask(method, path, Some(body)).await;
        assert!(status.is_success(), "{method} {path}: {status} {value}");
        value
    }

    /// Submits a run whose commands are `script`.
    pub(crate) async fn submit(&self, script: &str) -> RunId {
        self.submit_yaml(&run_file("a run", "", script)).await
    }

    pub(crate) async fn submit_yaml(&self, yaml: &str) -> RunId {
        let (status, value) = self.ask("POST", RUNS, Some(json!({ "yaml": yaml }))).await;
        assert_eq!(status, StatusCode::CREATED, "{value:#}");
        RunId(value["id"].as_u64().unwrap())
    }

    /// Directory of the run's first attempt.
    pub(crate) async fn attempt_dir(&self, id: RunId) -> std::path::PathBuf {
        let (attempt, _) =
            self.opened.control.attempt(&Caller::admin(), &default_run(id), None).await.unwrap();
        self.data.join("runs").join(id.0.to_string()).join(attempt.name())
    }

    pub(crate) async fn run(&self, id: RunId) -> Value {
        self.get(&format!("{RUNS}/{}", id.0)).await
    }

    /// Every event of the run up to its end, as text.
    pub(crate) async fn events_to_end(&self, id: RunId) -> String {
        let value = self.get(&format!("{RUNS}/{}/events", id.0)).await;
        value.as_str().unwrap().to_owned()
    }

    /// Waits until the run has this status, by its events.
    pub(crate) async fn until(&self, id: RunId, status: &str) -> Value {
        let mut changes = self.opened.control.follow(id);
        let waiting = async {
            loop {
                let run = self.run(id).await;
                if run["status"] == status {
                    return run;
                }
                let more = match &mut changes {
                    Some(follow) => follow.changed().await.is_ok(),
                    None => false,
                };
                if !more {
                    let run = self.run(id).await;
                    assert_eq!(run["status"], status, "{run:#}");
                    return run;
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the run gets there")
    }

    /// Waits until no driver works for the run: it has ended and nothing of it is left on the machine.
    pub(crate) async fn settled(&self, id: RunId) -> Value {
        let waiting = async {
            while let Some(mut follow) = self.opened.control.follow(id) {
                if follow.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the run settles");
        self.run(id).await
    }
}

/// An answer that goes on.
pub(crate) struct Parts(axum::body::BodyDataStream);

impl Parts {
    /// The next part, as text.
    pub(crate) async fn next(&mut self) -> String {
        let part = tokio::time::timeout(DEADLINE, futures::StreamExt::next(&mut self.0)).await;
        String::from_utf8(part.expect("there is more").expect("it goes on").unwrap().to_vec()).unwrap()
    }
}

/// A run file with these lines below its name and this command.
pub(crate) fn run_file(name: &str, lines: &str, command: &str) -> String {
    let command = if command.is_empty() { "true" } else { command };
    let lines_of_command: Vec<String> =
        command.lines().map(|line| format!("      {}", line.trim())).collect();
    format!("name: {name}\nimage: alpine:3\n{lines}\nrun:\n  - command: |\n{}\n", lines_of_command.join("\n"))
}

pub(crate) fn first_attempt(run: RunId) -> AttemptId {
    AttemptId { run, number: 1, nonce: Nonce::default() }
}
