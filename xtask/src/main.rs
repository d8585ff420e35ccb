//! Chores of the project: `cargo xtask tidy` checks the house rules that the compiler does not check.
mod tidy;

use std::path::Path;
use std::process::ExitCode;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this program speaks to whoever called it")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match tidy::check(root) {
        Ok(report) if report.findings.is_empty() => {
            println!("tidy: {} files, nothing to say", report.files);
            ExitCode::SUCCESS
        }
        Ok(report) => {
            report.findings.iter().for_each(|finding| println!("{finding}"));
            eprintln!("tidy: {} findings in {} files", report.findings.len(), report.files);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("tidy: {error:#}");
            ExitCode::FAILURE
        }
    }
}
