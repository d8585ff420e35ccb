//! `vessl run create`.
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueHint};
use clap_complete::engine::ArgValueCandidates;
use vessl_core::run::MAX_RETRIES;
use vessl_core::spec::{self, ReadOptions, Spec};
use vessl_core::units::{Cpu, Memory, Span};
use vessl_core::wire::{EnvPair, Overrides, Problem, RunCreate, RunView};

use super::several::until_ended;
use super::{begin_of_name, env_file, sweep, text, uncommitted, watch};
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, runs, views};
use crate::session::{Session, Source};
use crate::settings::Settings;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "The file is checked here first, so its problems are shown even without a server. With --watch or \
--wait the exit code is that of the run. Ctrl-C leaves the run running (exit code 130). A run with \
`termination_protection` ends when somebody terminates it. With --output json or yaml the log of \
--watch goes to standard error, and the run to standard output.

Examples:
  vessl run create -f run.yaml
  vessl run create -f run.yaml --watch
  vessl run create -f run.yaml --wait && echo good
  vessl run create -f run.yaml --strict
  vessl run create -f run.yaml -e LR=1e-4 -e HF_TOKEN --env-file .env
  vessl run create -f run.yaml --name trial --gpus 1 --retries 3
  vessl run create -f run.yaml --sweep -e LR=1e-3,1e-2 --parallel 2
  sed s/@SEED@/7/ run.yaml | vessl run create -f - --output json | jq .id"
)]
pub(crate) struct Create {
    /// The run file; `-` reads the standard input
    #[arg(short, long, value_name = "FILE", value_parser = Source::parser(), value_hint = ValueHint::FilePath)]
    file: Source,
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
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = retries(), hide_default_value = true)]
    retries: u32,
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
    #[arg(long)]
    lenient: bool,
    /// Begin the commands with `set -euo pipefail` (`set -eu` in a shell without it), so that no failure passes unseen; also `strict =
    /// true` in the settings of the client
    #[arg(long)]
    strict: bool,
}

/// Submits the run; stays with it if that was asked for.
pub(crate) async fn perform(args: Create, session: &Session) -> Result<Exit> {
    let Checked { yaml, spec, warnings } = checked(&args, session)?;
    let key = idempotency_key()?;
    let base = text::base(&args.file);
    let Overriding { name, tag, preset, cpu, memory, gpus } = args.overriding;
    let ask = RunCreate {
        yaml: yaml.into(),
        env: [env_file::read(&args.env_file)?, args.env].concat(),
        lenient: args.reading.lenient,
        strict: args.reading.strict || Settings::is_strict(),
        overrides: Overrides { name, tags: tag, preset, cpu, memory, gpus },
        max_runtime: args.ending.max_runtime,
        retries: args.ending.retries,
        sweep: None,
        base,
        idempotency_key: Some(key),
    };
    if args.sweeping.sweep {
        let sweep = sweep::Sweep::of(&ask, &spec, args.sweeping.parallel)?;
        return many(sweep, session, (&args.file, &warnings), args.wait).await;
    }
    let mut client = session.client().await?;
    let is_local = client.is_local();
    let notes = async {
        // Another machine has directories of its own.
        if is_local { uncommitted::notes(&spec, ask.base.as_deref()).await } else { Vec::new() }
    };
    let (run, notes) = tokio::join!(client.create(&ask), notes);
    let run = run.map_err(|e| named(e, &args.file, &warnings))?;
    session.out.problems(&args.file.to_string(), &unsaid(run.warnings.clone(), &warnings));
    for note in &notes {
        session.out.note(note);
    }
    let watched = match (args.watch, args.wait) {
        (true, _) => {
            let (id, name, gets) = (run.id.0, &run.name, views::gets(&run));
            session.out.dim(&format!("vessl: run {id} `{name}` gets {gets}; Ctrl-C leaves it running"));
            watch::watch(&mut client, run.id, &session.out).await?
        }
        (_, true) => watch::wait(&mut client, run.id, &session.out).await?,
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
            if args.watch && session.out.format() == Format::Table {
                session.out.note(&views::ending(&run, &said));
            } else {
                session.out.object(&run, |run| views::run_head(run))?;
            }
            Ok(exit::of_run(&run))
        }
    }
}

/// Submits the runs of a sweep one after the other.
async fn many(
    sweep: sweep::Sweep,
    session: &Session,
    (file, said): (&Source, &[Problem]),
    wait: bool,
) -> Result<Exit> {
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
                return Err(named(error, file, said));
            }
        }
    }
    if let Some(first) = runs.first() {
        session.out.problems(&file.to_string(), &unsaid(first.warnings.clone(), said));
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

/// A file without errors.
struct Checked {
    yaml: String,
    spec: Spec,
    /// They have been said.
    warnings: Vec<Problem>,
}

/// Reads the file and says its warnings; a file with errors goes no further.
fn checked(args: &Create, session: &Session) -> Result<Checked> {
    let bytes = text::read(&args.file)?;
    let name = args.file.to_string();
    let base = text::base(&args.file);
    let read = spec::read(
        &bytes,
        ReadOptions {
            lenient: args.reading.lenient,
            base: base.as_deref(),
            strict: args.reading.strict || Settings::is_strict(),
        },
    );
    let Some(spec) = read.spec else {
        return Err(Error::File { problems: read.problems, name });
    };
    session.out.problems(&name, &read.problems);
    let yaml =
        String::from_utf8(bytes).map_err(|_| Error::Bug("a text that was read is not text".to_owned()))?;
    Ok(Checked { yaml, spec, warnings: read.problems })
}

/// Problems that have not been said.
fn unsaid(mut problems: Vec<Problem>, said: &[Problem]) -> Vec<Problem> {
    problems.retain(|problem| !said.contains(problem));
    problems
}

/// A refusal that shows problems shows those that are new under the name of the file.
fn named(error: Error, file: &Source, said: &[Problem]) -> Error {
    match error {
        Error::Refused { body, .. } if body.code == "spec_invalid" && !body.problems.is_empty() => {
            Error::File { problems: unsaid(body.problems, said), name: file.to_string() }
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
