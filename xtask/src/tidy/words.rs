//! Words that must not be committed: marks of unfinished work, and paths of the machines on which it is built.
use super::Finding;

/// The one file that has to contain them.
const THIS_FILE: &str = "xtask/src/tidy/words.rs";

/// What must not stand in any file, and what to do instead.
const FORBIDDEN: &[(&str, &str)] = &[
    ("TODO", "finish it, or write an issue"),
    ("FIXME", "fix it, or write an issue"),
    ("XXX", "say what is meant"),
    ("HACK", "say why it is right"),
    ("dbg!(", "remove it"),
    ("todo!(", "write it"),
    ("unimplemented!(", "write it"),
    ("#[ignore", "a test that does not run is no test"),
    ("/work/", "a path of a build machine"),
    ("/root/.cargo", "a path of a build machine"),
    ("/root/.rustup", "a path of a build machine"),
];

/// Finds forbidden words in one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if path == THIS_FILE {
        return Vec::new();
    }
    let lines = text.lines().enumerate();
    lines.flat_map(|(index, line)| in_line(path, index + 1, line)).collect()
}

fn in_line(path: &str, number: usize, line: &str) -> Vec<Finding> {
    let found = FORBIDDEN.iter().filter(|(word, _)| contains(line, word));
    found.map(|(word, remedy)| Finding::new(path, number, format!("`{word}`: {remedy}"))).collect()
}

/// Whether `word` stands in `line` and not inside a longer word or path.
fn contains(line: &str, word: &str) -> bool {
    let first = word.chars().next().unwrap_or_default();
    let last = word.chars().next_back().unwrap_or_default();
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !(joins(before, first) || last.is_alphanumeric() && joins(after, last))
    })
}

/// Whether a neighbour makes `edge` part of a longer word or path.
fn joins(neighbour: Option<char>, edge: char) -> bool {
    let Some(neighbour) = neighbour else { return false };
    let of_word = neighbour.is_alphanumeric() || neighbour == '_';
    if edge == '/' {
        of_word || matches!(neighbour, '/' | '.' | '}')
    } else {
        edge.is_alphanumeric() && of_word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(line: &str, expected: &[&str]) {
        let found: Vec<_> =
            FORBIDDEN.iter().filter(|(word, _)| contains(line, word)).map(|(word, _)| *word).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn words_are_found_whole() {
        check_line("// TODO: later", &["TODO"]);
        check_line("let TODOS = 1; mkdtemp(\"aXXXXXX\")", &[]);
        check_line("dbg!(x); todo!()", &["dbg!(", "todo!("]);
        check_line("my_todo!()", &[]);
        check_line("#[ignore = \"slow\"]", &["#[ignore"]);
        check_line("open(\"/work/tree\")", &["/work/"]);
        check_line("cp /root/.cargo/bin/x .", &["/root/.cargo"]);
        check_line("lower/work/upper and https://host/work/x and {base}/work/x", &[]);
        check_line("a hackathon of XXXL", &[]);
    }

    #[test]
    fn places_are_told() {
        let found = check("a.md", "fine\nnot // FIXME\n");
        assert_eq!(found, [Finding::new("a.md", 2, "`FIXME`: fix it, or write an issue")]);
        assert!(check(THIS_FILE, "TODO").is_empty());
    }
}
