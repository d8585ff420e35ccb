//! `vessl server …`: the server of this machine.
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use vessl_core::wire::BlobsView;
use vessl_data::Watch;
use vessl_server::backup::{self, BackupError, Restored, Volumes};
use vessl_server::fsck::{self, Damage, Elsewhere, Findings, FsckError};
use vessl_server::{ServerError, ServerOptions};

use crate::client::{Local, ServerInfo};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, Rows, clean, views};
use crate::session::Session;
use crate::settings;

/// What can be done with the server of this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say whether it runs, and where it listens (exit code 4 if it does not run)
    #[command(
        after_help = "Examples:\n  vessl server status\n  vessl server status --output json | jq -r .url"
    )]
    Status,
    /// Stop it: runs that were started go on, queued ones wait for the next start
    #[command(after_help = "Examples:\n  vessl server stop")]
    Stop,
    /// Run it in the foreground
    Run(Run),
    /// Copy its data to a new directory, while it works or not
    ///
    /// The backup has the database, the logs and records of all runs, their files, and the keys: keep it like a password.
    /// Images are not in it; they are pulled again. The volumes of `vessl-storage` are in it with `--volumes`.
    #[command(
        after_help = "Examples:\n  vessl server backup /mnt/backup/vessl-2026-11-29\n  vessl server backup /mnt/backup/vessl-2026-11-29 --volumes"
    )]
    Backup {
        /// New directory
        #[arg(value_name = "DEST")]
        to: PathBuf,
        /// Also copy the volumes of `vessl-storage`, each as it is at that time; one that is written to all the time is an error
        #[arg(long)]
        volumes: bool,
    },
    /// Bring a backup back; no server may be running
    ///
    /// Brings back what is missing, and the database as it was. What is newer than the backup stays on disk; what has to
    /// give way, such as the database there is, is moved to `set-aside` in the data directory.
    #[command(
        after_help = "Examples:\n  vessl server stop\n  vessl server restore /mnt/backup/vessl-2026-11-29"
    )]
    Restore {
        /// Directory that `vessl server backup` made
        #[arg(value_name = "BACKUP")]
        from: PathBuf,
    },
    /// Read everything that versions and runs have, and name what is damaged or missing (exit code 1 if something is)
    ///
    /// Reads the list of files of every version, and every file, chunk and pack of the data directory, while the server works or not.
    /// It changes nothing.
    #[command(
        after_help = "Examples:\n  vessl server fsck\n  vessl server fsck --data-dir /mnt/vessl --output json | jq .damage"
    )]
    Fsck {
        /// Data directory; default: that of the server of this machine
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Also read what is in the bucket of the settings (`blobs_bucket`) alone, which is compared by its listing otherwise
        #[arg(long)]
        read_bucket: bool,
    },
}

/// How to run it.
#[derive(Args, Debug)]
#[command(
    after_help = "Settings come from the file and from the environment (VESSL_SERVER_LISTEN, …), which wins. One \
server at a time works on a data directory. SIGTERM and Ctrl-C stop it: runs that were started go on, \
queued ones wait for the next start.

Examples:
  vessl server run
  vessl server run --config /etc/vessl/server.toml
  vessl server run --print-config > server.toml"
)]
pub(crate) struct Run {
    /// Settings of the server; default: ~/.config/vessl/server.toml, if it exists
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings as they would be used, with their documentation; wrong ones are refused
    #[arg(long)]
    print_config: bool,
    /// Leave the terminal and its process group
    #[arg(long, hide = true)]
    background: bool,
}

/// What is known about the server.
#[derive(Serialize)]
struct Standing {
    running: bool,
    url: Option<String>,
    ports: Option<String>,
    ssh: Option<String>,
    pid: Option<i32>,
    version: Option<String>,
    started_at: Option<Timestamp>,
    data: String,
    log: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    blobs: Option<BlobsView>,
}

/// Runs the server until it is told to stop.
pub(crate) fn run(args: &Run, session: &Session) -> Result<Exit> {
    let file = args.config.clone().map_or_else(settings::server_file, |file| Ok(Some(file)))?;
    let config = settings::server(file.as_deref())?;
    let refused = |error: ServerError| settings::refused(&error, file.as_deref());
    let data = settings::data_dir_of(&config)?;
    if args.print_config {
        vessl_server::check(&config).map_err(refused)?;
        session.out.text(&config.documented())?;
        return Ok(exit::OK);
    }
    if args.background {
        nix::unistd::setsid().map_err(|e| Error::os("leave the terminal")(e.into()))?;
    }
    vessl_server::run(ServerOptions { config, data }).map_err(refused)?;
    Ok(exit::OK)
}

