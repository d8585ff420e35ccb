//! What two runs differ in, field by field. It knows no commands.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};
use vessl_core::record::Transfer;
use vessl_core::spec::{self, EnvValue, ReadOptions, Spec};
use vessl_core::wire::{AttemptUsed, RunView};

use super::format::clean;
use super::provenance::{image, variable, version};
use super::runs::Column;

/// The parts of a run, in the order in which they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    /// Fields of the run file.
    File,
    /// Settings of the submit.
    Settings,
    /// Image, code and data.
    Used,
    /// The environment.
    Variables,
    /// What it got.
    Resources,
    /// Where it was.
    Node,
    /// What became of it.
    Result,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    of: Part,
    what: String,
    /// Of the one and of the other.
    values: [Option<String>; 2],
}

/// What two runs differ in.
#[derive(Debug)]
pub(crate) struct Differences {
    runs: [RunView; 2],
    found: Vec<Difference>,
}

type Fields = BTreeMap<String, String>;

impl Differences {
    /// Compares two runs that came with their provenance.
    pub(crate) fn of(runs: [RunView; 2]) -> Self {
        let variables = between(Part::Variables, [0, 1].map(|n| variables_of(&runs[n])));
        let names: Vec<String> = variables.iter().map(|one| format!("env.{}", one.what)).collect();
        let mut file =
            between(Part::File, [0, 1].map(|n| fields(runs[n].yaml.as_deref().unwrap_or_default())));
        // What a variable came to is said with the variables.
        file.retain(|one| !names.contains(&one.what));
        let cells =
            |of: Part, names: &'static [&'static str]| between(of, [0, 1].map(|n| row(&runs[n], names)));
        let mut result = cells(Part::Result, &["status", "exit_code", "reason_code", "time"]);
        result.extend(between(Part::Result, [0, 1].map(|n| exports(&runs[n]))));
        let found = [
            file,
            between(Part::Settings, [0, 1].map(|n| settings(&runs[n]))),
            between(Part::Used, [0, 1].map(|n| used(&runs[n]))),
            variables,
            cells(Part::Resources, &["cluster", "preset", "cpu", "memory", "gpu"]),
            between(Part::Node, [0, 1].map(|n| node(&runs[n]))),
            result,
        ];
        Self { found: found.concat(), runs }
    }

    /// Whether they used the same and ended alike; how long they took is left out.
    pub(crate) fn is_none(&self) -> bool {
        self.found.iter().all(|one| one.what == "time")
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (sign, run) in ["-", "+"].into_iter().zip(&self.runs) {
            let _ = writeln!(text, "{sign} run {} `{}`", run.id.0, clean(&run.name));
        }
        let mut part = None;
        for one in &self.found {
            if part != Some(one.of) {
                let _ = writeln!(text, "\n{}", word(one.of));
                part = Some(one.of);
            }
            let _ = writeln!(text, "  {}", clean(&one.what));
            let lines =
                [0, 1].map(|n| one.values[n].as_deref().unwrap_or_default().lines().collect::<Vec<_>>());
            let (above, below) = same(&lines);
            for (sign, lines) in ["-", "+"].into_iter().zip(&lines) {
                for line in &lines[above..lines.len() - below] {
                    let _ = writeln!(text, "    {sign} {}", clean(line));
                }
            }
        }
        text
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let run = |run: &RunView| json!({ "id": run.id, "name": run.name, "status": run.status });
        json!({ "runs": self.runs.iter().map(run).collect::<Vec<_>>(), "differs": self.found })
    }
}

fn word(part: Part) -> &'static str {
    match part {
        Part::File => "file",
        Part::Settings => "settings",
        Part::Used => "used",
        Part::Variables => "variables",
        Part::Resources => "resources",
        Part::Node => "node",
        Part::Result => "result",
    }
}

