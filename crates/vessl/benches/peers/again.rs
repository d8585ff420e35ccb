//! A version that the machine has already, imported once more.
use std::path::Path;

use serde_json::Value;

use crate::movers::make_files;
use crate::table::{Limit, Row};
use crate::timing::{median, wall};
use crate::world::World;
use crate::{Outcome, stop};

/// What it may take, in milliseconds.
const MOST: f64 = 50.0;

/// Name of the dataset, number and size of its files, and what is said of it.
const DATASETS: [(&str, usize, usize, &str); 2] = [
    ("one", 1, 1_000_000_000, "second import of a dataset of 1 x 1 GB"),
    ("many", 100_000, 1 << 10, "second import of a dataset of 100 000 x 1 KiB"),
];

pub(crate) fn rows(dir: &Path, rounds: usize) -> Outcome<Vec<Row>> {
    let dir = dir.join("again");
    let world = World::start(&dir.join("world"), &dir)?;
    let mut rows = Vec::new();
    for (name, count, size, what) in DATASETS {
        eprintln!("measuring: {what}");
        let source = dir.join(name);
        make_files(&source, count, size)?;
        wall(world.command(["dataset", "create", name]))?;
        let source = format!("{}/.", source.display());
        wall(world.command(["dataset", "upload", name, &source, "/"]))?;
        let text = format!(
            "name: again\nimage: host://\nimport: {{/again: vessl-dataset://default/{name}}}\nrun: 'true'\n"
        );
        let file = world.file("again.yaml", &text)?;
        let mut times = Vec::new();
        // The first one brings it.
        for round in 0..=rounds {
            stop::check()?;
            let run = world.carry_out(&file)?;
            let time = time(&run["imports"][0], count)?;
            if round > 0 {
                times.push(time);
            }
        }
        rows.push(Row { what, unit: "ms", ours: median(times), peer: None, limit: Limit::AtMost(MOST) });
    }
    Ok(rows)
}

/// Milliseconds, as the run has them.
fn time(import: &Value, files: usize) -> Outcome<f64> {
    if import["files"].as_u64() != u64::try_from(files).ok() {
        return Err(format!("{files} files should have come: {import}").into());
    }
    Ok(import["millis"].as_f64().ok_or("the run has no time of it")?)
}
