//! Keeps secrets out of problems. One rule: a problem inside `env`, on a line with a login in an address, or at a key that
//! names a secret shows keys and places, and no value. Everything else is shown: people see their own file.
use super::keys::is_known;
use super::source::{Location, SHOWN, Source};

/// Parts of a key that names a secret.
const SENSITIVE: [&str; 9] =
    ["passw", "passphrase", "pwd", "secret", "token", "apikey", "api_key", "access_key", "private_key"];
/// What messages about variables say of themselves.
const OWN_WORDS: [&str; 5] = ["text", "inject", "true", "false", "null"];
/// Shorter words are no secrets.
const SHORTEST: usize = 4;
/// Longest begin of a text that is searched, in bytes.
const LONGEST: usize = 2 << 10;
/// Most lines that are looked at to find what encloses one. Behind so many, what has no path counts as enclosed by `env`.
const MOST_LINES: usize = 2000;

/// The line of a problem as it may be shown, and the part of it that must not be, if there is one.
pub(super) fn line<'t>(source: &Source<'t>, place: Location, path: &str) -> (String, Option<&'t str>) {
    let in_env = path.strip_prefix("env").is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
    let line = source.line(place.line);
    let is_open =
        !in_env && !is_sensitive(path) && !has_login(line) && !is_enclosed(source, place.line, path);
    if is_open {
        return (source.shown(place), None);
    }
    let (key, values) = line.split_at(line.find([':', '=']).map_or(0, |at| at + 1));
    (key.chars().take(SHOWN).collect(), Some(values))
}

/// A message about a place with hidden `values`, without what it quotes of them.
pub(super) fn message(text: &str, path: &str) -> String {
    let is_value = |word: &&str| !is_known(word) && !OWN_WORDS.contains(word);
    quoted(text, |part| path.ends_with(part) || !words(part).any(|word| is_value(&word)))
}

/// The same for a hint, which quotes much that is not of the file.
pub(super) fn hint(text: &str, values: &str) -> String {
    let values = begin(values);
    quoted(text, |part| !words(part).any(|word| !is_known(word) && values.contains(word)))
}

/// Whether a text has a login: `://…@`, a query behind an address, or `user:password@host`. The user `git` of ssh is none.
pub(super) fn has_login(text: &str) -> bool {
    let text = begin(text).replace("ssh://git@", "");
    let is_login = |word: &str| {
        let at = word.find('@').filter(|at| !word[*at..].starts_with("@sha"));
        at.is_some_and(|at| word[..at].contains(':'))
    };
    text.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?']))
        || text.split_whitespace().any(is_login)
}

/// Whether a line, or one that encloses it by its indentation, begins with `env` or gives a value to a secret.
fn is_enclosed(source: &Source<'_>, line: u32, path: &str) -> bool {
    let mut indent = usize::MAX;
    let mut lines = (1..=line).rev().map(|line| begin(source.line(line)));
    for text in lines.by_ref().take(MOST_LINES) {
        let key = text.trim_start();
        let own = text.len() - key.len() + usize::from(key.starts_with("- "));
        if key.is_empty() || key.starts_with('#') || own >= indent {
            continue;
        }
        if key.trim_start_matches(['{', '"', '\'', ' ']).starts_with("env") || names_secret(key) {
            return true;
        }
        if own == 0 {
            return false;
        }
        indent = own;
    }
    lines.next().is_some() && !path.contains(['.', '['])
}

/// Whether a word before a `:` or `=` names a secret.
fn names_secret(line: &str) -> bool {
    is_sensitive(line)
        && line.match_indices([':', '=']).any(|(at, _)| {
            let before = line[..at].trim_end_matches([' ', '"', '\'']);
            let key = before.rsplit(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).next();
            key.is_some_and(is_sensitive)
        })
}

fn is_sensitive(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SENSITIVE.iter().any(|part| key.contains(part))
}

/// Whether the value `text` of a variable called `key` may be a secret, by its name or because it has a login.
pub fn may_be_secret(key: &str, text: &str) -> bool {
    let key = key.to_ascii_lowercase();
    is_sensitive(&key)
        || ["key", "auth", "cred", "pass", "dsn"].iter().any(|part| key.contains(part))
        || has_login(text)
}

fn begin(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.len() >= SHORTEST)
}