/// How many lines are the same at the begin and at the end of two texts.
fn same(lines: &[Vec<&str>; 2]) -> (usize, usize) {
    let [one, two] = lines;
    let above = one.iter().zip(two).take_while(|(one, two)| one == two).count();
    let rest = one.len().min(two.len()) - above;
    let below = one.iter().rev().zip(two.iter().rev()).take(rest).take_while(|(one, two)| one == two).count();
    (above, below)
}

fn between(of: Part, [one, two]: [Fields; 2]) -> Vec<Difference> {
    let keys: BTreeSet<&String> = one.keys().chain(two.keys()).collect();
    let differing = keys.into_iter().filter(|key| one.get(*key) != two.get(*key));
    let difference = |key: &String| Difference {
        of,
        what: key.clone(),
        values: [one.get(key).cloned(), two.get(key).cloned()],
    };
    differing.map(difference).collect()
}

/// Every field of a run file by its path. A file of another version is one field.
fn fields(yaml: &str) -> Fields {
    let mut found = Fields::new();
    let Some(spec) = spec::read(yaml.as_bytes(), ReadOptions::default()).spec else {
        found.insert("file".to_owned(), yaml.to_owned());
        return found;
    };
    let mut value = serde_json::to_value(&spec).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.remove("env");
    }
    flatten("", &value, &mut found);
    found.extend(amounts(&spec));
    for (key, value) in &spec.env {
        let text = match value {
            EnvValue::Text(text) => text.clone(),
            EnvValue::Secret(name) => format!("(secret `{name}`)"),
            EnvValue::Masked(_) | EnvValue::InjectSecret => "(secret, given at submit)".to_owned(),
            EnvValue::Inject => "(given at submit)".to_owned(),
        };
        found.insert(format!("env.{key}"), text);
    }
    found
}

/// Amounts and times, as a file writes them.
fn amounts(spec: &Spec) -> Fields {
    let mut found = Fields::new();
    let requests = spec.resources.requests.clone().unwrap_or_default();
    found.extend(requests.cpu.map(|cpu| ("resources.requests.cpu".to_owned(), cpu.to_string())));
    for (name, bytes) in [("memory", requests.memory), ("disk", requests.disk)] {
        found.extend(bytes.map(|bytes| (format!("resources.requests.{name}"), bytes.to_string())));
    }
    for (index, item) in spec.run.iter().enumerate() {
        found.extend(item.wait.map(|wait| (format!("run[{index}].wait"), wait.to_string())));
    }
    found
}

fn flatten(path: &str, value: &Value, found: &mut Fields) {
    match value {
        Value::Null => {}
        Value::Object(map) => {
            for (key, value) in map {
                // In a file the source of a mount stands at its path.
                let is_source = key == "source" && path.starts_with("mount.");
                let below = match path {
                    "" => key.clone(),
                    path if is_source => path.to_owned(),
                    path => format!("{path}.{key}"),
                };
                flatten(&below, value, found);
            }
        }
        Value::Array(list) => {
            for (index, value) in list.iter().enumerate() {
                flatten(&format!("{path}[{index}]"), value, found);
            }
        }
        Value::String(text) => {
            found.insert(path.to_owned(), text.clone());
        }
        other => {
            found.insert(path.to_owned(), other.to_string());
        }
    }
}

fn row(run: &RunView, names: &'static [&'static str]) -> Fields {
    let cells = names.iter().map(|name| ((*name).to_owned(), Column::Known(name).cell(run)));
    cells.filter(|(_, cell)| !cell.is_empty()).collect()
}

fn settings(run: &RunView) -> Fields {
    let mut found = Fields::from([("retries".to_owned(), run.retries.to_string())]);
    if let Some(provenance) = &run.provenance {
        found.insert("strict".to_owned(), provenance.strict.to_string());
        found.extend(provenance.max_runtime.clone().map(|limit| ("max_runtime".to_owned(), limit)));
    }
    found
}

