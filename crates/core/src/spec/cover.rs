//! Keeps values that `env` marks as secret out of the lines that problems show.
use super::fields::boolean;
use super::problem::Code;
use super::source::Place;
use super::tree::{Entry, Kind, Node};
use crate::wire::Problem;

/// Stands for a value and for what follows it on its line.
const COVER: &str = "***";

/// Cuts secret values of the file `root` from the lines that `problems` show.
pub(super) fn cover(root: &Node, problems: &mut [Problem]) {
    let sections = entries(root);
    let Some(index) = sections.iter().position(|entry| entry.name() == "env") else { return };
    let env = &sections[index];
    let next = sections.get(index + 1).map_or(u32::MAX, |entry| entry.key.place.line);
    let values: Vec<(Place, Place)> = entries(&env.value)
        .iter()
        .filter_map(|variable| secret_value(&variable.value))
        .map(|value| (value.place, value.end))
        .collect();
    for problem in problems {
        for (start, end) in &values {
            if problem.line == start.line {
                cut(&mut problem.source, start.column.saturating_sub(1) as usize);
            } else if (start.line..=end.line).contains(&problem.line) {
                problem.source.clear();
            }
        }
        // What a key says the second time is not in the tree. The path of the problem is the key.
        if problem.code == Code::DuplicateKey.as_str()
            && (env.key.place.line..=next).contains(&problem.line)
            && problem.column > env.key.place.column
        {
            let key = problem.path.chars().count();
            cut(&mut problem.source, problem.column.saturating_sub(1) as usize + key + 1);
        }
    }
}

/// Covers a line from a column (from 0) on.
fn cut(line: &mut String, column: usize) {
    if let Some((at, _)) = line.char_indices().nth(column) {
        line.truncate(at);
        line.push_str(COVER);
    }
}

fn entries(node: &Node) -> &[Entry] {
    match &node.kind {
        Kind::Map(entries) => entries,
        Kind::Scalar { .. } | Kind::List(_) => &[],
    }
}

/// The `value` of a variable that is secret, or would be without a slip in the key that says so.
fn secret_value(variable: &Node) -> Option<&Node> {
    let mut marked = false;
    let mut value = None;
    for entry in entries(variable) {
        match entry.name() {
            "value" => value = Some(&*entry.value),
            "source" => {}
            "secret" => marked |= entry.value.text().and_then(boolean) != Some(false),
            _ => marked = true,
        }
    }
    value.filter(|value| marked && value.text().is_some())
}

#[cfg(test)]
mod tests {
    use super::super::{ReadOptions, locate, read};
    use super::*;
    use crate::wire::Level;

    /// The lines that are shown for a problem on each line of a file with `env`.
    fn shown(env: &str) -> Vec<String> {
        let file = format!("name: n\nimage: i\nenv:\n{env}");
        let found = read(file.as_bytes(), ReadOptions { lenient: false, base: None });
        let mut problems = found.problems;
        problems.push(Problem {
            code: "code".to_owned(),
            level: Level::Note,
            line: 0,
            column: 0,
            path: "env.A".to_owned(),
            message: String::new(),
            hint: None,
            source: String::new(),
        });
        locate(file.as_bytes(), &mut problems);
        let text = serde_json::to_string(&problems).unwrap();
        assert!(!text.contains("hunter"), "{text}");
        problems.into_iter().map(|problem| problem.source).collect()
    }

    #[test]
    fn secret_values_are_covered_however_they_are_written() {
        assert_eq!(shown("  A: {value: hunter2, secret: true}\n"), ["  A: {value: ***"]);
        assert_eq!(shown("  A: {secret: yes, value: hunter2}\n"), ["  A: {secret: yes, value: ***"]);
        assert_eq!(shown("  A:\n    value: hunter2\n    secret: true\n"), ["    value: ***"]);
        assert_eq!(shown("  A: {value: hunter2, secret: true, bogus: 1}\n"), ["  A: {value: ***"; 2]);
        assert_eq!(shown("  A: {value: hunter2, secrte: true}\n"), ["  A: {value: ***"; 2]);
        assert_eq!(
            shown("  A: {value: \"x\n    hunter2\", secret: true, bogus: 1}\n"),
            ["  A: {value: ***", ""]
        );
        assert_eq!(shown("  A: {value: hunter2, secret: true, secret: no}\n"), ["  A: {value: ***"; 2]);
        assert_eq!(
            shown("  A: {value: a}\n  A: {value: hunter2, secret: true}\n"),
            ["  A: {value: a}", "  A:***"]
        );
        assert_eq!(
            shown("  A:\n    secret: true\n    value: a\n    value: hunter2\n"),
            ["    secret: true", "    value:***"]
        );
    }

    #[test]
    fn other_values_are_shown() {
        let line = "  A: {value: text, secret: no, source: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
        let line = "  A: {value: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
    }
}
