//! `vessl run create`.
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, ValueHint};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter};
use vessl_core::run::MAX_RETRIES;
use vessl_core::spec::{self, ReadOptions, Spec};
use vessl_core::units::{Cpu, Memory, Span};
use vessl_core::wire::{EnvPair, Overrides, Problem, RunCreate, RunFrom, RunView};

use super::several::{RunName, find, run_name, until_ended};
use super::{begin_of_name, env_file, sweep, text, uncommitted, watch};
use crate::client::Client;
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, runs, views};
use crate::session::{Session, Source};
use crate::settings::Settings;

/// Arguments.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("origin").required(true).multiple(false).args(["file", "from"]))]
#[command(
    after_help = "The file is checked here first, so its problems are shown even without a server. With --watch or \
--wait the exit code is that of the run. Ctrl-C leaves the run running (exit code 130). A run with \
`termination_protection` ends when somebody terminates it. With --output json or yaml the log of \
--watch goes to standard error, and the run to standard output. --from takes file, variables, secret values and settings of a \
run; the other flags count before them. Its names are looked up anew: a branch is what it is now, a dataset its newest version. With \
--exact they are what that run used, or the run is refused; secrets have their values of now.

Examples:
  vessl run create -f run.yaml
  vessl run create -f run.yaml --watch
  vessl run create -f run.yaml --wait && echo good
  vessl run create -f run.yaml --strict
  vessl run create -f run.yaml -e LR=1e-4 -e HF_TOKEN --env-file .env
  vessl run create -f run.yaml --name trial --gpus 1 --retries 3
  vessl run create -f run.yaml --sweep -e LR=1e-3,1e-2 --parallel 2
  vessl run create --from 100000000001 -e LR=3e-4
  vessl run create --from 100000000001 --exact --watch
  sed s/@SEED@/7/ run.yaml | vessl run create -f - --output json | jq .id"
)]
pub(crate) struct Create {
    /// The run file; `-` reads the standard input
    #[arg(short, long, value_name = "FILE", value_parser = Source::parser(), value_hint = ValueHint::FilePath)]
    file: Option<Source>,
    /// Submit what this run was submitted with, by its id or name
    #[arg(long, value_name = "ID", value_parser = run_name, add = ArgValueCompleter::new(completion::runs))]
    from: Option<RunName>,
    /// With the very image, code and data that it used
    #[arg(long, requires = "from")]
    exact: bool,
    /// Show what happens and the log until the run has ended
    #[arg(short, long)]
    watch: bool,
    /// Say nothing and wait until the run has ended
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// Set a variable of the run's environment; KEY alone takes the value from this environment
    #[arg(short, long = "env", value_name = "KEY[=VALUE]", value_parser = pair)]
    env: Vec<EnvPair>,
    /// Set the variables of this file, one KEY=VALUE a line, `#` for a remark; -e counts before it
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    #[command(flatten)]
    reading: Reading,
    #[command(flatten)]
    overriding: Overriding,
    #[command(flatten)]
    ending: Ending,
    #[command(flatten)]
    sweeping: Sweeping,
}

/// What counts before the file.
#[derive(Args, Debug)]
#[command(next_help_heading = "In place of what the file says")]
struct Overriding {
    /// Name of the run
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// One more tag
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Resource preset; the preset and the requests of the file do not count then
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(completion::presets))]
    preset: Option<String>,
    /// Cores, like `2` or `500m`
    #[arg(long, value_name = "N", value_parser = amount::<Cpu>)]
    cpu: Option<String>,
    /// Memory, like `8Gi`
    #[arg(long, value_name = "SIZE", value_parser = amount::<Memory>)]
    memory: Option<String>,
    /// Number of GPUs
    #[arg(long, value_name = "N")]
    gpus: Option<u32>,
}

/// How long it may take, and how often it is tried.
#[derive(Args, Debug)]
#[command(next_help_heading = "Ends")]
struct Ending {
    /// End the run, as by a terminate, when its commands have run so long, like `2h`; `0` is no limit
    #[arg(long, value_name = "TIME", value_parser = amount::<Span>)]
    max_runtime: Option<String>,
    /// Try again up to N times when the commands fail, or the run is lost or cannot fetch what it needs
    #[arg(long, value_name = "N", value_parser = retries())]
    retries: Option<u32>,
}

/// Many runs at once.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sweeps")]
struct Sweeping {
    /// One run for each combination of the values of -e, which stand with commas between them. What differs is in their names, and
    /// all have the same tag
    #[arg(long, conflicts_with = "watch")]
    sweep: bool,
    /// How many of them may run at the same time
    #[arg(long, value_name = "N", requires = "sweep", value_parser = clap::value_parser!(u32).range(1..))]
    parallel: Option<u32>,
}

