//! The start of a container on a warm image: the whole command, and the agent alone.
use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::table::{Limit, Row};
use crate::timing::{in_turn, ms, output, wall};
use crate::world::{PROGRAM, World};
use crate::{Bench, Outcome};

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let world = World::start(&bench.dir.join("start"), bench.dir)?;
    let image = &bench.images.small;
    let file =
        world.file("run.yaml", &format!("name: bench\nimage: {image}\nrun:\n  - command: \"true\"\n"))?;
    let first = world.carry_out(&file)?;
    let create = || wall(world.command(["run", "create", "-f", &file, "--wait"]));
    let docker = || wall(bench.docker.command(["run", "--rm", "--network", "host", image, "true"]));
    docker()?;
    let whole = in_turn(bench.rounds, create, docker)?;
    let bundle = bundle(bench)?;
    let (run, n) = (first["id"].to_string(), Cell::new(0));
    let agent = |network: &str| {
        n.set(n.get() + 1);
        agent(&world, (&run, n.get()), network)
    };
    let (own, host) = ("nat:10.246.0.0/16", "host");
    let alone = in_turn(bench.rounds, || agent(own), || runc(&bundle))?;
    let network = in_turn(bench.rounds, || agent(own), || agent(host))?;
    Ok(vec![
        Row {
            what: "`run create --wait` of `true`, warm image",
            unit: "ms",
            ours: whole.0,
            peer: Some(("docker run", whole.1)),
            limit: Limit::Ratio(0.25),
        },
        Row {
            what: "start of the agent to exec of the shell",
            unit: "ms",
            ours: alone.0,
            peer: Some(("runc run, whole", alone.1)),
            limit: Limit::AtMost(15.0),
        },
        Row {
            what: "of it for a network of its own",
            unit: "ms",
            ours: network.0 - network.1,
            peer: None,
            limit: Limit::AtMost(5.0),
        },
    ])
}

/// Starts an agent with the plan of a run that has ended, as if it were a new one; milliseconds to the exec of its shell.
fn agent(world: &World, (run, n): (&str, u64), network: &str) -> Outcome<f64> {
    let runs = world.data().join("runs");
    let attempt = fs::read_dir(runs.join(run))?.next().ok_or("the run has no attempt")??.path();
    let mut plan: Value = serde_json::from_slice(&fs::read(attempt.join("plan.json"))?)?;
    plan["run"] = (900_000_000_000 + n).into();
    let dir = world.data().join(format!("agents/{n}"));
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("plan.json"), plan.to_string())?;
    let mut command = Command::new(PROGRAM);
    command.args(["agent", "supervise", "--data"]).arg(world.data()).arg(&dir);
    command.args(["--network", network]).stdin(Stdio::piped());
    let (clock, began) = (Timestamp::try_from(SystemTime::now())?, Instant::now());
    let mut agent = command.spawn()?;
    let secrets = br#"{"env":{},"credentials":{}}"#;
    agent.stdin.take().ok_or("no pipe")?.write_all(secrets)?;
    let status = agent.wait()?;
    let whole = ms(began.elapsed());
    let running = phase(&dir, "running")?.ok_or("the agent did not come to the commands")?;
    let exec = running.duration_since(clock).as_secs_f64() * 1e3;
    if status.success() && exec < whole { Ok(exec) } else { Err("an agent failed".into()) }
}

/// When a phase began.
fn phase(dir: &Path, name: &str) -> Outcome<Option<Timestamp>> {
    for line in fs::read_to_string(dir.join("events"))?.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["what"]["phase"] == name {
            return Ok(Some(event["at"].as_str().ok_or("an event has no time")?.parse()?));
        }
    }
    Ok(None)
}

/// A bundle of runc, Docker's own runtime, with what our containers have.
fn bundle(bench: &Bench<'_>) -> Outcome<PathBuf> {
    let dir = bench.dir.join("runc");
    fs::create_dir_all(&dir)?;
    let mut spec = Command::new("runc");
    spec.arg("spec").current_dir(&dir);
    output(spec)?;
    let mut config: Value = serde_json::from_slice(&fs::read(dir.join("config.json"))?)?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["/bin/true"]);
    config["root"] = json!({ "path": bench.images.root, "readonly": false });
    let namespaces = ["pid", "mount", "ipc", "uts"].map(|kind| json!({ "type": kind }));
    config["linux"]["namespaces"] = namespaces.to_vec().into();
    config["linux"]["resources"]["memory"] = json!({ "limit": 256 << 20 });
    config["linux"]["cgroupsPath"] = format!("/{}/runc", bench.docker.group).into();
    fs::write(dir.join("config.json"), config.to_string())?;
    Ok(dir)
}

fn runc(bundle: &Path) -> Outcome<f64> {
    let mut command = Command::new("runc");
    command.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(bundle).arg("vessl-bench");
    wall(command)
}