/// Asks for it or stops it.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    let local = Local::of_this_machine()?;
    match command {
        Command::Status => {
            let info = local.running()?;
            let exit = if info.is_some() { exit::OK } else { exit::UNREACHABLE };
            let mut standing = standing(info.as_ref())?;
            if let (true, Ok(Some(mut client))) = (info.is_some(), session.running_client().await) {
                // One that does not answer is running all the same.
                standing.blobs = client.about_server().await.ok().and_then(|about| about.blobs);
            }
            session.out.object(&standing, rows)?;
            if let (None, Some(pid)) = (&info, local.keeper()) {
                let words =
                    "has the data directory, but its `server.json` is lost: `vessl server stop` stops it";
                session.out.warn(&format!("process {pid} {words}"));
            }
            Ok(exit)
        }
        Command::Stop => {
            let stopped = local.stop().await?;
            let words = match stopped {
                Some(pid) => format!(
                    "stopped the server (process {pid}); runs that were started go on, queued ones wait for the next start"
                ),
                None => "no server was running".to_owned(),
            };
            session.out.outcome(&serde_json::json!({ "stopped": stopped }), &words)?;
            Ok(exit::OK)
        }
        Command::Run(args) => run(&args, session),
        Command::Backup { to, volumes } => {
            let wanted = if volumes { Volumes::Copied } else { Volumes::LeftOut };
            let taken = backup::backup(local.data(), &to, wanted, Timestamp::now()).map_err(not_done)?;
            let volumes = local.data().join("volumes");
            if wanted == Volumes::LeftOut
                && volumes.read_dir().is_ok_and(|mut inside| inside.next().is_some())
            {
                session.out.warn(&format!(
                    "the volumes of the storage `vessl-storage` (`{}`) are not in it; `--volumes` copies them too",
                    volumes.display()
                ));
            }
            if taken.away > 0 {
                session.out.warn(&format!(
                    "{} of blobs are not in it, because they are in the bucket of the settings (`blobs_bucket`) alone: \
                     what is restored needs the same bucket",
                    counted(taken.away as u64, "file")
                ));
            }
            let words = format!("{}, {} in `{}`", runs(taken.runs), views::size(taken.bytes), to.display());
            session.out.outcome(&taken, &words)?;
            Ok(exit::OK)
        }
        Command::Restore { from } => {
            let done = backup::restore(&from, local.data(), Timestamp::now()).map_err(not_done)?;
            session.out.outcome(&done, &restored(&done))?;
            Ok(exit::OK)
        }
        Command::Fsck { data_dir, read_bucket } => {
            let data = data_dir.as_deref().unwrap_or(local.data());
            let config = settings::config_of(data)?;
            let elsewhere = if read_bucket { Elsewhere::Read } else { Elsewhere::Listed };
            let found = fsck::check(data, (&config, elsewhere), &Watch::NONE).map_err(not_checked)?;
            tell(&found, session)?;
            Ok(if found.damage.is_empty() { exit::OK } else { exit::FAILED })
        }
    }
}

fn not_checked(error: FsckError) -> Error {
    match error {
        FsckError::NoData(_) => Error::Usage {
            message: error.to_string(),
            hint: "`--data-dir` or `VESSL_DATA` names another data directory".to_owned(),
        },
        error => Error::Server(error.to_string()),
    }
}

