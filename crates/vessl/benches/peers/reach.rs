//! Into a run that runs: a program beside its commands, and bytes through its input and output.
use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::ssh;
use crate::table::{Limit, Row};
use crate::timing::{in_turn, ms, output, wall};
use crate::world::World;
use crate::{Bench, Outcome};

/// Bytes that go in and come back.
const BYTES: usize = 256 << 20;

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let world = World::start(&bench.dir.join("reach"), bench.dir)?;
    let image = &bench.images.small;
    let text = format!("name: bench\nimage: {image}\nrun:\n  - command: echo ready; sleep 3600\n");
    let id = world.create(&world.file("run.yaml", &text)?)?;
    world.until("the run does not begin", || {
        let log = output(world.command(["run", "logs", &id])).ok()?;
        log.starts_with(b"ready").then_some(())
    })?;
    let start = ["run", "--detach", image.as_str(), "sleep", "3600"];
    let container = String::from_utf8(output(bench.docker.command(start))?)?.trim().to_owned();
    let exec = in_turn(
        bench.rounds,
        || wall(world.command(["run", "exec", &id, "--", "true"])),
        || wall(bench.docker.command(["exec", &container, "true"])),
    )?;
    let input = bench.dir.join("input");
    fs::write(&input, vec![b'x'; BYTES])?;
    let through = |mut command: Command| -> Outcome<f64> {
        let began = Instant::now();
        command.stdin(File::open(&input)?).stdout(Stdio::null());
        if command.status()?.success() { Ok(ms(began.elapsed())) } else { Err("`cat` failed".into()) }
    };
    let bulk = in_turn(
        bench.rounds.min(5),
        || through(world.command(["run", "exec", &id, "-i", "--", "cat"])),
        || through(bench.docker.command(["exec", "-i", &container, "cat"])),
    )?;
    wall(bench.docker.command(["rm", "--force", &container]))?;
    let ssh = ssh::rows(bench, &world, &id)?;
    world.terminate(&id)?;
    let mut rows = vec![
        Row {
            what: "`run exec` of `true`",
            unit: "ms",
            ours: exec.0,
            peer: Some(("docker exec", exec.1)),
            limit: Limit::Ratio(0.5),
        },
        Row {
            what: "256 MiB through `run exec -i … cat`",
            unit: "ms",
            ours: bulk.0,
            peer: Some(("docker exec -i", bulk.1)),
            limit: Limit::Ratio(1.0),
        },
    ];
    rows.extend(ssh);
    Ok(rows)
}
