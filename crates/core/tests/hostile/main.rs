//! Hostile run files are answered within fixed bounds of problems and memory. Time is measured by the benchmark `hostile`.
//!
//! Each file is read by a process of its own, this same program, so that its peak of memory is the file's alone.
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::{Value, json};
use vessl_core::spec::{ReadOptions, read};
use vessl_core::wire::Level;

mod inputs;
use inputs::{GROUPS, Input};

/// First argument of the process that reads one file.
const READER: &str = "read-standard-input";

/// Most memory that the whole process may ever have had, in bytes.
const MOST_MEMORY: u64 = 50_000_000;

/// Most problems of one file, with the one that counts the rest.
const MOST_PROBLEMS: u64 = 201;

/// Longest message, source line and path of one problem together, in bytes.
const LONGEST_TEXT: u64 = 2000;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == READER) {
        return answer();
    }
    let trials = GROUPS.map(|(group, inputs)| Trial::test(group, move || check_all(&inputs())));
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn check_all(inputs: &[Input]) -> Result<(), Failed> {
    let wrong: Vec<_> = inputs.iter().filter_map(|input| check(input).err()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// Reads the file on standard input and tells what it cost.
fn answer() -> ExitCode {
    let mut text = Vec::new();
    std::io::stdin().lock().read_to_end(&mut text).expect("standard input can be read");
    let read = read(&text, ReadOptions::default());
    let codes: Vec<_> = read.problems.iter().filter(|p| p.level == Level::Error).map(|p| &p.code).collect();
    let shown = read.problems.iter().map(|p| p.message.len() + p.source.len() + p.path.len()).max();
    let answer = json!({
        "accepted": read.spec.is_some(),
        "codes": codes,
        "problems": read.problems.len(),
        "longest": shown.unwrap_or_default(),
        "memory": peak_memory(),
    });
    std::io::stdout().write_all(answer.to_string().as_bytes()).expect("standard output takes text");
    ExitCode::SUCCESS
}

/// The most memory that this process ever had, in bytes.
fn peak_memory() -> u64 {
    let status = File::open("/proc/self/status").and_then(std::io::read_to_string);
    let status = status.expect("Linux tells a process about itself");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak is kept");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("the peak is a number");
    kib * 1024
}

/// Says what is wrong with the answer to a file.
fn check(input: &Input) -> Result<(), String> {
    let answer = answer_to(&input.text).map_err(|error| format!("{}: {error}", input.name))?;
    let number = |key: &str| answer[key].as_u64().unwrap_or(u64::MAX);
    let has = |code: &str| answer["codes"].as_array().is_some_and(|codes| codes.contains(&json!(code)));
    let expected = input.code.map_or(answer["accepted"] == true, has);
    let bounded = number("problems") <= MOST_PROBLEMS && number("longest") <= LONGEST_TEXT;
    if expected && bounded && number("memory") <= MOST_MEMORY {
        return Ok(());
    }
    Err(format!("{}: expected {:?}, got {answer}", input.name, input.code))
}

/// What a reader of `text` tells.
fn answer_to(text: &[u8]) -> anyhow::Result<Value> {
    let mut reader = Command::new(std::env::current_exe()?);
    let mut child = reader.arg(READER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("standard input is a pipe")?.write_all(text)?;
    let output = child.wait_with_output()?;
    anyhow::ensure!(output.status.success(), "the reader ended with {}", output.status);
    Ok(serde_json::from_slice(&output.stdout)?)
}