fn counted(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Says what was found: a line for everything that is damaged, and what was looked at.
fn tell(found: &Findings, session: &Session) -> Result<()> {
    if session.out.format() != Format::Table {
        return session.out.data(found);
    }
    let mut text = String::new();
    for damage in &found.damage {
        text.push_str(&sentence(damage));
        text.push('\n');
    }
    let end = match found.damage.len() {
        0 => "nothing is damaged or missing".to_owned(),
        1 => "1 thing is damaged or missing".to_owned(),
        n => format!("{n} things are damaged or missing"),
    };
    let (versions, blobs) = (counted(found.versions as u64, "version"), counted(found.blobs, "blob"));
    let packs = counted(found.packs, "pack");
    let bytes = views::size(found.bytes);
    let away = match found.away {
        0 => String::new(),
        away => format!(", {} in the bucket", counted(away, "blob")),
    };
    session.out.text(&format!("{text}{versions}, {blobs}, {packs}, {bytes}{away}: {end}\n"))
}

fn sentence(damage: &Damage) -> String {
    let version = damage.version.map(|n| format!(" version {n}")).unwrap_or_default();
    let of = match &damage.object {
        Some(object) => format!("{object}{version}"),
        None => "what no version needs".to_owned(),
    };
    let path = damage.path.as_ref().map(|path| format!(" `{path}`")).unwrap_or_default();
    let file = damage.file.as_ref().map(|file| format!(" in `{}`", file.display())).unwrap_or_default();
    let digest = damage.digest.as_ref().map(|digest| format!(" (blob {digest})")).unwrap_or_default();
    clean(&format!("{of}{path}: {}{file}{digest}", damage.why))
}

fn not_done(error: BackupError) -> Error {
    match error {
        BackupError::File { .. }
        | BackupError::Database(_)
        | BackupError::Blobs(_)
        | BackupError::Volume { .. }
        | BackupError::Server(_) => Error::Server(error.to_string()),
        error => {
            // The others say themselves what to do.
            let hint = match error {
                BackupError::NoBackup { .. } => "`vessl server backup DEST` makes one",
                BackupError::NoData(_) => "`VESSL_DATA` names another data directory",
                _ => "",
            };
            Error::Usage { message: error.to_string(), hint: hint.to_owned() }
        }
    }
}

fn restored(done: &Restored) -> String {
    let Restored { backup, records, blobs, volumes, volumes_left, set_aside } = done;
    let brought = match volumes {
        0 => String::new(),
        1 => "; 1 volume was brought back".to_owned(),
        count => format!("; {count} volumes were brought back"),
    };
    let left = match volumes_left.as_slice() {
        [] => String::new(),
        names => format!("; volumes that have files were left as they are: {}", names.join(", ")),
    };
    let aside = match set_aside.as_slice() {
        [] => String::new(),
        paths => {
            let paths: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
            format!("; what had to give way is {}", paths.join(", "))
        }
    };
    format!(
        "the database of {} with {} is back; {records} records and {blobs} exported files were missing{brought}{left}{aside}",
        views::moment(backup.taken_at),
        runs(backup.runs)
    )
}

fn runs(count: usize) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

fn standing(info: Option<&ServerInfo>) -> Result<Standing> {
    let local = Local::of_this_machine()?;
    Ok(Standing {
        running: info.is_some(),
        url: info.map(|info| info.url.clone()),
        ports: info.and_then(|info| info.ports.clone()),
        ssh: info.and_then(|info| info.ssh.clone()),
        pid: info.map(|info| info.pid),
        version: info.and_then(|info| info.version.clone()),
        started_at: info.map(|info| info.started_at),
        data: local.data().display().to_string(),
        log: local.log().display().to_string(),
        blobs: None,
    })
}

fn rows(standing: &Standing) -> Rows {
    let mut rows = vec![
        ("Server", if standing.running { "running".to_owned() } else { "not running".to_owned() }),
        ("Address", standing.url.clone().unwrap_or_default()),
        ("Ports of runs", standing.ports.clone().unwrap_or_default()),
        ("SSH", standing.ssh.clone().unwrap_or_default()),
        ("Process", standing.pid.map(|pid| pid.to_string()).unwrap_or_default()),
        ("Version", standing.version.clone().unwrap_or_default()),
        ("Since", standing.started_at.map(views::moment).unwrap_or_default()),
        ("Data", standing.data.clone()),
        ("Log", standing.log.clone()),
    ];
    if let Some(blobs) = &standing.blobs {
        let waiting = match blobs.waiting {
            // Who cannot ask does not know.
            0 if blobs.problem.is_some() => "what is there is not known".to_owned(),
            0 => "everything is there".to_owned(),
            count => {
                format!("{} ({}) not there yet", counted(count, "file"), views::size(blobs.waiting_bytes))
            }
        };
        let problem = blobs.problem.as_ref().map(|problem| format!(": {problem}")).unwrap_or_default();
        rows.push(("Blobs in", format!("{}, {waiting}{problem}", blobs.bucket)));
    }
    rows
}
