//! One question to the agent of a run over its control socket.
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
