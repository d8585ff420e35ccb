//! The command line: flags that every command has, the tree of commands, and which function each of them is.

mod neighbours;
#[cfg(test)]
mod reference;

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands::{
    artifact, cache, cluster, completion, configure, credential, dataset, doctor, image, jupyter, model,
    model_repository, resource, run, secret, server, ssh_config, ssh_key, storage, uploads, whoami,
};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, Out};
use crate::session::{Globals, Session};

/// Runs machine-learning runs described in one YAML file.
#[derive(Debug, Parser)]
#[command(name = "vessl", version, after_help = exit::HELP, after_long_help = LONG_HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

const LONG_HELP: &str = concat!(
    "Examples:
  vessl run create -f run.yaml --watch  submit a run and watch it to its end
  vessl run list                        what ran and what runs
  vessl run logs -f 100000000001        follow a log
  vessl run download 100000000001       bring its files back
  vessl run validate run.yaml           check a file without a server
  vessl doctor                          what this machine can do

With no server set, vessl starts one in the background on this machine.

Environment:
  VESSL_SERVER                          server to use
  VESSL_TOKEN                           token of the server that --server,
                                        VESSL_SERVER or `vessl configure`
                                        names; this machine's has its own
  VESSL_ORGANIZATION, VESSL_PROJECT     defaults of --organization and --project
  VESSL_DATA                            data directory of this machine's server
  NO_COLOR                              no colours

Files:
  ~/.config/vessl/config.toml           what `vessl configure` writes
  ~/.local/share/vessl                  data of this machine's server

",
    "Exit codes: see `vessl -h`, or `docs/cli.md`."
);

#[derive(Debug, Subcommand)]
enum Command {
    /// Submit runs, look at them, end them
    #[command(subcommand)]
    Run(run::Command),
    /// Keep files that runs read, with their versions
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Keep models by number in model repositories
    #[command(subcommand)]
    Model(model::Command),
    /// Make model repositories and look at them
    #[command(subcommand)]
    ModelRepository(model_repository::Command),
    /// Look at the named results of runs, bring them, add others
    #[command(subcommand)]
    Artifact(artifact::Command),
    /// Name places for volumes, make volumes, copy files in and out
    #[command(subcommand)]
    Storage(storage::Command),
    /// Look at uploads that are not done, and end them
    #[command(subcommand)]
    Upload(uploads::Command),
    /// Look at clusters and their nodes
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Look at the resource presets of a cluster
    #[command(subcommand)]
    Resource(resource::Command),
    /// Look at the images of this server, fetch them, remove them
    #[command(subcommand)]
    Image(image::Command),
    /// Look at what imports brought to a machine, and remove it
    #[command(subcommand)]
    Cache(cache::Command),
    /// Prepare JupyterLab for runs that will have no network
    #[command(subcommand)]
    Jupyter(jupyter::Command),
    /// Store secrets that runs use by name
    #[command(subcommand)]
    Secret(secret::Command),
    /// Store logins of registries and git servers that runs use by name
    #[command(subcommand)]
    Credential(credential::Command),
    /// Say whose public keys let people into runs by SSH
    #[command(subcommand)]
    SshKey(ssh_key::Command),
    /// Print entries for runs that OpenSSH and editors read
    SshConfig(ssh_config::SshConfig),
    /// Set the server, its token, and the default organization and project
    Configure(configure::Configure),
    /// Say who the token belongs to and which server answers
    #[command(after_help = "Examples:\n  vessl whoami\n  vessl whoami --output json")]
    Whoami,
    /// The server of this machine
    #[command(subcommand)]
    Server(server::Command),
    /// Say what this machine can do and what it lacks
    #[command(after_help = "The exit code is 1 if runs are impossible on this machine.

Examples:
  vessl doctor
  vessl doctor --output json")]
    Doctor,
    /// Print the completion script of a shell
    Completion(completion::Completion),
}

