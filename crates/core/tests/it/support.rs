//! What the tests share: reading, the folder of real files, Python.
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use vessl_core::ids::{Nonce, RunId};
use vessl_core::plan::{Catalogue, Planned, Stamp, plan};
use vessl_core::secret::Secret;
use vessl_core::spec::{self, Read, ReadOptions, Spec};
use vessl_core::wire::{Level, Problem};

/// Reads a text strictly.
pub(crate) fn read(text: &str) -> Read {
    spec::read(text.as_bytes(), ReadOptions::default())
}

/// The run that a text says, which must be accepted.
pub(crate) fn accepted(text: &str) -> Spec {
    let read = read(text);
    read.spec.unwrap_or_else(|| panic!("refused: {:#?}\n{text}", read.problems))
}

/// `level line:column code` of each problem.
pub(crate) fn brief(read: &Read) -> Vec<String> {
    let level = |level| if level == Level::Error { "error" } else { "warning" };
    read.problems.iter().map(|p| format!("{} {}:{} {}", level(p.level), p.line, p.column, p.code)).collect()
}

/// A real file of the corpus.
pub(crate) struct Real {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// The files of one folder of the corpus; `None`, with a message, where there is no corpus.
pub(crate) fn corpus(folder: &str) -> Option<Vec<Real>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    if !root.is_dir() {
        // Not captured by the test runner, so that it is seen.
        let message = format!("skipped: there is no corpus of real files at {}\n", root.display());
        std::io::stderr().write_all(message.as_bytes()).expect("standard error takes text");
        return None;
    }
    let entries = std::fs::read_dir(root.join(folder)).expect("the corpus has this folder");
    let mut files: Vec<Real> = entries
        .map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Real { name, text: file(&path) }
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!files.is_empty(), "the folder {folder} of the corpus is empty");
    Some(files)
}

/// A text file that must be there.
pub(crate) fn file(path: &Path) -> String {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::io::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a Python program over a list of texts and returns its list of texts. It has `yaml` and `json` and defines
/// `each(text)`.
pub(crate) fn python(each: &str, texts: &[&str]) -> Vec<String> {
    let program = format!(
        "import json, sys, yaml\n{each}\njson.dump([each(text) for text in json.load(sys.stdin)], sys.stdout)\n"
    );
    let mut child = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this test needs python3 with PyYAML (Debian: `apt install python3-yaml`)");
    let input = serde_json::to_vec(texts).expect("texts are JSON");
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("python3 runs to its end");
    writer.join().expect("the writer does not panic").expect("python3 reads all of its input");
    assert!(
        output.status.success(),
        "python3 failed; this test needs PyYAML (Debian: `apt install python3-yaml`)"
    );
    serde_json::from_slice(&output.stdout).expect("python3 printed JSON")
}

/// The plan of a run file on a site.
pub(crate) fn plan_spec(
    spec: &Spec,
    inject: &[(String, Secret)],
    catalogue: &Catalogue,
) -> Result<Planned, Vec<Problem>> {
    plan(
        spec,
        catalogue,
        &Stamp {
            run: RunId(123),
            attempt: 1,
            nonce: Nonce(9),
            instance: "0a1b2c3d",
            inject,
            max_runtime: None,
        },
    )
}
