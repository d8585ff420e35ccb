//! JupyterLab inside a run: started, waited for, watched, started again.
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use vessl_core::door::{Exec, Surroundings, Target};
use vessl_core::jupyter::{JupyterState, KITS_INSIDE};
use vessl_core::secret::Secret;
use vessl_core::spec::JUPYTER_PORT;
use vessl_core::text::chain;
use vessl_reach::door::{Door, DoorError, dial};
use vessl_reach::{Activity, Program};

use crate::http;
use crate::kit::{Kits, LAUNCHERS, SERVER};
use crate::python::{self, NoPython, Origin, Python};
use crate::told::{LabLog, Told};
use crate::watch::Seen;

/// Longest time from its start to its first answer: Python reads some thousand files, and a busy machine takes long for that.
const START_LIMIT: Duration = Duration::from_mins(3);
/// How often it is looked whether it answers.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether it is used.
const USE_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked whether somebody else has left its port.
const PORT_EVERY: Duration = Duration::from_secs(5);
/// Shortest and longest pause before another try.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The same where something has to be fetched.
const FETCH_PAUSES: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(5));
/// After so many ends in a row that came soon, nobody is kept waiting.
const FAILURES: u32 = 3;
/// Who has run so long has started well, and the pauses begin anew.
const RAN_WELL: Duration = Duration::from_mins(1);

/// The run has no container any more, or there is nothing that another try would change.
#[derive(Debug)]
struct Over;

/// JupyterLab of one run.
#[derive(Debug)]
pub(crate) struct Lab {
    told: Told,
    kits: Kits,
    token: Secret,
    /// Whether it was ready before.
    was_ready: bool,
}

impl Lab {
    /// Of a run.
    pub(crate) fn new(told: Told, kits: Kits, token: Secret) -> Self {
        Self { told, kits, token, was_ready: false }
    }

    /// Looks after it until the container has ended, or nothing can be done.
    pub(crate) async fn look_after(mut self) {
        // Why it is over was said where it was found.
        let Err(Over) = self.until_over().await;
    }

