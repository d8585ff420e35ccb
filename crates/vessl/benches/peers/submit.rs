//! Durable submits over HTTP, beside the bare disk; then the list of the runs that they left.
use std::io::{Seek, Write};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;

use crate::http::{Connection, RUNS, runtime};
use crate::table::{Limit, Row};
use crate::timing::{in_turn, median, ms, number, wall};
use crate::world::World;
use crate::{Bench, Outcome};

/// Submits of one client, of which the middle counts.
const ALONE: usize = 400;
const CLIENTS: usize = 64;
/// Submits of each of many clients.
const EACH: usize = 150;

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let world = World::start(&bench.dir.join("submit"), bench.dir)?;
    let clients = runtime()?;
    // The first takes the whole machine, so every other one is stored and waits.
    let head =
        "name: bench\nimage: host://\nresources:\n  preset: cpu-large\nenv:\n  A: 1e-4\n  B: text\nrun:\n";
    let holder = world.create(&world.file("hold.yaml", &format!("{head}  - command: sleep 3600\n"))?)?;
    let body = Bytes::from(json!({ "yaml": format!("{head}  - command: echo done\n") }).to_string());
    let bare = median(fdatasyncs(bench)?);
    let (alone, mut ids) = clients.block_on(one(&world, &body))?;
    let began = Instant::now();
    ids.extend(clients.block_on(together(&world, &body))?);
    let rate = number(CLIENTS * EACH) / began.elapsed().as_secs_f64();
    clients.block_on(end(&world, &ids))?;
    world.terminate(&holder)?;
    let list = || wall(world.command(["run", "list"]));
    let (list, docker) = in_turn(bench.rounds, list, || wall(bench.docker.command(["ps", "--all"])))?;
    Ok(vec![
        Row {
            what: "durable submit, 1 client, p50",
            unit: "ms",
            ours: median(alone),
            peer: Some(("fdatasync of 4 KiB", bare)),
            limit: Limit::AtMost(5.0),
        },
        Row {
            what: "durable submits, 64 clients",
            unit: "/s",
            ours: rate,
            peer: Some(("fdatasync of 4 KiB", 1e3 / bare)),
            limit: Limit::AtLeast(1000.0),
        },
        Row {
            what: "`run list` with 10 000 runs",
            unit: "ms",
            ours: list,
            peer: Some(("docker ps --all of none", docker)),
            limit: Limit::AtMost(10.0),
        },
    ])
}

/// Writes 4 KiB over what is there and syncs, many times: what the disk can do.
fn fdatasyncs(bench: &Bench<'_>) -> Outcome<Vec<f64>> {
    let mut file = std::fs::File::create(bench.dir.join("bare"))?;
    file.write_all(&vec![3; 4096 * ALONE])?;
    file.sync_all()?;
    file.rewind()?;
    let mut times = Vec::with_capacity(ALONE);
    for _ in 0..ALONE {
        let began = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(ms(began.elapsed()));
    }
    Ok(times)
}

async fn submit(connection: &mut Connection, body: &Bytes) -> Outcome<u64> {
    let run = connection.post(RUNS, body.clone(), StatusCode::CREATED).await?;
    run["id"].as_u64().ok_or_else(|| "a run has no id".into())
}

/// Times and ids of one client's submits.
async fn one(world: &World, body: &Bytes) -> Outcome<(Vec<f64>, Vec<u64>)> {
    let mut connection = Connection::open(world).await?;
    let (mut times, mut ids) = (Vec::new(), Vec::new());
    for _ in 0..ALONE {
        let began = Instant::now();
        ids.push(submit(&mut connection, body).await?);
        times.push(ms(began.elapsed()));
    }
    Ok((times, ids))
}

/// Every client submits one run after the other, all at the same time; the ids.
async fn together(world: &World, body: &Bytes) -> Outcome<Vec<u64>> {
    let client = async |_| -> Outcome<Vec<u64>> {
        let mut connection = Connection::open(world).await?;
        let mut ids = Vec::new();
        for _ in 0..EACH {
            ids.push(submit(&mut connection, body).await?);
        }
        Ok(ids)
    };
    Ok(futures::future::try_join_all((0..CLIENTS).map(client)).await?.concat())
}

/// Ends runs that wait.
async fn end(world: &World, ids: &[u64]) -> Outcome<()> {
    let part = async |ids: &[u64]| -> Outcome<()> {
        let mut connection = Connection::open(world).await?;
        for id in ids {
            let path = format!("{RUNS}/{id}/terminate");
            connection.post(&path, Bytes::from_static(b"{}"), StatusCode::OK).await?;
        }
        Ok(())
    };
    futures::future::try_join_all(ids.chunks(ids.len().div_ceil(CLIENTS)).map(part)).await.map(drop)
}