/// The text with `…` for what it quotes, except what is `shown`.
fn quoted(text: &str, shown: impl Fn(&str) -> bool) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(index, part)| if index % 2 == 0 || shown(part) { part } else { "…" });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use super::super::{ReadOptions, locate, read};
    use crate::problem::{Level, Problem};

    /// The lines that are shown for the problems of a file with this `body`, and for one found in `env` later.
    fn shown(body: &str) -> Vec<String> {
        let file = format!("name: n\nimage: i\n{body}");
        let mut problems = read(file.as_bytes(), ReadOptions::default()).problems;
        problems.push(Problem {
            code: "code".to_owned(),
            level: Level::Note,
            path: "env.A".to_owned(),
            ..Problem::default()
        });
        locate(file.as_bytes(), &mut problems);
        let text = serde_json::to_string(&problems).unwrap();
        assert!(!text.contains("hunter"), "{text}");
        problems.into_iter().map(|problem| problem.source).filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn no_value_of_a_variable_is_shown() {
        let check = |body: &str, expected: &[&str]| assert_eq!(shown(body), expected, "{body}");
        check("env:\n  A: {value: hunter2, secret: true}\n", &["  A:"]);
        check("env:\n  A: {secret: yes, value: hunter2, bogus: 1}\n", &["  A:", "  A:"]);
        check("env: {A: {source: hunter2, secret: '{{hunter2}}'}}\n", &["env:"; 3]);
        check("env:\n  A:\n    value: [hunter2]\n", &["    value:", "    value:"]);
        check("env:\n  A: !hunter hunter2\n", &["  A:", "  A:"]);
        check("env:\n- PASSWORD=hunter2\n", &["- PASSWORD=", "- PASSWORD="]);
        check("env:\n  PLAIN=hunter2: x\n", &["  PLAIN="; 2]);
        check("env:\n  A: &a hunter2 x\nname: *a\nports: [*a]\n", &["  A:", "  A:", "name: *a"]);
        check("env:\n  A: {value: a}\n  A: {value: hunter2}\n", &["  A:", "  A:"]);
        check("envs: {A: {value: hunter2}}\n", &["envs:"]);
        check("envs:\n  A:\n    value: x\n    value: hunter2\n", &["envs:", "    value:"]);
    }

    #[test]
    fn no_value_of_a_file_that_cannot_be_read_is_shown() {
        for value in ["\"hunter2", "\"hunter2\\q\"", "hunter2, *x", "[hunter2", "'a\n      hunter2"] {
            let shown = shown(&format!("env:\n  # note\n\n  A: {{source: secret, value: {value}\n"));
            assert!(shown.iter().all(|line| line == "  A:"), "{value}: {shown:?}");
        }
        shown("{\n\"env\": {\n  \"A\": [hunter2\n");
        shown("env:\n  A:\n    value:hunter2\n    secret: true\n");
    }

    #[test]
    fn no_login_is_shown() {
        for url in [
            "https://u:hunter2@h.io/x y",
            "https://hunter2@h.io/x",
            "git://h.io/x y?sig=hunter2",
            "u:hunter@h.io",
        ] {
            let line = format!("import: {{/a: {{git: {{url: '{url}'}}}}}}");
            assert_eq!(shown(&format!("{line}\n")), ["import:"], "{url}");
            assert_eq!(shown(&format!("import:\n  /a: {url}\n")), ["  /a:"], "{url}");
            shown(&format!("import: {{/a: {{git: {{url: {url}\n"));
        }
        let long = "hunter".repeat(100);
        shown(&format!("import: {{/a: {{git: {{url: 'https://u:{long}@h.io/x y'}}}}}}\n"));
        shown("import:\n  /a:\n    git:\n      url: >-\n        https://u:hunter2@h.io/x y\n");
    }

    #[test]
    fn no_value_at_a_key_that_names_a_secret_is_shown() {
        assert_eq!(shown("foo: {client-secret: hunter2}\n"), ["foo:"]);
        assert_eq!(shown("run:\n- 'a\n  export API_TOKEN=hunter2\n"), ["- 'a"]);
        shown("API_KEY:\n  - a: hunter2\n    a: hunter3\n");
    }

    #[test]
    fn what_is_wrong_is_still_said() {
        let said = |body: &str| {
            let found = read(format!("name: n\nimage: i\n{body}").as_bytes(), ReadOptions::default());
            let said = found.problems.into_iter().map(|problem| {
                format!("{}: {}; {}", problem.path, problem.message, problem.hint.unwrap_or_default())
            });
            said.collect::<Vec<_>>().join("\n")
        };
        let check =
            |body: &str, expected: &str| assert!(said(body).contains(expected), "{body}{}", said(body));
        check(
            "env:\n  A: [hunter]\n",
            "env.A: `A` needs text or a map, not a list; write `NAME: text`, `NAME: {secret: stored-name}` or",
        );
        check("env:\n  A: {sceret: true, value: x}\n", "no key `sceret`; did you mean `secret`?");
        check(
            "env:\n  A: {source: inject, value: x}\n",
            "`source: inject` and `value` contradict each other",
        );
        check("env:\n  A: {source: vault}\n", "cannot come from `…`; write `text`, `secret` or `inject`");
        check(
            "import: {/a: {git: {url: 'https://u:p@h.io/x'}}}\n",
            "a user name or password; store it with `vessl credential create` and name it in `credential_name`",
        );
    }

    #[test]
    fn other_lines_are_shown() {
        let check = |line: &str| assert_eq!(shown(&format!("{line}\n")), [line]);
        check("image2: python:3.12@sha256:0a");
        check("ports: [x] # me@example.org");
        check("import: {/a: git@h.io:x/y}");
        check("foo: https://h.io/x");
    }
}
