//! Every demanded speed and size, ours beside the peer that a user would pick instead, in one run.
//!
//! ```text
//! cargo bench -p vessl --bench peers [-- --only logs --rounds 5 --output json]
//! ```
//! It starts its own Docker daemon and registry on loopback, measures in turn, and leaves nothing behind. Exit status 0:
//! every limit is kept; 1: one is not; 2: something is missing, or could not be measured. `docs/benchmarks.md` says what
//! each line means.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a benchmark is a program that prints"
)]
mod again;
mod disk;
mod docker;
mod http;
mod images;
mod logs;
mod movers;
mod proxy;
mod pull;
mod reach;
mod registry;
mod small;
mod ssh;
mod start;
mod stop;
mod store;
mod submit;
mod table;
mod timing;
mod world;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use docker::Docker;
use images::Images;
use table::{Row, Table};

/// A failure in words: nothing here can be mended by the program.
type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Measures vessl beside Docker, its runtime and the bare disk
#[derive(Debug, Parser)]
struct Args {
    /// Only these groups
    #[arg(long, value_enum)]
    only: Vec<Group>,
    /// Rounds of every measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How the table is printed
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Start of a container
    Start,
    /// Submits, and the list of many runs
    Submit,
    /// Logs on their way in and out
    Logs,
    /// Pull and unpack of a large image
    Pull,
    /// The bare program, and a server with nothing to do
    Small,
    /// Into a run that runs
    Reach,
    /// Ports of runs, beside nginx
    Proxy,
    /// Buckets and datasets, beside s5cmd, rclone, restic and dvc
    Movers,
    /// A version that is on the machine already, imported once more
    Again,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    #[default]
    Table,
    Json,
}

/// Measures one group.
type Measure = fn(&Bench<'_>) -> Outcome<Vec<Row>>;

/// What every measurement works with.
struct Bench<'a> {
    /// An empty directory on a real disk.
    dir: &'a Path,
    docker: &'a Docker,
    images: &'a Images,
    rounds: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let table = match measure(&args) {
        Ok(table) => table,
        Err(error) => {
            eprintln!("not measured: {error}");
            return ExitCode::from(2);
        }
    };
    match args.output {
        Output::Table => print!("{table}"),
        Output::Json => println!("{:#}", table.json()),
    }
    if table.is_kept() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(args: &Args) -> Outcome<Table> {
    if !nix::unistd::geteuid().is_root() {
        return Err("the peers need root: run it as root, or with `sudo`".into());
    }
    stop::watch()?;
    let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut table = Table::new();
    let alone = |group: &Group| matches!(group, Group::Movers | Group::Again | Group::Proxy);
    if args.only.is_empty() || !args.only.iter().all(alone) {
        beside_docker(args, dir.path(), &mut table)?;
    }
    if args.only.is_empty() || args.only.contains(&Group::Again) {
        table.add(again::rows(dir.path(), args.rounds as usize)?);
    }
    if args.only.is_empty() || args.only.contains(&Group::Proxy) {
        table.add(proxy::rows(dir.path(), args.rounds as usize)?);
    }
    if args.only.is_empty() || args.only.contains(&Group::Movers) {
        let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
        movers::rows(dir.path(), &tools, args.rounds as usize, &mut table)?;
    }
    Ok(table)
}

fn beside_docker(args: &Args, dir: &Path, table: &mut Table) -> Outcome<()> {
    for program in
        ["dockerd", "docker", "docker-registry", "runc", "busybox", "tar", "dpkg-query", "mkfs.ext4"]
    {
        docker::require(program)?;
    }
    let wants = |group| args.only.is_empty() || args.only.contains(&group);
    let docker = Docker::start(&dir.join("docker"))?;
    let registry = registry::Registry::start(&dir.join("registry"))?;
    let images = Images::make(&dir.join("images"), &docker, &registry, wants(Group::Pull))?;
    let bench = Bench { dir, docker: &docker, images: &images, rounds: args.rounds as usize };
    let groups: [(Group, Measure); 6] = [
        (Group::Small, small::rows),
        (Group::Start, start::rows),
        (Group::Submit, submit::rows),
        (Group::Logs, logs::rows),
        (Group::Pull, pull::rows),
        (Group::Reach, reach::rows),
    ];
    for (group, rows) in groups.into_iter().filter(|(group, _)| wants(*group)) {
        eprintln!("measuring: {group:?}");
        table.add(rows(&bench)?);
    }
    Ok(())
}
