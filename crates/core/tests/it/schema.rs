//! The JSON Schema of the run file says what the reader does, as far as a schema can say it.
use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use proptest::prelude::*;
use serde_json::{Value, json};
use vessl_core::spec::{print, schema};
use vessl_core::wire::Level;

use crate::strategy::spec;
use crate::support::{corpus, read};
use crate::{problems, yaml};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    jsonschema::options().with_draft(Draft::Draft202012).build(&schema()).expect("the schema is one")
});

/// What the schema says against a file, as an editor would show it.
pub(crate) fn complaints(text: &str) -> Vec<String> {
    let value = yaml::value(text);
    VALIDATOR.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Calls `visit` with every schema in `schema` and its place.
fn walk(schema: &Value, place: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(place, schema);
    match schema {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| walk(value, &format!("{place}/{key}"), visit));
        }
        Value::Array(list) => list.iter().for_each(|value| walk(value, place, visit)),
        _ => {}
    }
}

#[test]
fn it_is_a_schema_of_the_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::meta::is_valid(&schema), "{:?}", jsonschema::meta::validate(&schema));
}

#[test]
fn every_property_has_a_description() {
    let schema = schema();
    let resolve = |property: &Value| {
        let target =
            property["$ref"].as_str().and_then(|target| schema.pointer(target.trim_start_matches('#')));
        [Some(property), target].into_iter().flatten().any(|it| it["description"].is_string())
    };
    let mut properties = 0;
    walk(&schema, "", &mut |place, it| {
        for (key, property) in it["properties"].as_object().into_iter().flatten() {
            properties += 1;
            assert!(resolve(property), "{place}: `{key}` has no description: {property:#}");
        }
    });
    assert!(properties > 80, "only {properties} properties were looked at");
}

#[test]
fn old_spellings_are_deprecated() {
    let mut old = Vec::new();
    walk(&schema(), "", &mut |_, it| {
        let marked = it["properties"].as_object().into_iter().flatten();
        old.extend(marked.filter(|(_, it)| it["deprecated"] == true).map(|(key, _)| key.clone()));
    });
    old.sort();
    old.dedup();
    let expected = [
        "accelerators",
        "cpu",
        "disk",
        "idle_timeout",
        "memory",
        "options",
        "ports",
        "readonly",
        "runtime",
        "volumes",
    ];
    assert_eq!(old, expected);
}

#[test]
fn accepted_files_are_valid() {
    let Some(files) = corpus("run") else { return };
    for file in files.iter().filter(|file| read(&file.text).spec.is_some()) {
        // A repaired tab is no YAML to an editor.
        if !file.text.contains('\t') {
            assert_eq!(complaints(&file.text), [""; 0], "{}", file.name);
        }
    }
}

#[test]
fn files_refused_for_what_a_schema_sees_are_invalid() {
    let Some(files) = corpus("run") else { return };
    let seen = |code: &str| matches!(code, "unknown-key" | "missing-key" | "wrong-type");
    let mut looked_at = 0;
    for file in files {
        let read = read(&file.text);
        let mut errors = read.problems.iter().filter(|p| p.level == Level::Error);
        if errors.any(|p| seen(&p.code)) && !file.text.contains('\t') {
            looked_at += 1;
            assert!(!complaints(&file.text).is_empty(), "{}", file.name);
        }
    }
    assert!(looked_at > 0, "not one file was looked at");
}

/// Bodies that the reader refuses and a schema need not see.
const UNSEEN: [&str; 4] = [
    // `secret: false` is good beside a value.
    "env: {A: {secret: false}}",
    // A dataset and a model have one form in all sections.
    "import: {/a: vessl-model://o/r}",
    "import: {/a: {dataset: {organization_name: o, dataset_name: d, readonly: true}}}",
    // Whether text is more than blanks is not said by a schema that completes names.
    "resources: {preset: ''}",
];

#[test]
fn refused_bodies_are_invalid() {
    for (code, body) in problems::BODIES {
        let text = format!("name: x\nimage: i\n{body}\n");
        if matches!(*code, "unknown-key" | "missing-key" | "wrong-type") && !UNSEEN.contains(body) {
            assert!(!complaints(&text).is_empty(), "`{code}` is not seen in\n{text}");
        }
    }
    for text in ["name: x\n", "image: i\n", "name:\nimage: i\n", "- a\n", "a\n"] {
        assert!(!complaints(text).is_empty(), "{text}");
    }
}

#[test]
fn the_converter_reads_like_an_editor() {
    let text =
        "a: [1, 0.5, 1e-4, true, null, ~, , x, '1', on]\nb: &b {c: d}\ne: {<<: *b, f: *b}\ng: |\n  h\n";
    let expected = json!({
        "a": [1, 0.5, 1e-4, true, null, null, "x", "1", "on"],
        "b": {"c": "d"}, "e": {"c": "d", "f": {"c": "d"}}, "g": "h\n",
    });
    assert_eq!(yaml::value(&text.replace(" , x", " x")), expected);
}

proptest! {
    #[test]
    fn canonical_texts_are_valid(spec in spec()) {
        let text = print(&spec);
        prop_assert_eq!(complaints(&text), [""; 0], "{}", text);
    }
}
