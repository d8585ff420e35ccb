//! Keeps what `env` marks as secret out of problems: out of the lines that they show and of what they quote.
use super::fields::boolean;
use super::problem::Code;
use super::source::Place;
use super::tree::{Entry, Kind, Node};
use crate::wire::{Level, Problem};

/// Stands for what is not shown.
const COVER: &str = "***";
/// Shorter texts are no secrets, and stand in every sentence.
const SHORTEST: usize = 4;

/// The secrets of a file.
#[derive(Default)]
struct Secrets<'n> {
    /// Beginnings and ends of variables.
    variables: Vec<(Place, Place)>,
    /// Of the texts in them.
    values: Vec<(Place, Place)>,
    texts: Vec<&'n str>,
}

/// Covers the secrets of the file `root` in `problems`.
pub(super) fn cover(root: &Node, problems: &mut [Problem]) {
    let sections = entries(root);
    let Some(index) = sections.iter().position(|entry| entry.name() == "env") else { return };
    let env = &sections[index];
    let next = sections.get(index + 1).map_or(u32::MAX, |entry| entry.key.place.line);
    let mut secrets = Secrets::default();
    for variable in entries(&env.value).iter().filter(|variable| is_marked(&variable.value)) {
        // As a whole: any of its keys may be a misspelt `value`.
        secrets.variables.push((variable.value.place, variable.value.end));
        secrets.gather(&variable.value);
    }
    for problem in problems {
        // What is said of a place that was not filled in must be seen.
        if problem.level == Level::Error && problem.code == Code::Placeholder.as_str() {
            continue;
        }
        secrets.cover(problem);
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

/// Covers in a file that could not be read what looks like the value of a variable.
pub(super) fn cover_unread(problems: &mut [Problem]) {
    for source in problems.iter_mut().map(|problem| &mut problem.source) {
        let value = source.find("value").map(|at| at + "value".len());
        if let Some(colon) = value.and_then(|at| Some(at + source.get(at..)?.find(':')?)) {
            let column = source[..=colon].chars().count();
            cut(source, column);
        }
    }
}

impl<'n> Secrets<'n> {
    /// Takes the texts in `node`, wherever they stand: an alias brings them from elsewhere.
    fn gather(&mut self, node: &'n Node) {
        match &node.kind {
            Kind::Scalar { text, .. } => {
                self.values.push((node.place, node.end));
                self.texts.extend(Some(&**text).filter(|text| text.len() >= SHORTEST));
            }
            Kind::List(items) => items.iter().for_each(|item| self.gather(item)),
            Kind::Map(entries) => {
                let values = entries.iter().filter(|entry| !matches!(entry.name(), "secret" | "source"));
                values.for_each(|entry| self.gather(&entry.value));
            }
        }
    }

    fn cover(&self, problem: &mut Problem) {
        for (start, end) in self.variables.iter().chain(&self.values) {
            let before = |column: u32| problem.source.chars().take(column.saturating_sub(1) as usize);
            if problem.line == start.line {
                cut(&mut problem.source, start.column.saturating_sub(1) as usize);
            } else if (start.line < problem.line && problem.line < end.line)
                || (problem.line == end.line && before(end.column).any(|c| !c.is_whitespace()))
            {
                problem.source.clear();
            }
        }
        let place = Place { line: problem.line, column: problem.column };
        if self.values.iter().any(|(start, _)| *start == place) {
            problem.message = without_quotes(&problem.message);
        }
        for text in [Some(&mut problem.message), problem.hint.as_mut()].into_iter().flatten() {
            for secret in &self.texts {
                if text.contains(*secret) {
                    *text = text.replace(secret, COVER);
                }
            }
        }
    }
}

/// Covers what a sentence quotes.
fn without_quotes(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: Vec<_> = parts.map(|(index, part)| if index % 2 == 1 { COVER } else { part }).collect();
    parts.join("`")
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

/// Whether a variable is secret, or would be without a slip in the key that says so.
fn is_marked(variable: &Node) -> bool {
    entries(variable).iter().any(|entry| match entry.name() {
        "value" | "source" => false,
        "secret" => entry.value.text().and_then(boolean) != Some(false),
        _ => true,
    })
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
    fn secrets_are_covered_however_they_are_written() {
        let one = ["  A: ***"].as_slice();
        let two = ["  A: ***"; 2];
        let check = |env: &str, expected: &[&str]| assert_eq!(shown(env), expected, "{env}");
        check("  A: {value: hunter2, secret: true}\n", one);
        check("  A: {secret: yes, value: hunter2}\n", one);
        check("  A: {value: hunter2, secret: true, bogus: 1}\n", &two);
        check("  A: {value: hunter2, secrte: true}\n", &two);
        check("  A: {secret: true, valeu: hunter2}\n", &two);
        check("  A: {secret: true, value: [hunter2]}\n", &two);
        check("  A: {secret: true, value: {a: hunter2}}\n", &two);
        check("  A: {secret: true, value: !hunter2 hunter2}\n", &two);
        check("  A: {secret: true, value: '{{hunter2}}'}\n", &two);
        check("  A: {secret: true, value: '{hunter2}'}\n", &two);
        check("  A: {<<: hunter2, secret: true}\n", &two);
        check("  A: {value: hunter2, secret: true, secret: no}\n", &two);
        check("  A: {value: \"x\n    hunter2\", secret: true, bogus: 1}\n", &["  A: ***", ""]);
        check("  A:\n    value: hunter2\n    secret: true\n", &["    ***"]);
        check("  A:\n    value: hunter2\n    bogus: 1\n  B: {}\n", &["    ***", "", "  B: {}"]);
        check("  A: {value: a}\n  A: {value: hunter2, secret: true}\n", &["  A: {value: a}", "  A:***"]);
        check("  B: &x hunter2\n  A: {value: *x, secret: true, bogus: 1}\n", &two);
    }

    #[test]
    fn a_file_that_cannot_be_read_shows_no_value() {
        for value in ["\"hunter2", "\"hunter2\\q\"", "hunter2, *x", "[hunter2"] {
            let shown = shown(&format!("  A: {{source: secret, value: {value}\n"));
            assert!(shown.iter().any(|line| line == "  A: {source: secret, value:***"), "{value}: {shown:?}");
        }
    }

    #[test]
    fn other_values_are_shown() {
        let line = "  A: {value: text, secret: no, source: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
        let line = "  A: {value: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
    }
}
