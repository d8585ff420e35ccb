//! Attempts of the local engine with a shell script as the agent: real processes, real locks, real signals.
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vessl_core::ids::{Nonce, ProjectRef, RunId};
use vessl_core::plan::{Amounts, Bounds, ImagePlan, PLAN_VERSION, Plan};
use vessl_core::record::Secrets;
use vessl_core::run::Terminate;
use vessl_core::units::Span;

use super::*;
use crate::chain;
use crate::config::Config;
use crate::engine::EngineError;
use crate::engine::local::{Local, Program};
use crate::paths::DataDir;
use crate::watch::Watches;

const DEADLINE: Duration = Duration::from_mins(1);
const AT: AttemptId = AttemptId { run: RunId(100_000_000_001), number: 1, nonce: Nonce(9) };

/// What every agent of these tests has in common. `$DIR` is the run directory; `rest` is what `supervise` does.
fn script(rest: &str) -> String {
    format!(
        r#"#!/bin/sh
case "$2" in
supervise) DIR="$5";;
proof) DIR="$3"; [ -s "$DIR/proof" ] && exec cat "$DIR/proof"; echo '{{"proof":"never_started"}}'; exit;;
remove) echo removed >> "$5/removed"; rm -rf "$5/box"; exit;;
machine) echo nonsense; exit;;
network) exit 1;;
esac
exec 9>"$DIR/lock"
flock -n 9 || exit 3
event() {{ printf '{{"v":1,"seq":%s,"at":"2024-05-01T12:00:0%sZ","what":%s}}\n' "$1" "$1" "$2" >> "$DIR/events"; }}
started() {{ cat > "$DIR/secrets.seen"; env > "$DIR/env.seen"; event 1 '{{"kind":"started","boot_id":"b","pid":1,"start_time":1,"unit":"u","nonce":"0000000000000009"}}'; }}
ended() {{
  printf '{{"v":1,"run":100000000001,"attempt":1,"nonce":"0000000000000009","status":"completed","reason":"done","exit_code":0,"oom":false,"started_at":null,"ended_at":"2024-05-01T12:00:09Z","imports":[],"exports":[],"cleanup":null}}' > "$DIR/exit.new"
  mv "$DIR/exit.new" "$DIR/exit.json"
}}
{rest}
"#
    )
}

struct Bench {
    dir: tempfile::TempDir,
    attempts: Attempts,
    engine: Engine,
}

impl Bench {
    /// An engine with this agent.
    fn new(rest: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = dir.path().join("agent");
        std::fs::write(&agent, script(rest)).unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self::open(dir, "data")
    }

