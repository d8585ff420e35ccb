//! One question to the agent of a run over its control socket, and what its answer makes of a program that somebody asks for.
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vessl_core::door::{self, Exec, Surroundings};
use vessl_core::record::{Control, ControlReply};

use crate::door::DoorError;
use crate::frames::Begin;

/// A shell that is there, as at a login; `-` before the name of a shell says that.
const LOGIN_SHELL: [&str; 3] =
    ["/bin/sh", "-c", "if command -v bash >/dev/null 2>&1; then exec bash -l; else exec sh -l; fi"];
/// Longest time an agent may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer in bytes.
const LONGEST: u64 = 8 << 20;

/// Sends one JSON line to `control.sock` in `dir` and reads one back.
pub async fn ask<Q: Serialize, A: DeserializeOwned>(dir: &Path, question: &Q) -> io::Result<A> {
    tokio::time::timeout(LIMIT, ask_without_limit(dir, question))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {} s", LIMIT.as_secs())))?
}

async fn ask_without_limit<Q: Serialize, A: DeserializeOwned>(dir: &Path, question: &Q) -> io::Result<A> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    // The address of a socket has 108 bytes; a run directory may be deeper than that.
    let dir = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(dir)?;
    let mut stream = UnixStream::connect(format!("/proc/self/fd/{}/control.sock", dir.as_raw_fd())).await?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line).await?;
    let mut answer = Vec::new();
    BufReader::new(stream.take(LONGEST)).read_until(b'\n', &mut answer).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Whether an error says that no agent listens.
pub fn is_no_socket(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// What a program finds in the run whose directory is `dir`.
pub async fn surroundings(dir: &Path) -> Result<Surroundings, DoorError> {
    let reply: io::Result<ControlReply> = ask(dir, &Control::Surroundings).await;
    match reply {
        Ok(reply) => reply.surroundings.ok_or(DoorError::NoContainer),
        Err(error) if is_no_socket(&error) => Err(DoorError::NoContainer),
        Err(error) => Err(error.into()),
    }
}

impl Begin {
    /// What init is asked for: this program with the environment of the commands under its own.
    pub fn within(self, surroundings: Surroundings) -> Exec {
        let mut env = surroundings.env;
        if self.terminal.is_some() && !env.iter().any(|known| known.key() == "TERM") {
            door::set(&mut env, "TERM", "xterm-256color");
        }
        for pair in &self.env {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            door::set(&mut env, key, value);
        }
        let argv = if self.argv.is_empty() { LOGIN_SHELL.map(str::to_owned).to_vec() } else { self.argv };
        let workdir = self.workdir.unwrap_or(surroundings.workdir);
        Exec { argv, env, user: self.user, workdir, terminal: self.terminal, hang_up: true }
    }
}
