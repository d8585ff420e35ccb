//! What a reading says about files that are wrong: every code has a small file that has it.
use std::collections::BTreeSet;
use std::fmt::Write;

use vessl_core::spec::{self, Read, ReadOptions, codes};
use vessl_core::wire::{Level, in_words};

use crate::support::{brief, read};

/// Bodies beside a name and an image, by the code that they show.
pub(crate) const BODIES: &[(&str, &str)] = &[
    ("tab", "resources:\n\tpreset: a\n\tspot: true"),
    ("syntax", "run:\n  - command: echo a: b"),
    ("syntax", "run: echo a: b"),
    ("syntax", "description: a\n  tags: b"),
    ("syntax", "tags: [a, b\nrun: c"),
    ("syntax", "description: \"a"),
    ("syntax", "description: \"a\nrun: b"),
    ("syntax", "run:\n  - 'a\n    b\n  - c"),
    ("syntax", "description:a"),
    ("syntax", "env:\n  A: 1\n B: 2"),
    ("syntax", "env:\n  A: @b"),
    ("placeholder", "env: {A: {NAME}}"),
    ("placeholder", "env: {A: {{ name }}}"),
    ("placeholder", "description: <<NAME>>"),
    ("placeholder", "resources: {cluster: <YOUR_CLUSTER>}"),
    ("placeholder", "import: {/a: 'vessl-dataset://{organization}/b'}"),
    ("placeholder", "import:\n  /a: vessl-dataset://{organization}/b"),
    ("placeholder", "{{ more }}"),
    ("unknown-alias", "run: *a"),
    ("unknown-alias", "run:\n- *.py"),
    ("recursive-alias", "env: &e\n  A: *e"),
    ("bad-merge", "env:\n  <<: a"),
    ("unknown-tag", "env:\n  A: !secret b"),
    ("many-documents", "---\nname: y"),
    ("duplicate-key", "env:\n  A: 1\n  B: 2\n  A: 3"),
    ("bad-key", "env: {[a]: b}"),
    ("unknown-key", "imports:\n  /a: s3://b"),
    ("unknown-key", "workdir: /a"),
    ("unknown-key", "resources: {zzz: 1}"),
    ("unknown-key", "run:\n- echo a: b"),
    ("unknown-key", "import: {/a: {git: {url: h.com/x/y, branch: main}}}"),
    ("unknown-key", "run: [{command: a, workDir: /b}]"),
    ("unknown-key", "mount: {/a: {nfs: {server: s, path: /p}, read_only: true}}"),
    ("unknown-key", "import: {/a: {dataset: {organization_name: o, dataset_name: d, readonly: true}}}"),
    ("missing-key", "import: {/a: {git: {ref: main}}}"),
    ("missing-key", "import: {/a: vessl-model://o/r}"),
    ("missing-key", "import: {/a: {}}"),
    ("missing-key", "run: [{workdir: /a}]"),
    ("missing-key", "ports: [{name: web}]"),
    ("missing-key", "env: {A: {secret: false}}"),
    ("missing-key", "resources: {requests: {nvidia.com/gpu: {device_type: T4}}}"),
    ("missing-key", "resources: {preset: ''}"),
    ("wrong-type", "export: [a]"),
    ("wrong-type", "env: [{name: A, value: b}]"),
    ("wrong-type", "env: {A: [b]}"),
    ("wrong-type", "tags: a"),
    ("wrong-type", "run: {command: a}"),
    ("wrong-type", "resources: {spot: maybe}"),
    ("wrong-type", "interactive: true"),
    ("bad-value", "ports: [{port: 1, type: sctp}]"),
    ("bad-value", "env: {A: {source: file}}"),
    ("bad-value", "import: {/a: {git: {url: h.com/x/y, ref: --upload-pack=z}}}"),
    ("bad-amount", "ports: [0]"),
    ("bad-amount", "ports: [65536]"),
    ("bad-amount", "ports: ['80:80']"),
    ("bad-amount", "resources: {requests: {cpu: many}}"),
    ("bad-amount", "resources: {requests: {cpu: 0}}"),
    ("bad-amount", "resources: {requests: {memory: 16GB}}"),
    ("bad-amount", "resources: {requests: {nvidia.com/gpu: {quantity: 0}}}"),
    ("bad-amount", "resources: {requests: {nvidia.com/gpu: {quantity: 1.5}}}"),
    ("bad-amount", "resources: {accelerators: 'T4:none'}"),
    ("bad-amount", "run: [{wait: 10}]"),
    ("bad-amount", "interactive: {max_runtime: forever}"),
    ("conflict", "import: {/a: {s3: {bucket: b}, gs: {bucket: b}}}"),
    ("conflict", "mount: {/a: {nfs: {server: s, path: /p, readonly: true}, readonly: false}}"),
    ("conflict", "resources: {cpu: 1, requests: {cpu: 2}}"),
    ("conflict", "interactive: {runtime: 1h, max_runtime: 2h}"),
    ("conflict", "interactive: {idle_timeout: 1h, jupyter: {idle_timeout: 2h}}"),
    ("conflict", "env: {A: {value: x, secret: NAME}}"),
    ("conflict", "env: {A: {source: secret, value: x}}"),
    ("conflict", "env: {A: {source: inject, value: x}}"),
    ("conflict", "export: {/a: {artifact: {name: a, artifact_name: b}}}"),
    ("bad-path", "import: {a: s3://b}"),
    ("bad-path", "import: {/a/../b: s3://b}"),
    ("bad-path", "mount: {/proc/x: hostpath:///a}"),
    ("bad-path", "export: {/: vessl-artifact://}"),
    ("bad-path", "mount: {/a: hostpath:///a/../b}"),
    ("duplicate-path", "import: {/a: s3://b, /a/: s3://c}"),
    ("duplicate-path", "import: {/a: s3://b}\nmount: {/a/: hostpath:///c}"),
    ("unknown-scheme", "import: {/a: dataset://o/d}"),
    ("unknown-scheme", "import: {/a: https://github.com/x/y}"),
    ("unknown-scheme", "import: {/a: 'git@github.com:x/y'}"),
    ("unknown-scheme", "import: {/code: 'file:///x'}"),
    ("unknown-scheme", "import: {/data: ./data}"),
    ("unknown-scheme", "mount: {/data: /srv/data}"),
    ("unknown-scheme", "mount: {/data: 'file:///srv/data'}"),
    ("unknown-scheme", "export: {/a: /b}"),
    ("wrong-section", "import: {/a: hostpath:///b}"),
    ("wrong-section", "export: {/a: {git: {url: h.com/x/y}}}"),
    ("bad-source", "import: {/a: vessl-dataset://o}"),
    ("bad-source", "import: {/a: git://github.com}"),
    ("bad-source", "import: {/a: hf://name}"),
    ("bad-source", "import: {/a: vessl-model://o/r/latest}"),
    ("bad-source", "import: {/a: vessl-model://o/r/0}"),
    ("bad-source", "export: {/a: vessl-model://o/r/3}"),
    ("bad-source", "import: {/a: s3://}"),
    ("bad-source", "mount: {/a: 'nfs://10.0.0.1:/export'}"),
    ("secret-in-url", "import: {/a: {git: {url: 'https://user:pass@github.com/x/y'}}}"),
    ("bad-env-name", "env: {'': a, 'B=C': d}"),
    ("control-character", "env: {A: \"a\\0b\"}"),
    ("dataset-readonly", "mount: {/a: {dataset: {organization_name: o, dataset_name: d}, readonly: false}}"),
    ("duplicate-port", "ports: [80, 80]"),
    ("implicit-port", "interactive:\nports: [8888]"),
    ("jupyter-slip", "interactive:\n  max_runtime: 24h\n  jupyter:\n  idle_timeout: 120m"),
    ("no-name", "export: {/a: vessl-artifact://b}"),
    ("white-space", "import: {/a: 's3:// b'}"),
    ("short-form", "import: {/a: {git: h.com/x/y}}"),
    ("empty-variable", "env:\n  A:\n  B: ~\n  C: null\n  D: {value: }\n  E: ''"),
    ("unseen-failure", "run:\n  - |\n    pip install x\n    python t.py | tee log"),
    ("old-volumes", "volumes: {/a: git://h.com/x/y, /b: {artifact: true}}"),
    ("old-resources", "resources: {accelerators: 'T4:1', cpu: 1}"),
    ("old-interactive", "interactive: {runtime: 24h, ports: [80]}"),
];