    async fn until_over(&mut self) -> Result<std::convert::Infallible, Over> {
        self.told.state(JupyterState::Preparing, "looking for Python in the image");
        let surroundings = self.told.surroundings().await.ok_or(Over)?;
        let python = self.python(&surroundings).await?;
        let kit = match &python.lab {
            Origin::Image(_) => String::new(),
            Origin::Kit(platform) => self.kit(platform).await?,
        };
        let exec = command(&python, &kit, surroundings);
        let (mut pause, mut failed) = (PAUSES.0, 0);
        loop {
            self.until_the_port_is_free().await?;
            let began = Instant::now();
            if failed < FAILURES {
                self.told.state(JupyterState::Preparing, "starting JupyterLab");
            }
            let why = self.serve(exec.clone()).await?;
            failed += 1;
            if began.elapsed() > RAN_WELL {
                (pause, failed) = (PAUSES.0, 1);
            }
            let again = format!("{why}; it is started again in {} s", pause.as_secs());
            if failed < FAILURES {
                self.told.state(JupyterState::Preparing, &again);
                self.told.note(&format!("JupyterLab: {again}")).await;
            } else {
                // Nobody is kept waiting for what did not come again and again, nor told of every time.
                self.told.state(JupyterState::Unavailable, &again);
                self.told.note(&format!("JupyterLab: {why}; it is tried again and again")).await;
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn python(&mut self, surroundings: &Surroundings) -> Result<Python, Over> {
        match python::find(self.told.dir(), surroundings).await {
            Ok(python) => Ok(python),
            Err(NoPython::Door(DoorError::NoContainer)) => Err(Over),
            Err(error) => {
                self.told.unavailable(error.to_string()).await;
                Err(Over)
            }
        }
    }

    /// Where the kit is seen inside; what fails for now is tried again.
    async fn kit(&mut self, platform: &crate::tags::Platform) -> Result<String, Over> {
        let mut pause = FETCH_PAUSES.0;
        loop {
            let told = &mut self.told;
            let mut tell = |what: String| told.state(JupyterState::Preparing, what);
            let error = match self.kits.get(platform, &mut tell).await {
                Ok(name) => return Ok(format!("{KITS_INSIDE}/{name}")),
                Err(error) => error,
            };
            if !error.may_pass() {
                self.told.unavailable(chain(&error)).await;
                return Err(Over);
            }
            let again = format!("{}; it is tried again in {} s", chain(&error), pause.as_secs());
            self.told.unavailable(again).await;
            sleep(pause).await;
            pause = (pause * 2).min(FETCH_PAUSES.1);
        }
    }

    /// On the machine's network another run may have the port, on its own another program of the run.
    async fn until_the_port_is_free(&mut self) -> Result<(), Over> {
        loop {
            match dial(self.told.dir(), Target::Port(JUPYTER_PORT)).await {
                Err(DoorError::NoContainer) => return Err(Over),
                Err(_) => return Ok(()),
                Ok(_) => {}
            }
            self.told
                .unavailable(format!(
                    "port {JUPYTER_PORT} is taken by another program: one of this run (`vessl run open {} {JUPYTER_PORT}` leads to it), or, where runs \
have the network of the machine, of another. JupyterLab is started when it is free",
                    self.told.run()
                ))
                .await;
            sleep(PORT_EVERY).await;
        }
    }

    /// Starts it and stays with it to its end; why that was, in words.
    async fn serve(&mut self, exec: Exec) -> Result<String, Over> {
        let program = match vessl_reach::exec(self.told.dir(), exec).await {
            Ok(program) => program,
            Err(DoorError::NoContainer) => return Err(Over),
            Err(error) => return Ok(format!("it cannot be started: {error}")),
        };
        let Program { mut input, output, error, mut door, activity, .. } = program;
        let line = format!("{}\n", self.token.expose());
        // Who ends before it has read the token says why by itself.
        let _ = input.write_all(line.as_bytes()).await;
        drop(input);
        let mut log = self.told.log(&self.token);
        let ended = {
            let was_ready = &mut self.was_ready;
            let alive = Alive { told: &mut self.told, token: &self.token, activity, was_ready };
            tokio::select! {
                code = to_its_end(&mut door, (output, error), &mut log) => Ok(code),
                late = alive.stay() => Err(late),
            }
        };
        let words = log.last_words().map(|words| format!(": {words}")).unwrap_or_default();
        match ended {
            Ok(Some(code)) => Ok(format!("it ended with exit code {code}{words}")),
            Ok(None) => Err(Over),
            Err(Late) => {
                // The connection hangs up when it is dropped; who ignores that is not waited for.
                let _ = door.signal(9).await;
                Ok(format!("it did not answer within {} s{words}", START_LIMIT.as_secs()))
            }
        }
    }
}

/// It did not answer in time.
#[derive(Debug)]
struct Late;

/// A server that was started.
struct Alive<'a> {
    told: &'a mut Told,
    token: &'a Secret,
    activity: Activity,
    was_ready: &'a mut bool,
}

impl Alive<'_> {
    /// Waits for its first answer, then looks whether it is used, without end.
    async fn stay(mut self) -> Late {
        if timeout(START_LIMIT, self.answers()).await.is_err() {
            return Late;
        }
        self.told.state(JupyterState::Ready, "");
        let run = self.told.run();
        self.told.note(&format!("JupyterLab is ready: `vessl run jupyter {run}` opens it")).await;
        // Whoever waited for it has his time from now on.
        if !std::mem::replace(self.was_ready, true) {
            self.activity.seen();
        }
        let mut seen = Seen::default();
        let mut looks = interval(USE_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // One that is too busy to answer is seen the next time; its end is seen by others.
            if seen.look(self.told.dir(), self.token).await.unwrap_or(false) {
                self.activity.seen();
            }
        }
    }

    async fn answers(&self) {
        while !http::get(self.told.dir(), "/api", None).await.is_ok_and(|(status, _)| status.is_success()) {
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Takes what it prints until it ends: its exit code; `None` if the container has ended.
async fn to_its_end(
    door: &mut Door,
    (output, error): (impl AsyncRead + Unpin, Option<impl AsyncRead + Unpin>),
    log: &mut LabLog,
) -> Option<i32> {
    let (lines, mut said) = tokio::sync::mpsc::channel(16);
    let more = lines.clone();
    let reading = async {
        tokio::join!(pump(output, lines), async {
            if let Some(error) = error {
                pump(error, more).await;
            }
        })
    };
    let writing = async {
        while let Some(bytes) = said.recv().await {
            log.add(&bytes);
        }
    };
    let code = {
        let talking = async { tokio::join!(reading, writing) };
        tokio::pin!(talking);
        let mut is_silent = false;
        loop {
            tokio::select! {
                // Both streams may end before the program; then only its end is waited for.
                _ = &mut talking, if !is_silent => is_silent = true,
                code = door.ended() => {
                    // What it said last may still be on its way; kernels may hold the streams open for ever.
                    if !is_silent {
                        let _ = timeout(Duration::from_millis(200), &mut talking).await;
                    }
                    break code;
                }
            }
        }
    };
    code.ok()
}

async fn pump(mut from: impl AsyncRead + Unpin, to: tokio::sync::mpsc::Sender<bytes::Bytes>) {
    let mut bytes = BytesMut::with_capacity(8 << 10);
    while from.read_buf(&mut bytes).await.is_ok_and(|length| length > 0) {
        if to.send(bytes.split().freeze()).await.is_err() {
            return;
        }
        bytes.reserve(8 << 10);
    }
}

/// What starts it: beside the commands, as their user, in their directory.
fn command(python: &Python, kit: &str, of: Surroundings) -> Exec {
    let root = of.workdir.clone();
    let argv = match &python.lab {
        Origin::Kit(_) => vec![
            python.name.to_owned(),
            "-I".to_owned(),
            Path::new(kit).join(LAUNCHERS).join("server.py").to_string_lossy().into_owned(),
            kit.to_owned(),
            root,
        ],
        Origin::Image(_) => {
            vec![python.name.to_owned(), "-c".to_owned(), SERVER.to_owned(), String::new(), root]
        }
    };
    Exec { argv, env: of.env, user: None, workdir: of.workdir, terminal: None, hang_up: true }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::{Libc, Platform};

    #[test]
    fn the_token_is_on_no_command_line_and_in_no_environment() {
        let platform = Platform { minor: 11, machine: "x86_64".to_owned(), libc: Libc::Glibc(2, 36) };
        let surroundings = Surroundings { env: vec!["A=1".to_owned().into()], workdir: "/code".to_owned() };
        let python = Python { name: "python3", lab: Origin::Kit(platform) };
        let exec = command(&python, "/.vessl/jupyter/k", surroundings.clone());
        let expected = ["python3", "-I", "/.vessl/jupyter/k/vessl/server.py", "/.vessl/jupyter/k", "/code"];
        assert_eq!((exec.argv.as_slice(), exec.env.len()), (expected.map(str::to_owned).as_slice(), 1));
        let python = Python { name: "python", lab: Origin::Image("4.2.0".to_owned()) };
        let exec = command(&python, "", surroundings);
        assert_eq!(exec.argv[..2], ["python", "-c"].map(str::to_owned));
        assert_eq!(exec.argv[3..], ["", "/code"].map(str::to_owned));
    }
}
