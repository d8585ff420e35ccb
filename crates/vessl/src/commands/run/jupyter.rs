//! `vessl run jupyter`.
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::ids::RunId;
use vessl_core::jupyter::JupyterState;
use vessl_core::wire::JupyterOpened;

use super::open::{has_display, show};
use super::several::{RunName, find, run_name};
use crate::client::Client;
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::{Format, Out};
use crate::session::Session;

/// How often it is asked how far JupyterLab is.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Waits until JupyterLab of an interactive run is ready, prints a link, and opens it if this machine has a display. The link is good once \
and for a minute; the browser that opens it may use JupyterLab for a week, or until the run is started again. The first run with a \
version of Python fetches JupyterLab; see `docs/jupyter.md`.

Examples:
  vessl run jupyter 100000000001
  vessl run jupyter my-run --no-browser
  vessl run jupyter my-run --output json | jq -r .url"
)]
pub(crate) struct Jupyter {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Only print the link
    #[arg(long)]
    no_browser: bool,
}

/// Prints the link and opens it.
pub(crate) async fn perform(args: &Jupyter, session: &Session) -> Result<Exit> {
    let (mut client, out) = (session.client().await?, &session.out);
    let id = find(&mut client, &args.run).await?;
    let opened = until_ready(&mut client, id, out).await?;
    if out.format() != Format::Table {
        out.data(&opened)?;
        return Ok(exit::OK);
    }
    let link = opened.url.unwrap_or_default();
    out.text(&format!("{link}\n"))?;
    if !args.no_browser && has_display() {
        show(&link);
    }
    Ok(exit::OK)
}

/// Waits for JupyterLab, and says what it waits for; an error if it will not be there.
pub(in crate::commands) async fn until_ready(
    client: &mut Client,
    id: RunId,
    out: &Out,
) -> Result<JupyterOpened> {
    let mut said = String::new();
    loop {
        let opened = client.jupyter(id).await?;
        match opened.state {
            JupyterState::Ready => return Ok(opened),
            JupyterState::Unavailable => return Err(unavailable(&opened.why, id)),
            JupyterState::Preparing => {}
        }
        // Numbers that change are said on a terminal alone.
        let what = if out.is_interactive() { opened.why.as_str() } else { without_numbers(&opened.why) };
        if !what.is_empty() && what != said {
            out.dim(what);
            what.clone_into(&mut said);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn without_numbers(text: &str) -> &str {
    text.split_once(": ").filter(|(_, rest)| rest.contains(" of ")).map_or(text, |(what, _)| what)
}

fn unavailable(why: &str, id: RunId) -> Error {
    let hint = format!("`vessl run shell {0}` and `vessl run exec {0}` work without JupyterLab", id.0);
    Error::refused("jupyter_unavailable", format!("JupyterLab is not available: {why}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_a_pipe_has_no_numbers_that_change() {
        let fetching = "fetching JupyterLab for Python 3.11: 3 of 91 wheels, 1.0 of 47.0 MB";
        assert_eq!(without_numbers(fetching), "fetching JupyterLab for Python 3.11");
        assert_eq!(without_numbers("starting JupyterLab"), "starting JupyterLab");
        assert_eq!(without_numbers("the run is queued: it waits"), "the run is queued: it waits");
    }
}
