//! Time of commands, and medians of two things that take turns.
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Outcome, stop};

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A count as a number with a fraction; counts here are far below 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "it is exact below 2⁵³")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

/// The middle of the numbers.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Medians of ours and of the peer; both take turns, and who goes first changes.
pub(crate) fn in_turn(
    rounds: usize,
    mut ours: impl FnMut() -> Outcome<f64>,
    mut peer: impl FnMut() -> Outcome<f64>,
) -> Outcome<(f64, f64)> {
    let (mut all_ours, mut all_peer) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        stop::check()?;
        if round % 2 == 0 {
            all_ours.push(ours()?);
            all_peer.push(peer()?);
        } else {
            all_peer.push(peer()?);
            all_ours.push(ours()?);
        }
    }
    Ok((median(all_ours), median(all_peer)))
}

/// Runs a command whose output nobody wants; milliseconds until its end.
pub(crate) fn wall(mut command: Command) -> Outcome<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let done = command.spawn()?.wait_with_output()?;
    let time = began.elapsed();
    if done.status.success() { Ok(ms(time)) } else { Err(failed(&command, &done.stderr)) }
}

/// Runs a command and gives its standard output.
pub(crate) fn output(mut command: Command) -> Outcome<Vec<u8>> {
    let done = command.stdin(Stdio::null()).output()?;
    if done.status.success() { Ok(done.stdout) } else { Err(failed(&command, &done.stderr)) }
}

/// Runs a command and reads its standard output from a pipe; bytes and milliseconds.
pub(crate) fn drained(mut command: Command) -> Outcome<(usize, f64)> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut out = child.stdout.take().ok_or("no pipe")?;
    let (mut buffer, mut all) = (vec![0; 1 << 20], 0);
    loop {
        match out.read(&mut buffer)? {
            0 => break,
            n => all += n,
        }
    }
    let status = child.wait()?;
    let time = ms(began.elapsed());
    if status.success() { Ok((all, time)) } else { Err(failed(&command, b"")) }
}

fn failed(command: &Command, said: &[u8]) -> Box<dyn std::error::Error> {
    format!("{command:?} failed: {}", String::from_utf8_lossy(said).trim()).into()
}
