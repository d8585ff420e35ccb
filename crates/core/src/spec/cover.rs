//! Hides what a file marks as secret in the problems that it has: in the lines that they show and in what they quote.
use std::borrow::Cow;
use std::ops::Range;

use super::fields::boolean;
use super::keys::is_known;
use super::logins::{self, COVER, without_logins};
use super::source::{Place, SHOWN};
use super::syntax::clip;
use super::tree::{Entry, Kind, Node};
use crate::wire::Problem;

/// What `source` says of a variable; anything else may be a value in the wrong place.
const SOURCES: [&str; 3] = ["text", "secret", "inject"];
/// Shorter texts are no secrets, and stand in every sentence.
const SHORTEST: usize = 4;
/// Parts of keys that name a secret, also where the key has no meaning.
const TELLING: [&str; 9] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "credential",
    "api_key",
    "apikey",
    "access_key",
    "private_key",
];
/// Words of keys that do.
const TELLING_WORDS: [&str; 5] = ["pass", "passw", "pwd", "auth", "bearer"];

/// The secrets of a file.
#[derive(Default)]
pub(super) struct Secrets<'n> {
    /// Where they begin and end.
    places: Vec<(Place, Place)>,
    /// Sorted, so that many are found as fast as few.
    texts: Vec<Cow<'n, str>>,
}

impl<'n> Secrets<'n> {
    /// Gathers them from the tree of a file, and from entries `apart` from it: what a key says the second time.
    pub(super) fn of(root: &'n Node, apart: &'n [Entry]) -> Self {
        let mut secrets = Self::default();
        secrets.search(root);
        for entry in apart {
            let hidden = is_telling(entry.name()) || meant(entry.name()) == Some("value");
            if hidden { secrets.hide(&entry.value) } else { secrets.search(&entry.value) }
        }
        secrets.texts.sort_unstable();
        secrets.texts.dedup();
        secrets
    }

    /// Looks for secrets in all of `node`: a slip may have brought a variable anywhere, and may stand in any of its keys.
    fn search(&mut self, node: &'n Node) {
        match &node.kind {
            Kind::Scalar { text, .. } => {
                if assigns_secret(text) {
                    self.hide(node);
                }
            }
            Kind::List(items) => items.iter().for_each(|item| self.search(item)),
            Kind::Map(entries) => {
                let find = |key: &str| entries.iter().find(|entry| meant(entry.name()) == Some(key));
                let mark = find("secret");
                let marked = mark.is_some_and(|e| e.value.text().and_then(boolean) != Some(false));
                // Without the mark a key beside `value` may be a slip of it.
                let doubtful = mark.is_none() && find("value").is_some() && entries.len() > 1;
                for entry in entries {
                    let name = entry.name();
                    let valued = doubtful && meant(name) == Some("value");
                    if assigns_secret(name) {
                        self.hide(&entry.key);
                    }
                    if name == "env" {
                        self.shell_form(&entry.value);
                    }
                    if is_telling(name) || ((marked || valued) && !is_shown(entry)) {
                        self.hide(&entry.value);
                    } else {
                        self.search(&entry.value);
                    }
                }
            }
        }
    }

    /// Hides the variables of `env` that are written `NAME=value`: each may be a secret.
    fn shell_form(&mut self, env: &'n Node) {
        match &env.kind {
            Kind::Scalar { .. } => self.hide(env),
            Kind::List(items) => items.iter().for_each(|item| self.shell_form(item)),
            Kind::Map(variables) => {
                let slips = variables.iter().filter(|variable| variable.name().contains('='));
                slips.for_each(|variable| self.hide(&variable.key));
            }
        }
    }

    /// Hides all of `node` but what the format has in a variable, and the texts in it wherever they stand: an alias brings
    /// them from elsewhere.
    fn hide(&mut self, node: &'n Node) {
        match &node.kind {
            Kind::Scalar { text, .. } => {
                if boolean(text).is_some() || node.is_null() {
                    return;
                }
                self.places.push((node.place, node.end));
                if text.len() >= SHORTEST && !is_known(text) {
                    let quoted = Some(clip(text)).filter(|quoted| **quoted != **text);
                    self.texts.extend(quoted.map(Cow::Owned));
                    self.texts.push(Cow::Borrowed(text));
                }
            }
            Kind::List(items) => items.iter().for_each(|item| self.hide(item)),
            Kind::Map(entries) => {
                for entry in entries {
                    if !is_known(entry.name()) && meant(entry.name()).is_none() {
                        self.hide(&entry.key);
                    }
                    if !is_shown(entry) {
                        self.hide(&entry.value);
                    }
                }
            }
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
            problem.source = self.hidden_in(&problem.source, stars);
            for text in words(problem) {
                *text = self.hidden_in(text, |_| COVER.to_owned());
            }
            let place = Place { line: problem.line, column: problem.column };
            if self.places.iter().any(|(start, _)| *start == place) {
                cover_quotes(problem);
            }
        }
        cover_logins(problems);
    }

