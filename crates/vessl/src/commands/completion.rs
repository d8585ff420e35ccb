//! `vessl completion`, and what a shell that has its script completes: names that a running server knows.
use std::ffi::OsStr;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};
use vessl_core::object::ObjectKind;
use vessl_core::wire::{RunQuery, RunView, SecretView};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::session::Session;

/// The variable by which the script of a shell asks this program.
const VARIABLE: &str = "VESSL_COMPLETE";
/// Longest time that a person who pressed the key waits for the server.
const WAIT: Duration = Duration::from_secs(2);
/// Runs that are offered: the newest.
const MOST: u32 = 50;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "What the script completes it asks this program: commands and flags, and from the server that runs the ids and \
names of runs, the names of artifacts, datasets, model repositories, storages, secrets, credentials, clusters and presets. It starts no server.

Examples:
  vessl completion bash > /etc/bash_completion.d/vessl
  vessl completion zsh > ~/.zfunc/_vessl
  vessl completion fish > ~/.config/fish/completions/vessl.fish"
)]
pub(crate) struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Answers the script of a shell, if that is who asks, and ends the program then.
pub(crate) fn answer(definition: fn() -> clap::Command) {
    CompleteEnv::with_factory(definition).var(VARIABLE).bin("vessl").completer("vessl").complete();
}

/// Prints the script.
pub(crate) fn perform(args: &Completion, session: &Session) -> Result<Exit> {
    let shells = Shells::builtins();
    let name = args.shell.to_string();
    let shell =
        shells.completer(&name).ok_or_else(|| Error::Bug(format!("there is no script for {name}")))?;
    let mut script = Vec::new();
    let written = shell.write_registration(VARIABLE, "vessl", "vessl", "vessl", &mut script);
    written.map_err(Error::os("write the script"))?;
    session.out.raw(&script)?;
    Ok(exit::OK)
}

/// Words that are always the same.
pub(crate) fn words(words: impl Iterator<Item = &'static str>) -> Vec<CompletionCandidate> {
    words.map(CompletionCandidate::new).collect()
}

/// The newest runs: by id, or by name once a letter is typed.
pub(crate) fn runs(typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let is_name = typed.starts_with(|c: char| !c.is_ascii_digit());
    let name = is_name.then(|| format!("{typed}*"));
    let query = RunQuery { name, limit: Some(MOST), ..RunQuery::default() };
    let candidate = |run: RunView| {
        let (id, name) = (run.id.0.to_string(), run.name);
        let (value, other) = if is_name { (name, id) } else { (id, name) };
        // A shell would take a name with a blank for two words.
        let is_word = value.starts_with(typed) && !value.contains(char::is_whitespace);
        let about = format!("{other}, {}", run.status.word());
        is_word.then(|| CompletionCandidate::new(value).help(Some(about.into())))
    };
    ask(async |client| Ok(client.runs(&query).await?.into_iter().filter_map(candidate).collect()))
}

/// Artifacts of the project.
pub(crate) fn artifacts() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(named(client.artifacts().await?.into_iter().map(|artifact| artifact.name))))
}

/// Datasets of the organization.
pub(crate) fn datasets() -> Vec<CompletionCandidate> {
    objects(ObjectKind::Dataset)
}

/// Model repositories of the organization.
pub(crate) fn model_repositories() -> Vec<CompletionCandidate> {
    objects(ObjectKind::ModelRepository)
}

/// Storages of the organization.
pub(crate) fn storages() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(named(client.storages().await?.into_iter().map(|storage| storage.name))))
}

fn objects(kind: ObjectKind) -> Vec<CompletionCandidate> {
    ask(async |client| Ok(named(client.objects(kind).await?.into_iter().map(|object| object.name))))
}

/// Stored secrets.
pub(crate) fn secrets() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(stored(client.secrets().await?)))
}

/// Stored credentials.
pub(crate) fn credentials() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(stored(client.credentials().await?)))
}

/// Public keys.
pub(crate) fn ssh_keys() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(named(client.ssh_keys().await?.into_iter().map(|key| key.name))))
}

/// Clusters.
pub(crate) fn clusters() -> Vec<CompletionCandidate> {
    ask(async |client| Ok(named(client.clusters().await?.into_iter().map(|cluster| cluster.name))))
}

/// Presets of the default cluster.
pub(crate) fn presets() -> Vec<CompletionCandidate> {
    ask(async |client| {
        let cluster = client.cluster_or_default(None).await?;
        Ok(named(client.presets(&cluster).await?.into_iter().map(|preset| preset.name)))
    })
}

fn stored(secrets: Vec<SecretView>) -> Vec<CompletionCandidate> {
    named(secrets.into_iter().map(|secret| secret.name))
}

fn named(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    names.map(CompletionCandidate::new).collect()
}

/// Asks the server that runs; without one, or if it does not answer soon, there is nothing to offer.
fn ask(look: impl AsyncFnOnce(&mut Client) -> Result<Vec<CompletionCandidate>>) -> Vec<CompletionCandidate> {
    let found = async {
        match Session::of_environment().running_client().await? {
            Some(mut client) => look(&mut client).await,
            None => Ok(Vec::new()),
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(WAIT, found).await });
    found.ok().and_then(Result::ok).unwrap_or_default()
}