/// Reads the command line, does what it says and tells errors.
pub(crate) fn main() -> Exit {
    completion::answer(definition);
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return told(&with_tip(e)),
    };
    let session = Session::new(cli.globals);
    let done = match cli.command {
        Command::Server(server::Command::Run(args)) => server::run(&args, &session),
        command => asynchronously(perform(command, &session)),
    };
    done.unwrap_or_else(|error| {
        session.out.error(&error);
        exit::of_error(&error)
    })
}

/// The definition of the command line, for completion scripts and the reference.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// Prints what the parser of the command line has to say: help and versions too come as its errors.
fn told(said: &clap::Error) -> Exit {
    let format = asked_format(std::env::args_os());
    if said.use_stderr() && format != Format::Table {
        let error = wrong_usage(said);
        Out::new(format).error(&error);
        return exit::of_error(&error);
    }
    let broken = said.print().is_err();
    match (said.use_stderr(), broken) {
        (true, _) => Exit(2),
        (false, true) => exit::of_error(&Error::BrokenPipe),
        (false, false) => exit::OK,
    }
}

/// Tips that the parser cannot know. A word that may be a secret is not repeated.
fn with_tip(mut said: clap::Error) -> clap::Error {
    if let Some(tip) = neighbour(&said) {
        said.remove(ContextKind::SuggestedSubcommand);
        // The usage shows what was suggested.
        if said.remove(ContextKind::SuggestedArg).is_some()
            && let Some(usage) = whole_usage(&said)
        {
            said.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        }
        said.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        return said;
    }
    if let Some(ContextValue::String(arg)) = said.get(ContextKind::InvalidArg)
        && let Some(ContextValue::String(pair)) = said.get(ContextKind::InvalidValue)
        && arg.starts_with("--env")
    {
        let shown = run::shown_pair(pair);
        said.insert(ContextKind::InvalidValue, ContextValue::String(shown));
        return said;
    }
    if let Some(ContextValue::StyledStr(usage)) = said.get(ContextKind::Usage)
        && let Some(ContextValue::String(word)) = said.get(ContextKind::InvalidArg)
        && said.kind() == ErrorKind::UnknownArgument
        && said.get(ContextKind::SuggestedArg).is_none()
        && let Some((tip, shown)) = tip(&usage.to_string(), word)
    {
        said.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
        said.insert(ContextKind::InvalidArg, ContextValue::String(shown));
    }
    said
}

/// What does here what a word does that is of another tool.
fn neighbour(said: &clap::Error) -> Option<&'static str> {
    let ContextValue::StyledStr(usage) = said.get(ContextKind::Usage)? else { return None };
    let usage = usage.to_string();
    match (said.get(ContextKind::InvalidSubcommand), said.get(ContextKind::InvalidArg)) {
        (Some(ContextValue::String(word)), _) => neighbours::of_command(&usage, word),
        (None, Some(ContextValue::String(word))) if said.kind() == ErrorKind::UnknownArgument => {
            neighbours::of_flag(&usage, word)
        }
        _ => None,
    }
}

/// The usage of the command that an error is of, as its help has it.
fn whole_usage(said: &clap::Error) -> Option<clap::builder::StyledStr> {
    let ContextValue::StyledStr(usage) = said.get(ContextKind::Usage)? else { return None };
    let mut all = definition();
    all.build();
    let usage = usage.to_string();
    let mut path = neighbours::path(&usage).skip(1);
    let command = path.try_fold(&all, |command, name| command.find_subcommand(name))?;
    Some(command.clone().render_usage())
}