/// Whole files.
const FILES: &[(&str, &str)] = &[
    ("empty", ""),
    ("empty", "# only a note\n"),
    ("control-character", "name: a\u{1}b\n"),
    ("control-character", "name: a\0b\n"),
    ("placeholder", "{{ run }}\n"),
    ("not-a-run", "- name: x\n"),
    ("not-a-run", "just text\n"),
    ("service-file", "name: x\nimage: i\nservice: {expose: 80}\n"),
    ("pipeline-file", "api_version: v1\nsteps: []\n"),
    ("missing-key", "image: i\n"),
    ("missing-key", "name: x\n"),
    ("missing-key", "name: \nimage: {credential_name: c}\n"),
    ("bad-value", "name: x\nimage: ftp://a\n"),
    ("bad-value", "name: x\nimage: oci://relative\n"),
    ("bad-value", "name: x\nimage: host:/\n"),
    ("bad-value", "name: x\nimage: host\n"),
    ("bad-value", "name: x\nimage: {url: localhost}\n"),
    ("bad-value", "name: x\nimage: 'python:'\n"),
    ("bad-value", "name: x\nimage: Team/x:1\n"),
    ("bad-value", "name: x\nimage: python@sha256:123\n"),
    ("bad-value", "name: x\nimage: '{IMAGE}'\n"),
    ("bad-value", "name: ' '\nimage: i\n"),
];

