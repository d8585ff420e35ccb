//! How long the reading of each hostile run file takes, as time of the processor, so that other programs do not count. Prints
//! the times; it fails above the limit that the product promises.
//! Words given as arguments select the files that have one of them in their name.
#![allow(clippy::print_stdout, reason = "the result of a measurement is text")]
use std::process::ExitCode;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use vessl_core::spec::{ReadOptions, read};

#[path = "../tests/hostile/inputs.rs"]
mod inputs;

/// An answer to the largest file comes within this time.
const LIMIT: Duration = Duration::from_millis(100);
/// Each file is read so often; the best time counts, because others are the machine's.
const TIMES: u32 = 5;

fn main() -> ExitCode {
    let mut worst = Duration::ZERO;
    let words: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
    for input in inputs::GROUPS.iter().flat_map(|(_, inputs)| inputs()).filter(|input| wanted(input.name)) {
        let best = (0..TIMES).map(|_| time(&input.text)).min().unwrap_or_default();
        let verdict = if best > LIMIT { "  ABOVE THE LIMIT" } else { "" };
        let (ms, name) = (best.as_secs_f64() * 1e3, input.name);
        let code = input.code.unwrap_or("accepted");
        println!("{ms:7.1} ms of {}  {name} ({code}){verdict}", LIMIT.as_millis());
        worst = worst.max(best);
    }
    println!("worst {:.1} ms, limit {} ms", worst.as_secs_f64() * 1e3, LIMIT.as_millis());
    if worst > LIMIT { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn time(text: &[u8]) -> Duration {
    let began = processor_time();
    let read = std::hint::black_box(read(text, ReadOptions::default()));
    let took = processor_time().saturating_sub(began);
    drop(read);
    took
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux counts the time of a thread").into()
}
