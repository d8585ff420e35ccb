//! `vessl run …`: which file carries out which verb.
mod compare;
mod create;
mod delete;
mod diff;
mod download;
mod env_file;
mod explain;
mod export;
mod extend;
mod files;
mod interleaver;
mod jupyter;
mod list;
mod logs;
mod open;
mod reach;
mod read;
mod restart;
mod schema;
mod several;
mod ssh;
mod sweep;
mod terminate;
mod text;
mod uncommitted;
mod update;
mod validate;
mod watch;

use clap::Subcommand;
use vessl_core::spec::may_be_secret;

use crate::error::Result;
use crate::exit::Exit;
use crate::session::Session;

pub(super) use jupyter::until_ready;

/// What can be done with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Submit a run
    Create(create::Create),
    /// List the runs of the project, newest first
    List(list::List),
    /// Show what runs differ in and how each ended
    Compare(compare::Compare),
    /// Show what two runs differ in, field by field
    Diff(diff::Diff),
    /// Show one run
    Read(read::Read),
    /// Print the log of a run
    Logs(logs::Logs),
    /// Change the name, description or tags of a run
    Update(update::Update),
    /// End runs
    Terminate(terminate::Terminate),
    /// Give a run more time
    Extend(extend::Extend),
    /// Start runs that have ended again
    Restart(restart::Restart),
    /// Write exports again that failed
    Export(export::Export),
    /// Remove finished runs with their logs and files
    Delete(delete::Delete),
    /// Check run files without a server
    Validate(validate::Validate),
    /// Print the JSON Schema of the run file, for editors
    #[command(after_help = "Examples:\n  vessl run schema > run.schema.json")]
    Schema,
    /// List the files that a run exported
    Files(files::Files),
    /// Bring the files that a run exported to this machine
    Download(download::Download),
    /// Say why a run is where it is
    Explain(explain::Explain),
    /// Run a program beside the commands of a run
    Exec(reach::exec::Exec),
    /// Open a shell in a run
    Shell(reach::shell::Shell),
    /// Copy files between this machine and a run
    Cp(reach::cp::Copy),
    /// Open a port of a run in the browser
    Open(open::Open),
    /// Open JupyterLab of an interactive run in the browser
    Jupyter(jupyter::Jupyter),
    /// Reach ports of a run from this machine
    PortForward(reach::forward::PortForward),
    /// Come to a run by SSH
    Ssh(ssh::Ssh),
    /// Pass the bytes of SSH through the API
    #[command(hide = true)]
    SshProxy(reach::ssh_proxy::SshProxy),
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Create(args) => create::perform(args, session).await,
        Command::List(args) => list::perform(&args, session).await,
        Command::Compare(args) => compare::perform(&args, session).await,
        Command::Diff(args) => diff::perform(&args, session).await,
        Command::Read(args) => read::perform(&args, session).await,
        Command::Logs(args) => logs::perform(&args, session).await,
        Command::Update(args) => update::perform(args, session).await,
        Command::Terminate(args) => terminate::perform(&args, session).await,
        Command::Extend(args) => extend::perform(&args, session).await,
        Command::Restart(args) => restart::perform(&args, session).await,
        Command::Export(args) => export::perform(&args, session).await,
        Command::Delete(args) => delete::perform(&args, session).await,
        Command::Validate(args) => validate::perform(&args, session),
        Command::Schema => schema::perform(session),
        Command::Files(args) => files::perform(&args, session).await,
        Command::Download(args) => download::perform(&args, session).await,
        Command::Explain(args) => explain::perform(&args, session).await,
        Command::Exec(args) => reach::exec::perform(args, session).await,
        Command::Shell(args) => reach::shell::perform(args, session).await,
        Command::Cp(args) => reach::cp::perform(args, session).await,
        Command::Open(args) => open::perform(&args, session).await,
        Command::Jupyter(args) => jupyter::perform(&args, session).await,
        Command::PortForward(args) => reach::forward::perform(&args, session).await,
        Command::Ssh(args) => ssh::perform(args, session).await,
        Command::SshProxy(args) => reach::ssh_proxy::perform(&args, session).await,
    }
}

/// Reads how many of something are asked for.
fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "it must be a whole number, like `100`".to_owned())
}

/// What of `text` may be the name of a variable.
pub(crate) fn begin_of_name(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// A variable that was written without its `=`, as it may be repeated: whole if it is a name, or if what stands behind the name is
/// no secret by that name; it may be a pasted secret that is no variable at all.
pub(crate) fn shown_pair(text: &str) -> String {
    let name = begin_of_name(text);
    let rest = text.get(name.len()..).unwrap_or_default();
    let is_loud = !name.is_empty() && !name.contains(|c: char| c.is_ascii_lowercase());
    let is_quiet = name.len() <= LONGEST_QUIET && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_separated = rest.starts_with([':', ' ', '\t']) && !rest.contains('=');
    let is_name = rest.is_empty() && (is_loud || is_quiet && !name.is_empty());
    if is_name || is_loud && is_separated && !may_be_secret(name, rest) {
        text.to_owned()
    } else if rest.is_empty() {
        "***".to_owned()
    } else {
        format!("{name}***")
    }
}

/// Longest name in small letters, in bytes; what is longer may be a passphrase.
const LONGEST_QUIET: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_without_its_sign_is_shown_unless_it_may_be_a_secret() {
        for shown in ["LR", "lr", "batch_size", "S3_BUCKET", "LR:1e-4", "LR 1e-4", "LR: 1e-4", "OUT:/a/b"] {
            assert_eq!(shown_pair(shown), shown);
        }
        for (pair, expected) in [
            ("hush_71abc", "***"),
            ("hush71", "***"),
            ("Hush", "***"),
            ("correcthorsebatterystaple", "***"),
            ("", "***"),
            ("@hush", "***"),
            ("PASSWORD:hush", "PASSWORD***"),
            ("API_KEY hush", "API_KEY***"),
            ("OPENAI_KEY:hush", "OPENAI_KEY***"),
            ("DB:postgres://u:hush@h", "DB***"),
            ("lr:hush", "lr***"),
            ("LR x=hush", "LR***"),
        ] {
            assert_eq!(shown_pair(pair), expected, "{pair}");
        }
    }
}