/// Every case: its code and its bytes.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let bodies =
        BODIES.iter().map(|(code, body)| (*code, format!("name: x\nimage: i\n{body}\n").into_bytes()));
    let files = FILES.iter().map(|(code, text)| (*code, text.as_bytes().to_vec()));
    let made = [
        ("too-large", vec![b'#'; (1 << 20) + 1]),
        ("not-utf8", b"name: x\nimage: caf\xe9\n".to_vec()),
        ("too-deep", format!("name: x\ntags: {}{}\n", "[".repeat(65), "]".repeat(65)).into_bytes()),
        ("too-many-nodes", format!("name: x\ntags:\n{}", "- a\n".repeat(100_001)).into_bytes()),
        ("too-many-problems", format!("name: x\nimage: i\nports:\n{}", "- 0\n".repeat(300)).into_bytes()),
    ];
    bodies.chain(files).chain(made).collect()
}

fn rendered(read: &Read) -> String {
    let mut out = String::new();
    for problem in &read.problems {
        let level = if problem.level == Level::Error { "error" } else { "warning" };
        let (code, place) = (&problem.code, format!("{}:{}", problem.line, problem.column));
        writeln!(out, "  {level}[{code}] {place} `{}`: {}", problem.path, problem.message)
            .expect("text grows");
        writeln!(out, "    | {}", problem.source).expect("text grows");
        writeln!(out, "    = {}", problem.hint.as_deref().unwrap_or_default()).expect("text grows");
    }
    out
}

/// The whole of what is said, file by file, as people see it. Read the snapshot as a page of help.
#[test]
fn what_is_said() {
    let mut page = String::new();
    for (code, text) in cases() {
        let read = spec::read(&text, ReadOptions::default());
        let found = read.problems.iter().any(|problem| problem.code == code);
        assert!(found, "no `{code}` in\n{}\n{:#?}", String::from_utf8_lossy(&text), read.problems);
        if read.problems.len() < 10 {
            let shown: String = String::from_utf8_lossy(&text).chars().take(200).collect();
            writeln!(page, "{code}: {shown:?}\n{}", rendered(&read)).expect("text grows");
        }
    }
    insta::assert_snapshot!(page);
}

