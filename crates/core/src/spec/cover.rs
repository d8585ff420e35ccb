//! Hides what a file marks as secret in the problems that it has: in the lines that they show and in what they quote.
use std::ops::Range;

use super::fields::boolean;
use super::logins::{self, COVER, without_logins};
use super::source::{Place, SHOWN};
use super::tree::{Entry, Kind, Node};
use crate::wire::Problem;

/// What `source` says of a variable; anything else may be a value in the wrong place.
const SOURCES: [&str; 3] = ["text", "secret", "inject"];
/// Shorter texts are no secrets, and stand in every sentence.
const SHORTEST: usize = 4;
/// Parts of keys that name a secret, also where the key has no meaning.
const TELLING: [&str; 8] =
    ["password", "passwd", "token", "api_key", "apikey", "access_key", "secret_key", "private_key"];

/// The secrets of a file.
#[derive(Default)]
pub(super) struct Secrets<'n> {
    /// Where they begin and end.
    places: Vec<(Place, Place)>,
    texts: Vec<&'n str>,
}

impl<'n> Secrets<'n> {
    /// Gathers them from the tree of a file, and from entries `apart` from it: what a key says the second time.
    pub(super) fn of(root: &'n Node, apart: &'n [Entry]) -> Self {
        let mut secrets = Self::default();
        secrets.search(root);
        for entry in apart {
            let hidden = entry.name() == "value" || is_telling(entry.name());
            if hidden { secrets.hide(&entry.value) } else { secrets.search(&entry.value) }
        }
        secrets
    }

    /// Looks for secrets in all of `node`: a slip may have brought a variable anywhere.
    fn search(&mut self, node: &'n Node) {
        match &node.kind {
            Kind::Scalar { .. } => {}
            Kind::List(items) => items.iter().for_each(|item| self.search(item)),
            Kind::Map(entries) => {
                let has = |key: &str| entries.iter().find(|entry| entry.name() == key);
                let marked = has("secret").is_some_and(|e| e.value.text().and_then(boolean) != Some(false));
                // Without the mark a key beside `value` may be a slip of it.
                let doubtful = has("secret").is_none() && has("value").is_some() && entries.len() > 1;
                for entry in entries {
                    let hidden = match entry.name() {
                        "secret" => false,
                        "source" => marked && !entry.value.text().is_some_and(|text| SOURCES.contains(&text)),
                        "value" => marked || doubtful,
                        name => marked || (is_telling(name) && entry.value.text().is_some()),
                    };
                    if hidden { self.hide(&entry.value) } else { self.search(&entry.value) }
                }
            }
        }
    }

    /// Hides `node`, whatever it is, and the texts in it wherever they stand: an alias brings them from elsewhere.
    fn hide(&mut self, node: &'n Node) {
        if node.text().and_then(boolean).is_some() {
            return;
        }
        self.places.push((node.place, node.end));
        match &node.kind {
            Kind::Scalar { text, .. } => {
                self.texts.extend(Some(&**text).filter(|text| text.len() >= SHORTEST));
            }
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                self.hide(&entry.key);
                self.hide(&entry.value);
            }),
        }
    }

    /// Hides them in `problems`.
    pub(super) fn cover(&self, problems: &mut [Problem]) {
        for problem in &mut *problems {
            for (start, end) in &self.places {
                if (start.line..=end.line).contains(&problem.line) {
                    let from = if problem.line == start.line { start.column } else { 1 };
                    let to = if problem.line == end.line { end.column } else { u32::MAX };
                    blank(&mut problem.source, from..to);
                }
            }
            let place = Place { line: problem.line, column: problem.column };
            if self.places.iter().any(|(start, _)| *start == place) {
                problem.message = without_quotes(&problem.message);
            }
            for secret in self.texts.iter().filter(|secret| !secret.is_empty()) {
                if problem.source.contains(*secret) {
                    problem.source = problem.source.replace(secret, &stars(secret));
                }
                for text in sentences(problem) {
                    if text.contains(*secret) {
                        *text = text.replace(secret, COVER);
                    }
                }
            }
        }
        cover_logins(problems);
    }
}

/// Hides in a file that could not be read what looks like the value of a variable.
pub(super) fn cover_unread(problems: &mut [Problem]) {
    for problem in &mut *problems {
        if let Some(end) = value_in(&problem.source) {
            let column = problem.source[..end].chars().count();
            blank(&mut problem.source, u32::try_from(column + 1).unwrap_or(u32::MAX)..u32::MAX);
        }
        if value_in(&problem.message).is_some() {
            problem.message = without_quotes(&problem.message);
        }
    }
    cover_logins(problems);
}

/// Hides the logins of addresses.
fn cover_logins(problems: &mut [Problem]) {
    for problem in problems {
        problem.source = logins::hide(&problem.source, stars);
        if problem.source.chars().count() >= SHOWN {
            cover_end(&mut problem.source);
        }
        for text in sentences(problem) {
            *text = text.split('`').map(without_logins).collect::<Vec<_>>().join("`");
        }
    }
}

/// Hides the login that a line was cut in, whose `@` is not there.
fn cover_end(line: &mut String) {
    let last = line.rfind(char::is_whitespace).unwrap_or(0);
    let mut word = logins::hide(&format!("{}@", &line[last..]), stars);
    word.pop();
    line.replace_range(last.., &word);
}

fn sentences(problem: &mut Problem) -> impl Iterator<Item = &mut String> {
    [Some(&mut problem.message), problem.hint.as_mut()].into_iter().flatten()
}

