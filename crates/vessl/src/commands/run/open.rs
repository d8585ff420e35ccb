//! `vessl run open`.
use std::process::{Command, Stdio};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use vessl_core::spec::JUPYTER_PORT;
use vessl_core::wire::{PortOpen, PortOpened, PortView, RunKind, RunView};

use super::several::{RunName, find, run_name};
use crate::commands::completion;
use crate::error::{Error, Result};
use crate::exit::{self, Exit};
use crate::output::Format;
use crate::session::Session;

/// Arguments.
#[derive(Args, Debug)]
#[command(
    after_help = "Prints a link, and opens it if this machine has a display. The link is good once and for a minute; the browser that opens it may use \
the port for a week, or until the run is started again. The port must be an `http` port of the run file.

Examples:
  vessl run open 100000000001
  vessl run open my-run 8501
  vessl run open my-run 8501 --by-path --no-browser
  vessl run open my-run 8501 --public"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Open {
    /// Id or name of the run
    #[arg(value_parser = run_name, value_name = "ID", add = ArgValueCompleter::new(completion::runs))]
    run: RunName,
    /// Port of the run; the one there is, if it is left out
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Let everybody use the port from now on who reaches the server's port
    #[arg(long)]
    public: bool,
    /// Let nobody use it from now on without a link; links that were opened stay good
    #[arg(long, conflicts_with = "public")]
    private: bool,
    /// Print the link for clients that do not find names below `localhost`
    #[arg(long)]
    by_path: bool,
    /// Only print the link
    #[arg(long)]
    no_browser: bool,
}

/// Prints the link and opens it.
pub(crate) async fn perform(args: &Open, session: &Session) -> Result<Exit> {
    let (mut client, out) = (session.client().await?, &session.out);
    let id = find(&mut client, &args.run).await?;
    let port = match args.port {
        Some(port) => port,
        None => the_port(&client.run(id).await?)?,
    };
    let public = if args.public || args.private { Some(args.public) } else { None };
    let opened = client.open_port(id, port, &PortOpen { public }).await?;
    if out.format() != Format::Table {
        out.data(&opened)?;
        return Ok(exit::OK);
    }
    let link = link(&opened, args.by_path)?;
    out.text(&format!("{link}\n"))?;
    if !args.no_browser && has_display() {
        show(link);
    }
    Ok(exit::OK)
}

fn link(opened: &PortOpened, by_path: bool) -> Result<&str> {
    if !by_path {
        return Ok(&opened.url);
    }
    opened.path_url.as_deref().ok_or_else(|| Error::Usage {
        message: "this server shows no ports below paths".to_owned(),
        hint: "leave `--by-path` out, or have `ports_by_path` set in its settings".to_owned(),
    })
}

/// The one `http` port of a run.
fn the_port(run: &RunView) -> Result<u16> {
    // JupyterLab has a command of its own, with its token.
    let is_own = |port: &&PortView| run.kind == RunKind::Interactive && port.port == JUPYTER_PORT;
    let ports = run.ports.iter().filter(|port| port.kind == "http" && !is_own(port));
    let ports: Vec<&PortView> = ports.collect();
    let id = run.id.0;
    match ports.as_slice() {
        [port] => Ok(port.port),
        [] => Err(Error::Usage {
            message: format!("the file of run {id} declares no `http` port"),
            hint: format!("add it to `ports`, or use `vessl run port-forward {id} PORT`"),
        }),
        several => {
            let names: Vec<String> =
                several.iter().map(|port| format!("{} ({})", port.port, port.name)).collect();
            Err(Error::Usage {
                message: format!("run {id} has several ports: {}", names.join(", ")),
                hint: format!("name one: `vessl run open {id} {}`", several[0].port),
            })
        }
    }
}

/// Whether a browser can be opened here.
pub(super) fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// Without a browser there is still the link.
pub(super) fn show(link: &str) {
    let mut browser = Command::new("xdg-open");
    let _ = browser.arg(link).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
}