#[test]
fn every_code_has_a_case() {
    // What cannot be read has no text.
    let unreadable = spec::unreadable(String::new()).code;
    let shown = cases().into_iter().map(|(code, _)| code).chain([&*unreadable]).collect::<BTreeSet<_>>();
    let known: BTreeSet<_> = codes().iter().map(|info| info.code).collect();
    assert_eq!(shown, known);
    assert_eq!(known.len(), codes().len(), "codes are unique");
    for info in codes() {
        assert!(info.meaning.ends_with('.') && info.remedy.ends_with('.'), "{info:?}");
    }
}

#[test]
fn every_problem_has_a_place_a_line_and_a_hint() {
    for (code, text) in cases() {
        let read = spec::read(&text, ReadOptions::default());
        let readable = String::from_utf8_lossy(&text);
        for problem in &read.problems {
            let line = readable.lines().nth(problem.line as usize - 1).unwrap_or_default();
            assert!(
                problem.column >= 1 && problem.column as usize <= line.chars().count() + 1,
                "{code}: {problem:?}"
            );
            assert!(problem.hint.as_deref().is_some_and(|hint| !hint.is_empty()), "{code}: {problem:?}");
            let clean = !problem.message.ends_with('.') && !problem.message.contains('\n');
            assert!(clean, "{code}: {problem:?}");
        }
        let errors = read.problems.iter().any(|problem| problem.level == Level::Error);
        assert_eq!(read.spec.is_none(), errors, "{code}: a run or an error");
    }
}

#[test]
fn all_problems_of_a_file_at_once() {
    let text = "name: x\nimge: i\nresources:\n  cpus: 1\n  requests: {memory: 1GB}\nimport:\n  a: s3://b\n  /c: d\nrun:\n- comand: e\nports: [70000]\nenv:\n  A: {NAME}\n  A: 2\n";
    let expected = [
        "error 1:1 missing-key",
        "error 2:1 unknown-key",
        "error 4:3 unknown-key",
        "error 5:22 bad-amount",
        "error 7:3 bad-path",
        "error 8:7 unknown-scheme",
        "error 10:3 unknown-key",
        "error 11:9 bad-amount",
        "error 13:6 placeholder",
        "error 14:3 duplicate-key",
    ];
    assert_eq!(brief(&read(text)), expected);
}

/// A body of which nothing but these unfilled placeholders is said.
fn check_placeholders(body: &str, columns: &[u32]) {
    let expected: Vec<_> = columns.iter().map(|column| format!("error 3:{column} placeholder")).collect();
    assert_eq!(brief(&read(&format!("name: x\nimage: i\n{body}\n"))), expected, "{body}");
}

#[test]
fn placeholders_are_known_beside_each_other_and_said_once() {
    check_placeholders("resources: {cluster: {CLUSTER}, preset: {{preset}}}", &[22, 41]);
    check_placeholders("import: {/a: {PATH}, /b: {{ x }}}", &[14, 26]);
    check_placeholders("import: {/a: {{ x }}, /b: {PATH}}", &[14, 27]);
    check_placeholders("env: {A: {B}, G: {{ h }}}", &[10, 18]);
    check_placeholders("run: [{command: {CMD}}]", &[17]);
    check_placeholders("run: [{command: {CMD}, wait: {WAIT}}]", &[17, 30]);
    let quoted = read("name: x\nimage: i\nenv: {A: {B}, G: '{{ h }}'}\n");
    assert_eq!(brief(&quoted), ["error 3:10 placeholder", "warning 3:18 placeholder"]);
}

/// An unknown key of a file that is otherwise good: where it stands and what it should be.
fn check_nearest(body: &str, place: (u32, u32), hint: &str) {
    let read = read(&format!("name: x\nimage: i\n{body}\n"));
    let [problem] = read.problems.as_slice() else { panic!("{body}: {:#?}", read.problems) };
    assert_eq!(
        (problem.code.as_str(), problem.line, problem.column),
        ("unknown-key", place.0, place.1),
        "{body}"
    );
    assert_eq!(problem.hint.as_deref(), Some(hint), "{body}");
}

