//! `vessl jupyter …`.
use std::time::Duration;

use clap::{Args, Subcommand};
use vessl_core::ids::RunId;
use vessl_core::wire::{Overrides, RunCreate, RunTerminate};

use super::run::until_ready;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::session::Session;

/// How often a removal is asked for, and the pause between: the run has to end first.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(300);

/// What can be done for JupyterLab of later runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch image and JupyterLab, so that an interactive run with that image needs neither
    #[command(
        after_help = "Starts a run with the image, waits until its JupyterLab answers, and removes the run. From then on runs with that \
version of Python start JupyterLab without a network.

Examples:
  vessl jupyter prepare python:3.12-slim
  vessl jupyter prepare reg.example.org/team/train:1 --credential-name team"
    )]
    Prepare(Prepare),
    /// Print which wheels a machine without a network needs
    #[command(
        after_help = "The list is for `pip`, with the digests of every file. The directory of the wheels is the setting `jupyter_wheels` of \
the server; it may have those of several versions of Python.

Examples:
  vessl jupyter requirements --python 3.12 > lock.txt
  pip download --no-deps --only-binary :all: --require-hashes -r lock.txt \\
      --python-version 3.12 --platform manylinux_2_28_x86_64 \\
      --platform manylinux_2_34_x86_64 --platform manylinux2014_x86_64 -d wheels"
    )]
    Requirements(Requirements),
}

/// For which image.
#[derive(Args, Debug)]
pub(crate) struct Prepare {
    /// The image, as a run file names it
    image: String,
    /// Stored registry credential to log in with
    #[arg(long, value_name = "NAME")]
    credential_name: Option<String>,
}

/// For which Python.
#[derive(Args, Debug)]
pub(crate) struct Requirements {
    /// Version of Python, like `3.12`
    #[arg(long, value_name = "VERSION", value_parser = minor)]
    python: u32,
}

/// Reads `3.N`.
fn minor(text: &str) -> Result<u32, String> {
    let minor = text.strip_prefix("3.").and_then(|minor| minor.parse().ok());
    minor
        .ok_or_else(|| format!("it must be a version of Python from {}, like `3.12`", vessl_jupyter::PYTHONS))
}

/// Carries one of them out.
pub(crate) async fn perform(command: Command, session: &Session) -> Result<Exit> {
    match command {
        Command::Prepare(args) => prepare(&args, session).await,
        Command::Requirements(Requirements { python }) => {
            let text = vessl_jupyter::requirements(python).ok_or_else(|| Error::Usage {
                message: format!("JupyterLab is not brought along for Python 3.{python}"),
                hint: format!("it is for Python {}", vessl_jupyter::PYTHONS),
            })?;
            if session.out.format() == Format::Table {
                session.out.text(&text)?;
            } else {
                session
                    .out
                    .data(&serde_json::json!({ "python": format!("3.{python}"), "requirements": text }))?;
            }
            Ok(exit::OK)
        }
    }
}

async fn prepare(args: &Prepare, session: &Session) -> Result<Exit> {
    let (mut client, out) = (session.client().await?, &session.out);
    // JSON is YAML, and needs no quotes of ours.
    let file = serde_json::json!({
        "name": "jupyter-prepare",
        "description": "made by `vessl jupyter prepare`, which removes it",
        "image": match &args.credential_name {
            Some(name) => serde_json::json!({ "url": args.image, "credential_name": name }),
            None => serde_json::json!(args.image),
        },
        "interactive": { "max_runtime": "1h" },
    });
    let overrides =
        Overrides { cpu: Some("500m".to_owned()), memory: Some("1Gi".to_owned()), ..Overrides::default() };
    let ask = RunCreate { yaml: file.to_string().as_str().into(), overrides, ..RunCreate::default() };
    let run = client.create(&ask).await?.id;
    let ready = tokio::select! {
        ready = until_ready(&mut client, run, out) => Some(ready),
        pressed = tokio::signal::ctrl_c() => {
            pressed.map_err(Error::os("wait for Ctrl-C"))?;
            None
        }
    };
    remove(&mut client, run).await?;
    match ready {
        None => Ok(exit::INTERRUPTED),
        Some(ready) => {
            ready?;
            let words = format!("JupyterLab starts in runs with `{}` without a network now", args.image);
            out.outcome(&serde_json::json!({ "image": args.image, "ready": true }), &words)?;
            Ok(exit::OK)
        }
    }
}

/// Ends the run and removes it.
async fn remove(client: &mut Client, run: RunId) -> Result<()> {
    let ask = RunTerminate { grace_s: Some(0), no_export: true };
    client.terminate(run, &ask).await?;
    for _ in 1..TRIES {
        match client.delete_run(run).await {
            Err(Error::Refused { status: 409, .. }) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    client.delete_run(run).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_python_has_two_numbers() {
        assert_eq!(minor("3.12"), Ok(12));
        for wrong in ["", "3", "312", "2.7", "3.x", "3.12.1"] {
            assert!(minor(wrong).is_err(), "{wrong}");
        }
    }
}
