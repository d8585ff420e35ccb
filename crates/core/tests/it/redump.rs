//! The hosted product's client sends its own YAML 1.1 dump of a file. It must mean the same run.
use vessl_core::spec::print;

use crate::support::{accepted, corpus, python, read};

const REDUMP: &str = "def each(text): return yaml.dump(yaml.safe_load(text.replace('\\t', '  ')))";

#[test]
fn a_redumped_file_is_the_same_run() {
    let Some(files) = corpus("run") else { return };
    let good: Vec<_> = files.iter().filter_map(|file| Some((file, read(&file.text).spec?))).collect();
    let texts: Vec<_> = good.iter().map(|(file, _)| file.text.as_str()).collect();
    for ((file, spec), dumped) in good.iter().zip(python(REDUMP, &texts)) {
        assert_eq!(accepted(&dumped), *spec, "{}\n{dumped}", file.name);
    }
}

#[test]
fn a_redumped_canonical_text_is_the_same_run() {
    let Some(files) = corpus("run") else { return };
    let specs: Vec<_> = files.iter().filter_map(|file| read(&file.text).spec).collect();
    let texts: Vec<_> = specs.iter().map(print).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    for (spec, dumped) in specs.iter().zip(python(REDUMP, &texts)) {
        assert_eq!(accepted(&dumped), *spec, "{dumped}");
    }
}

/// What a dump by `PyYAML` may contain that people hardly write.
#[test]
fn forms_of_the_dump() {
    let text = "name: &id001 x\nimage: i\nenv:\n  A: *id001\n  B: 1e-4\n  C: \"a\\\n    \\ b\\nc\"\n  D: 'it''s\n\n    two'\n  E: 0o17\n  F: '012'\n  G: 2024-01-01\nrun:\n- command: \"x\\ty\\n\\\n    \\ z\\xE9\\u2028\\U0001F600\"\n";
    let spec = accepted(text);
    let value = |key: &str| format!("{:?}", spec.env[key]);
    assert_eq!(value("A"), "Text(\"x\")");
    assert_eq!(value("B"), "Text(\"1e-4\")");
    assert_eq!(value("C"), "Text(\"a b\\nc\")");
    assert_eq!(value("D"), "Text(\"it's\\ntwo\")");
    assert_eq!(value("E"), "Text(\"0o17\")");
    assert_eq!(value("F"), "Text(\"012\")");
    assert_eq!(value("G"), "Text(\"2024-01-01\")");
    assert_eq!(spec.run[0].command.as_deref(), Some("x\ty\n zé\u{2028}😀"));
}