/// The attempt that is compared.
fn last(run: &RunView) -> Option<&AttemptUsed> {
    run.provenance.as_ref()?.attempts.last()
}

fn used(run: &RunView) -> Fields {
    let Some(attempt) = last(run) else { return Fields::new() };
    let image = match &attempt.image.digest {
        Some(digest) => digest.clone(),
        None => format!("{}, {}", attempt.image.reference, image(attempt)),
    };
    let sources = attempt.sources.iter().map(|source| {
        let section = if source.mounted { "mount" } else { "import" };
        (format!("{section}.{}", source.path), version(source))
    });
    sources.chain([("image".to_owned(), image)]).collect()
}

fn variables_of(run: &RunView) -> Fields {
    let env = run.provenance.iter().flat_map(|provenance| &provenance.env);
    env.map(|(key, used)| (key.clone(), variable(used))).collect()
}

fn node(run: &RunView) -> Fields {
    let mut found = row(run, &["node"]);
    let gpus = last(run).map(|attempt| attempt.gpus.iter().map(u32::to_string).collect::<Vec<_>>());
    if let Some(gpus) = gpus.filter(|gpus| !gpus.is_empty()) {
        found.insert("gpus".to_owned(), gpus.join(", "));
    }
    found
}

/// What came out: the same bytes have the same hash.
fn exports(run: &RunView) -> Fields {
    let result = |transfer: &Transfer| match (&transfer.error, &transfer.version) {
        (Some(error), _) => format!("failed: {error}"),
        (None, Some(version)) => format!("manifest {version}"),
        (None, None) => "nothing".to_owned(),
    };
    run.exports.iter().map(|export| (format!("export.{}", export.path), result(export))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(one: &str, two: &str, expected: &[&str]) {
        let head = "name: n\nimage: i\n";
        let found = between(Part::File, [one, two].map(|text| fields(&format!("{head}{text}"))));
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let lines: Vec<String> = found
            .iter()
            .map(|one| format!("{}: {} | {}", one.what, or(&one.values[0]), or(&one.values[1])))
            .collect();
        assert_eq!(lines, expected, "{one} {two}");
    }

    #[test]
    fn fields_are_named_by_their_path() {
        check("run: a", "run: a", &[]);
        check("run: a", "run: b", &["run[0].command: a | b"]);
        check("run: [{command: a, wait: 5s}]", "run: [{command: a, wait: 1m}]", &["run[0].wait: 5s | 1m"]);
        check("run: [a]", "run: [a, b]", &["run[1].command: - | b"]);
        check(
            "run: a\nimport: {/c: {git: {url: h.com/x/y, ref: main}}}",
            "run: a\nimport: {/c: {git: {url: h.com/x/y}}}\ntags: [t]",
            &["import./c.git.ref: main | -", "tags[0]: - | t"],
        );
        check(
            "run: a\nmount: {/d: 'hostpath:///x'}",
            "run: a\nmount: {/d: 'hostpath:///y'}",
            &["mount./d.hostpath.path: /x | /y"],
        );
        check(
            "run: a\nenv: {A: x, S: {secret: t}}\nresources: {requests: {cpu: 2}}",
            "run: a\nenv: {A: y, S: {value: hunter2, secret: true}}\nresources: {requests: {cpu: 4}}",
            &[
                "env.A: x | y",
                "env.S: (secret `t`) | (secret, given at submit)",
                "resources.requests.cpu: 2 | 4",
            ],
        );
    }

    #[test]
    fn lines_that_are_the_same_around_a_change_are_left_out() {
        let check = |one: &str, two: &str, expected: (usize, usize)| {
            assert_eq!(same(&[one.lines().collect(), two.lines().collect()]), expected, "{one} {two}");
        };
        check("a\nb\nc", "a\nx\nc", (1, 1));
        check("a", "a\na", (1, 0));
        check("a\nb", "a\nb\nb", (2, 0));
        check("", "a", (0, 0));
    }
}
