//! Finds line and column of a path such as `import./data`, for problems that were found after the file was read.
use std::rc::Rc;

use super::path::ContainerPath;
use super::problem::{MOST, Problems, more};
use super::redact;
use super::source::{Location, Source};
use super::tree::{self, Entry, Kind, Node};
use crate::problem::Problem;

/// Gives problems that have no place yet (`line` is 0) the place of their `path` in `text`, or of the nearest thing around
/// it that the file has, and sorts all by place. A problem about something that the file does not have at all stays
/// without a place and comes last. Of very many without a place those are kept that weigh most.
pub fn locate(text: &[u8], problems: &mut Vec<Problem>) {
    let (mut placed, mut unplaced): (Vec<_>, Vec<_>) =
        problems.drain(..).partition(|problem| problem.line > 0);
    let left_out = unplaced.len().saturating_sub(MOST);
    if left_out > 0 {
        unplaced.sort_by_key(|problem| problem.level as u8);
        let level = unplaced[MOST].level;
        unplaced.truncate(MOST);
        unplaced.push(more(level, Location::default(), left_out));
    }
    if !unplaced.is_empty() {
        placed.append(&mut unplaced);
        place(text, &mut placed);
    }
    *problems = placed;
    problems.sort_by_key(|problem| (problem.line == 0, problem.line, problem.column));
}

fn place(text: &[u8], problems: &mut [Problem]) {
    let (source, stop) = Source::read(text);
    let root = if stop.is_none() { tree::read(&source, &mut Problems::default()) } else { None };
    let Some(root) = root else { return };
    for problem in problems.iter_mut().filter(|problem| problem.line == 0) {
        if let Some(node) = find(&root, &problem.path) {
            (problem.line, problem.column) = (node.place.line, node.place.column);
            problem.source = redact::line(&source, node.place, &problem.path).0;
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
    use crate::problem::Level;

    const FILE: &str = "name: x\nresources:\n  requests:\n    nvidia.com/gpu: {quantity: 4}\n    cpu: 2\nimport:\n  /a/: s3://b/p\n  /a.b: {git: {url: h.com/x/y,\n    credential_name: c}}\nrun:\n  - command: a\n  - {command: b, workdir: c}\n";

    fn problem(path: &str, line: u32, level: Level) -> Problem {
        let (code, message) = ("c".to_owned(), "m".to_owned());
        let path = path.to_owned();
        Problem { code, level, line, column: line, path, message, ..Problem::default() }
    }

    fn check(path: &str, expected: (u32, u32)) {
        let mut problems = vec![problem(path, 0, Level::Error)];
        locate(FILE.as_bytes(), &mut problems);
        let problem = &problems[0];
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
        let of = |(path, line)| problem(path, line, Level::Error);
        let mut problems =
            [("mount./x", 0), ("run", 10), ("import./a.b.git", 0), ("name", 0)].map(of).to_vec();
        locate(FILE.as_bytes(), &mut problems);
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [1, 8, 10, 0]);
    }

    #[test]
    fn of_very_many_those_that_weigh_most_are_kept() {
        let levels =
            [Level::Note, Level::Warning].map(|level| vec![problem("name", 0, level); MOST]).concat();
        let mut problems = [levels, vec![problem("run", 0, Level::Error)]].concat();
        locate(FILE.as_bytes(), &mut problems);
        let count = |level| problems.iter().filter(|problem| problem.level == level).count();
        assert_eq!([Level::Error, Level::Warning, Level::Note].map(count), [1, MOST, 0]);
        let last = problems.last().unwrap();
        assert_eq!((&*last.code, &*last.message), ("too-many-problems", "201 more problems are not shown"));
    }

    #[test]
    fn places_that_are_known_are_kept_and_broken_files_have_none() {
        let known = Problem { source: "kept".to_owned(), ..problem("name", 3, Level::Error) };
        let mut problems = vec![known.clone(), Problem { line: 0, ..known.clone() }];
        locate(b"name: [", &mut problems);
        assert_eq!(problems[0], known);
        assert_eq!(problems[1].line, 0);
    }
}
