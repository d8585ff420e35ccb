//! One attempt from its plan to its exit record. Nothing here needs the server, and nothing is started twice.
//!
//! ```text
//! lock → secrets → Started (on disk) → image, imports, mounts → container → exports → exit.json (on disk) → removal
//!                                             └─ to disk, beside the commands ──┘
//! ```
//! Killed at any moment, the container goes with it (parent-death signal, end of init's socket), and what is on disk
//! says how far it came.
pub(crate) mod again;
mod capture;
mod clock;
pub(crate) mod control;
mod door;
mod event_loop;
mod export;
pub(crate) mod finish;
mod import;
mod link;
mod outcome;
mod scratch;
pub(crate) mod session;
mod settle;
pub(crate) mod setup;
mod watch;

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use vessl_container::limits::Cgroup;
use vessl_core::network::Network;
use vessl_core::record::{EventKind, Secrets};

use crate::machine::boot;
use crate::record::Sink;
use crate::record::events::{Events, eprint_line};
use crate::record::journal::Journal;
use crate::record::mask::{Mask, SHORTEST};
use crate::record::run_dir::{DirError, RunDir};
use event_loop::EventLoop;
use outcome::CommandsEnd;
use setup::Attempt;
use setup::error::SetupError;
use watch::ExecutionResult;

/// Most that may come through the pipe of secrets, in bytes.
const SECRETS: u64 = 16 << 20;