    /// An engine for the data directory of this name.
    fn open(dir: tempfile::TempDir, data: &str) -> Self {
        let root = dir.path().join(data);
        let attempts = Attempts::new(DataDir::new(&root), Watches::start().unwrap());
        let config = Config { insecure_registries: vec!["registry:5000".to_owned()], ..Config::default() };
        let program = Program::new(dir.path().join("agent"), &config);
        let engine = Engine::Local(Local::new(
            root,
            attempts.clone(),
            program,
            Config::default().network_of(&"local".into()),
        ));
        Self { dir, attempts, engine }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.attempts.dir(AT).path().join(name)
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    async fn start(&self) -> Result<(), EngineError> {
        let (plan, secrets) = (plan(), secrets());
        self.attempts.begin(&plan).await.unwrap();
        let started = tokio::time::timeout(DEADLINE, self.engine.start(&plan, &secrets));
        started.await.expect("the start ends")
    }

    async fn look(&self) -> Observation {
        self.events_after(0).await.observed
    }

    async fn events_after(&self, after: u64) -> Snapshot {
        observe(&self.engine, &self.attempts, AT, after).await
    }

    /// Looks again at every signal until `wanted`.
    async fn until(&self, wanted: impl Fn(&Observation) -> bool) -> Observation {
        let mut changes = self.attempts.follow(AT);
        let looking = async {
            loop {
                let look = self.look().await;
                if wanted(&look) {
                    return look;
                }
                changes.changed().await;
            }
        };
        tokio::time::timeout(DEADLINE, looking).await.expect("it is seen")
    }
}

fn plan() -> Plan {
    Plan {
        v: PLAN_VERSION,
        run: AT.run,
        attempt: AT.number,
        nonce: AT.nonce,
        instance: "0123abcd".to_owned(),
        name: "x".to_owned(),
        project: ProjectRef::new("o", "p"),
        cluster: "local".into(),
        nodes: Vec::new(),
        preset: None,
        resources: Amounts::default(),
        image: ImagePlan::Host,
        image_digest: None,
        imports: Vec::new(),
        mounts: Vec::new(),
        exports: Vec::new(),
        items: Vec::new(),
        shell: vessl_core::spec::Shell::default(),
        env: Vec::new(),
        ports: Vec::new(),
        interactive: None,
        max_runtime: None,
        termination_protection: false,
        grace: Span(1000),
        export_limit: Span(1000),
        bounds: Bounds::default(),
        no_new_privs: false,
        placement: None,
        fence: None,
    }
}

fn secrets() -> Secrets {
    let env = [("A".to_owned(), "hunter2".into())].into();
    Secrets { env, ..Secrets::default() }
}

#[tokio::test]
async fn an_agent_from_start_to_removal() {
    let bench = Bench::new(
        "mkfifo \"$DIR/go\"; started; mkdir \"$DIR/box\"; event 2 '{\"kind\":\"phase\",\"phase\":\"running\"}'
         cat \"$DIR/go\"; ended",
    );
    assert_eq!(bench.look().await, Observation::Nothing);
    bench.start().await.unwrap();
    let running = bench.until(|look| matches!(look, Observation::Alive { phase: Some(_), .. })).await;
    let Observation::Alive { started_at, .. } = running else { unreachable!() };
    assert_eq!(started_at, Some("2024-05-01T12:00:02Z".parse().unwrap()));
    assert_eq!(bench.events_after(1).await.events.len(), 1, "only what is new");
    bench.start().await.expect("a second start leaves it as it is");
    std::fs::write(bench.file("go"), "").unwrap();
    let ended = bench.until(|look| matches!(look, Observation::Exited { left: Left::Scratch, .. })).await;
    let Observation::Exited { record, .. } = ended else { unreachable!() };
    assert_eq!(record.exit_code, Some(0));
    bench.engine.remove(AT).await.unwrap();
    assert!(matches!(bench.look().await, Observation::Exited { left: Left::Nothing, .. }));
    assert_eq!(bench.read("events").lines().count(), 2, "it was started once");
}

#[tokio::test]
async fn secrets_go_through_the_pipe_and_the_environment_is_small() {
    let bench = Bench::new("started; ended");
    bench.start().await.unwrap();
    bench.until(|look| matches!(look, Observation::Exited { left: Left::Nothing, .. })).await;
    let seen: Secrets = serde_json::from_str(&bench.read("secrets.seen")).unwrap();
    assert!(seen == secrets());
    let environment = bench.read("env.seen");
    assert!(environment.contains("VESSL_INSECURE_REGISTRIES=registry:5000"), "{environment}");
    // Cargo sets this for every test.
    assert!(std::env::var("CARGO_PKG_NAME").is_ok() && !environment.contains("CARGO_"), "{environment}");
    for file in ["plan.json", "env.seen", "agent.log"] {
        assert!(!bench.read(file).contains("hunter2"), "{file}");
    }
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(bench.attempts.dir(AT).path()), 0o700);
    assert_eq!(mode(&bench.file("plan.json")), 0o600);
}

#[tokio::test]
async fn an_agent_that_outlives_the_server_is_found_again_by_its_lock() {
    let bench = Bench::new("mkfifo \"$DIR/go\"; started; cat \"$DIR/go\"; ended");
    bench.start().await.unwrap();
    let Bench { dir, engine, .. } = bench;
    drop(engine);
    let bench = Bench::open(dir, "data");
    assert!(matches!(bench.look().await, Observation::Alive { .. }));
    bench.start().await.expect("it is left as it is");
    std::fs::write(bench.file("go"), "").unwrap();
    bench.until(|look| matches!(look, Observation::Exited { left: Left::Nothing, .. })).await;
    assert!(bench.dir.path().exists());
}

#[tokio::test]
async fn a_start_that_fails_says_why() {
    let bench = Bench::new("echo 'no such kernel feature' >&2; exit 7");
    let said = bench.start().await.unwrap_err().to_string();
    assert!(said.contains("exit status: 7") && said.contains("no such kernel feature"), "{said}");
    let Observation::Refused { why } = bench.look().await else { panic!("not refused") };
    assert!(why.contains("no such kernel feature"), "{why}");
    bench.engine.remove(AT).await.unwrap();
    assert_eq!(bench.look().await, Observation::Nothing);
}

#[tokio::test]
async fn a_program_that_is_missing_and_a_disk_that_refuses_are_told() {
    let bench = Bench::open(tempfile::tempdir().unwrap(), "data");
    let said = chain(&bench.start().await.unwrap_err());
    assert!(said.starts_with("cannot run `") && said.contains("agent"), "{said}");
    assert!(matches!(bench.look().await, Observation::Refused { .. }));
    let bench = Bench::new("started");
    std::fs::write(bench.dir.path().join("data"), "not a directory").unwrap();
    let said = chain(&bench.attempts.begin(&plan()).await.unwrap_err());
    assert!(said.starts_with("cannot make room in `"), "{said}");
}

