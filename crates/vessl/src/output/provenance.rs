//! What runs really used, in words. It knows no commands.
use vessl_core::wire::{AttemptUsed, RunView, SourceUsed, VariableUsed, VersionKind};

use super::Rows;
use super::views::{from, gets};

/// One run with its provenance.
pub(crate) fn rows(run: &RunView) -> Rows {
    let mut rows = vec![
        ("ID", run.id.0.to_string()),
        ("Name", run.name.clone()),
        ("From", run.from.map(from).unwrap_or_default()),
    ];
    let Some(provenance) = &run.provenance else { return rows };
    rows.extend(provenance.attempts.iter().map(|attempt| ("Attempt", attempt_lines(attempt))));
    let variables = provenance.env.iter().map(|(key, used)| match used {
        VariableUsed::Text(text) => format!("{key}={text}"),
        secret => format!("{key}  {}", variable(secret)),
    });
    rows.extend([
        ("Resources", gets(run)),
        ("Strict", if provenance.strict { "yes".to_owned() } else { String::new() }),
        ("Max runtime", provenance.max_runtime.clone().unwrap_or_default()),
        ("Environment", variables.collect::<Vec<_>>().join("\n")),
        ("File", run.yaml.clone().unwrap_or_default()),
    ]);
    rows
}

fn attempt_lines(attempt: &AttemptUsed) -> String {
    let node = attempt.node.as_ref().map(|node| format!(" on `{node}`")).unwrap_or_default();
    let head = format!("{}{node}{}", attempt.attempt, gpus(attempt));
    let image = format!("image  {}  {}", attempt.image.reference, image(attempt));
    let source = |source: &SourceUsed| {
        let asked = source.asked.as_ref().map(|asked| format!(" (`{asked}`)")).unwrap_or_default();
        let how = if source.mounted { "mounted" } else { "imported" };
        format!("{}  {how}  {}{asked}  {}", source.path, source.source, version(source))
    };
    [head, image].into_iter().chain(attempt.sources.iter().map(source)).collect::<Vec<_>>().join("\n")
}

/// The GPUs of an attempt.
fn gpus(attempt: &AttemptUsed) -> String {
    let list: Vec<String> = attempt.gpus.iter().map(u32::to_string).collect();
    if list.is_empty() { String::new() } else { format!(", GPU {}", list.join(", ")) }
}

/// Which image an attempt had.
pub(super) fn image(attempt: &AttemptUsed) -> String {
    match (&attempt.image.digest, attempt.image.live) {
        (Some(digest), _) => digest.clone(),
        (None, true) => "live: as it was at that time".to_owned(),
        (None, false) => "never came".to_owned(),
    }
}

/// Which version of a source an attempt had.
pub(super) fn version(source: &SourceUsed) -> String {
    let known = |what: &str| match (&source.version, &source.error) {
        (_, Some(error)) => format!("did not come: {error}"),
        (None, None) => "never came".to_owned(),
        (Some(version), None) => format!("{what} {version}"),
    };
    match (source.kind, source.number) {
        (VersionKind::Live, _) => "live: as it was at that time".to_owned(),
        (VersionKind::Commit, _) => known("commit"),
        (VersionKind::Picture, _) => known("keys and ETags"),
        (VersionKind::Manifest, Some(number)) => known(&format!("version {number}, manifest")),
        (VersionKind::Manifest, None) => known("manifest"),
    }
}

/// Where the value of a variable is from.
pub(super) fn variable(used: &VariableUsed) -> String {
    match used {
        VariableUsed::Text(text) => text.clone(),
        VariableUsed::Secret(name) => format!("(secret `{name}`)"),
        VariableUsed::Given(run) => format!("(secret value given to run {})", run.0),
    }
}
