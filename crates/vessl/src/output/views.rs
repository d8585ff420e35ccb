//! How each type of the API looks as a table. It knows no commands.
use jiff::Timestamp;
use vessl_core::jupyter::JupyterState;
use vessl_core::limits::TimeLimit;
use vessl_core::plan::Amounts;
use vessl_core::record::{Phase, Transfer};
use vessl_core::run::Status;
use vessl_core::wire::{
    ArtifactView, AttemptView, CacheEntry, CachePruned, ClusterView, EndView, Explain, FileKind, FileView,
    ImageView, JupyterView, NodeView, PortView, PresetView, Pruned, QueuePlace, RunFrom, RunView, SecretView,
    SshKeyView, VersionView,
};

use super::format::{between, bytes, cores, date, span};
use super::progress::so_far;
use super::table::{Columns, Rows};

/// Columns of `vessl run files`.
pub(crate) const FILES: &Columns<FileView> = &[
    ("EXPORT", |f| f.export.clone()),
    ("PATH", path),
    ("SIZE", |f| if f.kind == FileKind::File { bytes(f.size) } else { String::new() }),
    ("BLAKE3", |f| f.digest.chars().take(16).collect()),
];

pub(super) fn path(file: &FileView) -> String {
    match file.kind {
        FileKind::File => file.path.clone(),
        FileKind::Link => format!("{} -> {}", file.path, file.target.as_deref().unwrap_or_default()),
        FileKind::Directory => format!("{}/", file.path),
    }
}

/// Columns of `vessl artifact list`.
pub(crate) const ARTIFACTS: &Columns<ArtifactView> = &[
    ("NAME", |a| a.name.clone()),
    ("VERSION", |a| newest(a, |v| v.version.to_string())),
    ("FILES", |a| newest(a, |v| v.files.to_string())),
    ("SIZE", |a| newest(a, |v| bytes(v.bytes))),
    ("CREATED", |a| newest(a, |v| date(v.created_at))),
    ("RUN", |a| newest(a, |v| v.run.map(|id| id.0.to_string()).unwrap_or_default())),
];

fn newest(artifact: &ArtifactView, shown: impl FnOnce(&VersionView) -> String) -> String {
    artifact.versions.first().map(shown).unwrap_or_default()
}

/// One artifact with its versions.
pub(crate) fn artifact(artifact: &ArtifactView) -> Rows {
    let versions = artifact.versions.iter().map(|v| {
        let run = v.run.map(|id| format!(", run {}", id.0)).unwrap_or_default();
        let files = if v.files == 1 { "file" } else { "files" };
        format!("{}  {}  {} {files}, {}{run}", v.version, date(v.created_at), v.files, bytes(v.bytes))
    });
    vec![("Name", artifact.name.clone()), ("Versions", versions.collect::<Vec<_>>().join("\n"))]
}

/// Columns of `vessl cluster list`.
pub(crate) const CLUSTERS: &Columns<ClusterView> = &[
    ("NAME", |c| c.name.clone()),
    ("DEFAULT", |c| mark(c.default)),
    ("KIND", |c| c.kind.to_string()),
    ("STATUS", |c| c.status.clone()),
    ("NODES", |c| c.nodes.to_string()),
];