/// As many stars as a secret has characters; blanks stay.
fn stars(secret: &str) -> String {
    secret.chars().map(|c| if c.is_whitespace() { c } else { '*' }).collect()
}

/// Where what stands behind `value:`, or a telling key, begins in a line.
fn value_in(line: &str) -> Option<usize> {
    let small = line.to_ascii_lowercase();
    let keys = TELLING.iter().copied().chain(["value"]);
    let key = keys.filter_map(|key| small.find(key).map(|at| at + key.len())).min()?;
    small[key..].find(':').map(|colon| key + colon + 1)
}

/// Replaces the characters in `columns` (from 1) by stars; blanks stay.
fn blank(line: &mut String, columns: Range<u32>) {
    let cover = |(index, c): (usize, char)| {
        let column = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if columns.contains(&column) && !c.is_whitespace() { '*' } else { c }
    };
    *line = line.chars().enumerate().map(cover).collect();
}

/// Hides what a sentence quotes.
fn without_quotes(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts: Vec<_> = parts.map(|(index, part)| if index % 2 == 1 { COVER } else { part }).collect();
    parts.join("`")
}

/// Whether a key names a secret by itself.
fn is_telling(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    TELLING.iter().any(|part| key.contains(part))
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
        let check = |env: &str, expected: &[&str]| assert_eq!(shown(env), expected, "{env}");
        check("  A: {value: hunter2, secret: true}\n", &["  A: {value: *******, secret: true}"]);
        let line = "  A: {secret: yes, value: *******, bogus: *}";
        check("  A: {secret: yes, value: hunter2, bogus: 1}\n", &[line, line]);
        let line = "  A: {value: *******, secrte: true}";
        check("  A: {value: hunter2, secrte: true}\n", &[line, line]);
        let line = "  A: {secret: true, valeu: *******}";
        check("  A: {secret: true, valeu: hunter2}\n", &[line, line]);
        let line = "  A: {secret: true, value: *********}";
        check("  A: {secret: true, value: [hunter2]}\n", &[line, line]);
        check(
            "  A: {secret: true, value: '{{hunter2}}'}\n",
            &["  A: {secret: true, value: *************}"; 2],
        );
        check("  A: {secret: true, value: {hunter2}}\n", &["  A: {secret: true, value: *********}"; 2]);
        check(
            "  A: {value: \"x\n    hunter2\", secret: true, bogus: 1}\n",
            &["  A: {value: **", "    ********, secret: true, bogus: *}"],
        );
        check("  A:\n    value: hunter2\n    secret: true\n", &["    value: *******"]);
        check("  - A: {value: hunter2, secret: true}\n", &["  - A: {value: *******, secret: true}"; 2]);
        check(
            "  A: {value: a}\n  A: {value: hunter2, secret: true}\n",
            &["  A: {value: a}", "  A: {value: *******, secret: true}"],
        );
        check("  A: 1\nenv:\n  A: {value: hunter2, secret: true}\n", &["  A: 1", "env:"]);
        check(
            "  A: 1\nenvs: {A: {value: hunter2, secret: true}}\n",
            &["  A: 1", "envs: {A: {value: *******, secret: true}}"],
        );
        check("  A: 1\nimage2: {password: hunter2}\n", &["  A: 1", "image2: {password: *******}"]);
        check("  A:\n\tvalue: hunter2\n\tsecret: true\n", &["  A:", "\tvalue: *******"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_shows_no_value() {
        for value in ["\"hunter2", "\"hunter2\\q\"", "hunter2, *x", "[hunter2"] {
            let shown = shown(&format!("  A: {{source: secret, value: {value}\n"));
            assert!(
                shown.iter().any(|line| line.starts_with("  A: {source: secret, value: *")),
                "{value}: {shown:?}"
            );
        }
        shown("  A:\n    value:hunter2\n    secret: true\n");
        shown("  A: [\nimport: {/a: 'https://hunter2@host/x', /b: 'https://u:hunter2@host/x'\n");
    }

    #[test]
    fn what_stands_twice_or_in_the_wrong_place_is_covered() {
        let line = "  A: {value: *******, value: *******, secret: true}";
        assert_eq!(shown("  A: {value: hunter1, value: hunter2, secret: true}\n")[0], line);
        let shown = shown("  A: {source: hunter2, secret: true}\nfoo: hunter2\n");
        let line = "  A: {source: *******, secret: true}";
        assert_eq!(shown, [line, line, "foo: *******"]);
    }

    #[test]
    fn logins_are_covered_where_they_are_cut() {
        let long = format!("hunter{}", "5".repeat(400));
        shown(&format!("  A: 1\nimport: {{/a: {{git: {{url: 'https://hunter:{long}@h.io/x y'}}}}}}\n"));
        shown(&format!("  A: 1\nimport: {{/a: 'git://hunter:hunter@sha256:{}/x y'}}\n", &long[350..]));
        let line = "import: {/a: {git: {url: 'https://h.io/x y?***********'}}}";
        let found = shown("  A: 1\nimport: {/a: {git: {url: 'https://h.io/x y?sig=hunter2'}}}\n");
        assert_eq!(found[1], line);
    }

    #[test]
    fn other_values_are_shown() {
        let line = "  A: {value: text, secret: no, source: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
        let line = "  A: {secret: named}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
        let line = "  A: {value: text}";
        assert_eq!(shown(&format!("{line}\n")), [line]);
    }
}
