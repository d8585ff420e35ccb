//! Pull and unpack of a large image from a registry on loopback.
use std::path::PathBuf;

use nix::unistd::sync;

use crate::disk::Disk;
use crate::docker::Docker;
use crate::table::{Limit, Row};
use crate::timing::{in_turn, wall};
use crate::world::World;
use crate::{Bench, Outcome};

/// Most rounds: each of them fills two new directories.
const ROUNDS: usize = 5;

/// Nothing is removed between the rounds: that would slow down the next one, see [`Disk`].
pub(crate) fn rows(bench: &Bench<'_>) -> Outcome<Vec<Row>> {
    let image = &bench.images.large;
    let disk = Disk::make(&bench.dir.join("disk"))?;
    let mut places = (0..).map(|n| disk.0.join(format!("ours-{n}")));
    let mut docker_places = (0..).map(|n| disk.0.join(format!("docker-{n}")));
    let next = |places: &mut dyn Iterator<Item = PathBuf>| places.next().ok_or("no place is left");
    let ours = || {
        let world = World::start(&next(&mut places)?, bench.dir)?;
        sync();
        Ok(wall(world.command(["image", "pull", image]))? / 1e3)
    };
    let docker = || {
        let docker = Docker::start(&next(&mut docker_places)?)?;
        sync();
        Ok(wall(docker.command(["pull", image]))? / 1e3)
    };
    let (ours, docker) = in_turn(bench.rounds.min(ROUNDS), ours, docker)?;
    let peer = Some(("docker pull", docker));
    let limit = Limit::Ratio(0.3);
    Ok(vec![Row { what: "pull and unpack of an image of 500 MB", unit: "s", ours, peer, limit }])
}