/// Columns of `vessl cluster list-nodes`.
pub(crate) const NODES: &Columns<NodeView> = &[
    ("NAME", |n| n.name.clone()),
    ("CPU", |n| format!("{} of {}", cores(n.cpu_milli_used), cores(n.cpu_milli))),
    ("MEMORY", |n| format!("{} of {}", bytes(n.memory_used), bytes(n.memory))),
    ("GPU", |n| format!("{} of {}", n.gpus_used, n.gpus.len())),
    ("PRODUCTS", |n| n.gpus.join(", ")),
    ("RUNS", |n| n.runs.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ")),
];

/// Columns of `vessl resource list`.
pub(crate) const PRESETS: &Columns<PresetView> = &[
    ("NAME", |p| p.name.clone()),
    ("DEFAULT", |p| mark(p.default)),
    ("CPU", |p| cores(p.amounts.cpu_milli)),
    ("MEMORY", |p| bytes(p.amounts.memory)),
    ("GPU", |p| gpus(&p.amounts)),
];

/// Columns of `vessl image list`.
pub(crate) const IMAGES: &Columns<ImageView> = &[
    ("ID", |i| i.id.clone()),
    ("REFERENCE", |i| i.reference.clone()),
    ("SIZE", |i| bytes(i.size)),
    ("LAYERS", |i| i.layers.to_string()),
    ("PULLED", |i| i.pulled_at.map(date).unwrap_or_default()),
];

/// Columns of `vessl cache list`.
pub(crate) const CACHE: &Columns<CacheEntry> = &[
    ("SOURCE", |e| e.source.clone()),
    ("VERSION", |e| e.version.chars().take(12).collect()),
    ("SIZE", |e| bytes(e.bytes)),
    ("FILES", |e| e.files.to_string()),
    ("USED", |e| date(e.used_at)),
    ("IN USE", |e| if e.in_use { "yes".to_owned() } else { String::new() }),
];

/// Columns of `vessl secret list`.
pub(crate) const SECRETS: &Columns<SecretView> =
    &[("NAME", |s| s.name.clone()), ("CREATED", |s| date(s.created_at))];

/// Columns of `vessl credential list`.
pub(crate) const CREDENTIALS: &Columns<SecretView> = &[
    ("NAME", |s| s.name.clone()),
    ("KIND", |s| s.kind.to_string()),
    ("USER", |s| s.username.clone().unwrap_or_default()),
    ("CREATED", |s| date(s.created_at)),
];

/// Columns of `vessl ssh-key list`.
pub(crate) const SSH_KEYS: &Columns<SshKeyView> = &[
    ("NAME", |k| k.name.clone()),
    ("FINGERPRINT", |k| k.fingerprint.clone()),
    ("USER", |k| k.user.clone()),
    ("ADDED", |k| date(k.created_at)),
];

/// One public key.
pub(crate) fn ssh_key(key: &SshKeyView) -> Rows {
    vec![
        ("Key", key.name.clone()),
        ("Fingerprint", key.fingerprint.clone()),
        ("User", key.user.clone()),
        ("Added", moment(key.created_at)),
    ]
}

/// One run.
pub(crate) fn run(run: &RunView) -> Rows {
    let mut rows = run_head(run);
    rows.extend([
        ("Type", run.kind.to_string()),
        ("Organization", run.organization.clone()),
        ("Project", run.project.clone()),
        ("Node", run.node.clone().unwrap_or_default()),
        ("Memory", memory(run)),
        ("CPU time", cpu_time(run)),
        ("Ends", run.ends.map(ends).unwrap_or_default()),
        ("Ports", ports(run)),
        ("SSH", run.ssh.clone().unwrap_or_default()),
        ("Jupyter", run.jupyter.as_ref().map(jupyter).unwrap_or_default()),
        ("Image", run.image.clone()),
        ("Image digest", run.image_digest.clone().unwrap_or_default()),
        ("Imports", transfers(&run.imports)),
        ("Exports", transfers(&run.exports)),
        ("Kept", kept(run)),
        ("Durations", durations(run)),
        ("Attempts", attempts(run)),
        ("History", history(run)),
        ("Environment", environment(run)),
        ("File", run.yaml.clone().unwrap_or_default()),
    ]);
    rows
}

/// The most it had, beside what it could have.
fn memory(run: &RunView) -> String {
    let peak = run.usage.and_then(|usage| usage.memory_peak);
    peak.map(|peak| format!("peak {}, limit {}", bytes(peak), bytes(run.resources.memory)))
        .unwrap_or_default()
}

/// Processor time, beside what the limit would have allowed in that time.
fn cpu_time(run: &RunView) -> String {
    let spent = run.usage.and_then(|usage| usage.cpu_millis);
    let limit = cores(run.resources.cpu_milli);
    spent.map(|millis| format!("{}, limit {limit} cores", span(millis))).unwrap_or_default()
}

fn ports(run: &RunView) -> String {
    let line = |port: &PortView| {
        let url = port.url.as_deref().unwrap_or(&port.kind);
        let open = port.open.map_or("", |open| if open { "  open" } else { "  nothing listens yet" });
        let public = if port.public && port.kind == "http" { "  public" } else { "" };
        format!("{}  {}  {url}{open}{public}", port.name, port.port)
    };
    run.ports.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// How far its JupyterLab is.
fn jupyter(jupyter: &JupyterView) -> String {
    let state = match jupyter.state {
        JupyterState::Preparing => "preparing",
        JupyterState::Ready => "ready",
        JupyterState::Unavailable => "unavailable",
    };
    if jupyter.why.is_empty() { state.to_owned() } else { format!("{state}: {}", jupyter.why) }
}

/// How long each part of its life took: of the agent's time its phases, before and after them the statuses.
fn durations(run: &RunView) -> String {
    let begin = run.phases.first().map(|change| change.at);
    let before = run.history.iter().filter(|change| begin.is_none_or(|begin| change.at < begin));
    let before = before.filter(|change| !change.status.is_final() && change.status < Status::Initializing);
    let statuses = before.map(|change| (change.status.word().to_owned(), change.at));
    let phases = run.phases.iter().map(|change| (word(change.phase), change.at));
    let parts: Vec<(String, Timestamp)> = statuses.chain(phases).collect();
    let end = run.ended_at.unwrap_or_else(Timestamp::now);
    let ends = parts.iter().skip(1).map(|(_, at)| *at).chain([end]);
    let took = parts.iter().zip(ends).map(|((name, at), end)| format!("{name} {}", between(Some(*at), end)));
    took.collect::<Vec<_>>().join(", ")
}

/// A phase as in JSON.
fn word(phase: Phase) -> String {
    serde_json::to_value(phase).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What is there of a run whose export failed, and what to do with it.
fn kept(run: &RunView) -> String {
    let Some(kept) = &run.kept else { return String::new() };
    let until = kept.until.map_or_else(|| "it is deleted".to_owned(), date);
    format!(
        "its files, until {until}: `vessl run export {} --retry` writes the exports again that failed",
        run.id.0
    )
}

/// The attempts before the current one.
fn attempts(run: &RunView) -> String {
    let one = |past: &AttemptView| {
        let code = past.exit_code.map(|code| format!(" ({code})")).unwrap_or_default();
        let commit = past.commit.as_deref().map(|commit| format!("; commit {commit}")).unwrap_or_default();
        format!(
            "{}  {}  {}{code}  {}{commit}",
            past.attempt,
            date(past.ended_at),
            past.status.word(),
            past.reason
        )
    };
    run.attempts.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn environment(run: &RunView) -> String {
    let pair = |(key, value): (&String, &Option<String>)| match value {
        Some(value) => format!("{key}={value}"),
        None => format!("{key} (secret)"),
    };
    run.env.iter().flatten().map(pair).collect::<Vec<_>>().join("\n")
}

/// The lines about a run that matter right after it was made or ended.
pub(crate) fn run_head(run: &RunView) -> Rows {
    vec![
        ("ID", run.id.0.to_string()),
        ("Name", run.name.clone()),
        ("Description", run.description.clone().unwrap_or_default()),
        ("Tags", run.tags.join(", ")),
        ("From", run.from.map(from).unwrap_or_default()),
        ("Status", run.status.word().to_owned()),
        ("Reason", run.reason.clone()),
        ("No contact since", run.no_contact_since.map(date).unwrap_or_default()),
        ("Exit code", run.exit_code.map(|code| code.to_string()).unwrap_or_default()),
        ("Resources", gets(run)),
        ("Attempt", if run.attempt > 1 { run.attempt.to_string() } else { String::new() }),
        ("Created", date(run.created_at)),
        ("Started", run.started_at.map(date).unwrap_or_default()),
        ("Ended", run.ended_at.map(date).unwrap_or_default()),
    ]
}

/// The run that one was made from.
pub(super) fn from(from: RunFrom) -> String {
    format!("run {}{}", from.run.0, if from.exact { ", exactly" } else { "" })
}

/// What a run gets and where, in one line.
pub(crate) fn gets(run: &RunView) -> String {
    let preset = run.preset.as_ref().map(|preset| format!(" (preset `{preset}`)")).unwrap_or_default();
    format!("{}{preset} on `{}`", amounts(&run.resources), run.cluster)
}

/// Where a run stands, in one line.
pub(crate) fn standing(run: &RunView) -> String {
    match run.reason.as_str() {
        "" => run.status.word().to_owned(),
        reason => format!("{}: {reason}", run.status.word()),
    }
}

/// How a run ended, in one line; the reason is left out if it was just `said`.
pub(crate) fn ending(run: &RunView, said: &str) -> String {
    let time = between(Some(run.created_at), run.ended_at.unwrap_or(run.created_at));
    let mut text = format!("run {} {} after {time}", run.id.0, run.status.word());
    if run.status != Status::Completed && !said.ends_with(&run.reason) {
        text = format!("{text}: {}", run.reason);
    }
    let code = run.exit_code.map(|code| format!("exit code {code}")).filter(|_| run.exit_code != Some(0));
    match code {
        Some(code) if !text.contains(&code) => format!("{text} ({code})"),
        _ => text,
    }
}

/// Why a run is where it is.
pub(crate) fn explain(explain: &Explain) -> Rows {
    vec![
        ("ID", explain.id.0.to_string()),
        ("Status", explain.status.word().to_owned()),
        ("Why", explain.why.clone()),
        ("Next", explain.next.join("\n")),
        ("Queue", explain.queue.map(place).unwrap_or_default()),
        ("Ahead", explain.ahead.join("\n")),
        ("So far", explain.progress.as_ref().map(so_far).unwrap_or_default()),
        ("Ends", explain.ends.map(ends).unwrap_or_default()),
        ("Silent for", explain.silent_millis.map(span).unwrap_or_default()),
        ("Decided", date(explain.decided_at)),
    ]
}

/// When a run is ended by time, and what puts that off.
fn ends(EndView { at, limit }: EndView) -> String {
    let unless = match limit {
        TimeLimit::Runtime => "its time limit; `vessl run extend` gives it more",
        TimeLimit::Idle => "unless somebody uses it",
    };
    format!("{} ({unless})", date(at))
}

/// A run that was given more time.
pub(crate) fn extended(run: &RunView) -> Rows {
    let mut rows = run_head(run);
    rows.push(("Ends", run.ends.map(ends).unwrap_or_default()));
    rows
}

/// A place as people say it.
fn place(QueuePlace { place, of }: QueuePlace) -> String {
    let ending = match (place % 100, place % 10) {
        (n, 1) if n != 11 => "st",
        (n, 2) if n != 12 => "nd",
        (n, 3) if n != 13 => "rd",
        _ => "th",
    };
    format!("{place}{ending} of {of}")
}

/// One cluster.
pub(crate) fn cluster(cluster: &ClusterView) -> Rows {
    CLUSTERS.iter().map(|(name, value)| (*name, value(cluster))).collect()
}

/// One preset.
pub(crate) fn preset(preset: &PresetView) -> Rows {
    PRESETS.iter().map(|(name, value)| (*name, value(preset))).collect()
}

/// One image.
pub(crate) fn image(image: &ImageView) -> Rows {
    let mut rows: Rows = IMAGES.iter().map(|(name, value)| (*name, value(image))).collect();
    rows.push(("DIGEST", image.digest.clone()));
    rows
}

/// What prune freed.
pub(crate) fn pruned(pruned: &Pruned) -> Rows {
    vec![
        ("Images", pruned.images.to_string()),
        ("Layers", pruned.layers.to_string()),
        ("Freed", bytes(pruned.bytes)),
    ]
}

/// What a prune of the cache freed.
pub(crate) fn cache_pruned(pruned: &CachePruned) -> Rows {
    vec![("Removed", pruned.entries.to_string()), ("Freed", bytes(pruned.bytes))]
}

/// One secret or credential.
pub(crate) fn secret(secret: &SecretView) -> Rows {
    let when = |name| if name == "CREATED" && secret.replaced { "REPLACED" } else { name };
    CREDENTIALS.iter().map(|(name, value)| (when(*name), value(secret))).collect()
}

fn amounts(amounts: &Amounts) -> String {
    let mut text = format!("{} CPU, {}", cores(amounts.cpu_milli), bytes(amounts.memory));
    if amounts.gpus > 0 {
        text.push_str(", GPU ");
        text.push_str(&gpus(amounts));
    }
    text
}

pub(super) fn gpus(amounts: &Amounts) -> String {
    match (amounts.gpus, &amounts.gpu_type) {
        (0, _) => String::new(),
        (n, None) => n.to_string(),
        (n, Some(product)) => format!("{n} × {product}"),
    }
}

fn transfers(transfers: &[Transfer]) -> String {
    transfers.iter().map(|transfer| transfer_line(transfer) + "\n").collect()
}

fn transfer_line(t: &Transfer) -> String {
    let result = match (&t.error, &t.version) {
        (Some(error), _) => error.clone(),
        (None, None) => "nothing there".to_owned(),
        (None, Some(version)) => {
            let short: String = version.chars().take(12).collect();
            let version = t.number.map_or_else(|| short.clone(), |number| format!("{number} ({short})"));
            let files = if t.files == 1 { "file" } else { "files" };
            format!("{} {files}, {}, {}, version {version}", t.files, bytes(t.bytes), span(t.millis))
        }
    };
    let line = format!("{}  {}  {result}", t.path, t.label);
    [&[line], t.missing.as_slice()].concat().join("\n  ")
}

fn history(run: &RunView) -> String {
    let lines = run
        .history
        .iter()
        .map(|change| format!("{}  {}  {}", date(change.at), change.status.word(), change.reason));
    lines.collect::<Vec<_>>().join("\n")
}

fn mark(yes: bool) -> String {
    if yes { "yes".to_owned() } else { String::new() }
}

/// Bytes in words.
pub(crate) fn size(n: u64) -> String {
    bytes(n)
}

/// A moment in words.
pub(crate) fn moment(at: Timestamp) -> String {
    date(at)
}
