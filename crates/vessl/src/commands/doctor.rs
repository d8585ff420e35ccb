//! `vessl doctor`.
use serde::Serialize;

use crate::client::Local;
use crate::error::Result;
use crate::exit::{self, Exit};
use crate::output::Columns;
use crate::session::Session;

/// One probe.
#[derive(Serialize)]
struct Probe {
    name: String,
    ok: bool,
    required: bool,
    says: String,
}

const PROBES: &Columns<Probe> =
    &[("", |p| mark(p).to_owned()), ("PROBE", |p| p.name.clone()), ("RESULT", |p| p.says.clone())];

/// Looks at this machine. The exit code is 1 if runs are impossible here.
pub(crate) fn perform(session: &Session) -> Result<Exit> {
    let probes = vessl_agent::probe::all(Local::of_this_machine()?.data());
    let mut probes: Vec<Probe> = probes
        .into_iter()
        .map(|probe| Probe {
            name: probe.name.to_owned(),
            ok: probe.ok,
            required: probe.required,
            says: probe.says,
        })
        .collect();
    probes.push(ssh()?);
    session.out.list(&probes, PROBES, "")?;
    let able = probes.iter().all(|probe| probe.ok || !probe.required);
    Ok(if able { exit::OK } else { exit::FAILED })
}

/// Whether runs of this machine are reached by SSH.
fn ssh() -> Result<Probe> {
    let at = Local::of_this_machine()?.running()?.map(|info| info.ssh);
    let (ok, says) = match at {
        Some(Some(at)) => (true, format!("runs are reached at {at}")),
        Some(None) => {
            (false, "runs are not reached: `ssh_listen` in the settings of the server is empty".to_owned())
        }
        None => (
            true,
            "the server does not run: `vessl server status` says later where runs are reached".to_owned(),
        ),
    };
    Ok(Probe { name: "ssh".to_owned(), ok, required: false, says })
}

fn mark(probe: &Probe) -> &'static str {
    match (probe.ok, probe.required) {
        (true, _) => "ok",
        (false, true) => "missing",
        (false, false) => "limited",
    }
}