#[test]
fn the_nearest_key_is_suggested() {
    check_nearest("descripton: a", (3, 1), "did you mean `description`?");
    check_nearest("Tags: [a]", (3, 1), "did you mean `tags`?");
    check_nearest("resource: {}", (3, 1), "did you mean `resources`?");
    check_nearest("environment: {}", (3, 1), "did you mean `env`?");
    check_nearest("resources: {node-names: [a]}", (3, 13), "did you mean `node_names`?");
    check_nearest("resources: {requests: {gpu: 1}}", (3, 24), "did you mean `nvidia.com/gpu`?");
    check_nearest("run: [{command: a, work_dir: /b}]", (3, 20), "did you mean `workdir`?");
    check_nearest(
        "max_runtime: 24h",
        (3, 1),
        "a time limit is given at the submit: `vessl run create --max-runtime 24h`; under `interactive`, `max_runtime` is that of a session",
    );
    check_nearest("preset: a", (3, 1), "`preset` belongs under `resources`");
    check_nearest("command: a", (3, 1), "`command` belongs in an item of `run`");
    check_nearest(
        "retries: 3",
        (3, 1),
        "how often a run is tried again is said at submit: `vessl run create --retries N`",
    );
}

#[test]
fn lenient_reading_only_warns_of_unknown_keys() {
    let text = "name: x\nimage: i\nzzz: 1\nrun:\n- {command: a, zzz: 2}\n";
    assert_eq!(brief(&read(text)), ["error 3:1 unknown-key", "error 5:16 unknown-key"]);
    let lenient = spec::read(text.as_bytes(), ReadOptions { lenient: true, ..ReadOptions::default() });
    assert_eq!(brief(&lenient), ["warning 3:1 unknown-key", "warning 5:16 unknown-key"]);
    let without = "name: x\nimage: i\nrun:\n- {command: a}\n";
    assert_eq!(lenient.spec, read(without).spec);
    let other = spec::read(
        b"name: x\nimage: i\nports: [0]\n",
        ReadOptions { lenient: true, ..ReadOptions::default() },
    );
    assert_eq!(brief(&other), ["error 3:9 bad-amount"]);
}

#[test]
fn a_long_list_of_problems_keeps_its_errors() {
    let many = read(&format!("name: x\nimage: i\nports: [{}]\n", "80, ".repeat(500)));
    assert!(many.spec.is_some() && many.problems.len() == 200, "{}", many.problems.len());
    let last = read(&format!("name: x\nimage: i\nports: [{}0]\n", "80, ".repeat(500)));
    assert!(last.spec.is_none());
    assert_eq!(last.problems.iter().filter(|p| p.code == "bad-amount").count(), 1);
}

#[test]
fn a_shown_line_has_no_password() {
    let read = read("name: x\nimage: i\nimport:\n  /a: {git: {url: 'https://me:hunter2@github.com/x/y'}}\n");
    let said = format!("{:?}", read.problems);
    assert!(said.contains("secret-in-url") && !said.contains("hunter2"), "{said}");
}

#[test]
fn columns_are_of_the_file_as_written() {
    assert_eq!(
        brief(&read("name: x\nimage: i\nenv:\n\tA: [1]\n")),
        ["warning 4:1 tab", "error 4:5 wrong-type"]
    );
    assert_eq!(brief(&read("\u{feff}naam: x\nimage: i\nname: y\n")), ["error 1:1 unknown-key"]);
    assert_eq!(brief(&read("name: x\r\nimage: i\r\ntags: a\r\n")), ["error 3:7 wrong-type"]);
    assert_eq!(brief(&read("name: x\nimage: i\nenv: {\"é한😀\": [1]}\n")), ["error 3:14 wrong-type"]);
}

#[test]
fn warnings_are_counted_apart() {
    let check = |text: &str, expected: &str| {
        assert_eq!(in_words(&read(text).problems), format!("the run file has {expected}"), "{text}");
    };
    check("name: x\n", "a problem");
    check("name: x\nimage: i\nports: [70000, 70001]\n", "2 problems");
    check("name: x\nimage: i\nports: [70000]\nenv:\n\tA: b\n", "a problem and a warning");
    check(
        "name: x\nimage: i\nports: [70000]\ninteractive: {runtime: 1h}\nenv:\n\tA: b\n",
        "a problem and 2 warnings",
    );
}
