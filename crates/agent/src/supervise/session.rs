//! What stands beside an interactive run besides its commands: the token of its JupyterLab, and the process that looks after that. It has
//! a process of its own because the agent has one thread, and must not care for pages and wheels.
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use vessl_core::jupyter::{KITS, KITS_INSIDE, STATE_FILE, TOKEN_FILE};
use vessl_core::plan::Plan;
use vessl_core::secret::Secret;
use vessl_data::durable;

use crate::record::events::eprint_line;
use crate::record::run_dir::RunDir;

/// Bytes of a token.
const TOKEN: usize = 24;

/// The process that looks after JupyterLab; it ends with this.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    /// It reads this to its end, which comes with the agent's in any case.
    _input: Option<ChildStdin>,
}

/// Makes the token of an attempt, if its plan is interactive.
pub(crate) fn make_token(plan: &Plan, dir: &RunDir) -> io::Result<Option<Secret>> {
    if plan.interactive.is_none() {
        return Ok(None);
    }
    let mut bytes = [0; TOKEN];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let token = bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let token = Secret::from(token);
    durable::write_atomic(&dir.file(TOKEN_FILE), token.expose().as_bytes(), 0o600)?;
    Ok(Some(token))
}

/// The directory of the kits of this machine and the name that it has beside init, if the plan is interactive.
pub(crate) fn shown(plan: &Plan, data: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    if plan.interactive.is_none() {
        return Ok(Vec::new());
    }
    let kits = data.join(KITS);
    durable::create_dir_all(&kits, 0o755)?;
    let name = KITS_INSIDE.rsplit('/').next().unwrap_or(KITS);
    Ok(vec![(kits, name.to_owned())])
}

/// Starts it, if the plan is interactive. Without it the run has no JupyterLab, and works.
pub(crate) fn begin(plan: &Plan, dir: &RunDir, data: &Path) -> Option<Session> {
    plan.interactive.as_ref()?;
    match start(dir, data) {
        Ok(session) => Some(session),
        Err(error) => {
            eprint_line(&format!("nobody looks after JupyterLab: {error}"));
            None
        }
    }
}

fn start(dir: &RunDir, data: &Path) -> io::Result<Session> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["agent", "session", "--data"]).arg(data).arg(dir.path());
    // Its words go where the agent's own do.
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let input = child.stdin.take();
    Ok(Session { child, _input: input })
}

/// Ends it: with the container there is nothing to look after.
pub(crate) fn end(session: Option<Session>, dir: &RunDir) {
    let Some(mut session) = session else { return };
    // One that has ended already needs neither.
    let _ = session.child.kill();
    let _ = session.child.wait();
    // What it said last is true no more.
    let _ = std::fs::remove_file(dir.file(STATE_FILE));
}
