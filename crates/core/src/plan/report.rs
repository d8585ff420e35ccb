//! Problems of planning: their stable codes, and the list that one planning collects. It knows no rule.
use crate::problem::{Level, Problem, define_codes};

/// Candidates named in one hint; more are counted.
const NAMED: usize = 20;
/// More slips than these are another name.
const MOST_SLIPS: usize = 4;

define_codes! {
    UnknownCluster, "unknown-cluster", "The cluster does not exist, or none is named and there is no default.", "Name one of those that are shown (`vessl cluster list`), or leave `resources.cluster` out.";
    UnknownNode, "unknown-node", "The cluster has no node of this name.", "Name nodes of the cluster (`vessl cluster list-nodes CLUSTER`), or remove `node_names`.";
    UnknownPreset, "unknown-preset", "The cluster has no preset of this name.", "Name one of those that are shown (`vessl resource list`), or remove `preset`.";
    NoDefaultPreset, "no-default-preset", "Neither preset nor requests are given, and the cluster has no default preset.", "Add `preset` or `requests` to `resources`.";
    RequestOverPreset, "request-over-preset", "The requests do not fit into the preset.", "Lower the requests, or remove `preset` to let the smallest one that fits be chosen.";
    NoPresetFits, "no-preset-fits", "No preset of the cluster is large enough for the requests.", "Lower the requests to what one of the presets gives (`vessl resource list`).";
    NoNodeFits, "no-node-fits", "No node could ever hold the run.", "Ask for no more than the largest node has (`vessl cluster list-nodes CLUSTER`).";
    NotAllowed, "not-allowed", "The administrator of the cluster does not allow this.", "Use something that is allowed, or have the server's settings changed (`allow_host_image`, `hostpath_roots`).";
    LocalOnly, "local-only", "A path of the machine is used on a cluster that is not the server's own machine.", "Use the server's own cluster, or a registry or a git server that the cluster can reach.";
    UnknownPath, "unknown-path", "The machine has no such path.", "Correct the path, or make what should be there.";
    BadImage, "bad-image", "An image layout or archive of the machine cannot be used: it is none, is damaged, lacks a part, or is for other machines.", "Make it again with `docker save` or `skopeo copy`, or name one of its images.";
    UnknownCredential, "unknown-credential", "No credential of this name is stored.", "Store it with `vessl credential create NAME --kind KIND`, or correct the name.";
    WrongCredential, "wrong-credential", "The stored credential is of another kind.", "Name a credential of the kind that is needed: `registry` for images, `git` for git imports, `s3`, `gcs` and `hf` for those stores.";
    UnknownArtifact, "unknown-artifact", "The artifact does not exist, or you may not read it.", "Name an artifact that exists (`vessl artifact list`); one exists once a run has exported it.";
    UnknownDataset, "unknown-dataset", "The dataset does not exist, or you may not read it.", "Name one that exists (`vessl dataset list`), or make it with `vessl dataset create NAME`.";
    UnknownModel, "unknown-model", "The model repository does not exist, or you may not read it.", "Name one that exists (`vessl model-repository list`), or make it with `vessl model-repository create NAME`.";
    NoVersion, "no-version", "The dataset has no files yet, or the repository no model of this number.", "Upload files (`vessl dataset upload`), or name a model that exists (`vessl model list REPOSITORY`).";
    UnknownStorage, "unknown-storage", "The organization has no storage of this name.", "Name one that exists (`vessl storage list`); `vessl-storage` is always there.";
    UnknownVolume, "unknown-volume", "The storage has no volume of this name.", "Name one that exists (`vessl storage list-volumes --storage-name STORAGE`), or make it with `vessl storage create-volume`.";
    UnknownProject, "unknown-project", "The project does not exist, or you may not write to it.", "Export to your own project, or to one of those that are shown.";
    SameTarget, "same-target", "Two paths are exported to the same place.", "Give each path its own target.";
    UnknownSecret, "unknown-secret", "No secret of this name is stored.", "Store it with `vessl secret create NAME`, or correct the name.";
    MissingInject, "missing-inject", "A variable must be given at submit and was not.", "Give it at submit: `vessl run create -e KEY=VALUE`.";
    BadInject, "bad-inject", "A variable given at submit cannot be used.", "Write `-e KEY=VALUE`, with a name that is not empty and no NUL in name or value.";
    EnvTooLong, "env-too-long", "A variable is longer than a program can be given.", "Put the data into a file and import it.";
    OverTimeLimit, "over-time-limit", "More time is asked for than a run may take here.", "Ask for less (`--max-runtime`, `interactive.max_runtime`), or have `max_runtime_limit` of the server changed.";
    NoCommand, "no-command", "There is nothing to run.", "Add `run: [{command: …}]`.";
    Unsupported, "unsupported", "This version does not do that.", "Remove it, or use what this version does: runs on whole GPUs, every kind of data but what a pipeline hands over.";
    // accepted, with a note
    PresetChosen, "preset-chosen", "What the run gets beside what it asks for: the requests were rounded up to a preset, or what they leave open is the share of one.", "Nothing is needed; name a `preset`, or have the presets changed in the server's settings file.";
    SecretUse, "secret-use", "Says whether a value marked as secret is the name of a stored secret or the secret itself.", "Write `KEY: {secret: NAME}` for a stored secret, so that the file holds no secret.";
    NoEffect, "no-effect", "The value has no effect here.", "Remove it.";
    HostPorts, "host-ports", "Runs of this cluster have the network of the machine (`network = \"host\"` in the settings of the server), and so its ports.", "Give runs that run at the same time different ports.";
}

