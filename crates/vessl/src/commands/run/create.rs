//! `vessl run create`.
use clap::Args;
use vessl_core::spec::{self, ReadOptions, Spec};
use vessl_core::wire::{EnvPair, Problem, RunCreate};

use super::{begin_of_name, text, uncommitted, watch};
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, views};
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
  vessl run create -f run.yaml -e LR=1e-4 -e HF_TOKEN
  sed s/@SEED@/7/ run.yaml | vessl run create -f - --output json | jq .id"
)]
pub(crate) struct Create {
    /// The run file; `-` reads the standard input
    #[arg(short, long, value_name = "FILE", value_parser = Source::parser())]
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
    #[command(flatten)]
    reading: Reading,
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
    let ask = RunCreate {
        yaml: yaml.into(),
        env: args.env,
        lenient: args.reading.lenient,
        strict: args.reading.strict || Settings::is_strict(),
        base,
        idempotency_key: Some(key),
    };
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
            session.out.dim(&format!("vessl: run {} `{}`; Ctrl-C leaves it running", run.id.0, run.name));
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
fn pair(text: &str) -> Result<EnvPair, String> {
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
