//! Problems of a run file as people read them: code, message, place, source line, caret, help.
//!
//! ```text
//! error[unknown-key]: unknown key `preste` in `resources`
//!  --> run.yaml:4:3
//!   |
//! 4 |   preste: cpu-small
//!   |   ^
//!   = help: did you mean `preset`?
//! ```
use std::collections::HashSet;
use std::fmt::Write;

use vessl_core::wire::{Level, Problem};

use super::format::clean;
use super::paint::Paint;

/// Longest part of a source line that is shown, in characters.
const WIDTH: usize = 160;

/// Every problem of the file `name`, in order. Problems of one kind with the same help share it: the first has it.
pub(super) fn render(name: &str, problems: &[Problem], paint: Paint) -> String {
    let mut text = String::new();
    let mut said = HashSet::new();
    for problem in problems {
        one(&mut text, name, problem, paint);
        if let Some(hint) = problem.hint.as_deref().filter(|hint| said.insert((&problem.code, *hint))) {
            let pad = " ".repeat(problem.line.to_string().len());
            let _ = writeln!(text, "{pad} {} {}: {}", paint.dim("="), paint.cyan("help"), clean(hint));
        }
        text.push('\n');
    }
    text
}

/// A problem without its help.
fn one(text: &mut String, name: &str, problem: &Problem, paint: Paint) {
    let label = match problem.level {
        Level::Error => paint.red(&format!("error[{}]", problem.code)),
        Level::Warning => paint.yellow(&format!("warning[{}]", problem.code)),
        Level::Note => paint.cyan(&format!("note[{}]", problem.code)),
    };
    let number = problem.line.to_string();
    let pad = " ".repeat(number.len());
    let bar = paint.dim("|");
    let _ = writeln!(text, "{label}: {}", clean(&problem.message));
    // What the file does not have has no place in it, and what a flag says is not of the file.
    let name = if problem.line == 0 && problem.path.starts_with("--") { &problem.path } else { name };
    let place = match problem.line {
        0 => String::new(),
        line => format!(":{line}:{}", problem.column),
    };
    let _ = writeln!(text, "{pad}{} {}{place}", paint.dim("-->"), clean(name));
    if !problem.source.trim().is_empty() {
        let (line, caret) = window(&problem.source, problem.column);
        let _ = writeln!(text, "{pad} {bar}");
        let _ = writeln!(text, "{} {bar} {line}", paint.dim(&number));
        let _ = writeln!(text, "{pad} {bar} {}{}", " ".repeat(caret), paint.red("^"));
    }
}

/// The part of a source line around a column (from 1) and the width before the column in it.
fn window(source: &str, column: u32) -> (String, usize) {
    let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1);
    let start = if column < WIDTH { 0 } else { column - WIDTH / 2 };
    let shown: String = source.chars().skip(start).take(WIDTH).collect();
    let before: String = source.chars().skip(start).take(column - start).collect();
    (clean(&shown), super::format::width(&clean(&before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(source: &str, column: u32) -> Problem {
        Problem {
            code: "unknown-key".to_owned(),
            line: 12,
            column,
            message: "unknown key `preste`".to_owned(),
            hint: Some("did you mean `preset`?".to_owned()),
            source: source.to_owned(),
            ..Problem::default()
        }
    }

    #[test]
    fn shows_place_and_caret() {
        let text = render("run.yaml", &[problem("  preste: x", 3)], Paint::off());
        insta::assert_snapshot!(text, @r"
        error[unknown-key]: unknown key `preste`
          --> run.yaml:12:3
           |
        12 |   preste: x
           |   ^
           = help: did you mean `preset`?
        ");
    }

    #[test]
    fn what_a_flag_says_has_the_flag_as_its_place() {
        let flag = Problem { line: 0, hint: None, path: "--preset".to_owned(), ..problem("", 0) };
        insta::assert_snapshot!(render("run.yaml", &[flag], Paint::off()), @r"
        error[unknown-key]: unknown key `preste`
         --> --preset
        ");
    }

    #[test]
    fn a_note_has_its_place_and_help_too() {
        let note = Problem { level: Level::Note, ..problem("  - |", 5) };
        insta::assert_snapshot!(render("run.yaml", &[note], Paint::off()), @r"
        note[unknown-key]: unknown key `preste`
          --> run.yaml:12:5
           |
        12 |   - |
           |     ^
           = help: did you mean `preset`?
        ");
    }

    #[test]
    fn the_same_help_is_said_once() {
        let other = Problem { hint: Some("remove it".to_owned()), ..problem("  b: x", 3) };
        let of_another_kind = Problem { code: "conflict".to_owned(), ..other.clone() };
        let all = [problem("  a: x", 3), other.clone(), problem("  c: x", 3), of_another_kind, other];
        let text = render("run.yaml", &all, Paint::off());
        let count = |part: &str| text.matches(part).count();
        assert_eq!(
            (count("did you mean"), count("remove it"), count("--> run.yaml:12:3")),
            (1, 2, 5),
            "{text}"
        );
        let (first, rest) = text.split_once("\n\n").unwrap();
        assert!(first.ends_with("help: did you mean `preset`?") && rest.ends_with("|   ^\n\n"), "{text}");
    }

    #[test]
    fn a_problem_without_a_place_claims_none() {
        let problem = Problem { line: 0, ..problem("", 0) };
        let text = render("run.yaml", &[problem], Paint::off());
        assert!(text.contains("--> run.yaml\n"), "{text}");
    }

    #[test]
    fn caret_stands_below_wide_letters_and_in_long_lines() {
        assert_eq!(window("한글: x", 5), ("한글: x".to_owned(), 6));
        let long = format!("{}x", "a".repeat(1000));
        let (line, caret) = window(&long, 1001);
        assert_eq!(line.chars().nth(caret), Some('x'));
    }
}
