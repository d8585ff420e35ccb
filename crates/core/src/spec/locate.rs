//! Where in a file a path such as `import./data` stands, for problems that were found after the reading. It judges nothing.
use std::rc::Rc;

use super::path::ContainerPath;
use super::problem::Problems;
use super::source::Source;
use super::tree::{self, Entry, Kind, Node};
use crate::wire::Problem;

/// Gives problems that have no place yet (`line` is 0) the place of their `path` in `text`, or of the nearest thing around
/// it that the file has, and sorts all by place. A problem about something that the file does not have at all stays
/// without a place and comes last.
pub fn locate(text: &[u8], problems: &mut [Problem]) {
    if problems.iter().any(|problem| problem.line == 0) {
        place(text, problems);
    }
    problems.sort_by_key(|problem| (problem.line == 0, problem.line, problem.column));
}

fn place(text: &[u8], problems: &mut [Problem]) {
    let (source, stop) = Source::read(text);
    let root = if stop.is_none() { tree::read(&source, &mut Problems::default()) } else { None };
    let Some(root) = root else { return };
    for problem in problems.iter_mut().filter(|problem| problem.line == 0) {
        if let Some(node) = find(&root, &problem.path) {
            (problem.line, problem.column) = (node.place.line, node.place.column);
            problem.source = source.shown(node.place);
        }
    }
}

/// The deepest node on the way along `path`.
fn find<'n>(root: &'n Rc<Node>, path: &str) -> Option<&'n Rc<Node>> {
    let (mut node, mut rest, mut found) = (root, path, None);
    while !rest.is_empty() {
        let Some((child, length)) = step(node, rest) else { break };
        rest = rest.get(length..).unwrap_or_default();
        rest = rest.strip_prefix('.').unwrap_or(rest);
        node = child;
        found = Some(child);
    }
    found
}

/// The child that `path` begins with, and how many bytes of `path` name it.
fn step<'n>(node: &'n Node, path: &str) -> Option<(&'n Rc<Node>, usize)> {
    match &node.kind {
        Kind::Scalar { .. } => None,
        Kind::List(items) => {
            let (index, _) = path.strip_prefix('[')?.split_once(']')?;
            items.get(index.parse::<usize>().ok()?).map(|item| (item, index.len() + 2))
        }
        // Keys may contain the characters that separate steps (`nvidia.com/gpu`): the longest one that fits is meant.
        Kind::Map(entries) => {
            // As written and to the end is the longest, and most often so: many entries are then not taken apart.
            if let Some(entry) = entries.iter().find(|entry| entry.name() == path) {
                return Some((&entry.value, path.len()));
            }
            let fitting = entries.iter().filter_map(|entry| fits(entry, path).map(|length| (entry, length)));
            fitting.max_by_key(|(_, length)| *length).map(|(entry, length)| (&entry.value, length))
        }
    }
}

fn fits(entry: &Entry, path: &str) -> Option<usize> {
    let begins = |key: &str| {
        let rest = path.strip_prefix(key)?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then_some(key.len())
    };
    let name = entry.name();
    begins(name).or_else(|| begins(ContainerPath::parse(name).ok()?.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Level;

    const FILE: &str = "name: x\nresources:\n  requests:\n    nvidia.com/gpu: {quantity: 4}\n    cpu: 2\nimport:\n  /a/: s3://b/p\n  /a.b: {git: {url: h.com/x/y,\n    credential_name: c}}\nrun:\n  - command: a\n  - {command: b, workdir: c}\n";

    fn check(path: &str, expected: (u32, u32)) {
        let (code, message) = ("c".to_owned(), "m".to_owned());
        let (level, source) = (Level::Error, String::new());
        let problem =
            Problem { code, level, line: 0, column: 0, path: path.to_owned(), message, hint: None, source };
        let mut problems = [problem];
        locate(FILE.as_bytes(), &mut problems);
        let [problem] = problems;
        assert_eq!((problem.line, problem.column), expected, "`{path}`");
        let line = FILE.lines().nth(usize::try_from(expected.0).unwrap().wrapping_sub(1)).unwrap_or_default();
        assert_eq!(problem.source, line);
    }

    #[test]
    fn paths_are_found() {
        check("name", (1, 7));
        check("resources.requests.nvidia.com/gpu", (4, 21));
        check("resources.requests.nvidia.com/gpu.quantity", (4, 32));
        check("import./a", (7, 8));
        check("import./a.b", (8, 9));
        check("import./a.b.git.credential_name", (9, 22));
        check("run[1].workdir", (12, 27));
    }

    #[test]
    fn the_nearest_thing_around_stands_for_what_is_not_there() {
        check("resources.preset", (3, 3));
        check("import./a.git.credential_name", (7, 8));
        check("run[7].command", (11, 3));
        check("mount./x", (0, 0));
        check("", (0, 0));
    }

    #[test]
    fn problems_come_in_the_order_of_the_file() {
        let problem = |path: &str, line: u32| Problem {
            code: String::new(),
            level: Level::Error,
            line,
            column: 1,
            path: path.to_owned(),
            message: String::new(),
            hint: None,
            source: String::new(),
        };
        let mut problems =
            [problem("mount./x", 0), problem("run", 10), problem("import./a.b.git", 0), problem("name", 0)];
        locate(FILE.as_bytes(), &mut problems);
        assert_eq!(problems.map(|problem| problem.line), [1, 8, 10, 0]);
    }

    #[test]
    fn places_that_are_known_are_kept_and_broken_files_have_none() {
        let known = Problem {
            code: String::new(),
            level: Level::Error,
            line: 3,
            column: 4,
            path: "name".to_owned(),
            message: String::new(),
            hint: None,
            source: "kept".to_owned(),
        };
        let mut problems = [known.clone(), Problem { line: 0, ..known.clone() }];
        locate(b"name: [", &mut problems);
        assert_eq!(problems[0], known);
        assert_eq!(problems[1].line, 0);
    }
}
