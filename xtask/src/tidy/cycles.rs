//! No two top-level modules of a crate use each other, directly or through others. Code for tests does not count, and neither does
//! the root, which declares them all.
use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tree::SourceFile;
use super::uses::{Tests, module_path, test_modules, uses};

/// Module → module that it uses → where it does so first.
type Graph = BTreeMap<String, BTreeMap<String, (String, usize)>>;

/// Checks every crate.
pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Vec<(Vec<String>, &SourceFile)>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if let Some((folder, below)) = file.path.split_once("/src/") {
            let name = folder.strip_prefix("crates/").unwrap_or(folder);
            crates.entry(name).or_default().push((module_path(below), file));
        }
    }
    crates.retain(|name, _| !name.contains('/'));
    crates.values().flat_map(|modules| of_crate(modules)).collect()
}

fn of_crate(modules: &[(Vec<String>, &SourceFile)]) -> Vec<Finding> {
    let graph = graph(modules);
    let mut findings = Vec::new();
    for (from, used) in &graph {
        for (to, (path, line)) in used.iter().filter(|(to, _)| reaches(&graph, to, from)) {
            let message = format!("`{from}` uses `{to}`, which uses `{from}`, if only through others");
            findings.push(Finding::new(path, *line, message));
        }
    }
    findings
}

fn graph(modules: &[(Vec<String>, &SourceFile)]) -> Graph {
    let for_tests: BTreeSet<Vec<String>> =
        modules.iter().flat_map(|(path, file)| test_modules(&file.text, path)).collect();
    let is_test = |path: &[String]| (1..=path.len()).any(|end| for_tests.contains(&path[..end]));
    let tops: BTreeSet<&String> = modules.iter().filter_map(|(path, _)| path.first()).collect();
    let mut graph = Graph::new();
    for (path, file) in modules.iter().filter(|(path, _)| !is_test(path)) {
        let Some(from) = path.first() else { continue };
        for (line, to) in uses(&file.text, path, Tests::Skipped) {
            if to != *from && tops.contains(&to) {
                let place = (file.path.clone(), line);
                graph.entry(from.clone()).or_default().entry(to).or_insert(place);
            }
        }
    }
    graph
}

fn reaches(graph: &Graph, from: &str, to: &str) -> bool {
    let mut open = vec![from];
    let mut seen = BTreeSet::new();
    while let Some(module) = open.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            open.extend(graph.get(module).into_iter().flat_map(|used| used.keys().map(String::as_str)));
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        let file = |(path, text): &(&str, &str)| SourceFile { path: (*path).into(), text: (*text).into() };
        let found = check(&files.iter().map(file).collect::<Vec<_>>());
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{files:?}");
    }

    #[test]
    fn a_cycle_is_found_however_long_it_is() {
        let root = ("crates/x/src/lib.rs", "use crate::a::A;\n");
        check_files(&[root, ("crates/x/src/a.rs", "use crate::b;"), ("crates/x/src/b/mod.rs", "")], &[]);
        check_files(
            &[
                ("crates/x/src/a/mod.rs", "mod deep;"),
                ("crates/x/src/a/deep.rs", "\nuse super::super::b;"),
                ("crates/x/src/b.rs", "use crate::{c, c::d};"),
                ("crates/x/src/c.rs", "fn f() { crate::a::g() }"),
                ("crates/x/src/d.rs", "use crate::a;"),
            ],
            &[
                "crates/x/src/a/deep.rs:2: `a` uses `b`, which uses `a`, if only through others",
                "crates/x/src/b.rs:1: `b` uses `c`, which uses `b`, if only through others",
                "crates/x/src/c.rs:1: `c` uses `a`, which uses `c`, if only through others",
            ],
        );
    }

    #[test]
    fn tests_and_other_crates_do_not_count() {
        check_files(
            &[
                ("crates/x/src/a.rs", "use crate::b;\n#[cfg(test)]\nmod tests;"),
                ("crates/x/src/a/tests.rs", "use crate::b::B;"),
                (
                    "crates/x/src/b.rs",
                    "#[cfg(test)]\nmod tests { use crate::a; }\n#[cfg(test)]\nuse crate::a::A;",
                ),
                ("crates/y/src/b.rs", "use crate::a;"),
                ("crates/x/tests/it/b.rs", "use crate::a;"),
            ],
            &[],
        );
    }
}