fn retries() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(..=i64::from(MAX_RETRIES))
}

/// Checks an amount, which the server reads again.
fn amount<T: FromStr<Err: Display>>(text: &str) -> Result<String, String> {
    text.parse::<T>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

/// How the file is read.
#[derive(Args, Debug)]
struct Reading {
    /// Accept unknown keys with a warning
    #[arg(long, conflicts_with = "from")]
    lenient: bool,
    /// Begin the commands with `set -euo pipefail` (`set -eu` in a shell without it), so that no failure passes unseen; also `strict =
    /// true` in the settings of the client
    #[arg(long)]
    strict: bool,
}

/// What is submitted, before anything counts before it.
struct Origin {
    /// Its name in messages.
    name: String,
    yaml: String,
    /// Directory of the file.
    base: Option<String>,
    from: Option<RunFrom>,
    /// What it says, as far as that matters here.
    spec: Option<Spec>,
    /// They have been said.
    warnings: Vec<Problem>,
    strict: bool,
}

/// Submits the run; stays with it if that was asked for.
pub(crate) async fn perform(args: Create, session: &Session) -> Result<Exit> {
    let origin = match (&args.file, &args.from) {
        (_, Some(run)) => of_run(run, &args, session).await?,
        (Some(file), None) => of_file(file, &args, session)?,
        (None, None) => return Err(Error::Bug("neither a file nor a run is named".to_owned())),
    };
    let Overriding { name, tag, preset, cpu, memory, gpus } = args.overriding;
    let ask = RunCreate {
        yaml: origin.yaml.as_str().into(),
        from: origin.from,
        env: [env_file::read(&args.env_file)?, args.env].concat(),
        lenient: args.reading.lenient,
        strict: origin.strict,
        overrides: Overrides { name, tags: tag, preset, cpu, memory, gpus },
        max_runtime: args.ending.max_runtime,
        retries: args.ending.retries,
        sweep: None,
        base: origin.base.clone(),
        idempotency_key: Some(idempotency_key()?),
    };
    if let (true, Some(spec)) = (args.sweeping.sweep, &origin.spec) {
        let sweep = sweep::Sweep::of(&ask, spec, args.sweeping.parallel)?;
        return many(sweep, session, &origin, args.wait).await;
    }
    let mut client = session.client().await?;
    let is_local = client.is_local();
    let notes = async {
        match &origin.spec {
            // Another machine has directories of its own.
            Some(spec) if is_local => uncommitted::notes(spec, ask.base.as_deref()).await,
            _ => Vec::new(),
        }
    };
    let (run, notes) = tokio::join!(client.create(&ask), notes);
    let run = run.map_err(|e| named(e, &origin))?;
    session.out.problems(&origin.name, &unsaid(run.warnings.clone(), &origin.warnings));
    for note in &notes {
        session.out.note(note);
    }
    stay(run, (args.watch, args.wait), &mut client, session).await
}

/// Shows a run that was submitted, at once or when it has ended.
async fn stay(
    run: RunView,
    (watch, wait): (bool, bool),
    client: &mut Client,
    session: &Session,
) -> Result<Exit> {
    let watched = match (watch, wait) {
        (true, _) => {
            let (id, name, gets) = (run.id.0, &run.name, views::gets(&run));
            session.out.dim(&format!("vessl: run {id} `{name}` gets {gets}; Ctrl-C leaves it running"));
            watch::watch(client, run.id, &session.out).await?
        }
        (_, true) => watch::wait(client, run.id, &session.out).await?,
        _ => {
            session.out.object(&run, views::run_head)?;
            return Ok(exit::OK);
        }
    };
    match watched {
        watch::WatchResult::Left => {
            if session.out.format() != Format::Table {
                session.out.data(&client.run(run.id).await.unwrap_or(run.clone()))?;
            }
            Ok(watch::goodbye(run.id, &session.out))
        }
        watch::WatchResult::Ended(run, said) => {
            if watch && session.out.format() == Format::Table {
                session.out.note(&views::ending(&run, &said));
            } else {
                session.out.object(&run, |run| views::run_head(run))?;
            }
            Ok(exit::of_run(&run))
        }
    }
}

/// Submits the runs of a sweep one after the other.
async fn many(sweep: sweep::Sweep, session: &Session, origin: &Origin, wait: bool) -> Result<Exit> {
    let mut client = session.client().await?;
    let (tag, all) = (sweep.tag.clone(), sweep.asks.len());
    let mut runs: Vec<RunView> = Vec::new();
    for mut ask in sweep.asks {
        ask.idempotency_key = Some(idempotency_key()?);
        match client.create(&ask).await {
            Ok(run) => runs.push(run),
            Err(error) => {
                if !runs.is_empty() {
                    let made = runs.len();
                    session.out.note(&format!(
                        "{made} of {all} runs were made before this; they have the tag `{tag}`"
                    ));
                }
                return Err(named(error, origin));
            }
        }
    }
    if let Some(first) = runs.first() {
        session.out.problems(&origin.name, &unsaid(first.warnings.clone(), &origin.warnings));
    }
    session.out.note(&format!("{all} runs with the tag `{tag}`: `vessl run compare --tag {tag}`"));
    if !wait {
        runs::print(&runs, &session.out)?;
        return Ok(exit::OK);
    }
    let Some(ended) = until_ended(&mut client, runs, &session.out).await? else {
        session.out.note(&format!("the runs go on; `vessl run list --tag {tag}` shows them"));
        return Ok(exit::INTERRUPTED);
    };
    runs::print(&ended, &session.out)?;
    Ok(exit::of_runs(&ended))
}

/// Reads the file and says its warnings; a file with errors goes no further.
fn of_file(file: &Source, args: &Create, session: &Session) -> Result<Origin> {
    let bytes = text::read(file)?;
    let (name, base) = (file.to_string(), text::base(file));
    let strict = args.reading.strict || Settings::is_strict();
    let read =
        spec::read(&bytes, ReadOptions { lenient: args.reading.lenient, base: base.as_deref(), strict });
    let Some(spec) = read.spec else {
        return Err(Error::File { problems: read.problems, name });
    };
    session.out.problems(&name, &read.problems);
    let yaml =
        String::from_utf8(bytes).map_err(|_| Error::Bug("a text that was read is not text".to_owned()))?;
    Ok(Origin { name, yaml, base, from: None, spec: Some(spec), warnings: read.problems, strict })
}

/// A run that is submitted again. Whether its commands are strict is as it was there.
async fn of_run(run: &RunName, args: &Create, session: &Session) -> Result<Origin> {
    let mut client = session.client().await?;
    let id = find(&mut client, run).await?;
    let mut spec = None;
    if args.sweeping.sweep {
        let yaml = client.run(id).await?.yaml.unwrap_or_default();
        let name = format!("run {}", id.0);
        let read = spec::read(yaml.as_bytes(), ReadOptions::default());
        spec = Some(read.spec.ok_or(Error::File { problems: read.problems, name })?);
    }
    Ok(Origin {
        name: format!("run {}", id.0),
        yaml: String::new(),
        base: None,
        from: Some(RunFrom { run: id, exact: args.exact }),
        spec,
        warnings: Vec::new(),
        strict: args.reading.strict,
    })
}

/// Problems that have not been said.
fn unsaid(mut problems: Vec<Problem>, said: &[Problem]) -> Vec<Problem> {
    problems.retain(|problem| !said.contains(problem));
    problems
}

/// A refusal that shows problems shows those that are new under the name of the file.
fn named(error: Error, origin: &Origin) -> Error {
    match error {
        Error::Refused { body, .. } if body.code == "spec_invalid" && !body.problems.is_empty() => {
            Error::File { problems: unsaid(body.problems, &origin.warnings), name: origin.name.clone() }
        }
        other => other,
    }
}

/// Takes a variable from the command line. What stands without its `=` may be a secret, and is not repeated.
pub(super) fn pair(text: &str) -> Result<EnvPair, String> {
    let Some((key, value)) = text.split_once('=') else {
        let value = std::env::var(text).map_err(|_| match begin_of_name(text) {
            "" => "write `NAME=VALUE`".to_owned(),
            name if name.len() < text.len() => format!("write `{name}=VALUE`"),
            name if name.contains(|c: char| c.is_ascii_lowercase()) => {
                "it is not set in this environment; write `NAME=VALUE`".to_owned()
            }
            name => format!("`{name}` is not set in this environment; write `{name}=VALUE`"),
        })?;
        return Ok(EnvPair { key: text.to_owned(), value: value.into() });
    };
    if key.contains(char::is_whitespace) {
        return Err(format!("a name has no blank in it; write `{}=VALUE`", begin_of_name(key)));
    }
    if key.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok(EnvPair { key: key.to_owned(), value: value.into() })
}

/// A random text that makes a repeated submit the same submit.
fn idempotency_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|e| std::io::Error::other(e.to_string()))
        .map_err(Error::os("read random bytes"))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}