/// The problems of one planning.
#[derive(Default)]
pub(super) struct Report {
    found: Vec<Problem>,
    refused: bool,
}

/// A problem that was just added and may still get a hint.
pub(super) struct Added<'a>(&'a mut Problem);

impl Added<'_> {
    /// Says what to do.
    pub(super) fn hint(self, hint: impl Into<String>) {
        self.0.hint = Some(hint.into());
    }

    /// Says which names there are, and which of them is nearest to `name`.
    pub(super) fn candidates<'n>(self, name: &str, what: &str, names: impl IntoIterator<Item = &'n str>) {
        let names: Vec<&str> = names.into_iter().collect();
        self.hint(candidates(name, what, &names));
    }
}

/// Which names there are, and which of them is nearest to `name`, in words.
pub(super) fn candidates(name: &str, what: &str, names: &[&str]) -> String {
    let list =
        listed(names).map_or_else(|| format!("there is no {what} yet"), |list| format!("there is {list}"));
    let nearest = nearest(name, names).map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
    format!("{nearest}{list}")
}

/// A name as it is typed into a shell; `NAME` for one that would have to be quoted.
pub(super) fn typed(name: &str) -> &str {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_plain) { "NAME" } else { name }
}

impl Report {
    /// Adds a reason why the run cannot be planned; `path` says which value it is about.
    pub(super) fn error(
        &mut self,
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.refused = true;
        self.add(Level::Error, code, path.into(), message.into())
    }

    /// Adds something that the file left open and the plan settled.
    pub(super) fn note(
        &mut self,
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.add(Level::Note, code, path.into(), message.into())
    }

    /// Adds something that the submitter should look at.
    pub(super) fn warn(
        &mut self,
        code: Code,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Added<'_> {
        self.add(Level::Warning, code, path.into(), message.into())
    }

    fn add(&mut self, level: Level, code: Code, path: String, message: String) -> Added<'_> {
        let index = self.found.len();
        self.found.push(code.problem(level, path, message));
        Added(&mut self.found[index])
    }

    /// The notes, or everything if there was an error.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.refused { Err(self.found) } else { Ok(self.found) }
    }
}

/// Names in backticks, `None` without any.
pub(super) fn listed(names: &[&str]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = match names.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!shown.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
}

/// The first of the `names` that are fewest slips of the keyboard away, if that is at most a third of the name (of its last
/// part, where it has several).
fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    let slips = names.iter().map(|known| (strsim::damerau_levenshtein(name, known), *known));
    let (count, known) = slips.min_by_key(|(count, _)| *count)?;
    let own = name.rsplit('/').next().unwrap_or_default();
    (count <= (own.len() / 3).clamp(1, MOST_SLIPS)).then_some(known)
}