#[tokio::test]
async fn death_needs_a_proof() {
    let bench = Bench::new(
        "started; mkdir \"$DIR/box\"; echo '{\"proof\":\"dead\",\"why\":\"it is gone\"}' > \"$DIR/proof\"",
    );
    bench.start().await.unwrap();
    let dead = bench.until(|look| matches!(look, Observation::Dead { .. })).await;
    let (started_at, exit_code, left) = (None, None, Left::Scratch);
    assert_eq!(
        dead,
        Observation::Dead { proof: "it is gone".to_owned(), started_at, exit_code, exporting: false, left }
    );
    let bench =
        Bench::new("started; echo '{\"proof\":\"alive\",\"why\":\"a process is left\"}' > \"$DIR/proof\"");
    bench.start().await.unwrap();
    let unsure = bench.until(|look| matches!(look, Observation::Unreachable { .. })).await;
    assert_eq!(unsure, Observation::Unreachable { why: "a process is left".to_owned() });
    let bench = Bench::new("started; echo nonsense > \"$DIR/proof\"");
    bench.start().await.unwrap();
    bench.until(|look| matches!(look, Observation::Unreachable { .. })).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_no_end() {
    for (file, text) in [
        ("exit.json", "{"),
        ("exit.json", "{\"v\":1}"),
        ("exit.json", "\u{0}"),
        (
            "events",
            "{\"v\":1,\"seq\":1,\"at\":\"2024-05-01T12:00:00Z\",\"what\":{\"kind\":\"from the future\"}}\n",
        ),
    ] {
        let bench = Bench::new("");
        std::fs::create_dir_all(bench.file("")).unwrap();
        std::fs::write(bench.file(file), text).unwrap();
        let look = bench.look().await;
        assert!(matches!(look, Observation::Unreachable { .. }), "{file} {text:?}: {look:?}");
    }
    // One that is not even JSON leaves the proof to the machine.
    let bench = Bench::new(
        "started; echo garbage > \"$DIR/exit.json\"; echo '{\"proof\":\"dead\",\"why\":\"it is gone\"}' > \"$DIR/proof\"",
    );
    bench.start().await.unwrap();
    bench.until(|look| matches!(look, Observation::Dead { proof, .. } if proof == "it is gone")).await;
    // Events that are not, say nothing, but take nothing from the record.
    let bench = Bench::new("started; echo nonsense > \"$DIR/events\"; ended");
    bench.start().await.unwrap();
    bench.until(|look| matches!(look, Observation::Exited { .. })).await;
    // A last line that is still being written is not there yet.
    let bench = Bench::new("");
    std::fs::create_dir_all(bench.file("")).unwrap();
    std::fs::write(bench.file("events"), "{\"v\":1,\"se").unwrap();
    assert_eq!(bench.look().await, Observation::Nothing);
}

#[tokio::test]
async fn stop_speaks_to_the_socket_however_deep_it_is() {
    use std::io::{BufRead, BufReader, Write};
    let bench = Bench::open(tempfile::tempdir().unwrap(), &"d".repeat(120));
    std::fs::create_dir_all(bench.file("")).unwrap();
    let how = Terminate { at: "2024-05-01T12:00:00Z".parse().unwrap(), grace_s: 7, export: false };
    let said = bench.engine.stop(AT, &how).await.unwrap_err().to_string();
    assert!(said.contains("does not answer"), "{said}");
    // Bound below a short name and moved there, because an address has 108 bytes.
    let short = bench.dir.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&short).unwrap();
    std::fs::rename(&short, bench.file("control.sock")).unwrap();
    let answers = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in
            ["{\"ok\":true,\"error\":null}\n", "{\"ok\":false,\"error\":\"too late\"}\n", "nonsense\n"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            asked.push(line);
        }
        asked
    });
    bench.engine.stop(AT, &how).await.unwrap();
    assert!(bench.engine.stop(AT, &how).await.unwrap_err().to_string().contains("too late"));
    assert!(bench.engine.stop(AT, &how).await.is_err());
    assert_eq!(answers.join().unwrap()[0], "{\"ask\":\"stop\",\"grace_s\":7,\"export\":false}\n");
}

#[tokio::test]
async fn a_verb_that_prints_nonsense_is_an_error_in_words() {
    let said = Bench::new("").engine.machine().await.unwrap_err().to_string();
    assert!(said.starts_with("`vessl agent machine` failed: it printed something unknown"), "{said}");
}
