//! Real run files behave as the corpus says.
use vessl_core::spec::{ReadOptions, print, read};
use vessl_core::wire::{Level, Problem};

use crate::support::{Real, corpus};

fn errors(file: &Real) -> Vec<Problem> {
    let read = read(file.text.as_bytes(), ReadOptions::default());
    let errors: Vec<_> = read.problems.into_iter().filter(|p| p.level == Level::Error).collect();
    assert_eq!(errors.is_empty(), read.spec.is_some(), "{}: a run or an error", file.name);
    for problem in &errors {
        let line = line_of(file, problem);
        assert!(is_shown(line, &problem.source), "{}: {:?} shows its line", file.name, problem);
        assert!(problem.column as usize <= line.chars().count() + 1, "{}: {problem:?}", file.name);
        assert!(problem.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{}: {problem:?}", file.name);
    }
    errors
}

fn line_of<'f>(file: &'f Real, problem: &Problem) -> &'f str {
    file.text.lines().nth(problem.line as usize - 1).unwrap_or_default()
}

/// Whether `shown` is `line`, or its key where the value may be a secret.
fn is_shown(line: &str, shown: &str) -> bool {
    line == shown || (line.starts_with(shown) && (shown.is_empty() || shown.ends_with([':', '='])))
}

/// A file that is YAML is refused only for one of the reasons that the corpus names.
fn is_expected(file: &Real, problem: &Problem) -> bool {
    let top = |key: &str| {
        file.text.lines().any(|line| {
            line.trim_end_matches(' ').starts_with(&format!("{key}:"))
                || line.starts_with(&format!("{key} :"))
        })
    };
    match problem.code.as_str() {
        // `image` or `name` is missing: it must really not be there.
        "missing-key" => {
            ["image", "name"].iter().any(|key| problem.message.contains(&format!("`{key}`")) && !top(key))
        }
        // An unfilled placeholder: the line has brackets around a name.
        "placeholder" => line_of(file, problem).contains(['{', '<']),
        // `export` as a list.
        "wrong-type" => problem.path == "export",
        // Invented keys at the top of the file.
        "unknown-key" => !problem.path.contains('.') && problem.column == 1,
        _ => false,
    }
}

#[test]
fn run_files_are_accepted_or_really_broken() {
    let Some(files) = corpus("run") else { return };
    let mut accepted = 0;
    for file in &files {
        let errors = errors(file);
        // One expected reason is enough: a file that is a template may have more wrong with it.
        if errors.is_empty() {
            accepted += 1;
        } else {
            assert!(errors.iter().any(|e| is_expected(file, e)), "{} is refused for {errors:#?}", file.name);
        }
    }
    assert!(accepted * 10 > files.len() * 8, "only {accepted} of {} files are accepted", files.len());
}

#[test]
fn files_with_placeholders_are_refused() {
    let Some(files) = corpus("run") else { return };
    for file in &files {
        let unfilled = file.text.lines().position(|line| {
            let value = line.split_once(": ").map_or("", |(_, value)| value.trim());
            value.starts_with('{') && value.ends_with('}') && !value.contains(':')
        });
        if let Some(line) = unfilled {
            let errors = errors(file);
            let named = errors.iter().any(|e| e.code == "placeholder" && e.line as usize == line + 1);
            assert!(named, "{}: line {} is a placeholder: {errors:#?}", file.name, line + 1);
        }
    }
}

#[test]
fn what_is_accepted_prints_and_reads_back_without_warnings_of_old_spellings() {
    let Some(files) = corpus("run") else { return };
    for file in &files {
        let Some(spec) = read(file.text.as_bytes(), ReadOptions::default()).spec else { continue };
        let text = print(&spec);
        let again = read(text.as_bytes(), ReadOptions::default());
        assert_eq!(again.spec.as_ref(), Some(&spec), "{}\n{text}\n{:#?}", file.name, again.problems);
        let old = again.problems.iter().find(|p| p.code.starts_with("old-") || p.code == "jupyter-slip");
        assert!(old.is_none(), "{}: {old:?}", file.name);
        assert_eq!(print(&spec), text, "printing is stable");
    }
}

#[test]
fn unparsable_files_say_where() {
    let Some(files) = corpus("run-unparsable") else { return };
    for file in &files {
        let errors = errors(file);
        assert!(!errors.is_empty(), "{} is accepted", file.name);
        let what = &errors[0];
        assert!(what.line >= 1 && what.column >= 1, "{}: {what:?}", file.name);
        if file.text.contains("{{") {
            let named = errors.iter().any(|e| matches!(e.code.as_str(), "placeholder" | "service-file"));
            assert!(named, "{}: {errors:#?}", file.name);
        }
    }
}

fn check_sibling(folder: &str, code: &str) {
    let Some(files) = corpus(folder) else { return };
    for file in &files {
        let errors = errors(file);
        assert_eq!(errors.len(), 1, "{}: {errors:#?}", file.name);
        assert_eq!(errors[0].code, code, "{}", file.name);
        assert!(errors[0].message.contains("it is not a run"), "{:?}", errors[0].message);
    }
}

#[test]
fn services_are_recognised() {
    check_sibling("service", "service-file");
}

#[test]
fn pipelines_are_recognised() {
    check_sibling("pipeline", "pipeline-file");
}

#[test]
fn fragments_are_refused() {
    let Some(files) = corpus("fragment") else { return };
    for file in &files {
        let errors = errors(file);
        assert!(
            errors.iter().any(|e| e.code == "missing-key" && e.message.contains("`name`")),
            "{}",
            file.name
        );
    }
}
