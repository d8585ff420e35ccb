//! `vessl ssh-config`.
use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use vessl_core::run::Status;
use vessl_core::wire::{RunKind, RunQuery, RunView};

use super::ssh::{self, Destination};
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::session::Session;

/// Most runs that get an entry.
const MOST: u32 = 200;
/// Name of the file beside the person's own.
const OWN: &str = "vessl_config";
const INCLUDE: &str = "Include vessl_config";

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Prints an entry for each run that can be reached now, for OpenSSH and for everything that reads its settings, such as VS Code \
and JetBrains: the host of a run is `vessl-NAME` and `vessl-ID`. With `--write` the entries go to `~/.ssh/vessl_config`, which \
`~/.ssh/config` is made to include; run it again when there are other runs.

Examples:
  vessl ssh-config
  vessl ssh-config --write
  ssh vessl-my-run"
)]
pub(crate) struct SshConfig {
    /// Private key that the entries name
    #[arg(short = 'p', long = "path", value_name = "KEY")]
    key: Option<PathBuf>,
    /// Write the entries to where OpenSSH finds them
    #[arg(long)]
    write: bool,
}

#[derive(Serialize)]
struct Entry {
    hosts: Vec<String>,
    options: Vec<(&'static str, String)>,
}

/// Prints or writes the entries.
pub(crate) async fn perform(args: &SshConfig, session: &Session) -> Result<Exit> {
    let mut client = session.client().await?;
    let destination = Destination::of(&mut client, session).await?;
    let status = vec![Status::Running, Status::Idle];
    let mut runs = client.runs(&RunQuery { status, limit: Some(MOST), ..RunQuery::default() }).await?;
    runs.retain(|run| destination.at.all_runs || run.kind == RunKind::Interactive);
    let key = args.key.as_deref().map(std::path::absolute).transpose();
    let key = key.map_err(crate::error::Error::os("find the key"))?;
    let entry = |run: &RunView| Entry {
        hosts: hosts(run, &runs),
        options: destination.options(run.id, key.as_deref()),
    };
    let entries: Vec<Entry> = runs.iter().map(entry).collect();
    if args.write {
        let dir = ssh::own_dir()?;
        ssh::write(&dir.join(OWN), &text(&entries))?;
        include(&dir.join("config"))?;
        let s = if entries.len() == 1 { "y" } else { "ies" };
        let words = format!("wrote {} entr{s} to `{}`", entries.len(), dir.join(OWN).display());
        session.out.outcome(&entries, &words)?;
    } else if session.out.format() == Format::Table {
        session.out.text(&text(&entries))?;
    } else {
        session.out.data(&entries)?;
    }
    Ok(exit::OK)
}

/// By its id, and by its name if that is a word that no other one has.
fn hosts(run: &RunView, all: &[RunView]) -> Vec<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_word = !run.name.is_empty() && run.name.chars().all(fits);
    let is_one = all.iter().filter(|other| other.name == run.name).count() == 1;
    let name = (is_word && is_one).then(|| format!("vessl-{}", run.name));
    [format!("vessl-{}", run.id.0)].into_iter().chain(name).collect()
}

fn text(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { hosts, options } in entries {
        let _ = writeln!(text, "Host {}", hosts.join(" "));
        for (name, value) in options {
            let _ = writeln!(text, "  {name} {value}");
        }
        text.push('\n');
    }
    text
}

/// Has the person's own settings include the entries, before everything else: what comes first counts.
fn include(path: &std::path::Path) -> Result<()> {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    if before.lines().any(|line| line.trim() == INCLUDE) {
        return Ok(());
    }
    ssh::write(path, &format!("{INCLUDE}\n\n{before}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_settings_stay_and_include_the_entries_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(&path, "Host x\n  User y\n").unwrap();
        include(&path).unwrap();
        include(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "Include vessl_config\n\nHost x\n  User y\n");
    }

    #[test]
    fn entries_are_as_openssh_reads_them() {
        let entry = Entry {
            hosts: vec!["vessl-7".to_owned(), "vessl-train".to_owned()],
            options: vec![("Port", "7322".to_owned())],
        };
        assert_eq!(text(&[entry]), "Host vessl-7 vessl-train\n  Port 7322\n\n");
    }
}
