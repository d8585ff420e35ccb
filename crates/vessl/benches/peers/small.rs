//! The bare program, and a server with nothing to do.
use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::docker::Docker;
use crate::table::{Limit, Row};
use crate::timing::{in_turn, wall};
use crate::world::{PROGRAM, World};
use crate::{Bench, Outcome};

/// Until the last request is forgotten: helper threads end, kept connections close.
const SETTLE: Duration = Duration::from_secs(20);
const WATCHED: Duration = Duration::from_secs(10);

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let version = |program: &str| {
        let mut command = Command::new(program);
        command.arg("--version");
        wall(command)
    };
    let (ours, docker) = in_turn(bench.rounds, || version(PROGRAM), || version("docker"))?;
    let world = World::start(&bench.dir.join("small"), bench.dir)?;
    let file = world.file("run.yaml", "name: bench\nimage: host://\nrun:\n  - command: \"true\"\n")?;
    world.carry_out(&file)?;
    std::thread::sleep(SETTLE);
    let idle = Idle::of(&[world.server()], bench.docker)?;
    Ok(vec![
        Row {
            what: "`--version`",
            unit: "ms",
            ours,
            peer: Some(("docker", docker)),
            limit: Limit::AtMost(5.0),
        },
        Row {
            what: "memory of an idle server",
            unit: "MB",
            ours: idle.memory.0,
            peer: Some(("dockerd, containerd", idle.memory.1)),
            limit: Limit::AtMost(30.0),
        },
        Row {
            what: "wake-ups of an idle server in 10 s",
            unit: "",
            ours: idle.wakes.0,
            peer: Some(("dockerd, containerd", idle.wakes.1)),
            limit: Limit::AtMost(0.0),
        },
    ])
}

/// Ours and Docker's.
struct Idle {
    /// Resident, 10⁶ bytes.
    memory: (f64, f64),
    /// Times that a thread was given the processor again after it had waited.
    wakes: (f64, f64),
}

impl Idle {
    fn of(ours: &[u32], docker: &Docker) -> Outcome<Self> {
        let docker = docker.processes();
        let before = (wakes(ours), wakes(&docker));
        std::thread::sleep(WATCHED);
        let wakes = (wakes(ours) - before.0, wakes(&docker) - before.1);
        Ok(Self { memory: (resident(ours)?, resident(&docker)?), wakes })
    }
}

fn wakes(processes: &[u32]) -> f64 {
    let mut all = 0.0;
    for pid in processes {
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let field = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            all += field.and_then(|field| field.trim().parse::<f64>().ok()).unwrap_or_default();
        }
    }
    all
}

fn resident(processes: &[u32]) -> Outcome<f64> {
    processes.iter().map(|pid| memory(*pid, "VmRSS:")).sum()
}

/// A line of `/proc/PID/status` in 10⁶ bytes.
pub(crate) fn memory(pid: u32, field: &str) -> Outcome<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    Ok(value.ok_or("a process has no memory")?.trim().parse::<f64>()? * 1.024e-3)
}