/// Why an attempt was not taken. Nothing was started, so it may be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NotTaken {
    /// The run directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// It was started before, or has ended.
    #[error("the attempt was started before; it is never started again")]
    Before,
    /// Its commands did not come to their end, or nothing of it is left.
    #[error("there are no files of the attempt from which its exports could be written")]
    NothingLeft,
    /// The pipe of secrets ended early.
    #[error("the secrets did not arrive whole: {0}")]
    Secrets(String),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] vessl_data::log::LogError),
    /// The machine refuses something.
    #[error("cannot {what}: {source}")]
    Os {
        /// The step.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

fn os(what: &'static str) -> impl FnOnce(io::Error) -> NotTaken {
    move |source| NotTaken::Os { what, source }
}

/// Carries out the plan in `dir`; returns when everything is over. The calling process has one thread.
pub(crate) fn run(data: &Path, dir: &Path, network: Network) -> Result<(), NotTaken> {
    let dir = RunDir::open(dir)?;
    let lock = dir.lock()?;
    if dir.has_ended() {
        return Err(NotTaken::Before);
    }
    let (attempt, short) = attempt(data, dir, network)?;
    let mut event_loop = open_event_loop(&attempt)?;
    started(&mut event_loop, &attempt)?;
    if let Err(error) = take_output(attempt.sink.dir()) {
        eprint_line(&format!("there is no `agent.log`: {error}"));
    }
    for key in short {
        event_loop.log.report(&format!(
            "the secret `{key}` has fewer than {SHORTEST} characters and is not hidden in this log"
        ));
    }
    carry_out(&mut event_loop, &attempt);
    drop(lock);
    Ok(())
}

/// The attempt of a run directory, and the secrets that are too short to be hidden.
fn attempt(data: &Path, dir: RunDir, network: Network) -> Result<(Arc<Attempt>, Vec<String>), NotTaken> {
    detach().map_err(os("leave the session of the caller"))?;
    let plan = dir.plan()?;
    let secrets = read_secrets()?;
    let (mut mask, short) = Mask::new(&secrets);
    if let Some(token) = session::make_token(&plan, &dir).map_err(os("write the token of JupyterLab"))? {
        mask = mask.and(&token);
    }
    let data = data.canonicalize().map_err(os("find the data directory"))?;
    let scratch = dir.scratch();
    let attempt = Attempt { plan, sink: Sink::new(dir, data), scratch, secrets, mask, network };
    Ok((Arc::new(attempt), short))
}

fn open_event_loop(attempt: &Attempt) -> Result<EventLoop, NotTaken> {
    let sink = &attempt.sink;
    let events = sink.events().map_err(os("write the events"))?.ok_or(NotTaken::Before)?;
    let log = sink.log(attempt.mask.clone(), attempt.plan.bounds.log)?;
    listen(attempt, events, log)
}

fn listen(attempt: &Attempt, events: Events, log: Journal) -> Result<EventLoop, NotTaken> {
    let sink = &attempt.sink;
    let grace = Duration::from_millis(attempt.plan.grace.0);
    let event_loop = EventLoop::open(sink, events, log, grace).map_err(os("listen on `control.sock`"))?;
    if let Err(error) = sink.dir().reserve() {
        eprint_line(&format!("no space is reserved for the exit record: {error}"));
    }
    Ok(event_loop)
}

/// From here on the commands of this attempt are never started again.
fn started(event_loop: &mut EventLoop, attempt: &Attempt) -> Result<(), NotTaken> {
    let me = boot::Process::me().map_err(os("find the own start time"))?;
    let boot_id = boot::id().map_err(os("read the boot id"))?;
    event_loop.events.add(EventKind::Started {
        boot_id,
        pid: me.pid,
        start_time: me.start_time,
        unit: attempt.plan.unit(),
        nonce: attempt.plan.nonce,
    });
    event_loop.events.flush().map_err(os("write the events"))
}

fn carry_out(event_loop: &mut EventLoop, attempt: &Arc<Attempt>) {
    let execution = match commands(event_loop, attempt) {
        Ok(execution) => execution,
        Err(setup_error) => nothing_runs(attempt, setup_error),
    };
    let record = finish::conclude(event_loop, attempt, &execution);
    finish::remove(attempt, record);
}

fn commands(event_loop: &mut EventLoop, attempt: &Arc<Attempt>) -> Result<ExecutionResult, SetupError> {
    let mut root = setup::prepare(event_loop, attempt)?;
    // A request that came between two tasks.
    if event_loop.stop.is_some() {
        return Err(SetupError::Stopped);
    }
    let running = setup::start(event_loop, attempt, &root)?;
    // Not before: a container is started by a process with one thread.
    let settling = settle::begin(std::mem::take(&mut root.imported.unsynced));
    let session = session::begin(&attempt.plan, attempt.sink.dir(), attempt.sink.data());
    let mut execution = watch::watch(event_loop, &attempt.plan, running);
    event_loop.set_surroundings(None);
    session::end(session, attempt.sink.dir());
    finish::export(event_loop, attempt, &root, &mut execution);
    settle::end(event_loop, settling);
    Ok(execution)
}

/// The commands did not start; what may have been started for them is ended before anybody hears of it.
fn nothing_runs(attempt: &Attempt, setup_error: SetupError) -> ExecutionResult {
    if let Err(error) = Cgroup::named(&attempt.plan.unit()).kill() {
        eprint_line(&format!("something of the container is left: {error}"));
    }
    ExecutionResult::never(match setup_error {
        SetupError::Failed(code, why) => CommandsEnd::Failed(code, why),
        SetupError::Stopped => CommandsEnd::Stopped,
    })
}

/// The server's terminal and its end are not ours.
fn detach() -> io::Result<()> {
    let me = nix::unistd::getpid();
    if nix::unistd::getsid(None)? != me {
        nix::unistd::setsid()?;
    }
    std::env::set_current_dir("/")?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Its memory holds secrets; no core file shall. The commands may raise the limit again.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, most)?)
}

fn read_secrets() -> Result<Secrets, NotTaken> {
    let mut text = Vec::new();
    io::stdin().lock().take(SECRETS).read_to_end(&mut text).map_err(os("read the secrets"))?;
    // The error's own words could show a part of a value.
    serde_json::from_slice(&text)
        .map_err(|error| NotTaken::Secrets(format!("{} bytes, {:?}", text.len(), error.classify())))
}

/// Nothing is read from the caller any more, and what is said goes to `agent.log`.
fn take_output(dir: &RunDir) -> io::Result<()> {
    let null = OpenOptions::new().read(true).open("/dev/null")?;
    let log =
        OpenOptions::new().append(true).create(true).mode(0o600).open::<PathBuf>(dir.file("agent.log"))?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&log)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}
