//! The reference of the run file, `docs/run-file.md`, is true: its examples are read, its lists are complete. So are the
//! run files in the other pages, and the example files.
use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use vessl_core::spec::{self, ReadOptions, schema};
use vessl_core::wire::{Level, Problem};
use vessl_core::{codes, plan, provenance};

use crate::schema::complaints;
use crate::support::{file, read};

fn of_project(path: &str) -> String {
    file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path))
}

/// Every file of a directory with this ending.
fn all_of(dir: &str, ending: &str) -> Vec<String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
    let entries = std::fs::read_dir(dir).expect("the project has this directory");
    let paths = entries.map(|entry| entry.expect("the directory can be listed").path());
    paths.filter(|path| path.extension().is_some_and(|has| has == ending)).map(|path| file(&path)).collect()
}

fn page() -> String {
    of_project("docs/run-file.md")
}

/// The YAML examples, each with what it leaves out above it.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    let whole = |block: &str| {
        if block.starts_with("name:") { String::new() } else { "name: x\nimage: host://\n".to_owned() }
    };
    blocks.map(|block| whole(block) + block).collect()
}

#[test]
fn every_example_is_a_run() {
    let page = page();
    let examples = examples(&page);
    assert!(examples.len() > 15, "only {} examples were found", examples.len());
    for text in examples {
        let read = read(&text);
        let old = text.contains("volumes:");
        let unexpected =
            read.problems.iter().find(|p| p.level == Level::Error || !(old && p.code.starts_with("old-")));
        assert!(unexpected.is_none(), "{unexpected:#?} in\n{text}");
        assert_eq!(complaints(&text), [""; 0], "{text}");
    }
}

const REFUSED: &str = "not in this version";

/// The numbers of the lines, from 1, that say what is refused.
fn marked(text: &str) -> Vec<u32> {
    let lines = (1..).zip(text.lines());
    lines.filter(|(_, line)| line.contains(REFUSED)).map(|(number, _)| number).collect()
}

/// What of a run file this version refuses on every server.
fn refused(text: &str) -> Vec<Problem> {
    let mut refused = plan::refused_everywhere(&read(text).spec.expect("it is a run"));
    refused.retain(|problem| problem.code == "unsupported");
    spec::locate(text.as_bytes(), &mut refused);
    refused
}

#[test]
fn what_is_refused_is_marked_in_the_examples() {
    for text in examples(&page()) {
        let marked = marked(&text);
        // The place of a map is its first line, which may be below its key.
        let is_at = |problem: &Problem, line: u32| [line, line + 1].contains(&problem.line);
        let refused = refused(&text);
        for problem in &refused {
            assert!(marked.iter().any(|&line| is_at(problem, line)), "{problem:#?} in\n{text}");
        }
        for line in marked {
            assert!(
                refused.iter().any(|problem| is_at(problem, line)),
                "line {line} is not refused in\n{text}"
            );
        }
    }
}

#[test]
fn what_is_refused_is_marked_in_the_table_of_sources() {
    let page = page();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.contains("://") && line.matches('|').count() == 6)
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 10, "{rows:?}");
    for row in rows {
        for (section, cell) in ["import", "mount", "export"].into_iter().zip(&row[3..6]) {
            let mut source = row[1].trim_matches('`');
            if (section, row[2]) == ("export", "`model`") {
                source = source.trim_end_matches("/number");
            }
            let source = source.replace("/number", "/1");
            let read = read(&format!("name: x\nimage: i\n{section}: {{/a: '{source}'}}\n"));
            let said = match &read.spec {
                None => "",
                Some(spec) if plan::refused_everywhere(spec).iter().any(|p| p.code == "unsupported") => {
                    REFUSED
                }
                Some(_) => "yes",
            };
            assert_eq!(cell.split(';').next(), Some(said), "{source} in `{section}`");
        }
    }
}

#[test]
fn the_other_pages_show_runs() {
    let pages = [vec![of_project("README.md")], all_of("docs", "md")].concat();
    let reference = page();
    let pages = pages.iter().filter(|page| **page != reference).flat_map(|page| examples(page));
    let all: Vec<String> = pages.chain(all_of("examples", "yaml")).collect();
    assert!(all.len() >= 13, "only {} run files were found", all.len());
    for text in all {
        let options = ReadOptions { base: Some("/home/you/code"), ..ReadOptions::default() };
        let read = spec::read(text.as_bytes(), options);
        assert!(read.problems.is_empty(), "{:#?} in\n{text}", read.problems);
        assert_eq!(complaints(&text), [""; 0], "{text}");
    }
}

/// The page has `table` as it stands. The table is printed if it is not there, to be put in.
fn check_table(page: &str, table: &str) {
    assert!(page.contains(table), "docs/run-file.md needs this table:\n\n{table}");
}

#[test]
fn every_code_is_in_the_tables() {
    let page = page();
    for list in [spec::codes(), plan::codes(), provenance::codes()] {
        let rows =
            list.iter().map(|info| format!("| `{}` | {} | {} |\n", info.code, info.meaning, info.remedy));
        let rows = rows.collect::<String>();
        check_table(&page, &format!("| code | what it means | what to do |\n|---|---|---|\n{rows}"));
    }
}

#[test]
fn a_code_has_one_meaning() {
    let mut seen = BTreeSet::new();
    for info in codes() {
        assert!(seen.insert(info.code), "`{}` is defined twice", info.code);
        assert!(info.meaning.ends_with('.') && info.remedy.ends_with('.'), "{info:?}");
    }
}

/// Every key that some map of the file may have.
fn keys(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            found.extend(
                map.get("properties")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flat_map(|it| it.keys().cloned()),
            );
            map.values().for_each(|value| keys(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_key_is_mentioned() {
    let page = page();
    let mut known = BTreeSet::new();
    keys(&schema(), &mut known);
    assert!(known.len() > 50, "only {} keys are known", known.len());
    let missing: Vec<_> = known.iter().filter(|key| !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/run-file.md says nothing of {missing:?}");
}
