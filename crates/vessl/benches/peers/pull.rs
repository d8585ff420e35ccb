//! Pull and unpack of a large image from a registry on loopback.
use nix::unistd::sync;

use crate::table::{Limit, Row};
use crate::timing::{in_turn, output, wall};
use crate::world::World;
use crate::{Bench, Outcome};

pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let world = World::start(&bench.dir.join("pull"), bench.dir)?;
    let image = &bench.images.large;
    let ours = || {
        sync();
        let time = wall(world.command(["image", "pull", image]))?;
        output(world.command(["image", "prune"]))?;
        Ok(time / 1e3)
    };
    let docker = || {
        sync();
        let time = wall(bench.docker.command(["pull", image]))?;
        output(bench.docker.command(["rmi", image]))?;
        Ok(time / 1e3)
    };
    let (ours, docker) = in_turn(bench.rounds, ours, docker)?;
    Ok(vec![Row {
        what: "pull and unpack of an image of 500 MB",
        unit: "s",
        ours,
        peer: Some(("docker pull", docker)),
        limit: Limit::Ratio(0.3),
    }])
}