    /// `text` with `cover` in place of the texts in it.
    fn hidden_in(&self, text: &str, cover: impl Fn(&str) -> String) -> String {
        let mut found: Vec<Range<usize>> = Vec::new();
        for (at, _) in text.char_indices() {
            let Some(length) = self.longest(&text.as_bytes()[at..]) else { continue };
            match found.last_mut() {
                Some(last) if last.end > at => last.end = last.end.max(at + length),
                _ => found.push(at..at + length),
            }
        }
        logins::replace(text, &found, &cover)
    }

    /// Length of the longest of the texts that `text` begins with.
    fn longest(&self, text: &[u8]) -> Option<usize> {
        let mut end = self.texts.len();
        let mut common = text.len();
        loop {
            // What `text` begins with is no greater than it.
            end = self.texts[..end].partition_point(|secret| secret.as_bytes() <= &text[..common]);
            let nearest = self.texts[..end].last()?.as_bytes();
            common = nearest.iter().zip(text).take_while(|(a, b)| a == b).count();
            if common == nearest.len() {
                return Some(common);
            }
        }
    }
}

/// Hides in a file that could not be read what looks like the value of a variable.
pub(super) fn cover_unread(problems: &mut [Problem]) {
    for problem in &mut *problems {
        let end = value_in(&problem.source);
        if let Some(end) = end {
            let column = problem.source[..end].chars().count();
            blank(&mut problem.source, u32::try_from(column + 1).unwrap_or(u32::MAX)..u32::MAX);
        }
        if end.or(value_in(&problem.message)).is_some() {
            cover_quotes(problem);
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
        for text in words(problem) {
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

fn words(problem: &mut Problem) -> impl Iterator<Item = &mut String> {
    [Some(&mut problem.message), problem.hint.as_mut(), Some(&mut problem.path)].into_iter().flatten()
}

/// As many stars as a secret has characters; blanks stay.
fn stars(secret: &str) -> String {
    secret.chars().map(|c| if c.is_whitespace() { c } else { '*' }).collect()
}

/// Where what stands behind `value:`, or a telling key, begins in a line.
fn value_in(line: &str) -> Option<usize> {
    let hides = |(at, _): &(usize, &str)| {
        let before = line[..*at].trim_end_matches([' ', '"', '\'']);
        let key = before.rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next();
        key.is_some_and(|key| is_telling(key) || meant(key) == Some("value"))
    };
    line.match_indices(':').find(hides).map(|(at, _)| at + 1)
}

/// Replaces the characters in `columns` (from 1) by stars; blanks stay.
fn blank(line: &mut String, columns: Range<u32>) {
    if columns.start as usize > SHOWN {
        return;
    }
    let cover = |(index, c): (usize, char)| {
        let column = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if columns.contains(&column) && !c.is_whitespace() { '*' } else { c }
    };
    *line = line.chars().enumerate().map(cover).collect();
}

/// Hides what the message quotes, but for keys of the format and what the path shows.
fn cover_quotes(problem: &mut Problem) {
    let path = &problem.path;
    let cover = |(index, part)| {
        if index % 2 == 0 || is_known(part) || path.ends_with(part) { part } else { COVER }
    };
    let parts: Vec<_> = problem.message.split('`').enumerate().map(cover).collect();
    problem.message = parts.join("`");
}

/// Whether a key names a secret by itself. A path in a container names a file.
fn is_telling(key: &str) -> bool {
    let small = key.to_ascii_lowercase().replace('-', "_");
    let telling = |word: &str| TELLING_WORDS.contains(&word) || word.ends_with("token");
    !is_known(key)
        && !key.starts_with('/')
        && (small == "tokens"
            || TELLING.iter().any(|part| small.contains(part))
            || small.split(|c: char| !c.is_alphanumeric()).any(telling))
}

/// Whether a text gives a value to a name that names a secret, as a shell or a command line does.
fn assigns_secret(text: &str) -> bool {
    let named = |(at, _): (usize, &str)| {
        let name = text[..at].rsplit(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').next();
        name.is_some_and(|name| is_telling(name.trim_start_matches('-')))
    };
    text.match_indices('=').any(named)
}

/// Whether `key` is, or is a slip of, one that can hide a value.
fn meant(key: &str) -> Option<&'static str> {
    let near = |own: &str| strsim::osa_distance(&key.to_ascii_lowercase(), own) <= 2;
    let own = ["secret", "value"].into_iter().find(|own| key.len() <= 8 && near(own))?;
    (key == own || !is_known(key)).then_some(own)
}

/// Whether an entry of a variable says where its value comes from, and not the value.
fn is_shown(entry: &Entry) -> bool {
    match (entry.name(), entry.value.text()) {
        ("secret", text) => text.is_some(),
        ("source", Some(text)) => SOURCES.contains(&text),
        _ => false,
    }
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
        let line = "  A: {secret: true, value: [*******]}";
        check("  A: {secret: true, value: [hunter2]}\n", &[line, line]);
        check(
            "  A: {secret: true, value: '{{hunter2}}'}\n",
            &["  A: {secret: true, value: *************}"; 2],
        );
        check("  A: {secret: true, value: {hunter2}}\n", &["  A: {secret: true, value: {*******}}"; 2]);
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

    /// Checks that every problem of a file with `env` shows `line`.
    fn only(env: &str, line: &str) {
        let shown = shown(env);
        assert!(shown.iter().all(|shown| shown == line), "{shown:?}");
    }

    #[test]
    fn slips_in_both_keys_hide_no_less() {
        let line = "  A: {sceret: true, vlaue: *******, more: *******}";
        only("  A: {sceret: true, vlaue: hunter2, more: hunter3}\n", line);
        only("  A: {vlaue: hunter2, hide: true}\n", "  A: {vlaue: *******, hide: true}");
        assert_eq!(shown("  A: {sceret: true, vlaue: [hunter2\n")[0], "  A: {sceret: true, vlaue: ********");
        shown("  A: {vlaue: hunter1, vlaue: hunter2, sceret: true}\n");
    }

    #[test]
    fn all_below_a_telling_key_is_covered() {
        let line = "  API_TOKEN: [*******, {*******: [*******]}]";
        only("  API_TOKEN: [hunter2, {hunter3: [hunter4]}]\n", line);
        only("  CLIENT_SECRET: [hunter2]\n", "  CLIENT_SECRET: [*******]");
        for key in ["DB_PASS", "DB_PWD", "auth", "HF_TOKEN", "HFTOKEN", "my-credentials", "SSH_PASSPHRASE"] {
            only(&format!("  {key}: [hunter2]\n"), &format!("  {key}: [*******]"));
        }
        only("  MAX_TOKENS: [4096]\n", "  MAX_TOKENS: [4096]");
        only("  GITHUB_TOKEN: {hunter3: x}\n", "  GITHUB_TOKEN: {*******: *}");
        let line = "foo: {passwords: [*******]}";
        assert_eq!(shown("  A: 1\nfoo: {passwords: [hunter5]}\n"), ["  A: 1", line]);
        let long = format!("hunter{}", "5".repeat(70));
        shown(&format!("  A_TOKEN: {{{long}: {{x: '{{{{{long}}}}}'}}}}\n"));
        only("  A_TOKEN: {secret: named, value: x}\n", "  A_TOKEN: {secret: named, value: *}");
        let line = "/a/token: [x]";
        assert_eq!(shown(&format!("  A: 1\n{line}\n"))[1], line);
    }

    #[test]
    fn variables_in_the_form_of_a_shell_are_covered() {
        only("  - PASSWORD=hunter2\n", "  - ****************");
        only("  - [PLAIN=hunter2, hunter3]\n", "  - [*************, *******]");
        only("  PASSWORD=hunter2\n", "  ****************");
        only("  PLAIN=hunter2: x\n", "  *************: x");
        for value in ["export TOKEN=hunter2", "--password=hunter2", "AWS_SECRET_ACCESS_KEY=hunter2 x"] {
            assert_eq!(shown(&format!("  A: 1\nfoo: {value}\n"))[1], format!("foo: {}", stars(value)));
        }
        assert_eq!(shown("  A: 1\nfoo: --lr=0.1\n")[1], "foo: --lr=0.1");
    }

    #[test]
    fn what_is_wrong_is_still_said() {
        let said = |env: &str| {
            let found = read(format!("name: n\nimage: i\nenv:\n{env}").as_bytes(), ReadOptions::default());
            let said = found.problems.into_iter().map(|problem| {
                format!("{}: {}; {}", problem.path, problem.message, problem.hint.unwrap_or_default())
            });
            said.collect::<Vec<_>>().join("\n")
        };
        let check = |env: &str, expected: &str| assert!(said(env).contains(expected), "{env}{}", said(env));
        check("  A_TOKEN: [hunter]\n", "env.A_TOKEN: `A_TOKEN` needs text or a map, not a list");
        check("  A: {sceret: true, value: x}\n", "no key `sceret`; did you mean `secret`?");
        check("  A_TOKEN: {secret: named, value: x}\n", "`value` and the name of a stored secret contradict");
        check("  A_TOKEN: {hunter: x}\n", "env.A_TOKEN.***: a variable has no key `***`");
        check("  A: 1\nimgae: x\n", "a run has no key `imgae`; did you mean `image`?");
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