/// What to do about a word that is one too many, and how the word is shown.
fn tip(usage: &str, word: &str) -> Option<(String, String)> {
    let is_plain = word == "-" || !word.starts_with('-');
    let of = |command: &str| usage.contains(command);
    if of("vessl run create") && is_plain {
        let tip = format!("the run file comes behind its flag: `vessl run create -f {word}`");
        return Some((tip, word.to_owned()));
    }
    if of("vessl run download") && is_plain {
        let tip = "what to bring comes behind its flag: `vessl run download ID DEST --path PATH`";
        return Some((tip.to_owned(), word.to_owned()));
    }
    let valued = [
        ("vessl secret create", "value", "vessl secret create NAME"),
        ("vessl credential create", "password or token", "vessl credential create NAME …"),
        ("vessl configure server", "token", "vessl configure server URL"),
        ("vessl configure token", "token", "vessl configure token"),
    ];
    if let Some((_, what, rest)) = valued.into_iter().find(|(command, ..)| of(command)) {
        let tip = format!(
            "the {what} does not stand in the command line: it is asked for, or comes from the standard input: `{rest} < file`"
        );
        return Some((tip, if is_plain { "***".to_owned() } else { word.to_owned() }));
    }
    let is_negative = word.strip_prefix('-').is_some_and(|digits| digits.parse::<u64>().is_ok());
    is_negative.then(|| ("a number is 0 or more here".to_owned(), word.to_owned()))
}

/// The format that a command line asks for which as a whole cannot be read.
fn asked_format(args: impl Iterator<Item = OsString>) -> Format {
    let words: Vec<String> =
        args.take_while(|arg| arg != "--").map(|arg| arg.to_string_lossy().into_owned()).collect();
    let behind = words.iter().zip(words.iter().skip(1)).filter(|(flag, _)| *flag == "--output");
    let glued = words.iter().filter_map(|word| word.strip_prefix("--output="));
    let mut asked = behind.map(|(_, value)| value.as_str()).chain(glued);
    asked.find_map(|value| Format::from_str(value, false).ok()).unwrap_or_default()
}

/// What the parser says, without its layout: a message, and the rest as the hint.
fn wrong_usage(said: &clap::Error) -> Error {
    let text = said.to_string();
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (message, hint) = text.split_once("\n\n").unwrap_or((&text, ""));
    let message = one_line(message.strip_prefix("error: ").unwrap_or(message));
    Error::Usage { message, hint: one_line(hint) }
}

/// One thread is enough for a client.
fn asynchronously<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::os("start the client"))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

async fn perform(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Run(command) => run::perform(command, session).await,
        Command::Dataset(command) => dataset::perform(command, session).await,
        Command::Model(command) => model::perform(command, session).await,
        Command::ModelRepository(command) => model_repository::perform(command, session).await,
        Command::Artifact(command) => artifact::perform(command, session).await,
        Command::Storage(command) => storage::perform(command, session).await,
        Command::Upload(command) => uploads::perform(command, session).await,
        Command::Cluster(command) => cluster::perform(command, session).await,
        Command::Resource(command) => resource::perform(command, session).await,
        Command::Image(command) => image::perform(command, session).await,
        Command::Cache(command) => cache::perform(command, session).await,
        Command::Jupyter(command) => jupyter::perform(command, session).await,
        Command::Secret(command) => secret::perform(command, session).await,
        Command::Credential(command) => credential::perform(command, session).await,
        Command::SshKey(command) => ssh_key::perform(command, session).await,
        Command::SshConfig(args) => ssh_config::perform(&args, session).await,
        Command::Configure(args) => configure::perform(args, session),
        Command::Whoami => whoami::perform(session).await,
        Command::Server(command) => server::perform(command, session).await,
        Command::Doctor => doctor::perform(session),
        Command::Completion(args) => completion::perform(&args, session),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn the_format_is_found_in_a_line_that_is_wrong() {
        let check = |line: &str, expected: Format| {
            assert_eq!(asked_format(line.split(' ').map(OsString::from)), expected, "{line}");
        };
        check("vessl run craete", Format::Table);
        check("vessl --output json run craete", Format::Json);
        check("vessl run craete --output=yaml", Format::Yaml);
        check("vessl run list --output xml", Format::Table);
        check("vessl run list --output", Format::Table);
        check("vessl run list -- --output json", Format::Table);
    }
}
